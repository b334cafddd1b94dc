// The node's events. A stream that ends begins again; whoever falls behind looks anew.
import type { Notice } from './types';

/** What a feed tells. */
export interface Listener {
  /** The stream is there: what was missed is to be asked for. */
  opened(): void;
  /** The stream is gone. */
  lost(): void;
  /** Something changed. */
  notice(notice: Notice): void;
}

const AGAIN_MS = 1000;

/** Listens until the page is closed. */
export const listen = (listener: Listener): void => {
  const source = new EventSource('/v1/events');
  source.onopen = () => listener.opened();
  source.onmessage = (message: MessageEvent<string>) => {
    listener.notice(JSON.parse(message.data) as Notice);
  };
  source.addEventListener('missed', () => listener.opened());
  source.onerror = () => {
    listener.lost();
    source.close();
    setTimeout(() => listen(listener), AGAIN_MS);
  };
};

/** Runs `work` soon, once for however many calls, and never twice at the same time. */
export const gathered = (work: () => Promise<void>, milliseconds: number): (() => void) => {
  let [planned, running, again] = [false, false, false];
  const run = async (): Promise<void> => {
    [planned, running] = [false, true];
    try {
      await work();
    } finally {
      running = false;
      if (again) {
        again = false;
        plan();
      }
    }
  };
  const plan = (): void => {
    if (running) again = true;
    else if (!planned) {
      planned = true;
      setTimeout(() => void run(), milliseconds);
    }
  };
  return plan;
};
