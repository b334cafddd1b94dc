// What states are called. Said as they are: no orders, no alarm.
import type { BasketTender, CodeState, SaleView, Status, TenderKind } from './types';

const count = (number: number, one: string, many: string): string => `${number} ${number === 1 ? one : many}`;

/** The way to the hub. */
export const uplinkWords = (uplink: Status['uplink']): string => {
  if (uplink.up) return 'Hub connected';
  if (uplink.hops !== null && uplink.hops !== undefined) return `Hub over ${count(uplink.hops, 'neighbour', 'neighbours')}`;
  return 'No way to the hub';
};

/** Nodes of the market that are linked; a hub that is linked as one isn't counted twice. */
export const neighbourWords = (status: Status): string => {
  const hubs = new Set(status.peers.filter((peer) => peer.link === 'uplink').map((peer) => peer.device));
  const neighbours = new Set(status.peers.map((peer) => peer.device).filter((device) => !hubs.has(device)));
  return count(neighbours.size, 'neighbour', 'neighbours');
};

/** What was taken by card and isn't captured yet. */
export const uncapturedWords = (status: Status): string =>
  status.uncaptured.payments > 0 ? status.uncaptured.sentence : '';

/** What isn't safe at the hub. */
export const waitingWords = (status: Status): string => {
  const { recorded, at_the_hub, settled } = status.sales;
  const waiting = Math.max(0, recorded - at_the_hub - settled);
  return waiting === 0 ? 'Every sale is at the hub' : `${count(waiting, 'sale waits', 'sales wait')} for the hub`;
};

/** How safe a sale is. */
export const safetyWords = (sale: Pick<SaleView, 'state' | 'copies'>): string => {
  switch (sale.state) {
    case 'this_device': return 'On this device';
    case 'copied': return count(sale.copies, 'copy on a neighbour', 'copies on neighbours');
    case 'at_the_hub': return 'At the hub';
    case 'in_suspense': return 'At the hub, in suspense';
    case 'settled': return 'Settled';
  }
};

/** Where a sale is by now: on this device, on neighbours, at the hub, in a settlement. */
export const safetySteps = (sale: Pick<SaleView, 'state' | 'copies'>): [string, boolean][] => {
  const settled = sale.state === 'settled';
  return [
    ['This device', true],
    [sale.copies > 0 ? `${sale.copies} ${sale.copies === 1 ? 'copy' : 'copies'}` : 'Copies', sale.copies > 0],
    ['Hub', settled || sale.state === 'at_the_hub' || sale.state === 'in_suspense'],
    ['Settled', settled],
  ];
};

export const tenderWords: Readonly<Record<TenderKind, string>> = {
  cash: 'Cash', card: 'Card', wallet: 'Wallet', outside: 'Own terminal',
};

/** What became of a part of a payment. */
export const partWords = (part: Pick<BasketTender, 'state' | 'authorised'>): string => {
  switch (part.state) {
    case 'taken': return 'taken';
    case 'asked': return 'asked for';
    case 'approved': return part.authorised === 'offline' ? 'approved offline' : 'approved';
    case 'declined': return 'declined';
    case 'unknown': return 'answer unknown';
    case 'void': return 'void';
  }
};

const MOMENT = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)/g;

/** A sentence of the node with its times as people write them. */
export const plainTimes = (sentence: string, locale?: string, timeZone?: string): string => {
  const format = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short', ...(timeZone ? { timeZone } : {}) });
  return sentence.replace(MOMENT, (moment) => format.format(new Date(moment)));
};

export const codeWords: Readonly<Record<CodeState, string>> = {
  applied: 'acts', unknown: 'unknown', expired: 'expired', not_yet: 'not yet', used_up: 'used up',
  not_reached: 'not reached', displaced: 'displaced',
};
