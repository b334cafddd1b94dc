"""Sections 6 to 10 of docs/protocol.md: certificates, forks, checkpoints, and who belongs."""

import re
import unicodedata
from collections import defaultdict, namedtuple

from encoding import decode, fixed, need, write_message
from logs import NOTHING, LogName, entry_hash, log_id
from primitives import H, Refused, u64, verify

HUB, STALL, GATEWAY = 1, 2, 3
SELL, GRANT, ADMIT, CHECKPOINT, SETTLE, POLICY = 1, 5, 8, 9, 10, 11
VALIDITY_MAX = 400 * 24 * 3_600_000
INFINITE = 2**64

Head = namedtuple("Head", "sequence hash")


def unprintable(text):
    hidden = [(0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x2069), (0xFEFF, 0xFEFF)]
    return any(
        unicodedata.category(letter) == "Cc" or any(low <= ord(letter) <= high for low, high in hidden)
        for letter in text
    )


def read_certificate(payload):
    message = decode("Certificate", payload)
    need(message["role"] in (HUB, STALL, GATEWAY), "role")
    numbers = [scope["scope"] for scope in message["scopes"]]
    need(all(one < other for one, other in zip(numbers, numbers[1:])), "scopes are not ascending")
    need(0 <= message["not_after"] - message["not_before"] <= VALIDITY_MAX, "validity")
    stall = message["stall"]
    need((message["role"] == STALL) == bool(stall), "stall")
    need(not stall or re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", stall) and len(stall) <= 60, "stall is no slug")
    need(len(message["name"].encode()) <= 120 and not unprintable(message["name"]), "name")
    fixed(message["device"], 32, "device")
    fixed(message["seal_key"], 32, "seal_key")
    need(len(message["invite"]) in (0, 16) and len(message["request"]) in (0, 32), "invite or request")
    return message | {"limits": {scope["scope"]: scope["limit"] for scope in message["scopes"]}}


def narrows(subject, issuer):
    if not (issuer["role"] == HUB and subject["role"] in (STALL, GATEWAY) or issuer["role"] == subject["role"] == STALL):
        return False
    limits = issuer["limits"]
    if GRANT in limits:
        levels = 4 if limits[GRANT] is None else limits[GRANT]
    else:
        levels = 4 if issuer["role"] == HUB and ADMIT in limits else 0
    if levels == 0 or issuer["role"] == STALL and issuer["stall"] != subject["stall"]:
        return False
    for scope, limit in subject["limits"].items():
        if scope not in limits:
            return False
        most = levels - 1 if scope == GRANT else limits[scope]
        if most is not None and (limit is None or limit > most):
            return False
    return issuer["not_before"] <= subject["not_before"] and subject["not_after"] <= issuer["not_after"]


def read_line(heads):
    """{(incarnation, lane): Head}"""
    line = {}
    for head in heads:
        key = (fixed(head["incarnation"], 16, "incarnation"), head["lane"])
        need(not line or max(line) < key, "the line is not ascending")
        line[key] = Head(head["sequence"], fixed(head["hash"], 32, "hash"))
    return line


def read_judgement(kind, payload):
    message = decode({18: "Revocation", 19: "Raise", 20: "Readmission"}[kind], payload)
    fixed(message["device"], 32, "device")
    if kind == 20:
        fixed(message["incarnation"], 16, "incarnation")
    else:
        message["line"] = read_line(message["line"])
    return message


# ------------------------------------------------------------------------------------------------------- forks


def read_fork_proof(market, payload):
    """(log, first sequence that differs)"""
    message = decode("ForkProof", payload)
    need(len(message["branches"]) == 2, "branches")
    author = fixed(message["author"], 32, "author")
    log = LogName(author, fixed(message["incarnation"], 16, "incarnation"), message["lane"])
    first, previous = message["sequence"], message["previous"]
    if previous == NOTHING or any(h["seen"] == bytes(8) for b in message["branches"] for h in b["headers"]):
        raise Refused("E_NONCANONICAL", "zeros that are said")
    need(first > 0 and (first == 1) == (not previous) and len(previous) in (0, 32), "position")
    id, starts = log_id(market, log), []
    for branch in message["branches"]:
        need(1 <= len(branch["headers"]) <= 512, "length of a branch")
        sequence, hash = first, previous or NOTHING
        for header in branch["headers"]:
            seen = fixed(header["seen"] or bytes(8), 8, "seen")
            root = fixed(header["payload_root"], 32, "payload_root")
            hash = entry_hash(id, sequence, hash, header["timestamp"], seen, header["kind"], root)
            if sequence == first:
                starts.append(hash)
            sequence += 1
        verify(author, "head", id + u64(sequence - 1) + hash, fixed(branch["signature"], 64, "signature"))
    need(starts[0] < starts[1], "order of branches")
    return log, first


# ------------------------------------------------------------------------------------------------- checkpoints


def skip_targets(number):
    targets, power = [], 2
    while number % power == 0 and number > power:
        targets.append(number - power)
        power *= 2
    return targets


def read_checkpoint(payload):
    message = decode("Checkpoint", payload)
    need(message["number"] > 0, "number")
    need(len(message["root"]) == 32 and len(message["previous"]) in (0, 32), "root or previous")
    need(len(message["skips"]) == len(skip_targets(message["number"])), "skips")
    need(all(len(skip) in (0, 32) for skip in message["skips"]), "skips")
    numbers = [change["log"] for change in message["changes"]]
    need(all(one < other for one, other in zip(numbers, numbers[1:])), "changes are not ascending")
    for change in message["changes"]:
        need(len(change["author"]) in (0, 32), "author")
        if change["author"]:
            fixed(change["incarnation"], 16, "incarnation")
        elif change["incarnation"] or change["lane"]:
            raise Refused("E_NONCANONICAL", "a name in part")
        if change["sequence"]:
            fixed(change["hash"], 32, "hash")
        elif change["hash"]:
            raise Refused("E_NONCANONICAL", "a hash of nothing")
        if change["low"] == 1:
            raise Refused("E_NONCANONICAL", "a low mark of 1")
    return message


def merkle_root(data):
    if not data:
        return H("merkle-leaf")
    if len(data) == 1:
        return H("merkle-leaf", data[0])
    split = 1 << (len(data) - 1).bit_length() - 1
    return H("merkle-node", merkle_root(data[:split]), merkle_root(data[split:]))


def proves(root, size, number, data, path):
    if number >= size:
        return False
    hash, last, path = H("merkle-leaf", data), size - 1, list(path)
    while last:
        if number % 2 or number < last:
            if not path:
                return False
            sibling = path.pop(0)
            hash = H("merkle-node", *((sibling, hash) if number % 2 else (hash, sibling)))
        number, last = number // 2, last // 2
    return not path and hash == root


Leaf = namedtuple("Leaf", "checkpoint log number log_id standing intervals path")


def read_leaf(reader):
    checkpoint = reader.take(32)
    log = LogName(reader.take(32), reader.take(16), reader.u32())
    number, id, standing = reader.u64(), reader.take(32), Head(reader.u64(), reader.take(32))
    if standing.sequence == 0 and standing.hash != NOTHING:
        raise Refused("E_DECODE", "a hash of nothing")
    counts = reader.u64()
    if counts > 256:
        raise Refused("E_TOO_LARGE", "intervals")
    intervals = [(reader.u64(), reader.u64(), reader.take(32)) for _ in range(counts)]
    counts = reader.u64()
    if counts > 64:
        raise Refused("E_TOO_LARGE", "path")
    path = [reader.take(32) for _ in range(counts)]
    reader.finish()
    return Leaf(checkpoint, log, number, id, standing, intervals, path)


def leaf_data(leaf):
    intervals = b"".join(u64(start) + u64(end) + hash for start, end, hash in leaf.intervals)
    head = u64(leaf.standing.sequence) + leaf.standing.hash
    return H("checkpoint-leaf", u64(leaf.number), leaf.log_id, head, u64(len(leaf.intervals)), intervals)


def leaf_holds(market, leaf, root, size):
    return log_id(market, leaf.log) == leaf.log_id and proves(root, size, leaf.number, leaf_data(leaf), leaf.path)


class Coverage:
    """What checkpoints say, in their order."""

    def __init__(self, checkpoints=()):
        self.chain = sorted(checkpoints, key=lambda at: (at[1]["epoch"], at[1]["number"], at[0]))
        self.times, self.ordinals, self.steps, self.proven = [], {}, defaultdict(list), defaultdict(list)
        names, time = {}, 0
        for ordinal, (hash, message) in enumerate(self.chain):
            time = max(time, message["time"])
            self.times.append(time)
            self.ordinals[hash[:8]] = ordinal
            for change in message["changes"]:
                if change["author"]:
                    names[change["log"]] = LogName(change["author"], change["incarnation"], change["lane"])
                steps = self.steps[names[change["log"]]] if change["log"] in names else []
                if change["sequence"] and (not steps or steps[-1][1].sequence < change["sequence"]):
                    steps.append((ordinal, Head(change["sequence"], change["hash"])))

    def newest(self):
        return len(self.chain) - 1 if self.chain else None

    def add_leaf(self, leaf):
        ordinal = next(at for at, (hash, _) in enumerate(self.chain) if hash == leaf.checkpoint)
        self.proven[leaf.log].append((ordinal, leaf.standing))

    def covering(self, log, sequence):
        return next((ordinal for ordinal, head in self.steps.get(log, []) if head.sequence >= sequence), None)

    def standing_at(self, ordinal, log):
        if ordinal is None:
            return None
        steps = [head for at, head in self.steps.get(log, []) if at <= ordinal][-1:]
        return max(steps + [head for at, head in self.proven.get(log, []) if at <= ordinal], default=None)

    def standing_of(self, ordinal, author):
        logs = {log for log in [*self.steps, *self.proven] if log.author == author}
        heads = {log: self.standing_at(ordinal, log) for log in logs}
        return {log: head for log, head in heads.items() if head}



# -------------------------------------------------------------------------------------------------- membership

Fact = namedtuple("Fact", "position timestamp seen kind message")


class Device:
    def __init__(self, rank):
        self.rank, self.certificates, self.lines = rank, [], []
        self.raises = []  # (line, ordinal of the checkpoint that covers it)
        self.readmitted = {}  # incarnation: ordinals
        self.quarantines = []  # (log, first sequence, ordinal of what was named before)

    def newest(self):
        return max(self.certificates, key=lambda at: at[:2])[2]


def by_sequence(position, head):
    return position.sequence < head.sequence or (position.sequence, position.hash) == head


class Membership:
    """Who belongs: a function of facts, fork proofs [(log, sequence, positions that carry it)] and coverage."""

    def __init__(self, root, facts, proofs=(), coverage=None):
        self.root, self.coverage, self.devices, self.effective = root, coverage or Coverage(), {}, set()
        quarantines = self.quarantines(proofs)
        facts = sorted({fact.position: fact for fact in facts}.values(), key=lambda fact: fact.position)
        authors = {root}
        for rank in range(1, 5):
            granted = [
                (self.effective_time(fact), fact.position, fact.message)
                for fact in facts
                if fact.kind == 17 and fact.position.author in authors and self.grants(fact)
            ]
            fresh = set()
            for time, position, certificate in granted:
                subject = certificate["device"]
                if subject not in self.devices:
                    fresh.add(subject)
                    self.devices[subject] = Device(rank)
                    self.devices[subject].quarantines = quarantines.get(subject, [])
                self.devices[subject].certificates.append((time, position, certificate))
                self.effective.add(position)
            for fact in facts:
                if fact.kind != 17 and fact.message["device"] in fresh and self.judge(fact):
                    self.effective.add(fact.position)
            authors = fresh

    def quarantines(self, proofs):
        forks = {}
        for log, sequence, carriers in proofs:
            covering = [self.coverage.covering(LogName(*at[:3]), at.sequence) for at in carriers]
            known = forks.setdefault(log, (sequence, []))
            forks[log] = (min(known[0], sequence), known[1] + [at for at in covering if at is not None])
        by_device = defaultdict(list)
        for log, (sequence, covering) in forks.items():
            named = self.coverage.newest() if not covering else min(covering) - 1 if min(covering) else None
            by_device[log.author].append((log, sequence, named))
        return by_device

    def grants(self, fact):
        author, time = fact.position.author, self.effective_time(fact)
        if author == self.root:
            return True
        return self.stands(fact.position) is None and any(
            certificate["not_before"] <= time <= certificate["not_after"] and narrows(fact.message, certificate)
            for _, _, certificate in self.devices[author].certificates
        )

    def is_hub(self, device):
        return device == self.root or self.devices[device].newest()["role"] == HUB

    def judge(self, fact):
        author, message = fact.position.author, fact.message
        device = self.devices[message["device"]]
        if author != self.root:
            if self.stands(fact.position) is not None or self.devices[author].rank >= device.rank:
                return False
            if not self.is_hub(author) and all(at.author != author for _, at, _ in device.certificates):
                return False
        covering = self.covering(fact.position)
        if fact.kind == 18:
            line = dict(message["line"])
            if not (message["below_standing"] and self.is_hub(author)):
                before = self.coverage.newest() if covering is None else covering - 1 if covering else None
                if before is not None:
                    for log, head in self.coverage.standing_of(before, message["device"]).items():
                        known = line.get((log.incarnation, log.lane))
                        if known is None or known.sequence < head.sequence:
                            line[log.incarnation, log.lane] = head
            device.lines.append(line)
        elif fact.kind == 19:
            if not self.is_hub(author):
                return False
            device.raises.append((message["line"], covering))
        else:
            device.readmitted.setdefault(message["incarnation"], []).append(covering)
        return True

    def stands(self, position, within=by_sequence):
        """None where it stands, else the word why not."""
        return self.standing(position, within)[0]

    def covering(self, position):
        """The checkpoint from which on it counts, for what came first; None while there is none."""
        own = self.coverage.covering(LogName(*position[:3]), position.sequence)
        _, lifted = self.standing(position, by_sequence)
        if own is None or INFINITE in lifted:
            return None
        return max([own, *lifted])

    def effective_time(self, fact):
        covering, times = self.covering(fact.position), self.coverage.times
        ceiling = INFINITE if covering is None else times[covering]
        seen = self.coverage.ordinals.get(fact.seen)
        floor = 0 if seen is None else times[seen]
        return max(min(fact.timestamp, ceiling), min(floor, ceiling))

    def standing(self, position, within):
        """(None or the word why not, the checkpoints since which each thing against it is lifted)"""
        if position.author == self.root:
            return None, []
        device = self.devices.get(position.author)
        if device is None:
            return "not_member", []
        log, key = LogName(*position[:3]), (position.incarnation, position.lane)

        def lies_within(head):
            return head is not None and position.sequence <= head.sequence and within(position, head)

        def earliest(ordinals):
            return min(INFINITE if ordinal is None else ordinal for ordinal in ordinals)

        lifted, raised = [], [since for line, since in device.raises if lies_within(line.get(key))]
        if not all(lies_within(line.get(key)) for line in device.lines):
            if not raised:
                return "revoked", []
            lifted.append(earliest(raised))
        for forked, first, named in device.quarantines:
            before = log == forked and position.sequence < first
            if before or lies_within(self.coverage.standing_at(named, log)):
                continue
            admitted = raised + (device.readmitted.get(position.incarnation, []) if log != forked else [])
            if not admitted:
                return "quarantine", []
            lifted.append(earliest(admitted))
        return None, lifted

    def has_effect(self, fact, scope):
        if self.stands(fact.position) is not None:
            return False
        if fact.position.author == self.root:
            return True
        time = self.effective_time(fact)
        return any(
            certificate["not_before"] <= time <= certificate["not_after"] and scope in certificate["limits"]
            for _, _, certificate in self.devices[fact.position.author].certificates
        )


def verify_acknowledgement(market, hub, log, time, intervals, signature):
    need(intervals == sorted(set(intervals)) and len(intervals) <= 256, "intervals are not ascending")
    need(all(1 <= start <= end for start, end, _ in intervals), "an interval")
    text = log_id(market, log) + u64(time) + u64(len(intervals))
    text += b"".join(u64(start) + u64(end) + hash for start, end, hash in intervals)
    verify(hub, "acknowledgement", text, signature)


def read_invite(data):
    message = decode("Invite", data)
    scopes = [scope["scope"] for scope in message["scopes"]]
    need(all(one < other for one, other in zip(scopes, scopes[1:])), "scopes are not ascending")
    unsigned = write_message("Invite", message | {"signature": b""})
    verify(message["hub"], "invite", unsigned, message["signature"])
    return message
