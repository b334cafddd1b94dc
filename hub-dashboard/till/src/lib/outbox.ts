// Writes on their way to the node: one after the other, each until it is answered. A write that was not answered is sent
// again as it was, with its key, so that nothing is done twice and nothing is left out.

/** Nobody answered, or not now: worth another try. */
export class Unreachable extends Error {
  override name = 'Unreachable';
}

/** One write; may be run again after `Unreachable`. */
export type Task = () => Promise<void>;

/** What an outbox tells and needs. */
export interface Hooks {
  /** So many writes wait. */
  waiting(count: number): void;
  /** The node can't be reached; the write stays. */
  unreachable(error: Unreachable): void;
  /** The write was refused, and is dropped. */
  refused(error: unknown): void;
  /** Waits, or until something was heard. */
  pause(milliseconds: number): Promise<void>;
}

const PAUSE_FIRST_MS = 250;
const PAUSE_MAX_MS = 4000;

/** A queue of writes. */
export class Outbox {
  readonly #hooks: Hooks;
  readonly #queue: Task[] = [];
  #running = false;

  constructor(hooks: Hooks) {
    this.#hooks = hooks;
  }

  /** How many wait. */
  get length(): number {
    return this.#queue.length;
  }

  /** Puts a write at the end. */
  add(task: Task): void {
    this.#queue.push(task);
    this.#hooks.waiting(this.#queue.length);
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    let pause = PAUSE_FIRST_MS;
    for (let task = this.#queue[0]; task; task = this.#queue[0]) {
      try {
        await task();
      } catch (error) {
        if (error instanceof Unreachable) {
          this.#hooks.unreachable(error);
          await this.#hooks.pause(pause);
          pause = Math.min(pause * 2, PAUSE_MAX_MS);
          continue;
        }
        this.#hooks.refused(error);
      }
      pause = PAUSE_FIRST_MS;
      this.#queue.shift();
      this.#hooks.waiting(this.#queue.length);
    }
    this.#running = false;
  }
}
