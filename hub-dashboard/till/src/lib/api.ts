// What the page asks of its node. Every write has a key, made once for what somebody did.
import { Unreachable } from './outbox';
import type { BasketView, Change, Product, Reason, SaleOrder, SaleView, Status, TenderOrder } from './types';

/** The node refused. */
export class Problem extends Error {
  override name = 'Problem';

  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly reasons: Reason[] = [],
  ) {
    super(detail);
  }
}

/** How long an answer may take, in milliseconds. */
const PATIENCE_MS = 15_000;
/** How long one may take while a buyer holds a card to the reader. */
const CARD_PATIENCE_MS = 120_000;

interface Options { body?: unknown; key?: string; patience?: number }

const call = async <T>(method: string, path: string, { body, key, patience }: Options = {}): Promise<T> => {
  const headers: Record<string, string> = { accept: 'application/json' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (key !== undefined) headers['idempotency-key'] = key;
  const request: RequestInit = { method, headers, signal: AbortSignal.timeout(patience ?? PATIENCE_MS) };
  if (body !== undefined) request.body = JSON.stringify(body);
  let [status, text] = [0, ''];
  try {
    const answer = await fetch(path, request);
    [status, text] = [answer.status, await answer.text()];
  } catch {
    throw new Unreachable('the node does not answer');
  }
  if (status < 400) return JSON.parse(text) as T;
  let problem: { code?: string; detail?: string; reasons?: Reason[] } = {};
  try {
    problem = JSON.parse(text) as typeof problem;
  } catch {
    // An answer of something between here and the node.
  }
  const detail = problem.detail ?? `the node answered ${status}`;
  if (status === 503) throw new Unreachable(detail);
  throw new Problem(status, problem.code ?? '', detail, problem.reasons ?? []);
};

/** A key for one thing that somebody did. */
export const newKey = (): string => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `till-${[...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
};

export const api = {
  status: () => call<Status>('GET', '/v1/status'),
  search: (stall: string, query: string, limit: number) =>
    call<Product[]>('GET', `/v1/catalog?${new URLSearchParams({ stall, q: query, limit: `${limit}` })}`),
  baskets: () => call<BasketView[]>('GET', '/v1/baskets'),
  basket: (id: string) => call<BasketView>('GET', `/v1/baskets/${id}`),
  open: (key: string) => call<BasketView>('POST', '/v1/baskets', { body: { lines: [] }, key }),
  change: (id: string, changes: Change[], key: string) =>
    call<BasketView>('POST', `/v1/baskets/${id}/changes`, { body: { changes }, key }),
  addTender: (id: string, tender: TenderOrder, key: string) =>
    call<BasketView>('POST', `/v1/baskets/${id}/tenders`, { body: tender, key, patience: CARD_PATIENCE_MS }),
  voidTender: (id: string, number: number, confirmed: string[], key: string) =>
    call<BasketView>('DELETE', `/v1/baskets/${id}/tenders/${number}${confirmed.length > 0 ? `?${new URLSearchParams({ confirmed: confirmed.join(',') })}` : ''}`, { key, patience: CARD_PATIENCE_MS }),
  sell: (id: string, order: SaleOrder, key: string) =>
    call<SaleView>('POST', `/v1/baskets/${id}/sale`, { body: order, key, patience: CARD_PATIENCE_MS }),
  sales: (limit: number) => call<SaleView[]>('GET', `/v1/sales?limit=${limit}`),
  sale: (id: string) => call<SaleView>('GET', `/v1/sales/${id}`),
};
