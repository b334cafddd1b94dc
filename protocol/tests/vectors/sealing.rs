use chacha20::cipher::{KeyIvInit, StreamCipher};
use serde_json::{Value, json};
use stallmesh_protocol::entry::{Part, PartBody};
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::seal::{DayKey, PartSecret, SealError, SealKey, SealedAt, associated, info, seal_to};
use stallmesh_protocol::{Hash, Kind, Lane, MarketId, payload};

use super::{HELPER, HUB, MORNING, OWNER, log_id, market};

fn at() -> SealedAt {
    SealedAt {
        log: log_id(OWNER, Lane::SALES),
        sequence: 3,
        previous: Hash::from_bytes([4; 32]),
        timestamp: MORNING,
        seen: [5; 8],
        kind: Kind::SALE,
    }
}

pub(crate) fn make() -> Value {
    let parts = [0_usize, 1, 5, 62, 63, 64, 126, 127, 500, 1_000, 5_000].map(part);
    json!({
        "about": "Wrapped keys (HPKE), day keys, and sealed parts with the secrets that disclose them.",
        "market": market().to_string(),
        "wraps": wraps(),
        "refused_wraps": refused_wraps(),
        "day_key": day_key(),
        "parts": parts,
        "refused_parts": refused_parts(),
    })
}

fn wrap(info: &[u8], rest: &[u8], plaintext: &[u8]) -> Value {
    let recipient = SealKey::from_secret(&[HUB; 32]).unwrap();
    let bound = associated(&market(), rest);
    let sealed = seal_to(&recipient.public(), info, &bound, plaintext, [0x33; 32]).unwrap();
    assert_eq!(*recipient.open(&sealed, info, &bound).unwrap(), plaintext);
    json!({
        "secret": hex::encode([HUB; 32]),
        "info": String::from_utf8(info.to_vec()).unwrap(),
        "associated": hex::encode(bound),
        "plaintext": hex::encode(plaintext),
        "wrap": hex::encode(payload::encode(&sealed)),
    })
}

fn wraps() -> Vec<Value> {
    vec![
        wrap(info::DAY_KEY, log_id(OWNER, Lane::SALES).as_bytes(), &[0x11; 32]),
        wrap(info::OPENING_KEY, &[], &[HUB; 32]),
        wrap(info::STALL_KEY, b"river-ceramics", &[OWNER; 32]),
        wrap(info::JOIN_REQUEST, &[], b"a request"),
        wrap(info::STATEMENT, b"river-ceramics", b"{}"),
    ]
}

fn refused_wraps() -> Vec<Value> {
    let recipient = SealKey::from_secret(&[HUB; 32]).unwrap();
    let bound = associated(&market(), b"river-ceramics");
    let good = seal_to(&recipient.public(), info::STALL_KEY, &bound, &[OWNER; 32], [0x33; 32]).unwrap();
    let elsewhere = associated(&MarketId::from_bytes([9; 32]), b"river-ceramics");
    let mut altered = good.clone();
    altered.ciphertext[0] ^= 1;
    let mut point = good.clone();
    point.encapsulated = vec![0; 32];
    [
        ("another market", HUB, info::STALL_KEY, elsewhere, good.clone()),
        ("another use", HUB, info::OPENING_KEY, bound.clone(), good.clone()),
        ("another recipient", HELPER, info::STALL_KEY, bound.clone(), good.clone()),
        ("an altered byte", HUB, info::STALL_KEY, bound.clone(), altered),
        ("a point of small order", HUB, info::STALL_KEY, bound, point),
    ]
    .into_iter()
    .map(|(why, secret, info, bound, wrap)| {
        SealKey::from_secret(&[secret; 32]).unwrap().open(&wrap, info, &bound).unwrap_err();
        json!({
            "why": why,
            "secret": hex::encode([secret; 32]),
            "info": String::from_utf8(info.to_vec()).unwrap(),
            "associated": hex::encode(bound),
            "wrap": hex::encode(payload::encode(&wrap)),
        })
    })
    .collect()
}

fn day_key() -> Value {
    let key = DayKey::new([0x11; 32]);
    let log = log_id(OWNER, Lane::SALES);
    let recipients = [HUB, OWNER].map(|who| SealKey::from_secret(&[who; 32]).unwrap());
    let public = recipients.each_ref().map(SealKey::public);
    let message = key.publish(&market(), &log, &public, [0x22; 32]).unwrap();
    for recipient in &recipients {
        DayKey::open(&message, &market(), &log, recipient).unwrap();
    }
    let mut lying = message.clone();
    lying.commitment = vec![1; 32];
    DayKey::open(&lying, &market(), &log, &recipients[0]).unwrap_err();
    let secrets = [HUB, OWNER].map(|who| hex::encode([who; 32]));
    json!({
        "log": log.to_string(),
        "key": hex::encode([0x11; 32]),
        "secrets": secrets,
        "payload": hex::encode(payload::encode(&message)),
        "lying_payload": hex::encode(payload::encode(&lying)),
    })
}

fn part(length: usize) -> Value {
    let key = DayKey::new([0x11; 32]);
    let part = Part::ALL[length % 4];
    let plaintext: Vec<u8> = (0..length).map(|index| (index * 7) as u8).collect();
    let PartBody::Bytes(sealed) = key.seal(&at(), part, &plaintext).unwrap() else { panic!("sealed parts are bytes") };
    let secret = key.part_secret(&at(), part);
    assert_eq!(secret.open(&at(), part, &sealed).unwrap(), plaintext);
    json!({
        "day_key": hex::encode([0x11; 32]),
        "log": at().log.to_string(),
        "sequence": at().sequence,
        "previous": at().previous.to_string(),
        "timestamp": at().timestamp,
        "seen": hex::encode(at().seen),
        "kind": at().kind.0,
        "part": part as u8,
        "plaintext": hex::encode(plaintext),
        "secret": hex::encode(secret.as_bytes()),
        "sealed": hex::encode(sealed),
    })
}

/// What only somebody who holds the secret can make: a tag that fits, over padding that doesn't.
fn padded_by_hand(secret: &PartSecret, mut padded: Vec<u8>) -> Vec<u8> {
    let tag = Hasher::keyed(secret.as_bytes(), Domain::PartTag)
        .bytes(at().log.as_bytes())
        .u64(at().sequence)
        .bytes(at().previous.as_bytes())
        .u64(at().timestamp)
        .bytes(&at().seen)
        .u32(at().kind.0)
        .u8(Part::Money as u8)
        .bytes(&padded)
        .finish();
    let key = Hasher::keyed(secret.as_bytes(), Domain::PartKey).bytes(tag.as_bytes()).finish();
    chacha20::ChaCha20::new(key.as_bytes().into(), &[0; 12].into()).apply_keystream(&mut padded);
    [tag.as_bytes().as_slice(), &padded].concat()
}

fn refused_parts() -> Vec<Value> {
    let key = DayKey::new([0x11; 32]);
    let PartBody::Bytes(good) = key.seal(&at(), Part::Money, b"12.40").unwrap() else {
        panic!("sealed parts are bytes")
    };
    let secret = key.part_secret(&at(), Part::Money);
    let mut tag = good.clone();
    tag[0] ^= 1;
    let mut text = good.clone();
    text[40] ^= 1;
    let mut padded = [vec![5], b"12.40".to_vec(), vec![0; 58]].concat();
    let more = padded_by_hand(&secret, [padded.clone(), vec![0; 64]].concat());
    padded[63] = 1;
    let dirty = padded_by_hand(&secret, padded);
    [
        ("padding that is not zeros", dirty, 3, Part::Money),
        ("more padding than needed", more, 3, Part::Money),
        ("an altered tag", tag, 3, Part::Money),
        ("an altered byte", text, 3, Part::Money),
        ("another position", good.clone(), 4, Part::Money),
        ("another part", good.clone(), 3, Part::Extra),
        ("no tag", good[..31].to_vec(), 3, Part::Money),
        ("a tag and nothing", good[..32].to_vec(), 3, Part::Money),
    ]
    .into_iter()
    .map(|(why, sealed, sequence, part)| {
        let at = SealedAt { sequence, ..at() };
        let error = secret.open(&at, part, &sealed).unwrap_err();
        assert_eq!(error == SealError::Padding, why.contains("padding"), "{why}: {error}");
        json!({
            "why": why,
            "secret": hex::encode(secret.as_bytes()),
            "log": at.log.to_string(),
            "sequence": sequence,
            "previous": at.previous.to_string(),
            "timestamp": at.timestamp,
            "seen": hex::encode(at.seen),
            "kind": at.kind.0,
            "part": part as u8,
            "sealed": hex::encode(sealed),
        })
    })
    .collect()
}
