import { describe, expect, it } from 'vitest';
import { exponentOf, formatAmount, formatNote, parseAmount, parseQuantity, stepQuantity } from '../src/lib/money';

describe('an amount as text', () => {
  it('has as many decimals as its currency', () => {
    expect(formatAmount(1250, exponentOf('EUR'))).toBe('12.50');
    expect(formatAmount(5, exponentOf('EUR'))).toBe('0.05');
    expect(formatAmount(0, exponentOf('EUR'))).toBe('0.00');
    expect(formatAmount(1250, exponentOf('JPY'))).toBe('1250');
    expect(formatAmount(1250, exponentOf('KWD'))).toBe('1.250');
    expect(formatAmount(5, exponentOf('KWD'))).toBe('0.005');
  });
  it('has a minus of its own and thousands apart from five digits on', () => {
    expect(formatAmount(-380, 2)).toBe('\u22123.80');
    expect(formatAmount(123456, 2)).toBe('1234.56');
    expect(formatAmount(1234567, 2)).toBe('12\u202f345.67');
    expect(formatAmount(9_007_199_254_740_991, 2)).toBe('90\u202f071\u202f992\u202f547\u202f409.91');
    expect(formatAmount(1234567, 0)).toBe('1\u202f234\u202f567');
  });
  it('stands on a note without zeros', () => {
    expect(formatNote(2000, 2)).toBe('20');
    expect(formatNote(50, 2)).toBe('0.50');
    expect(formatNote(10000, 0)).toBe('10\u202f000');
    expect(formatNote(250, 3)).toBe('0.250');
  });
});

describe('a text as an amount', () => {
  it('takes a point or a comma', () => {
    for (const text of ['12.5', '12,5', '12.50', ' 12,50 ']) expect(parseAmount(text, 2)).toBe(1250);
    expect(parseAmount('12', 2)).toBe(1200);
    expect(parseAmount('.5', 2)).toBe(50);
    expect(parseAmount('12.', 2)).toBe(1200);
    expect(parseAmount('1.234', 3)).toBe(1234);
    expect(parseAmount('1250', 0)).toBe(1250);
  });
  it('takes thousands that are set apart, and what it has written itself', () => {
    for (const text of ['12 345.67', "12'345.67", '12\u202f345,67', '12\u00a0345.67']) expect(parseAmount(text, 2)).toBe(1234567);
    for (const exponent of [0, 2, 3]) {
      for (const minor of [0, 1, 99, 12345, 1234567890]) expect(parseAmount(formatAmount(minor, exponent), exponent)).toBe(minor);
    }
  });
  it('does not guess', () => {
    for (const text of ['', ' ', '.', ',', '1,234', '1.234.5', '1,234.50', '12.345', '1 2', '12 34', '-1', '+1', '1e3', '0x1', 'twelve', '12€', '99999999999999999', '1.2.3']) {
      expect(parseAmount(text, 2), text).toBeNull();
    }
    expect(parseAmount('1.5', 0)).toBeNull();
  });
});

describe('a quantity', () => {
  it('is whole for pieces and has three decimals for weights', () => {
    expect(parseQuantity('3', 'piece')).toBe('3');
    expect(parseQuantity('03', 'piece')).toBe('3');
    expect(parseQuantity('0', 'piece')).toBe('0');
    expect(parseQuantity('2.0', 'piece')).toBe('2');
    expect(parseQuantity('0.5', 'piece')).toBeNull();
    expect(parseQuantity('0,350', 'kg')).toBe('0.35');
    expect(parseQuantity('0.3501', 'kg')).toBeNull();
    for (const text of ['', '-1', '1e3', 'a', '1 2']) expect(parseQuantity(text, 'kg'), text).toBeNull();
  });
  it('goes up and down by one, and not below none', () => {
    expect(stepQuantity('1', 1)).toBe('2');
    expect(stepQuantity('1', -1)).toBe('0');
    expect(stepQuantity('0.35', 1)).toBe('1.35');
    expect(stepQuantity('1.35', -1)).toBe('0.35');
    expect(stepQuantity('0.35', -1)).toBe('0');
  });
});
