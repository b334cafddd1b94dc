// Money in whole minor units, as text and back. Nothing is ever counted in fractions of a unit.

/** Currencies whose minor unit isn't a hundredth (ISO 4217); the node has the same table. */
export const OTHER_EXPONENTS: Readonly<Record<string, number>> = {
  BHD: 3, BIF: 0, CLP: 0, DJF: 0, GNF: 0, IQD: 3, ISK: 0, JOD: 3, JPY: 0, KMF: 0, KRW: 0, KWD: 3,
  LYD: 3, OMR: 3, PYG: 0, RWF: 0, TND: 3, UGX: 0, UYI: 0, VND: 0, VUV: 0, XAF: 0, XOF: 0, XPF: 0,
};

/** How many decimals a currency's minor unit has. */
export const exponentOf = (currency: string): number => OTHER_EXPONENTS[currency] ?? 2;

/** The largest amount that a node takes. */
export const AMOUNT_MAX = Number.MAX_SAFE_INTEGER;

/** A narrow space that doesn't break: between thousands from five digits on. */
const GROUP = '\u202f';

/** An amount as people read it: `12.50`, `−3.00`, `12 500`. */
export const formatAmount = (minor: number, exponent: number): string => {
  const sign = minor < 0 ? '\u2212' : '';
  const digits = Math.abs(minor).toString().padStart(exponent + 1, '0');
  const whole = digits.slice(0, digits.length - exponent);
  const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, GROUP) : whole;
  return exponent === 0 ? `${sign}${grouped}` : `${sign}${grouped}.${digits.slice(-exponent)}`;
};

/** A round amount without its zeros, as it stands on a note: `20`, `0.50`. */
export const formatNote = (minor: number, exponent: number): string => {
  const text = formatAmount(minor, exponent);
  return minor % 10 ** exponent === 0 && exponent > 0 ? text.slice(0, -exponent - 1) : text;
};

/**
 * What somebody typed, in minor units: `12.5`, `12,50`, `1 200`. Nothing where it could mean two amounts or more
 * decimals than the currency has: a till doesn't guess.
 */
export const parseAmount = (text: string, exponent: number): number | null => {
  const plain = text.trim().replace(/(?<=\d)[ '\u00a0\u202f\u2019](?=\d{3}(?!\d))/g, '');
  const match = /^(\d{1,16})(?:[.,](\d*))?$/.exec(plain) ?? /^()[.,](\d+)$/.exec(plain);
  if (!match) return null;
  const [, whole = '', decimals = ''] = match;
  if (decimals.length > exponent) return null;
  const minor = Number(`${whole}${decimals.padEnd(exponent, '0')}`);
  return Number.isSafeInteger(minor) && minor <= AMOUNT_MAX ? minor : null;
};

/** What somebody typed as a quantity, as the node reads it: pieces are whole, weights have up to three decimals. */
export const parseQuantity = (text: string, unit: string): string | null => {
  const match = /^0*(\d{1,9})(?:[.,](\d{0,3}))?$/.exec(text.trim());
  if (!match) return null;
  const decimals = (match[2] ?? '').replace(/0+$/, '');
  if (unit === 'piece' && decimals !== '') return null;
  return decimals === '' ? (match[1] ?? '0') : `${match[1]}.${decimals}`;
};

/** One more or one less of a quantity; never below none. */
export const stepQuantity = (quantity: string, by: 1 | -1): string => {
  const [whole = '0', decimals = ''] = quantity.split('.');
  const next = Number(whole) + by;
  if (next < 0 || (next === 0 && decimals === '')) return '0';
  return decimals === '' ? `${next}` : `${next}.${decimals}`;
};
