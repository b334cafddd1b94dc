// Shapes of the node's API: generated from its document (api-types.ts), and here named as the page uses them. What a
// request may leave out, an answer has.
import type { components } from './api-types';

type Schemas = components['schemas'];
type With<T, More> = Omit<T, keyof More> & More;

export type Line = With<Schemas['LineFile'], { quantity: string; price: number | null }>;
export type Basket = With<Schemas['BasketFile'], { lines: Line[]; codes: string[] }>;
export type Quote = Schemas['QuoteView'];
export type CodeState = Schemas['CodeState'];
export type TenderKind = Schemas['TenderKind'];
export type BasketTender = Schemas['PartView'];
export type BasketView = With<Schemas['BasketView'], { basket: Basket }>;
export type SaleState = Schemas['SaleState'];
export type SaleView = Schemas['SaleView'];
export type Product = With<Schemas['ProductView'], { unit: string; barcodes: string[] }>;
export type Status = Pick<Schemas['StatusView'], 'role' | 'stall' | 'name' | 'market_name' | 'currency' | 'notices' | 'sales' | 'uncaptured'> & {
  uplink: Pick<Schemas['UplinkView'], 'enabled' | 'up' | 'hops'>;
  peers: Pick<Schemas['PeerView'], 'device' | 'stall' | 'link'>[];
};
export type Change = Schemas['BasketChange'];
export type TenderOrder = Partial<Schemas['PartOrder']> & { kind: TenderKind };
export type SaleOrder = Partial<With<Schemas['BasketSale'], { tenders: TenderOrder[] }>>;
export type Reason = Schemas['ReasonView'];
export type Notice = Schemas['Notice'];
