import { describe, expect, it } from 'vitest';
import type { Status } from '../src/lib/types';
import { neighbourWords, plainTimes, safetySteps, safetyWords, uncapturedWords, uplinkWords, waitingWords } from '../src/lib/words';

const status = (more: Partial<Status>): Status => ({
  role: 'stall', stall: 'pots', name: 'Pots', market_name: 'Quay', currency: 'EUR', uplink: { enabled: true, up: false, hops: null },
  peers: [], notices: [], sales: { recorded: 0, copied: 0, at_the_hub: 0, settled: 0 }, uncaptured: { sales: 0, payments: 0, sum: 0, oldest_ms: 0, sentence: 'no sale waits' },
  ...more,
});

describe('the bar', () => {
  it('says the way to the hub and the neighbours', () => {
    expect(uplinkWords({ enabled: true, up: true, hops: 0 })).toBe('Hub connected');
    expect(uplinkWords({ enabled: false, up: false, hops: 2 })).toBe('Hub over 2 neighbours');
    expect(uplinkWords({ enabled: true, up: false, hops: null })).toBe('No way to the hub');
    const peer = (device: string, link: string) => ({ device, stall: '', link });
    expect(neighbourWords(status({ peers: [peer('a', 'mesh'), peer('hub', 'uplink'), peer('hub', 'mesh')] }))).toBe('1 neighbour');
    expect(neighbourWords(status({}))).toBe('0 neighbours');
  });
  it('says what waits with numbers and without orders', () => {
    expect(waitingWords(status({ sales: { recorded: 5, copied: 1, at_the_hub: 1, settled: 1 } }))).toBe('3 sales wait for the hub');
    expect(waitingWords(status({ sales: { recorded: 1, copied: 0, at_the_hub: 0, settled: 0 } }))).toBe('1 sale waits for the hub');
    expect(waitingWords(status({ sales: { recorded: 2, copied: 0, at_the_hub: 1, settled: 1 } }))).toBe('Every sale is at the hub');
    const uncaptured = { sales: 3, payments: 3, sum: 4120, oldest_ms: 60000, sentence: '3 sales wait, 41.20 not captured' };
    expect(uncapturedWords(status({ uncaptured }))).toBe('3 sales wait, 41.20 not captured');
    expect(uncapturedWords(status({}))).toBe('');
  });
});

describe('a sale', () => {
  it('says how safe it is', () => {
    expect(safetyWords({ state: 'this_device', copies: 0 })).toBe('On this device');
    expect(safetyWords({ state: 'copied', copies: 1 })).toBe('1 copy on a neighbour');
    expect(safetyWords({ state: 'copied', copies: 3 })).toBe('3 copies on neighbours');
    const done = (state: 'this_device' | 'copied' | 'at_the_hub' | 'settled', copies: number) =>
      safetySteps({ state, copies }).map(([, is]) => is);
    expect(done('this_device', 0)).toEqual([true, false, false, false]);
    expect(done('copied', 2)).toEqual([true, true, false, false]);
    // Straight to the hub: nobody has copied it.
    expect(done('at_the_hub', 0)).toEqual([true, false, true, false]);
    expect(done('settled', 3)).toEqual([true, true, true, true]);
  });
});

describe('a sentence of the node', () => {
  it('has its times as people write them', () => {
    expect(plainTimes('Winter ended at 2026-02-01T00:00:00Z', 'en-GB', 'UTC')).toBe('Winter ended at 1 Feb 2026, 00:00');
    expect(plainTimes('10 % of 35.98')).toBe('10 % of 35.98');
  });
});
