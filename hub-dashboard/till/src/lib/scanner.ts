// A scanner that types: a burst of keys, ended by Enter. It is told from a person by its haste, and works whichever
// field or button has the focus.

/** Milliseconds between two keys of a scanner, on average: people need more than twice as long. */
const AVERAGE_MS = 40;
/** The longest pause inside a burst into a field, where a person may be typing. */
const PAUSE_MS = 150;
/** The longest pause where no field has the focus, so that nobody else can be meant. */
const PATIENT_MS = 1000;
/** The fewest characters of a code that is told from a person's typing, and of one where nobody types. */
const LENGTH_MIN = 4;
const LENGTH_MIN_NO_FIELD = 3;
/** The longest code that a node takes. */
const LENGTH_MAX = 64;

/** A key that was pressed. */
export interface Key {
  key: string;
  /** Milliseconds, on whatever clock. */
  at: number;
  /** Whether a field that takes text has the focus. */
  inField: boolean;
}

/** What to do with a key. */
export type Verdict =
  /** Not the scanner's, as far as can be told yet. */
  | { kind: 'pass' }
  /** Part of a code, and nobody else's. */
  | { kind: 'swallow' }
  /** The end of a code. `typed` characters of it went into the field that has the focus. */
  | { kind: 'code'; code: string; typed: number };

const PASS: Verdict = { kind: 'pass' };

/** Watches keys for codes. */
export class ScannerWatch {
  #code = '';
  #first = 0;
  #last = 0;
  #inField = false;
  #longest = 0;

  /** Takes a key in. */
  press(key: Key): Verdict {
    const pause = key.at - this.#last;
    if (this.#code !== '' && (pause > PATIENT_MS || key.inField !== this.#inField)) this.reset();
    if (key.key === 'Enter') return this.#end(key);
    if (key.key === 'Tab' || key.key === 'Escape') this.reset();
    if ([...key.key].length !== 1) return PASS;
    // Alone it presses the button that has the focus.
    if (key.key === ' ' && !key.inField && (this.#code === '' || pause > PAUSE_MS)) return PASS;
    if (this.#code === '') {
      [this.#first, this.#inField, this.#longest] = [key.at, key.inField, 0];
    } else {
      this.#longest = Math.max(this.#longest, pause);
    }
    // A person's slow typing before a burst isn't part of it.
    if (key.inField && this.#longest > PAUSE_MS) {
      this.reset();
      [this.#first, this.#inField] = [key.at, true];
    }
    this.#code = (this.#code + key.key).slice(-LENGTH_MAX - 1);
    this.#last = key.at;
    // On a button a space would press it.
    return key.inField ? PASS : { kind: 'swallow' };
  }

  #end(key: Key): Verdict {
    const [code, inField] = [this.#code, this.#inField];
    const length = [...code].length;
    const average = length > 1 ? (this.#last - this.#first) / (length - 1) : Infinity;
    const hasty = average <= AVERAGE_MS && this.#longest <= PAUSE_MS && key.at - this.#last <= PAUSE_MS;
    this.reset();
    if (length < LENGTH_MIN_NO_FIELD || length > LENGTH_MAX) return PASS;
    if (inField) return length >= LENGTH_MIN && hasty ? { kind: 'code', code, typed: length } : PASS;
    return { kind: 'code', code, typed: 0 };
  }

  /** Forgets what was begun. */
  reset(): void {
    this.#code = '';
    this.#longest = 0;
  }
}
