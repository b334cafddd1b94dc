"""Checks the files of protocol/vectors/: what they accept is accepted with the same values, the rest refused."""

import base64
import json
from pathlib import Path

from encoding import Bytes, decode, varint, write_message
from logs import LogName, entry_hash, leaf_of, log_id, verify_page
from members import (
    Fact, Membership, leaf_data, leaf_holds, merkle_root, narrows, proves, read_certificate, read_checkpoint,
    read_fork_proof, read_invite, read_judgement, read_leaf, skip_targets, verify_acknowledgement,
)
from logs import Position
from primitives import H, Refused, hpke_open, sized, u32, verify, x25519_public
from sealing import open_day_key, open_part, part_secret


def raw(text):
    return bytes.fromhex(text)


class Differs(Exception):
    pass


def same(what, mine, theirs):
    if mine != theirs:
        raise Differs(f"{what}: computed {mine!r}, the vector says {theirs!r}")


def refused(what, code, attempt):
    """`code`: the word that must come; None where any refusal will do."""
    try:
        attempt()
    except Refused as error:
        if code is not None:
            same(what, error.code, code)
        return
    raise Differs(f"{what}: accepted, and must be refused")


def name_of(case):
    return LogName(raw(case["author"]), raw(case["incarnation"]), case["lane"])


def check_names(file):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for case in file["keys"]:
        public = Ed25519PrivateKey.from_private_bytes(raw(case["seed"])).public_key().public_bytes_raw()
        same("key", public.hex(), case["public"])
    for case in file["seal_keys"]:
        same("seal key", x25519_public(raw(case["secret"])).hex(), case["public"])
    for case in file["hashes"]:
        domain = case["domain"].removeprefix("stallmesh/1/")
        same(domain, H(domain, raw(case["data"])).hex(), case["hash"])
        same(domain, H(domain, raw(case["data"]), key=raw(case["key"])).hex(), case["keyed"])
    market = H("market", raw(file["market"]["root"]), u32(file["market"]["epoch"]))
    same("market", market.hex(), file["market"]["id"])
    for case in file["logs"]:
        same("log", log_id(market, name_of(case)).hex(), case["id"])
    for case in file["sale_ids"]:
        id = H("sale-id", sized(case["stall"].encode()), sized(case["idempotency_key"].encode()))[:16]
        same("sale id", id.hex(), case["sale"])
    for case in file["integers"]:
        same("integer", varint(int(case["value"])).hex(), case["bytes"])
        same("integer", Bytes(raw(case["bytes"])).varint(), int(case["value"]))
    for case in file["refused_integers"]:
        refused(case["bytes"], case["code"], lambda: Bytes(raw(case["bytes"])).varint())

    def check(case):
        context = case["context"].removeprefix("stallmesh/1/sign/")
        verify(raw(case["public"]), context, raw(case["message"]), raw(case["signature"]))

    for case in file["signatures"]:
        check(case)
    for case in file["refused_signatures"]:
        refused(case["why"], "E_SIG", lambda: check(case))


def check_pages(file):
    market = raw(file["market"])
    for case in file["entries"]:
        leaves = b""
        for part in case["parts"]:
            leaf = raw(part["leaf"])
            if part["bytes"] is not None:
                same("leaf", leaf_of(part["part"], raw(part["bytes"])), leaf)
            leaves += bytes([part["part"]]) + leaf
        root = H("payload", case["key_entry"].to_bytes(8, "big"), bytes([len(case["parts"])]), leaves)
        same("payload root", root.hex(), case["payload_root"])
        fields = (case["timestamp"], raw(case["seen"]), case["kind"], root)
        hash = entry_hash(raw(case["log"]), case["sequence"], raw(case["previous"]), *fields)
        same("entry", hash.hex(), case["hash"])
    for case in file["accepted"]:
        entries = verify_page(market, name_of(case), raw(case["page"]))
        same(case["name"], len(entries), case["count"])
        by_sequence = {entry.sequence: entry for entry in entries}
        for said in case["entries"]:
            entry = by_sequence[int(said["sequence"])]
            mine = [entry.hash.hex(), str(entry.timestamp), entry.seen.hex(), entry.kind, entry.key_entry]
            same(case["name"], mine, [said[key] for key in ("hash", "timestamp", "seen", "kind", "key_entry")])
    for case in file["refused"]:
        page = bytes(case["zeros"]) if "zeros" in case else raw(case["page"])
        log = name_of(case) if "author" in case else None
        refused(case["name"], case["code"], lambda: verify_page(market, log, page))


def check_members(file):
    for case in file["certificates"]:
        certificate = read_certificate(raw(case["payload"]))
        for field in ("role", "stall", "name", "not_before", "not_after", "scopes"):
            same(field, certificate[field], case[field])
        for field in ("device", "seal_key"):
            same(field, certificate[field].hex(), case[field])
        for field in ("invite", "request"):
            same(field, certificate[field].hex() or None, case[field])
    for case in file["refused_certificates"]:
        refused(case["why"], case["code"], lambda: read_certificate(raw(case["payload"])))
    for case in file["narrowing"]:
        issuer, subject = read_certificate(raw(case["issuer"])), read_certificate(raw(case["subject"]))
        same(case["what"], narrows(subject, issuer), case["narrows"])
    for case in file["judgements"]:
        message = read_judgement(case["kind"], raw(case["payload"]))
        same("device", message["device"].hex(), case["device"])
        line = message.get("line", {})
        mine = [[key[0].hex(), key[1], head.sequence, head.hash.hex()] for key, head in line.items()]
        same("line", mine, [[at["incarnation"], at["lane"], at["sequence"], at["hash"]] for at in case["line"]])
    for case in file["refused_judgements"]:
        refused(case["why"], case["code"], lambda: read_judgement(case["kind"], raw(case["payload"])))
    for case in file["memberships"]:
        facts = []
        for fact in case["facts"]:
            read = read_certificate if fact["kind"] == 17 else lambda data: read_judgement(fact["kind"], data)
            at = Position(raw(fact["author"]), raw(fact["incarnation"]), 1, fact["sequence"], raw(fact["hash"]))
            facts.append(Fact(at, fact["timestamp"], bytes(8), fact["kind"], read(raw(fact["payload"]))))
        view = Membership(raw(case["root"]), facts)
        for fact, said in zip(facts, case["facts"]):
            same(case["what"], fact.position in view.effective, said["effective"])
        mine = {
            device.hex(): (at.newest()["role"], at.newest()["stall"] or None, bool(at.lines))
            for device, at in view.devices.items()
        }
        same(case["what"], mine, {at["device"]: (at["role"], at["stall"], at["revoked"]) for at in case["members"]})


def check_forks(file):
    market = raw(file["market"])
    for case in file["accepted"]:
        log, sequence = read_fork_proof(market, raw(case["payload"]))
        same("fork", (log.lane, sequence), (case["lane"], case["sequence"]))
    for case in file["refused"]:
        refused(case["why"], case["code"], lambda: read_fork_proof(market, raw(case["payload"])))


def check_checkpoints(file):
    market = raw(file["market"])
    for case in file["checkpoints"]:
        message = read_checkpoint(raw(case["payload"]))
        same("number", message["number"], case["number"])
        same("skips", skip_targets(message["number"]), case["skips_to"])
        same("changes", len(message["changes"]), case["changes"])
        same("root", message["root"].hex(), case["root"])
    for case in file["refused_checkpoints"]:
        refused(case["why"], case["code"], lambda: read_checkpoint(raw(case["payload"])))
    for case in file["roots"]:
        data = [bytes([number]) * 32 for number in range(case["size"])]
        same("root", merkle_root(data).hex(), case["root"])
        for number, path in enumerate(case["paths"]):
            path = [raw(hash) for hash in path]
            same("path", proves(raw(case["root"]), case["size"], number, data[number], path), True)
    leaves = []
    for case in file["leaves"]:
        leaf = read_leaf(Bytes(raw(case["bytes"])))
        mine = [leaf.number, leaf.standing.sequence, len(leaf.intervals), leaf_data(leaf).hex()]
        same("leaf", mine, [case[key] for key in ("number", "standing", "intervals", "data")])
        same("leaf", leaf_holds(market, leaf, raw(case["root"]), case["size"]), True)
        leaves.append(leaf_data(leaf))
    same("tree", merkle_root(leaves).hex(), file["leaves"][0]["root"])

    def prove(case):
        leaf = read_leaf(Bytes(raw(case["bytes"])))
        if not leaf_holds(market, leaf, raw(case["root"]), case["size"]):
            raise Refused("E_HASH", "the path doesn't prove it")

    for case in file["refused_leaves"]:
        refused(case["why"], None, lambda: prove(case))
    for case in file["acknowledgements"]:
        intervals = [(at["from"], at["to"], raw(at["hash"])) for at in case["intervals"]]
        fields = (market, raw(case["hub"]), name_of(case), case["time"])
        verify_acknowledgement(*fields, intervals, raw(case["signature"]))
        more = intervals + [(2**40, 2**41, bytes(32))]
        refused("more intervals", "E_SIG", lambda: verify_acknowledgement(*fields, more, raw(case["signature"])))


def check_sealing(file):
    market = raw(file["market"])

    def unwrap(case):
        wrap = decode("Wrap", raw(case["wrap"]))
        bound = raw(case["associated"])
        if not bound.startswith(market) and "why" not in case:
            raise Differs("associated data begins with the market")
        return hpke_open(raw(case["secret"]), wrap["encapsulated"], case["info"].encode(), bound, wrap["ciphertext"])

    for case in file["wraps"]:
        same(case["info"], unwrap(case).hex(), case["plaintext"])
    for case in file["refused_wraps"]:
        refused(case["why"], "E_SEAL", lambda: unwrap(case))
    case = file["day_key"]
    for secret in case["secrets"]:
        fields = (market, raw(case["log"]), raw(secret))
        same("day key", open_day_key(raw(case["payload"]), *fields).hex(), case["key"])
        refused("a lying commitment", "E_SEAL", lambda: open_day_key(raw(case["lying_payload"]), *fields))

    def part(case):
        header = (raw(case["log"]), case["sequence"], raw(case["previous"]))
        rest = (case["timestamp"], raw(case["seen"]), case["kind"], case["part"])
        return header, open_part(raw(case["secret"]), *header, *rest, raw(case["sealed"]))

    for case in file["parts"]:
        header, plaintext = part(case)
        same("secret", part_secret(raw(case["day_key"]), *header, case["part"]).hex(), case["secret"])
        same("plaintext", plaintext.hex(), case["plaintext"])
    for case in file["refused_parts"]:
        refused(case["why"], None, lambda: part(case))


def check_joining(file):
    market, case = raw(file["market"]), file["invite"]
    text = case["text"].removeprefix("stallmesh:")
    same("invite", base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex(), case["bytes"])
    invite = read_invite(raw(case["bytes"]))
    same("invite", [invite["hub"].hex(), invite["root"].hex(), invite["epoch"]], [case["hub"], case["root"], case["epoch"]])
    for case in file["refused_invites"]:
        refused(case["why"], None, lambda: read_invite(raw(case["bytes"])))

    def request(case):
        message = decode("JoinRequest", raw(case["payload"]))
        sealed = message["sealed"]
        pieces = [sized(sealed[field]) for field in ("recipient", "encapsulated", "ciphertext")]
        id = H("join", *pieces, message["expires"].to_bytes(8, "big"))
        if id != message["id"]:
            raise Refused("E_HASH", "another's id")
        info, secret = b"stallmesh/1/join-request", raw(case["opening_secret"])
        opened = decode("SealedJoin", hpke_open(secret, sealed["encapsulated"], info, market, sealed["ciphertext"]))
        unsigned = write_message("SealedJoin", opened | {"signature": b""})
        verify(opened["device"], "join", market + unsigned, opened["signature"])
        return id, opened

    for case in file["requests"]:
        id, opened = request(case)
        same("request", [id.hex(), opened["device"].hex(), opened["name"]], [case[key] for key in ("id", "device", "name")])
    for case in file["refused_requests"]:
        refused(case["why"], case["code"], lambda: request(case))
    case = file["commitment"]
    same("commitment", H("join-code", raw(case["nonce"]), raw(case["device"])).hex(), case["commitment"])
    case = file["short_code"]
    fields = ("device", "opening_key", "root", "device_nonce", "hub_nonce")
    digits = int.from_bytes(H("join-code", *(raw(case[field]) for field in fields))[:8], "big") % 1_000_000
    same("short code", f"{digits // 1000:03}-{digits % 1000:03}", case["code"])
    case = file["hello"]
    tag = H("join", raw(case["nonce"]), raw(case["device"]), key=raw(case["market"]))[:16]
    same("hello", tag.hex(), case["tag"])


def check_payloads(file):
    for case in file["accepted"]:
        decode(case["message"], raw(case["payload"]))
    names = {1: "Opening", 2: "LowMark", 21: "Policy", 25: "JoinRefusal", 27: "Erasure"}
    for case in file["refused"]:
        # Whether damage or another encoding: a payload has no effect either way.
        refused(case["why"], None, lambda: decode(names[case["kind"]], raw(case["payload"])))


def check_settlements(file):
    from export import Export

    for case in file["exports"]:
        export = Export(raw(case["export"]), raw(case["root"]))
        result = export.settle()
        for field in ("digest", "posted", "suspense", "entries"):
            same(f"{case['name']}: {field}", result[field], case[field])
        same(case["name"], result["problems"], [])


def check(folder):
    """One line for each file; raises Differs at the first thing that differs."""
    for path in sorted(Path(folder).glob("*.json")):
        file = json.loads(path.read_text())
        try:
            globals()[f"check_{path.stem}"](file)
        except (Differs, Refused) as error:
            raise Differs(f"{path.name}: {error}") from error
        cases = sum(len(value) if isinstance(value, list) else 1 for value in file.values())
        print(f"{path.name}: {cases} cases hold")
