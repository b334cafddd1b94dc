"""Section 11 of docs/protocol.md: day keys and sealed parts."""

from encoding import Bytes, decode, fixed
from primitives import H, Refused, chacha20, hpke_open, u32, u64, x25519_public


def open_wrap(secret, wrap, info, associated):
    return hpke_open(secret, wrap["encapsulated"], info, associated, wrap["ciphertext"])


def open_day_key(payload, market, log, secret):
    message = decode("DayKey", payload)
    for wrap in message["wraps"]:
        if wrap["recipient"] == x25519_public(secret):
            key = fixed(open_wrap(secret, wrap, b"stallmesh/1/day-key", market + log), 32, "day key")
            if H("day-key", log, key) != message["commitment"]:
                raise Refused("E_SEAL", "not the key that was committed to")
            return key
    raise Refused("E_SEAL", "nothing is wrapped for this key")


def part_secret(day_key, log, sequence, previous, part):
    return H("part-secret", log, u64(sequence), previous, bytes([part]), key=day_key)


def padded_length(length):
    step = max(64, (1 << length.bit_length() - 1) // 8)
    return -(-length // step) * step


def open_part(secret, log, sequence, previous, timestamp, seen, kind, part, sealed):
    if len(sealed) < 32:
        raise Refused("E_TOO_LARGE", "no tag")
    tag, text = sealed[:32], sealed[32:]
    padded = chacha20(H("part-key", tag, key=secret), text)
    header = (log, u64(sequence), previous, u64(timestamp), seen, u32(kind), bytes([part]))
    if H("part-tag", *header, padded, key=secret) != tag:
        raise Refused("E_SEAL", "the sealed part was altered")
    reader = Bytes(padded)
    try:
        plaintext = reader.take(reader.length(65_536, "padded length"))
    except Refused:
        raise Refused("E_NONCANONICAL", "padding") from None
    if padded_length(reader.at) != len(padded) or any(padded[reader.at :]):
        raise Refused("E_NONCANONICAL", "padding")
    return plaintext
