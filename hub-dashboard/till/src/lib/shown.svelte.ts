// What is shown: a copy of what lives on the node, kept fresh by its events. It writes nothing.
import { Problem, api } from './api';
import { Catalog } from './catalog.svelte';
import { gathered, listen } from './feed';
import { exponentOf, formatAmount, formatNote } from './money';
import { quickNotes } from './notes';
import { Unreachable } from './outbox';
import type { BasketTender, BasketView, Notice, SaleView, Status } from './types';

export interface Message { id: number; text: string }

/** More messages than this push the oldest out. */
const MESSAGES_MAX = 3;
const LOOK_EVERY_MS = 10_000;
const GATHER_MS = 60;

/** Parts of a payment that count. */
export const liveParts = (view: BasketView): BasketTender[] =>
  view.tenders.filter((part) => part.state !== 'void' && part.state !== 'declined');

/** Nobody knows yet what becomes of it: the card reader or the hub is asked. */
export const isAsked = (part: BasketTender): boolean => part.state === 'asked' || part.state === 'unknown';

const isOpen = (view: BasketView | null): boolean =>
  view !== null && !view.sold && (view.basket.lines.length > 0 || view.basket.codes.length > 0 || liveParts(view).length > 0);

export class Shown {
  readonly catalog = new Catalog();
  status = $state.raw<Status | null>(null);
  /** The basket of this till; empty ones too. */
  basket = $state.raw<BasketView | null>(null);
  /** Other open baskets. */
  held = $state.raw<BasketView[]>([]);
  lastSale = $state.raw<SaleView | null>(null);
  reachable = $state(true);
  messages = $state.raw<Message[]>([]);

  readonly currency = $derived(this.status?.currency ?? '');
  readonly exponent = $derived(exponentOf(this.currency));
  /** The basket, where something is in it. */
  readonly open = $derived(isOpen(this.basket) ? this.basket : null);
  readonly parts = $derived(this.open?.tenders ?? []);
  /** A card is asked for. */
  readonly asking = $derived(this.parts.some(isAsked));
  readonly total = $derived(this.open?.quote?.total ?? 0);
  readonly left = $derived(this.open?.left ?? 0);
  readonly covered = $derived(this.open?.covered ?? 0);
  /** What is left if it is paid in cash: rounded to coins. */
  readonly due = $derived(this.open?.left_in_cash ?? 0);
  /** What is covered too much: a part must be voided before it can be sold. */
  readonly over = $derived(this.open?.over ?? 0);
  readonly notes = $derived(quickNotes(this.due, this.currency, this.exponent));

  /** Baskets that were put aside here. */
  protected readonly aside = new Set<string>();
  /** What was changed before this isn't taken up by itself: it was put aside, or is older than the last sale. */
  protected idleSince = 0;
  /** Whether open baskets were asked for yet. */
  protected looked = false;
  #messageId = 0;

  protected readonly lookSoon = gathered(() => this.reading(() => this.#look()), GATHER_MS);
  protected readonly basketSoon = gathered(() => this.reading(() => this.lookAtBaskets()), 0);
  readonly #catalogSoon = gathered(() => this.reading(async () => {
    await this.catalog.renew();
    await this.#learn(this.basket);
  }), GATHER_MS);
  readonly searchSoon = gathered(() => this.reading(() => this.catalog.search()), GATHER_MS);

  /** Begins: asks for all that is there, and follows it. */
  start(): void {
    listen({
      opened: () => this.renew(),
      lost: () => { this.reachable = false; },
      notice: (notice) => this.#notice(notice),
    });
    setInterval(() => this.lookSoon(), LOOK_EVERY_MS);
    this.renew();
  }

  amount(minor: number): string {
    return formatAmount(minor, this.exponent);
  }

  note(minor: number): string {
    return formatNote(minor, this.exponent);
  }

  dismiss(id: number): void {
    this.messages = this.messages.filter((message) => message.id !== id);
  }

  say(text: string): void {
    this.#messageId += 1;
    this.messages = [...this.messages.filter((message) => message.text !== text), { id: this.#messageId, text }].slice(-MESSAGES_MAX);
  }

  /** Says why the node refused. */
  protected tell(error: unknown): void {
    if (error instanceof Problem && error.status === 401) {
      this.say('This page may no longer ask its node. The address with the token opens it again.');
    } else if (error instanceof Problem && error.reasons.length > 0) {
      for (const reason of error.reasons) this.say(reason.sentence);
    } else {
      this.say(error instanceof Error ? error.message : String(error));
    }
  }

  /** Takes a newer view of the basket. */
  protected take(view: BasketView): void {
    this.reachable = true;
    if (this.aside.has(view.id)) return;
    if (this.basket && (this.basket.id !== view.id || this.basket.changed_at > view.changed_at)) return;
    if (!view.sold) this.basket = view;
    void this.reading(() => this.#learn(view));
  }

  async #learn(view: BasketView | null): Promise<void> {
    await this.catalog.learn(view?.basket.lines.map((line) => line.sku) ?? []);
  }

  /** A basket became a sale. */
  protected sold(sale: SaleView, basket: string): void {
    this.reachable = true;
    if (!this.lastSale || sale.recorded_at >= this.lastSale.recorded_at) this.lastSale = sale;
    if (this.basket?.id === basket) [this.basket, this.messages] = [null, []];
    this.idleSince = Math.max(this.idleSince, sale.recorded_at);
    this.lookSoon();
  }

  protected async show(sale: string, basket: string): Promise<void> {
    this.sold(await api.sale(sale), basket);
  }

  /** The node answers again: what was missed is asked for. */
  protected renew(): void {
    this.lookSoon();
    this.basketSoon();
    this.#catalogSoon();
  }

  /** Reads: what can't be read now is read again when the node answers. */
  protected async reading(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.reachable = true;
    } catch (error) {
      if (error instanceof Unreachable) this.reachable = false;
      else this.tell(error);
    }
  }

  #notice(notice: Notice): void {
    if (notice.event === 'basket' || notice.event === 'promotions') this.basketSoon();
    else if (notice.event === 'catalog') this.#catalogSoon();
    else this.lookSoon();
    if (notice.event === 'sale' && this.lastSale?.sale === notice.sale) {
      this.lastSale = { ...this.lastSale, state: notice.state, copies: notice.copies };
    }
  }

  async #look(): Promise<void> {
    const stall = this.status?.stall;
    this.status = await api.status();
    this.catalog.stall = this.status.stall;
    if (stall !== this.status.stall) await this.catalog.search();
    await this.lookAtLastSale();
  }

  protected async lookAtLastSale(): Promise<void> {
    const last = (await api.sales(1))[0];
    if (last && (!this.lastSale || last.recorded_at >= this.lastSale.recorded_at)) this.lastSale = last;
  }

  protected async lookAtBaskets(): Promise<void> {
    // Whose names are what, first.
    if (this.catalog.stall === '') await this.#look();
    const views = await api.baskets();
    this.looked = true;
    const current = this.basket;
    if (current) await this.#follow(current.id, views.find((view) => view.id === current.id));
    if (!this.open) {
      const next = views.find((view) => isOpen(view) && !this.aside.has(view.id) && view.changed_at > this.idleSince);
      if (next) {
        await this.#learn(next);
        this.basket = next;
      }
    }
    this.held = views.filter((view) => view.id !== this.basket?.id && isOpen(view));
  }

  /** What became of the basket that is shown. */
  async #follow(id: string, found: BasketView | undefined): Promise<void> {
    const view = found ?? (await this.goneOrNot(id));
    if (view && !view.sold) this.take(view);
    else if (view?.sold) await this.show(view.sold, id);
    else if (this.basket?.id === id) this.basket = null;
  }

  /** A basket, or nothing where the node has none of that id. */
  protected async goneOrNot(id: string): Promise<BasketView | null> {
    try {
      return await api.basket(id);
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return null;
      throw error;
    }
  }
}
