use serde_json::{Value, json};
use stallmesh_protocol::codec::{Reader, put_varint};
use stallmesh_protocol::hash::{Domain, Hasher, hash};
use stallmesh_protocol::seal::SealKey;
use stallmesh_protocol::sign::{Context, Signature, verify};
use stallmesh_protocol::{DeviceId, Lane, SaleId};

use super::{GATEWAY, HELPER, HUB, OWNER, ROOT, STRANGER, code, key, log, market};

const DOMAINS: [Domain; 20] = [
    Domain::Market,
    Domain::Log,
    Domain::Part,
    Domain::Payload,
    Domain::Entry,
    Domain::Blob,
    Domain::CheckpointLeaf,
    Domain::MerkleNode,
    Domain::MerkleLeaf,
    Domain::Fingerprint,
    Domain::DayKey,
    Domain::PartSecret,
    Domain::PartTag,
    Domain::PartKey,
    Domain::Join,
    Domain::JoinCode,
    Domain::SaleId,
    Domain::CatalogVersion,
    Domain::ClosingInput,
    Domain::Settlement,
];
const CONTEXTS: [Context; 5] =
    [Context::Head, Context::Acknowledgement, Context::Invite, Context::Join, Context::Session];
/// Signatures that plain verification takes: under the identity as key, and by the owner with the identity as point.
const SMALL_KEY: &str = "ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1\
    0ab7f883da52e376654d2b10ae55a049aaf6c2ea1c8f8406a3ab37dfb40fbc05";
const SMALL_POINT: &str = "0100000000000000000000000000000000000000000000000000000000000000\
    fd27dad3f77fbf9904a0c484de2bd597523368873a35ead1c88e1119e207830c";
/// The order of Ed25519's group, little endian: a scalar plus this is the same scalar written otherwise.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

pub(crate) fn make() -> Value {
    let people = [ROOT, HUB, OWNER, HELPER, GATEWAY, STRANGER];
    let keys = people.map(|who| json!({ "seed": hex::encode([who; 32]), "public": key(who).id().to_string() }));
    let seal_keys = people.map(|who| {
        let public = SealKey::from_secret(&[who; 32]).unwrap().public();
        json!({ "secret": hex::encode([who; 32]), "public": hex::encode(public) })
    });
    let hashes = DOMAINS.map(|domain| {
        let data = b"the same bytes in every domain";
        json!({
            "domain": domain.name(),
            "data": hex::encode(data),
            "hash": hash(domain, data).to_string(),
            "key": hex::encode([7; 32]),
            "keyed": Hasher::keyed(&[7; 32], domain).bytes(data).finish().to_string(),
        })
    });
    let lanes = [Lane::CONTROL, Lane::CHECKPOINT, Lane::CATALOG, Lane::SIGNAL, Lane::SALES, Lane::LEDGER, Lane(99)];
    let logs = lanes.map(|lane| {
        let name = log(OWNER, lane);
        json!({
            "author": name.author.to_string(),
            "incarnation": name.incarnation.to_string(),
            "lane": lane.0,
            "id": name.id(&market()).to_string(),
        })
    });
    let sales = [("river-ceramics", "till-1/4711"), ("river", "-ceramicstill-1/4711"), ("", ""), ("café", "\u{1f9fa}")];
    let sales = sales.map(|(stall, key)| {
        json!({ "stall": stall, "idempotency_key": key, "sale": SaleId::derive(stall, key).to_string() })
    });
    json!({
        "about": "Keys, hashes in each domain, ids, integers, and signatures in each context.",
        "keys": keys,
        "seal_keys": seal_keys,
        "hashes": hashes,
        "market": { "root": key(ROOT).id().to_string(), "epoch": 1, "id": market().to_string() },
        "logs": logs,
        "sale_ids": sales,
        "integers": integers(),
        "refused_integers": refused_integers(),
        "signatures": CONTEXTS.map(signature),
        "refused_signatures": refused_signatures(),
    })
}

fn integers() -> Vec<Value> {
    let values = [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), 1 << 63, u64::MAX];
    values
        .into_iter()
        .map(|value| {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(Reader::new(&bytes).varint("integer"), Ok(value));
            json!({ "value": value.to_string(), "bytes": hex::encode(bytes) })
        })
        .collect()
}

fn refused_integers() -> Vec<Value> {
    let refused: [&[u8]; 7] = [
        &[],
        &[0x80],
        &[0x80, 0x00],
        &[0xff, 0x00],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0x00],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    ];
    refused
        .into_iter()
        .map(|bytes| {
            let error = Reader::new(bytes).varint("integer").unwrap_err();
            json!({ "bytes": hex::encode(bytes), "code": code(error) })
        })
        .collect()
}

fn signature(context: Context) -> Value {
    let message = b"what is signed";
    let signature = key(OWNER).sign(context, message);
    verify(&key(OWNER).id(), context, message, &signature).unwrap();
    json!({
        "context": context.name(),
        "public": key(OWNER).id().to_string(),
        "message": hex::encode(message),
        "signature": hex::encode(signature.as_bytes()),
    })
}

fn refused_signatures() -> Vec<Value> {
    let message = b"what is signed".as_slice();
    let good = *key(OWNER).sign(Context::Head, message).as_bytes();
    let owner = *key(OWNER).id().as_bytes();
    let mut flipped = good;
    flipped[63] ^= 1;
    let mut malleated = good;
    let mut carry = 0_u16;
    for (byte, add) in malleated[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    let mut identity = [0; 32];
    identity[0] = 1;
    // With the identity as key and as point, a scalar of zero fits every message.
    let mut empty = [0; 64];
    empty[0] = 1;
    let mut second_name = [0xff; 32];
    (second_name[0], second_name[31]) = (0xee, 0x7f);
    let known = |text: &str| <[u8; 64]>::try_from(hex::decode(text).unwrap()).unwrap();
    let cases = [
        ("a key of small order, though the equation holds", identity, known(SMALL_KEY), message),
        ("a point of small order, though the equation holds", owner, known(SMALL_POINT), message),
        ("another message", owner, good, b"what is not signed".as_slice()),
        ("a flipped bit", owner, flipped, message),
        ("a scalar that is not canonical", owner, malleated, message),
        ("a key of small order", identity, empty, message),
        ("a key that is not canonical", second_name, empty, message),
        ("a key that is no point", [2; 32], good, message),
        ("another key", *key(HUB).id().as_bytes(), good, message),
    ];
    let mut out: Vec<Value> = cases
        .into_iter()
        .map(|(why, public, signature, message)| {
            let device = DeviceId::from_bytes(public);
            verify(&device, Context::Head, message, &Signature::from_bytes(signature)).unwrap_err();
            json!({
                "why": why,
                "context": Context::Head.name(),
                "public": device.to_string(),
                "message": hex::encode(message),
                "signature": hex::encode(signature),
            })
        })
        .collect();
    verify(&key(OWNER).id(), Context::Invite, message, &Signature::from_bytes(good)).unwrap_err();
    out.push(json!({
        "why": "another context",
        "context": Context::Invite.name(),
        "public": key(OWNER).id().to_string(),
        "message": hex::encode(message),
        "signature": hex::encode(good),
    }));
    out
}
