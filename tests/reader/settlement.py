"""Section 12 of docs/protocol.md: F, version 1."""

import re

from encoding import decode
from logs import LANES
from members import SELL, unprintable
from primitives import H, Refused

AMOUNT_MAX = 2**53 - 1


class Wrong(Exception):
    pass


def need(holds, about):
    if not holds:
        raise Wrong(about)


def times(amount, text, divisor):
    need(len(text) <= 28 and re.fullmatch(r"[0-9]+(\.[0-9]+)?", text, re.ASCII), "no decimal")
    whole, _, decimals = text.partition(".")
    divisor *= 10 ** len(decimals)
    numerator, denominator = 2 * amount * int(whole + decimals) + divisor, 2 * divisor
    need(numerator < 2**127 and denominator < 2**127 and numerator // denominator < 2**64, "out of range")
    return numerator // denominator


def check(sale, currency):
    lines, fees, tenders = sale["lines"], sale["fees"], sale["tenders"]
    need(sale["currency"] == currency and len(sale["sale"]) == 16 and lines, "currency, id or lines")
    taxes = [tax for line in lines + fees for tax in line["taxes"]]
    amounts = [sale[field] for field in ("subtotal", "reduction", "fee", "tax", "total")] + [abs(sale["cash_rounding"])]
    amounts += [line[field] for line in lines for field in ("unit_price", "gross", "net", "total")]
    amounts += [reduction["amount"] for line in lines for reduction in line["reductions"]]
    amounts += [fee[field] for fee in fees for field in ("amount", "total")]
    amounts += [tax[field] for tax in taxes for field in ("base", "amount")]
    amounts += [tender[field] for tender in tenders for field in ("amount", "tip")]
    need(max(amounts) <= AMOUNT_MAX, "an amount out of range")
    need(not any(unprintable(tax["name"]) for tax in taxes), "a tax's name")
    for line in lines:
        need(line["gross"] == times(line["unit_price"], line["quantity"], 1), "gross")
        need(line["net"] == line["gross"] - sum(reduction["amount"] for reduction in line["reductions"]), "net")
        tax = sum(tax["amount"] for tax in line["taxes"])
        need(line["total"] in (line["net"], line["net"] + tax) and tax <= max(line["total"], line["gross"]), "line")
    for fee in fees:
        tax = sum(tax["amount"] for tax in fee["taxes"])
        need(fee["total"] in (fee["amount"], fee["amount"] + tax), "fee's total")
    total = sum(line["total"] for line in lines) + sum(fee["total"] for fee in fees) + sale["cash_rounding"]
    need(sale["total"] == total and sale["subtotal"] == sum(line["gross"] for line in lines), "total")
    need(sale["tax"] == sum(tax["amount"] for tax in taxes), "tax")
    need(sale["fee"] == sum(fee["amount"] for fee in fees), "fee")
    reductions = [reduction["amount"] for line in lines for reduction in line["reductions"]]
    need(sale["reduction"] == sum(reductions), "reduction")
    need(sale["total"] == sum(tender["amount"] for tender in tenders), "tenders")


def borne_by_market(sale, shares):
    sums = {}
    for line in sale["lines"]:
        for reduction in line["reductions"]:
            sums[reduction["promotion"]] = sums.get(reduction["promotion"], 0) + reduction["amount"]
    return sum(times(amount, shares[promotion], 100) for promotion, amount in sums.items() if shares.get(promotion))


def post(sale, stall, fee_rate, shares):
    legs = {}

    def add(account, amount):
        legs[account] = legs.get(account, 0) + amount

    for tender in sale["tenders"]:
        need(tender["kind"] in (1, 2, 3, 6), "kind of tender")
        account = {1: f"cash-held:{stall}", 6: f"outside-held:{stall}"}.get(tender["kind"], "gateway-clearing")
        add(account, tender["amount"] + tender["tip"])
    for part in sale["lines"] + sale["fees"]:
        for tax in part["taxes"]:
            add(f"tax:{tax['name']}", -tax["amount"])
    add("rounding", -sale["cash_rounding"])
    net = sale["total"] - sale["tax"] - sale["cash_rounding"]
    fee = times(max(net, 0), fee_rate or "0", 100)
    add("market-fee", -fee)
    borne = borne_by_market(sale, shares)
    add("market-promotions", borne)
    tips = sum(tender["tip"] for tender in sale["tenders"])
    add(f"stall-payable:{stall}", fee - net - borne - tips)
    need(all(abs(amount) <= AMOUNT_MAX for amount in legs.values()) and sum(legs.values()) == 0, "legs")
    return [(account, amount) for account, amount in legs.items() if amount]


def entry_name(at):
    lane = LANES.get(at.lane, f"lane-{at.lane}")
    return f"{at.author.hex()}/{at.incarnation.hex()}/{lane}/{at.sequence}/{at.hash.hex()}"


def settle(sales, currency):
    """`sales`: {position: (stall, newest certificate, payload or None, word why it doesn't stand or None, fee rate,
    what its author knew of who pays for promotions)}. The last is asked with a sale's reductions."""
    rows, states, groups = [], {}, {}

    def suspend(position, stall, reason, total):
        amount = min(total, AMOUNT_MAX)
        states[position] = (stall, f"suspense\t{reason}\t{amount}")
        if amount:
            name = entry_name(position)
            rows.append((name, 0, "suspense:taken", currency, amount))
            rows.append((name, 1, f"suspense:{reason}", currency, -amount))

    for position, (stall, certificate, payload, word, fee_rate, shares_of) in sales.items():
        try:
            sale = decode("Sale", payload) if payload is not None else None
        except Refused:
            sale = None
        if sale is None:
            suspend(position, stall, "unreadable", 0)
            continue
        if word is None and certificate is not None:
            limits = certificate["limits"]
            if SELL not in limits or limits[SELL] is not None and sale["total"] > limits[SELL]:
                word = "scope"
        if word is None and not stall:
            word = "not_member"
        try:
            if word is None:
                check(sale, currency)
        except Wrong:
            word = "doesnt_add_up"
        if word is not None:
            suspend(position, stall, word, sale["total"])
        elif sale["mark"]:
            states[position] = (stall, "not_real")
        else:
            groups.setdefault((stall, sale["sale"]), []).append((position, sale, fee_rate, shares_of(sale)))
    for (stall, _), group in groups.items():
        (first, posted, fee_rate, shares), *others = sorted(group, key=lambda claim: (claim[0].hash, claim[0]))
        try:
            legs = post(posted, stall, fee_rate, shares)
            rows += [(entry_name(first), leg, account, currency, amount) for leg, (account, amount) in enumerate(legs)]
            states[first] = (stall, "posted")
        except Wrong:
            suspend(first, stall, "doesnt_add_up", posted["total"])
        for position, sale, _, _ in others:
            if sale | {"receipt": 0} == posted | {"receipt": 0}:
                states[position] = (stall, f"repeats\t{first.hash.hex()}")
            else:
                suspend(position, stall, "same_id_other_content", sale["total"])
    text = "".join("row\t" + "\t".join(map(str, row)) + "\n" for row in sorted(rows))
    for position, (stall, outcome) in sorted(states.items()):
        text += f"state\t{entry_name(position)}\t{stall or ''}\t{outcome}\n"
    outcomes = [outcome.split("\t")[0] for _, outcome in states.values()]
    return {
        "digest": H("settlement", text.encode()).hex(),
        "posted": outcomes.count("posted"),
        "suspense": outcomes.count("suspense"),
        "sum": sum(row[4] for row in rows),
    }
