// What the stall offers: what a search finds, and the names of what is in the basket.
import { SvelteMap } from 'svelte/reactivity';
import { api } from './api';
import type { Product } from './types';

/** So many tiles at once: more are found by searching. */
export const TILES_MAX = 120;

export class Catalog {
  stall = '';
  query = $state('');
  found = $state.raw<Product[]>([]);
  more = $state(false);
  readonly #known = new SvelteMap<string, Product>();
  /** What was asked for since products changed last. */
  readonly #asked = new Set<string>();
  #turn = 0;

  /** Looks for what is in the search field; an answer that comes after a later one's is dropped. */
  async search(): Promise<void> {
    if (this.stall === '') return;
    this.#turn += 1;
    const turn = this.#turn;
    const products = await api.search(this.stall, this.query.trim(), TILES_MAX + 1);
    if (turn !== this.#turn) return;
    this.more = products.length > TILES_MAX;
    this.found = products.slice(0, TILES_MAX);
    for (const product of products) this.#keep(product);
  }

  /** Products changed: what is known is asked for anew, and is what it was until then. */
  async renew(): Promise<void> {
    this.#asked.clear();
    await this.search();
  }

  #keep(product: Product): void {
    this.#known.set(product.sku, product);
    this.#asked.add(product.sku);
  }

  product(sku: string): Product | undefined {
    return this.#known.get(sku);
  }

  name(sku: string): string {
    return this.#known.get(sku)?.name || sku;
  }

  unit(sku: string): string {
    return this.#known.get(sku)?.unit ?? 'piece';
  }

  /** Asks for what wasn't asked for yet of these. */
  async learn(skus: Iterable<string>): Promise<void> {
    for (const sku of skus) {
      if (this.stall === '' || this.#asked.has(sku)) continue;
      this.#asked.add(sku);
      for (const product of await api.search(this.stall, sku, 50)) this.#keep(product);
    }
  }
}
