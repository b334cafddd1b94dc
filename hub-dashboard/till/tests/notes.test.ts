import { describe, expect, it } from 'vitest';
import { exponentOf } from '../src/lib/money';
import { quickNotes } from '../src/lib/notes';

const notes = (total: number, currency: string): number[] => quickNotes(total, currency, exponentOf(currency));

describe('what a person would likely hand over', () => {
  it('is the next note, and two that come closer', () => {
    expect(notes(750, 'EUR')).toEqual([1000, 2000, 5000]);
    expect(notes(2340, 'EUR')).toEqual([2500, 3000, 5000]);
    expect(notes(6070, 'EUR')).toEqual([7000, 10000, 20000]);
    expect(notes(120, 'EUR')).toEqual([200, 500, 1000]);
    expect(notes(1999, 'USD')).toEqual([2000, 5000, 10000]);
  });
  it('follows the currency', () => {
    expect(notes(1280, 'JPY')).toEqual([1500, 2000, 5000]);
    expect(notes(3750, 'KWD')).toEqual([5000, 10000, 20000]);
    expect(notes(13000, 'SEK')).toEqual([15000, 20000, 50000]);
    expect(notes(750, 'XYZ')).toEqual([1000, 2000, 5000]);
  });
  it('goes above the largest note', () => {
    expect(notes(48000, 'EUR')).toEqual([50000, 60000]);
    expect(notes(7200, 'GBP')).toEqual([7500, 8000, 10000]);
  });
  it('is more than the total, in order, each once, and not more than three', () => {
    for (const currency of ['EUR', 'USD', 'JPY', 'KWD', 'CZK', 'XYZ']) {
      for (let total = 1; total < 200_000; total += 37) {
        const found = notes(total, currency);
        expect(found.length, `${total} ${currency}`).toBeLessThanOrEqual(3);
        expect(found.every((note, place) => note > (found[place - 1] ?? total)), `${total} ${currency}: ${found}`).toBe(true);
        expect(found.length, `${total} ${currency}`).toBeGreaterThan(0);
      }
    }
  });
  it('is nothing for nothing', () => {
    expect(notes(0, 'EUR')).toEqual([]);
  });
});
