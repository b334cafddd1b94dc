"""Section 13 of docs/protocol.md: a whole export, verified and settled."""

from collections import defaultdict

from encoding import Bytes, decode, need, write_message
from logs import KEPT_BY_ALL, MONEY, NOTHING, PUBLIC, SEALED, LogName, log_id, verify_page
from members import (
    CHECKPOINT, INFINITE, POLICY, SETTLE, Coverage, Fact, Head, Membership, leaf_holds, read_certificate,
    read_checkpoint, read_fork_proof, read_judgement, read_leaf, skip_targets,
)
from primitives import H, Refused, sized, u32
from sealing import open_part
from settlement import settle

MAGIC = b"STALLMESH-EXPORT/1\n"


class Export:
    def __init__(self, data, root=None):
        self.logs = defaultdict(dict)  # log → {(sequence, hash): entry}
        self.opened = {}  # (position, part) → plaintext
        self.problems = []  # what no honest hub writes, though every record holds
        pages, leaves, disclosures = [], [], []
        for offset, kind, record in self.records(data):
            try:
                if kind == 1:
                    self.root, self.epoch = record.take(32), record.u32()
                    self.market = H("market", self.root, u32(self.epoch))
                    record.finish()
                    if root is not None and root != self.root:
                        raise Refused("E_WRONG_MARKET", f"its root is {self.root.hex()}")
                elif kind == 2:
                    log = LogName(record.take(32), record.take(16), record.u32())
                    pages.append((offset, log, verify_page(self.market, log, record.take(record.left()))))
                elif kind == 3:
                    fields = (record.take(32), record.u64(), record.take(32), record.u8(), record.take(32))
                    record.finish()
                    disclosures.append((offset, *fields))
                elif kind == 4:
                    leaves.append((offset, read_leaf(record)))
                elif kind != 5 or record.left():
                    raise Refused("E_DECODE", f"a record of unknown type {kind}")
            except Refused as error:
                raise Refused(error.code, f"record at byte {offset}: {error}") from None
        self.take_pages(pages)
        self.read_entries()
        self.check_leaves(leaves)
        self.check_disclosures(disclosures)
        self.membership = Membership(self.root, self.facts, self.proofs, self.coverage)
        self.check_chain()

    @staticmethod
    def records(data):
        reader = Bytes(data)
        if reader.take(len(MAGIC), "the export's beginning") != MAGIC:
            raise Refused("E_DECODE", "no export")
        kind = None
        while kind != 5:
            offset = reader.at
            before, kind = kind, reader.take(1, "records: the end's is missing")[0]
            if (kind == 1) != (before is None):
                raise Refused("E_DECODE", f"record at byte {offset}: the market's comes first, once")
            length = reader.u32()
            if length > 262_208:
                raise Refused("E_TOO_LARGE", f"record at byte {offset}")
            yield offset, kind, Bytes(reader.take(length, f"the record at byte {offset}"))
        reader.finish()

    def take_pages(self, pages):
        history = defaultdict(dict)  # log → {sequence: hash}
        for offset, log, entries in sorted(pages, key=lambda page: (page[1], page[2][0].sequence, page[0])):
            known, one = self.logs[log], history[log]
            for entry in entries:
                follows = entry.sequence == 1 or one.get(entry.sequence - 1) == entry.previous
                if log.lane not in SEALED and not (follows and one.get(entry.sequence, entry.hash) == entry.hash):
                    raise Refused("E_DECODE", f"page at byte {offset}: it doesn't follow the one before it")
                one[entry.sequence] = entry.hash
                known[entry.sequence, entry.hash] = entry

    def entries(self, lane):
        return [entry for log, known in self.logs.items() if log.lane == lane for entry in known.values()]

    def read_entries(self):
        """What entries say, as far as their payload has a meaning; judged later."""
        self.facts, self.proofs, self.said, self.checkpoints = [], [], defaultdict(list), []
        by_log = {}
        for lane in KEPT_BY_ALL:
            for entry in self.entries(lane):
                payload = entry.parts.get(PUBLIC)
                if payload is None:
                    continue
                fact = Fact(entry.position(), entry.timestamp, entry.seen, entry.kind, None)
                try:
                    if lane == 1 and entry.kind == 17:
                        self.facts.append(fact._replace(message=read_certificate(payload)))
                    elif lane == 1 and entry.kind in (18, 19, 20):
                        self.facts.append(fact._replace(message=read_judgement(entry.kind, payload)))
                    elif lane in (1, 4) and entry.kind in (28, 80):
                        proof = (*read_fork_proof(self.market, payload), payload)
                        by_log.setdefault(proof, []).append(fact.position)
                    elif lane == 2 and entry.kind == 48:
                        self.checkpoints.append(fact._replace(message=read_checkpoint(payload)))
                    elif lane == 1 and entry.kind in (16, 21, 26, 65):
                        name = {16: "Market", 21: "Policy", 26: "Settlement", 65: "Promotions"}[entry.kind]
                        message = decode(name, payload)
                        need(entry.kind != 16 or message["epoch"] == self.epoch, "another market's epoch")
                        self.said[entry.kind].append(fact._replace(message=message))
                except Refused:
                    continue  # kept, without effect
        self.proofs = [(log, sequence, at) for (log, sequence, _), at in by_log.items()]
        by_root = Membership(self.root, [fact for fact in self.facts if fact.position.author == self.root])
        counting = [
            fact
            for fact in self.checkpoints
            # At the checkpoint's own time, by what the root alone says.
            if by_root.has_effect(fact._replace(timestamp=fact.message["time"], seen=bytes(8)), CHECKPOINT)
        ]
        self.coverage = Coverage([(fact.position.hash, fact.message) for fact in counting])

    def check_leaves(self, leaves):
        known = dict(self.coverage.chain)
        for offset, leaf in leaves:
            checkpoint = known.get(leaf.checkpoint)
            holds = checkpoint and leaf_holds(self.market, leaf, checkpoint["root"], checkpoint["logs"])
            if not holds or leaf.standing.sequence == 0:
                raise Refused("E_HASH", f"leaf at byte {offset}: no checkpoint proves it")
            self.coverage.add_leaf(leaf)

    def check_disclosures(self, disclosures):
        names = {log_id(self.market, log): log for log in self.logs}
        for offset, id, sequence, hash, part, secret in disclosures:
            entry = self.logs[names[id]].get((sequence, hash)) if id in names else None
            sealed = entry.parts.get(part) if entry else None
            if sealed is None:
                raise Refused("E_DECODE", f"disclosure at byte {offset}: of nothing that is here")
            header = (id, sequence, entry.previous, entry.timestamp, entry.seen, entry.kind, part)
            try:
                self.opened[entry.position(), part] = open_part(secret, *header, sealed)
            except Refused as error:
                raise Refused(error.code, f"disclosure at byte {offset}: {error}") from None

    def check_chain(self):
        """Checkpoints continue each other, by `previous` and by their skip links."""
        numbers = {hash: message["number"] for hash, message in self.coverage.chain}
        for hash, message in self.coverage.chain:
            links = [(message["number"] - 1, message["previous"])]
            links += list(zip(skip_targets(message["number"]), message["skips"]))
            for number, link in links:
                if link and numbers.get(link) != number:
                    self.problems.append(f"checkpoint {message['number']}: no checkpoint {number} is {link.hex()[:8]}")

    def rank(self, fact):
        covering = self.membership.covering(fact.position)
        return (INFINITE if covering is None else covering, fact.position.hash)

    def newest(self, facts):
        replaced = {hash for fact in facts for hash in fact.message["replaces"]}
        return max((fact for fact in facts if fact.position.hash not in replaced), key=self.rank, default=None)

    def steps(self, versions, rate):
        """(Ordinal of the checkpoint from which on it was known, rate), ascending."""
        rates = {}
        for ordinal in sorted({self.rank(fact)[0] for fact in versions}):
            known = [fact for fact in versions if self.rank(fact)[0] <= ordinal]
            counts = self.newest(known)
            rates[ordinal] = rate(counts.message) if counts else ""
        return list(rates.items())

    def fee_rates(self):
        policies = [fact for fact in self.said[21] if self.membership.has_effect(fact, POLICY)]
        return self.steps(policies, lambda message: message["fee_rate"])

    def shares(self):
        """What the market pays of each of its promotions: by id, as `fee_rates`; and by id and what a sale cites of the
        entry, with the ordinal of the checkpoint that covers it."""
        by_id, cited = {}, {}
        for fact in self.said[65]:
            if self.membership.has_effect(fact, POLICY):
                # Of an entry that names one promotion twice, the first counts.
                for promotion in {one["id"]: one for one in reversed(fact.message["promotions"])}.values():
                    share = {"replaces": fact.message["replaces"], "percent": promotion["borne_by_market"]}
                    by_id.setdefault(promotion["id"], []).append(fact._replace(message=share))
                    known = (self.rank(fact)[0], share["percent"])
                    cited.setdefault((promotion["id"], fact.position.hash[:8]), known)
        return {id: self.steps(versions, lambda message: message["percent"]) for id, versions in by_id.items()}, cited

    def shares_known(self, sale, seen, by_id, cited):
        """What the market pays of the promotions that a sale names, as its author knew it."""
        shares, ordinal = {}, self.coverage.ordinals.get(seen, -1)
        for line in sale["lines"]:
            for reduction in line["reductions"]:
                id = reduction["promotion"]
                at, percent = cited.get((id, reduction["entry"]), (-1, ""))
                if at <= ordinal:
                    percent = self.known_rate(by_id.get(id, []), seen)
                if percent:
                    shares[id] = percent
        return shares

    def known_rate(self, rates, seen):
        ordinal = self.coverage.ordinals.get(seen, -1)
        known = [rate for at, rate in rates if at <= ordinal] or [rate for _, rate in rates[:1]]
        return known[-1] if known else ""

    def lies_within(self, position, head):
        known, at = self.logs[LogName(*position[:3])], head
        while at.sequence > position.sequence:
            entry = known.get(at)
            if entry is None:
                return True
            at = Head(entry.sequence - 1, entry.previous)
        return at == (position.sequence, position.hash)

    def connected(self, log):
        """Entries of a log that chain back to its first."""
        reached, known = {(0, NOTHING)}, self.logs[log]
        for (sequence, hash), entry in sorted(known.items()):
            if (sequence - 1, entry.previous) in reached:
                reached.add((sequence, hash))
        return reached

    def settle(self):
        market = self.newest([fact for fact in self.said[16] if fact.position.author == self.root])
        currency = market.message["currency"] if market else ""
        fee_rates, (by_id, cited) = self.fee_rates(), self.shares()
        sales = {}
        for log in [log for log in self.logs if log.lane == 5]:
            connected = self.connected(log)
            device = self.membership.devices.get(log.author)
            certificate = device.newest() if device else None
            for entry in self.logs[log].values():
                if entry.kind == 96:
                    position = entry.position()
                    word = self.membership.stands(position, self.lies_within)
                    if word is None and (entry.sequence, entry.hash) not in connected:
                        word = "orphan"
                    stall = certificate["stall"] if certificate else ""
                    rate = self.known_rate(fee_rates, entry.seen)
                    opened = self.opened.get((position, MONEY))
                    shares = lambda sale, seen=entry.seen: self.shares_known(sale, seen, by_id, cited)  # noqa: E731
                    sales[position] = (stall, certificate, opened, word, rate, shares)
        result = settle(sales, currency)
        settlements = [fact for fact in self.said[26] if self.membership.has_effect(fact, SETTLE)]
        settlements.sort(key=lambda fact: fact.message["number"])
        self.check_closings(settlements)
        return result | {
            "entries": sum(len(known) for known in self.logs.values()),
            "devices": len(self.membership.devices),
            "checkpoints": len(self.coverage.chain),
            "published": [fact.message["digest"].hex() for fact in settlements],
            "problems": self.problems,
        }

    def check_closings(self, settlements):
        """Closings that are disclosed say what the settlements say, and name what they read."""
        closings = {}
        for entry in self.entries(6):
            if entry.kind == 112 and (entry.position(), MONEY) in self.opened:
                closings[entry.hash] = (entry, decode("Closing", self.opened[entry.position(), MONEY]))
        for fact in settlements:
            number, closing = fact.message["number"], closings.get(fact.message["closing"])
            if closing is None:
                continue
            entry, message = closing
            if (message["number"], message["digest"], message["function"]) != (number, fact.message["digest"], 1):
                self.problems.append(f"settlement {number}: its closing says otherwise")
            log, inputs = self.logs[entry.log], []
            for before in sorted(log.values(), key=lambda other: other.sequence):
                opened = self.opened.get((before.position(), MONEY))
                if before.kind == 114 and opened is not None:
                    chunk = decode("ClosingInput", opened)
                    inputs += [(chunk["number"], each) for each in chunk["logs"]]
            read = [each for at, each in inputs if at == number]
            texts = b"".join(sized(write_message("InputLog", each)) for each in read)
            if H("closing-input", texts) != message["inputs_hash"]:
                self.problems.append(f"settlement {number}: its inputs are others")
            for each in read:
                name = LogName(each["author"], each["incarnation"], each["lane"])
                for interval in each["intervals"]:
                    if (interval["to"], interval["hash"]) not in self.logs.get(name, {}):
                        self.problems.append(f"settlement {number}: it read entries that are not here")
