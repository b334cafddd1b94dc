import { describe, expect, it } from 'vitest';
import { ScannerWatch, type Verdict } from '../src/lib/scanner';

/** Presses keys with a pause before each; the last verdict and how many were swallowed. */
const type = (watch: ScannerWatch, keys: string[], pause: number, inField = false, from = 10_000): { last: Verdict; swallowed: number } => {
  let [at, swallowed] = [from, 0];
  let last: Verdict = { kind: 'pass' };
  for (const key of keys) {
    at += pause;
    last = watch.press({ key, at, inField });
    if (last.kind === 'swallow') swallowed += 1;
  }
  return { last, swallowed };
};

const code = (text: string): string[] => [...text, 'Enter'];

describe('a scanner', () => {
  it('is heard where no field has the focus, and its keys press nothing', () => {
    const { last, swallowed } = type(new ScannerWatch(), code('4006381333931'), 5);
    expect(last).toEqual({ kind: 'code', code: '4006381333931', typed: 0 });
    expect(swallowed).toBe(13);
  });
  it('is told from a person in a field by its haste', () => {
    const watch = new ScannerWatch();
    expect(type(watch, code('4006381333931'), 5, true).last).toEqual({ kind: 'code', code: '4006381333931', typed: 13 });
    expect(type(watch, code('mugs'), 120, true).last).toEqual({ kind: 'pass' });
    expect(type(watch, code('mug'), 5, true).last).toEqual({ kind: 'pass' });
  });
  it('may scan into a field where somebody was typing', () => {
    const watch = new ScannerWatch();
    type(watch, [...'mu'], 200, true, 0);
    const { last } = type(watch, code('4006381333931'), 5, true, 1000);
    expect(last).toEqual({ kind: 'code', code: '4006381333931', typed: 13 });
  });
  it('is a code for each Enter, however fast they come', () => {
    const watch = new ScannerWatch();
    const codes: string[] = [];
    let at = 0;
    for (let scan = 0; scan < 40; scan += 1) {
      for (const key of code(`20000000${scan.toString().padStart(5, '0')}`)) {
        at += 1;
        const verdict = watch.press({ key, at, inField: false });
        if (verdict.kind === 'code') codes.push(verdict.code);
      }
    }
    expect(codes).toEqual(Array.from({ length: 40 }, (_, scan) => `20000000${scan.toString().padStart(5, '0')}`));
  });
  it('types capitals, signs and spaces', () => {
    const keys = ['Shift', 'A', 'b', ' ', '-', '1', 'Enter'];
    expect(type(new ScannerWatch(), keys, 8).last).toEqual({ kind: 'code', code: 'Ab -1', typed: 0 });
  });
});

describe('a person', () => {
  it('presses a button with Enter or a space', () => {
    const watch = new ScannerWatch();
    expect(watch.press({ key: 'Enter', at: 0, inField: false })).toEqual({ kind: 'pass' });
    expect(watch.press({ key: ' ', at: 500, inField: false })).toEqual({ kind: 'pass' });
    expect(watch.press({ key: 'Enter', at: 900, inField: false })).toEqual({ kind: 'pass' });
  });
  it('is not taken for a scanner after a stray key', () => {
    const watch = new ScannerWatch();
    watch.press({ key: 'x', at: 0, inField: false });
    expect(watch.press({ key: 'Enter', at: 3000, inField: false })).toEqual({ kind: 'pass' });
    type(watch, ['1', '2', '3', 'Tab'], 10);
    expect(watch.press({ key: 'Enter', at: 10_060, inField: false })).toEqual({ kind: 'pass' });
  });
  it('who types very much makes no code of it', () => {
    const keys = code('1'.repeat(200));
    expect(type(new ScannerWatch(), keys, 1).last).toEqual({ kind: 'pass' });
  });
});
