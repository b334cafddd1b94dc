"""Sections 1 and 5 of docs/protocol.md: integers, and payloads by protocol/proto/*.proto."""

import re
from pathlib import Path

from primitives import Refused

PROTO = Path(__file__).resolve().parents[2] / "protocol" / "proto"


class Bytes:
    """Reads front to back."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, length, what="bytes"):
        if self.left() < length:
            raise Refused("E_TRUNCATED", what)
        self.at += length
        return self.data[self.at - length : self.at]

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return int.from_bytes(self.take(4), "big")

    def u64(self):
        return int.from_bytes(self.take(8), "big")

    def varint(self, what="integer"):
        value = 0
        for index in range(10):
            byte = self.take(1, what)[0]
            if index == 9 and byte & 0x7F > 1:
                raise Refused("E_VARINT", what)
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                if byte == 0 and index:
                    raise Refused("E_VARINT", what)
                return value
        raise Refused("E_VARINT", what)

    def length(self, most, what):
        value = self.varint(what)
        if value > most:
            raise Refused("E_TOO_LARGE", what)
        return value

    def finish(self):
        if self.left():
            raise Refused("E_NONCANONICAL", "bytes follow the end")


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def read_schema(name):
    """Messages of a .proto file: name → [(number, field, type, label)], ascending."""
    messages, current = {}, None
    for line in (PROTO / name).read_text().splitlines():
        line = line.split("//")[0]
        if found := re.match(r"message (\w+)", line):
            current = messages.setdefault(found[1], [])
        elif found := re.match(r"\s+(repeated |optional )?(\w+) (\w+) = (\d+);", line):
            current.append((int(found[4]), found[3], found[2], (found[1] or "").strip()))
    return {name: sorted(fields) for name, fields in messages.items()}


SCHEMA = {**read_schema("wire.proto"), **read_schema("payload.proto")}
SCALARS = {"uint32": 0, "uint64": 0, "sint64": 0, "bool": False, "string": "", "bytes": b""}


def default(kind, label):
    return [] if label == "repeated" else None if label or kind not in SCALARS else SCALARS[kind]


def read_message(name, data):
    fields = {number: (field, kind, label) for number, field, kind, label in SCHEMA[name]}
    message = {field: default(kind, label) for field, kind, label in fields.values()}
    reader = Bytes(data)
    while reader.left():
        number, wire = divmod(reader.varint(), 8)
        if number not in fields:
            raise Refused("E_NONCANONICAL", f"{name}: unknown field {number}")
        field, kind, label = fields[number]
        if wire != (0 if kind in ("uint32", "uint64", "sint64", "bool") else 2):
            raise Refused("E_DECODE", f"{name}.{field}: wire type {wire}")
        if wire == 0:
            value = reader.varint()
            if kind == "uint32" and value >= 2**32 or kind == "bool" and value > 1:
                raise Refused("E_NONCANONICAL", f"{name}.{field}")
            value = (value >> 1) ^ -(value & 1) if kind == "sint64" else bool(value) if kind == "bool" else value
        else:
            value = reader.take(reader.varint(), f"{name}.{field}")
            if kind == "string":
                try:
                    value = value.decode()
                except UnicodeDecodeError:
                    raise Refused("E_DECODE", f"{name}.{field}: not UTF-8") from None
            elif kind != "bytes":
                value = read_message(kind, value)
        if label == "repeated":
            message[field].append(value)
        else:
            message[field] = value
    return message


def write_message(name, message):
    out = b""
    for number, field, kind, label in SCHEMA[name]:
        values = message[field] if label == "repeated" else [message[field]]
        for value in values:
            if label != "repeated" and value == default(kind, label) or value is None:
                continue
            if kind in ("uint32", "uint64", "bool", "sint64"):
                value = (value << 1) ^ (value >> 63) if kind == "sint64" else int(value)
                out += varint(number << 3) + varint(value & (2**64 - 1))
            else:
                value = value if kind == "bytes" else value.encode() if kind == "string" else write_message(kind, value)
                out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def decode(name, data):
    """A message in the one encoding that it has."""
    try:
        message = read_message(name, data)
    except Refused as error:
        # Inside a payload these two are not told apart from damage.
        code = {"E_TRUNCATED": "E_DECODE", "E_VARINT": "E_NONCANONICAL"}.get(error.code, error.code)
        raise Refused(code, str(error)) from None
    if write_message(name, message) != data:
        raise Refused("E_NONCANONICAL", name)
    return message


def need(holds, about):
    if not holds:
        raise Refused("E_DECODE", about)


def fixed(data, length, about):
    need(len(data) == length, f"{about} has the wrong length")
    return data
