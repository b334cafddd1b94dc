// What a person is likely to hand over for a total.

/** Coins and notes in use that people pay with, in whole units, smallest first. */
const MONEY: Readonly<Record<string, readonly number[]>> = {
  AUD: [1, 2, 5, 10, 20, 50, 100],
  BHD: [0.5, 1, 5, 10, 20],
  CAD: [1, 2, 5, 10, 20, 50, 100],
  CHF: [1, 2, 5, 10, 20, 50, 100, 200],
  CZK: [10, 20, 50, 100, 200, 500, 1000, 2000],
  DKK: [10, 20, 50, 100, 200, 500],
  EUR: [1, 2, 5, 10, 20, 50, 100, 200],
  GBP: [1, 2, 5, 10, 20, 50],
  HUF: [100, 200, 500, 1000, 2000, 5000, 10000, 20000],
  JOD: [0.5, 1, 5, 10, 20, 50],
  JPY: [100, 500, 1000, 5000, 10000],
  KRW: [500, 1000, 5000, 10000, 50000],
  KWD: [0.25, 0.5, 1, 5, 10, 20],
  NOK: [10, 20, 50, 100, 200, 500],
  PLN: [1, 2, 5, 10, 20, 50, 100, 200, 500],
  SEK: [10, 20, 50, 100, 200, 500],
  USD: [1, 5, 10, 20, 50, 100],
};

/** Money of a currency that the table doesn't have: 1, 2 and 5 with any number of zeros, from half a unit on. */
const series = (minor: number): number[] => {
  const found: number[] = [];
  for (let power = 1; power <= minor * 100; power *= 10) found.push(power, power * 2, power * 5);
  return found;
};

/** The fewest coins and notes that make an amount, largest first; endless where they can't. */
const pieces = (minor: number, money: readonly number[]): number => {
  let [rest, count] = [minor, 0];
  for (const piece of [...money].reverse()) {
    count += Math.floor(rest / piece);
    rest %= piece;
  }
  return rest === 0 ? count : Infinity;
};

/**
 * Amounts above the total that a person would likely hand over, smallest first: the next coin or note, or two that
 * come closer to it.
 */
export const quickNotes = (total: number, currency: string, exponent: number, most = 3): number[] => {
  const unit = 10 ** exponent;
  const money = MONEY[currency]?.map((piece) => Math.round(piece * unit)) ?? series(Math.max(total, unit));
  const largest = money.at(-1) ?? unit;
  if (total <= 0) return [];
  const few = 2 + Math.floor(total / largest);
  const singles = money.filter((piece) => piece > total);
  const next = singles[0] ?? Infinity;
  const pairs = money
    .map((piece) => (Math.floor(total / piece) + 1) * piece)
    .filter((amount) => amount < next && pieces(amount, money) <= few);
  const sorted = [...new Set(pairs)].sort((one, other) => one - other);
  // The next note is the likeliest of all: it has its place whatever else there is.
  const room = Number.isFinite(next) ? most - 1 : most;
  return [...sorted.slice(0, room), ...singles.slice(0, Math.max(1, most - sorted.length))].slice(0, most);
};
