"""Sections 3 and 4 of docs/protocol.md: entries and pages."""

from collections import namedtuple
from dataclasses import dataclass

from encoding import Bytes
from primitives import H, Refused, sized, u32, u64, verify

LANES = {1: "control", 2: "checkpoint", 3: "catalog", 4: "signal", 5: "sales", 6: "ledger"}
KEPT_BY_ALL, SEALED = (1, 2, 3, 4), (5, 6)
PUBLIC, MONEY, PERSONAL, EXTRA = range(4)
NOTHING = bytes(32)

LogName = namedtuple("LogName", "author incarnation lane")
Position = namedtuple("Position", "author incarnation lane sequence hash")


def log_id(market, log):
    return H("log", market, log.author, log.incarnation, u32(log.lane))


@dataclass
class Entry:
    sequence: int
    timestamp: int
    seen: bytes
    kind: int
    key_entry: int
    parts: dict  # number → bytes, or None where erased
    leaves: dict  # number → leaf
    log: LogName = None
    previous: bytes = b""
    hash: bytes = b""

    def root(self):
        leaves = b"".join(bytes([part]) + leaf for part, leaf in sorted(self.leaves.items()))
        return H("payload", u64(self.key_entry), bytes([len(self.leaves)]), leaves)

    def position(self):
        return Position(*self.log, self.sequence, self.hash)


def leaf_of(part, data):
    return H("part", bytes([part]), sized(data))


def entry_hash(log, sequence, previous, timestamp, seen, kind, root):
    return H("entry", log, u64(sequence), previous, u64(timestamp), seen, u32(kind), root)


def decode_page(data):
    """(first, previous, entries, {sequence: signature}), or the first reason against it."""
    if len(data) > 262_144:
        raise Refused("E_TOO_LARGE", "page")
    reader = Bytes(data)
    if reader.u8() != 1:
        raise Refused("E_DECODE", "version")
    first, previous = reader.varint(), reader.take(32)
    if first == 0 or (first == 1) != (previous == NOTHING):
        raise Refused("E_DECODE", "first and previous don't fit")
    count = reader.length(1_024, "entries")
    if count == 0:
        raise Refused("E_EMPTY", "page")
    if first + count >= 2**64:
        raise Refused("E_TOO_LARGE", "sequence")
    entries, timestamp, seen = [], 0, bytes(8)
    for sequence in range(first, first + count):
        timestamp = (timestamp + reader.varint()) % 2**64
        kind = reader.length(2**32 - 1, "kind")
        flags = reader.u8()
        if flags & 8 or flags & 4 and not flags & 64:
            raise Refused("E_DECODE", "flags")
        if flags & 1:
            before, seen = seen, reader.take(8)
            if seen == before:
                raise Refused("E_DECODE", "seen didn't change")
        key_entry = 0
        if flags & 2:
            back = reader.varint()
            key_entry = sequence - back
            if back == 0 or key_entry < 1:
                raise Refused("E_DECODE", "key entry")
        parts, leaves, left = {}, {}, 65_536
        for part in range(4):
            if not flags & 16 << part:
                continue
            if part == PERSONAL and flags & 4:
                parts[part], leaves[part] = None, reader.take(32)
            else:
                length = reader.length(left, "payload")
                left -= length
                parts[part] = reader.take(length)
                leaves[part] = leaf_of(part, parts[part])
        entries.append(Entry(sequence, timestamp, seen, kind, key_entry, parts, leaves))
    signatures, following = {}, 0
    for _ in range(reader.length(count, "signatures")):
        offset = reader.length(count - 1, "offset")
        if offset < following:
            raise Refused("E_DECODE", "signatures out of order")
        following = offset + 1
        signatures[first + offset] = reader.take(64)
    reader.finish()
    for entry in entries:
        if (entry.sequence % 512 == 0 or entry is entries[-1]) and entry.sequence not in signatures:
            raise Refused("E_UNSIGNED", f"sequence {entry.sequence}")
    return first, previous, entries, signatures


def verify_page(market, log, data):
    """The entries of a page, hashed and vouched for."""
    _, previous, entries, signatures = decode_page(data)
    id = log_id(market, log)
    for entry in entries:
        entry.log, entry.previous = log, previous
        fields = (entry.timestamp, entry.seen, entry.kind, entry.root())
        previous = entry.hash = entry_hash(id, entry.sequence, previous, *fields)
    for entry in entries:
        if entry.sequence in signatures:
            verify(log.author, "head", id + u64(entry.sequence) + entry.hash, signatures[entry.sequence])
    return entries
