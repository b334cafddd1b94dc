// What may be done at the till. Each act is a write with a key of its own, sent until it is answered.
import { Problem, api, newKey } from './api';
import { Outbox } from './outbox';
import { Shown, isAsked, liveParts } from './shown.svelte';
import type { BasketView, Change, Reason, SaleOrder, SaleView, TenderOrder } from './types';
import { tenderWords } from './words';

/** What a person has let pass: reasons by their ids, and those of them that are about somebody whom she knows. */
interface Passed { confirmed: string[]; known: string[] }

export interface Question { reasons: Reason[]; answer: (knows: boolean) => void }

export class Till extends Shown {
  /** Writes that aren't answered yet. */
  waiting = $state(0);
  /** What is being paid, in words; empty: nothing. */
  paying = $state('');
  question = $state.raw<Question | null>(null);
  readonly payable = $derived(this.open?.quote !== undefined && this.open.basket.lines.length > 0 && this.paying === '' && !this.asking);

  /** The card part that was begun here, while nobody knows what becomes of it. */
  #awaited: { basket: string; number: number; order: TenderOrder } | null = null;
  #wake: () => void = () => {};
  readonly #outbox = new Outbox({
    waiting: (count) => { this.waiting = count; },
    unreachable: () => { this.reachable = false; },
    refused: (error) => {
      this.paying = '';
      this.tell(error);
      this.basketSoon();
    },
    pause: (milliseconds) => new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => { clearTimeout(timer); resolve(); };
    }),
  });

  scan(code: string): void {
    this.#change([{ op: 'add', barcode: code }], null);
  }

  add(sku: string): void {
    this.#change([{ op: 'add', sku }], null);
  }

  setLine(line: number, sku: string, quantity: string, price: number | null): void {
    this.#change([{ op: 'set', line, sku, quantity, ...(price === null ? {} : { price }) }], this.basket);
  }

  giveCode(code: string): void {
    this.#change([{ op: 'give_code', code }], null);
  }

  takeCode(code: string): void {
    this.#change([{ op: 'take_code', code }], this.basket);
  }

  /** Takes all out of the basket, which stays: the next scan goes into it. */
  empty(): void {
    const view = this.open;
    if (!view) return;
    const lines: Change[] = view.basket.lines.map((line, place) => ({ op: 'set', line: place, sku: line.sku, quantity: '0' }));
    const codes: Change[] = view.basket.codes.map((code) => ({ op: 'take_code', code }));
    this.#change([...lines.reverse(), ...codes], view);
  }

  /** Puts the basket aside for another one. */
  hold(): void {
    if (!this.open) return;
    this.aside.add(this.open.id);
    this.idleSince = Math.max(this.idleSince, this.open.changed_at);
    this.basket = null;
    this.basketSoon();
  }

  /** Goes on with a basket that was put aside. */
  resume(view: BasketView): void {
    if (this.open) this.aside.add(this.open.id);
    this.aside.delete(view.id);
    this.basket = view;
    this.basketSoon();
  }

  /** Cash for all that is left: exactly, or more with change. One touch, one sale. */
  payCash(given?: number): void {
    const view = this.open;
    if (!view || !this.payable) return;
    const [amount, more] = [this.due, given === undefined ? {} : { given }];
    if (liveParts(view).length > 0) {
      this.addPart({ kind: 'cash', ...(amount === this.left ? { amount } : {}), ...more });
    } else {
      this.#sell(view.id, { tenders: [{ kind: 'cash', amount, ...more }] }, amount);
    }
  }

  /** A part of the payment; the sale is recorded when nothing is left. */
  addPart(order: TenderOrder): void {
    const view = this.open;
    if (!view || !this.payable) return;
    const key = newKey();
    this.paying = order.kind === 'cash' || order.kind === 'outside' ? 'Noting it' : 'The card reader is asked';
    this.#outbox.add(() => this.#asking(view.id, (passed) => this.addPart({ ...order, ...passed }), async () => {
      const after = await api.addTender(view.id, order, key);
      const part = after.tenders.at(-1);
      if (part && isAsked(part)) this.#awaited = { basket: after.id, number: part.number, order };
      this.paying = '';
      this.take(after);
      if (after.left === 0) this.#sell(after.id, { tenders: [] }, null);
    }));
  }

  protected override take(view: BasketView): void {
    super.take(view);
    const awaited = this.#awaited;
    const part = awaited?.basket === view.id ? view.tenders.find((known) => known.number === awaited.number) : undefined;
    if (!awaited || !part || isAsked(part)) return;
    this.#awaited = null;
    const reasons = part.reasons ?? [];
    if (part.state === 'approved' && view.left === 0 && view.over === 0) {
      this.#sell(view.id, { tenders: [] }, null);
    } else if (part.state === 'declined' && reasons.length > 0 && reasons.every((reason) => reason.answer === 'ask')) {
      this.#ask(reasons, (passed) => this.addPart({ ...awaited.order, ...passed }));
    } else if (part.state === 'declined') {
      this.say(`${tenderWords[part.kind]} declined: ${part.because}`);
    }
  }

  voidPart(number: number, confirmed: string[] = []): void {
    const view = this.open;
    if (!view || this.paying !== '') return;
    const key = newKey();
    this.#outbox.add(() => this.#asking(view.id, (passed) => this.voidPart(number, [...passed.confirmed, ...passed.known]), async () => {
      this.take(await api.voidTender(view.id, number, confirmed, key));
    }));
  }

  /** Records what is covered. */
  record(): void {
    if (this.open && this.payable) this.#sell(this.open.id, { tenders: [] }, null);
  }

  protected override renew(): void {
    this.#wake();
    super.renew();
  }

  protected override sold(sale: SaleView, basket: string): void {
    if (this.basket?.id === basket) this.paying = '';
    super.sold(sale, basket);
  }

  /** Changes the basket that is meant; one that is null: the one that is open, or, where it was sold, the next. */
  #change(changes: Change[], meant: BasketView | null): void {
    const key = newKey();
    // What is done now is meant for what is open now.
    let target = (meant ?? this.basket)?.id ?? null;
    this.#outbox.add(async () => {
      for (let round = 0; ; round += 1) {
        target ??= (await this.#openBasket()).id;
        try {
          this.take(await api.change(target, changes, key));
          return;
        } catch (error) {
          // What went to a basket that was sold meanwhile wasn't done: it belongs to the next one.
          if (!(await this.#isGone(error, target)) || meant !== null || round > 2) throw error;
          target = null;
        }
      }
    });
  }

  /** The open basket, or a new one. Two tabs open the same, since its key says what it comes after. */
  async #openBasket(): Promise<BasketView> {
    if (!this.looked) await Promise.all([this.lookAtBaskets(), this.lookAtLastSale()]);
    if (this.basket && !this.basket.sold) return this.basket;
    for (let round = 0; ; round += 1) {
      const beside = [...this.aside].map((id) => `-beside-${id.slice(0, 8)}`).join('').slice(0, 100);
      const view = await api.open(round < 3 ? `till-after-${this.lastSale?.sale ?? 'none'}${beside}` : newKey());
      if (!view.sold && !this.aside.has(view.id)) {
        this.basket = view;
        return view;
      }
      // Somebody else has sold it: what comes after that sale is the next.
      await this.lookAtLastSale();
    }
  }

  #sell(id: string, order: SaleOrder, shown: number | null): void {
    const key = newKey();
    this.paying = 'Recording';
    this.#outbox.add(() => this.#asking(id, (passed) => this.#sell(id, { ...order, ...passed }, shown), async () => {
      this.#expect(id, shown);
      try {
        this.sold(await api.sell(id, order, key), id);
      } catch (error) {
        // Another page may have changed it a moment ago.
        if (error instanceof Problem && error.status < 404) {
          this.take(await api.basket(id));
          this.#expect(id, shown);
        }
        throw error;
      }
      this.paying = '';
    }));
  }

  /** Nobody pays another amount than the one that was shown. */
  #expect(id: string, shown: number | null): void {
    if (shown !== null && this.basket?.id === id && this.due !== shown) {
      throw new Problem(422, 'E_CHANGED', `The total is ${this.amount(this.total)} now. Nothing was taken.`);
    }
  }

  /** Runs a payment: what it is asked for goes to a person, and what was sold already is shown as that. */
  async #asking(id: string, again: (passed: Passed) => void, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof Problem && error.code === 'E_ASK') {
        this.paying = '';
        this.#ask(error.reasons, again);
      } else if (await this.#isGone(error, id)) {
        this.paying = '';
      } else {
        throw error;
      }
    }
  }

  #ask(reasons: Reason[], again: (passed: Passed) => void): void {
    const answer = (knows: boolean): void => {
      const isKnown = (reason: Reason): boolean => knows && reason.known_for_ms > 0;
      this.question = null;
      again({
        confirmed: reasons.filter((reason) => !isKnown(reason)).map((reason) => reason.id),
        known: reasons.filter(isKnown).map((reason) => reason.id),
      });
    };
    this.question = { reasons, answer };
  }

  /** Whether a refusal means that the basket is no longer open; shows what became of it. */
  async #isGone(error: unknown, id: string): Promise<boolean> {
    if (!(error instanceof Problem) || (error.status !== 409 && error.status !== 404)) return false;
    const view = await this.goneOrNot(id);
    if (!view) {
      if (this.basket?.id === id) this.basket = null;
      return true;
    }
    this.take(view);
    if (view.sold) await this.show(view.sold, id);
    return view.sold !== undefined;
  }
}
