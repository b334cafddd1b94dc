import { describe, expect, it } from 'vitest';
import { Outbox, Unreachable } from '../src/lib/outbox';

const made = () => {
  const seen = { waiting: [] as number[], refused: [] as string[], pauses: [] as number[], unreachable: 0 };
  let ended: () => void = () => {};
  const empty = new Promise<void>((resolve) => { ended = resolve; });
  const outbox = new Outbox({
    waiting: (count) => { seen.waiting.push(count); if (count === 0) ended(); },
    unreachable: () => { seen.unreachable += 1; },
    refused: (error) => { seen.refused.push((error as Error).message); },
    pause: async (milliseconds) => { seen.pauses.push(milliseconds); },
  });
  return { outbox, seen, empty };
};

describe('an outbox', () => {
  it('sends in order, one at a time', async () => {
    const { outbox, empty } = made();
    const said: string[] = [];
    for (let number = 0; number < 40; number += 1) {
      outbox.add(async () => {
        said.push(`begin ${number}`);
        await new Promise((resolve) => setTimeout(resolve, number % 3));
        said.push(`end ${number}`);
      });
    }
    await empty;
    expect(said).toEqual(Array.from({ length: 40 }, (_, number) => [`begin ${number}`, `end ${number}`]).flat());
  });
  it('sends again what was not answered, and what comes after it waits', async () => {
    const { outbox, seen, empty } = made();
    const said: string[] = [];
    let tries = 0;
    outbox.add(async () => {
      tries += 1;
      if (tries < 8) throw new Unreachable('nobody answers');
      said.push('first');
    });
    outbox.add(async () => { said.push('second'); });
    await empty;
    expect([said, tries, seen.unreachable]).toEqual([['first', 'second'], 8, 7]);
    expect(seen.pauses).toEqual([250, 500, 1000, 2000, 4000, 4000, 4000]);
  });
  it('drops what was refused, says why, and goes on', async () => {
    const { outbox, seen, empty } = made();
    const said: string[] = [];
    outbox.add(async () => { throw new Error('no such product'); });
    outbox.add(async () => { said.push('second'); });
    await empty;
    expect([seen.refused, said, outbox.length]).toEqual([['no such product'], ['second'], 0]);
  });
});
