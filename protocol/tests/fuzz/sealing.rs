//! What is sealed, and what is inside: a sealer may be a member, and put anything there.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use prost::Message;
use stallmesh_protocol::entry::{Part, PartBody};
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::join::JoinRequest;
use stallmesh_protocol::seal::{DayKey, PartSecret, SealKey, SealedAt, associated, info, seal_to};
use stallmesh_protocol::sign::{Context, DeviceKey};
use stallmesh_protocol::{Hash, Kind, LogId, payload};

use super::decoders::market;

targets! {
    sealed_part(4_000, 1_024) |bytes| {
        // Without the day key nobody makes 32 bytes of tag that hold.
        assert!(day_key().open_part(&at(), Part::Money, bytes).is_err());
        assert!(day_key().open_part(&at(), Part::Personal, bytes).is_err());
    };
    padding(4_000, 1_024) padding_check;
    day_key_entry(2_000, 1_024) |bytes| {
        if let Ok(message) = payload::decode::<payload::DayKey>("day key", bytes) {
            // None in the corpus is wrapped to this key.
            assert!(DayKey::open(&message, &market(), &at().log, &opening()).is_err());
        }
    };
    day_key_inside(1_000, 128) |bytes| {
        let bound = associated(&market(), at().log.as_bytes());
        let wrap = seal_to(&opening().public(), info::DAY_KEY, &bound, bytes, [5; 32]).unwrap();
        let message = payload::DayKey { commitment: vec![7; 32], wraps: vec![wrap] };
        assert!(DayKey::open(&message, &market(), &at().log, &opening()).is_err(), "it isn't what was committed to");
    };
    join_request_inside(1_000, 1_024) join_request_check;
}

fn day_key() -> DayKey {
    DayKey::new([9; 32])
}

fn opening() -> SealKey {
    SealKey::from_secret(&[2; 32]).unwrap()
}

fn at() -> SealedAt {
    SealedAt {
        log: LogId::from_bytes([1; 32]),
        sequence: 7,
        previous: Hash::from_bytes([2; 32]),
        timestamp: 8,
        seen: [3; 8],
        kind: Kind::SALE,
    }
}

/// A sealed part as `docs/protocol.md` says, around padded bytes of any shape: the tag and the cipher hold, so the padding
/// alone decides. What opens is sealed again to the same bytes: each plaintext has one padding.
fn padding_check(padded: &[u8]) {
    let secret = day_key().part_secret(&at(), Part::Money);
    let sealed = sealed_by_hand(&secret, padded);
    if let Ok(opened) = day_key().open_part(&at(), Part::Money, &sealed) {
        let again = day_key().seal(&at(), Part::Money, &opened).unwrap();
        assert_eq!(again, PartBody::Bytes(sealed));
    }
}

fn sealed_by_hand(secret: &PartSecret, padded: &[u8]) -> Vec<u8> {
    let at = at();
    let tag = Hasher::keyed(secret.as_bytes(), Domain::PartTag)
        .bytes(at.log.as_bytes())
        .u64(at.sequence)
        .bytes(at.previous.as_bytes())
        .u64(at.timestamp)
        .bytes(&at.seen)
        .u32(at.kind.0)
        .u8(Part::Money as u8)
        .bytes(padded)
        .finish();
    let key = Hasher::keyed(secret.as_bytes(), Domain::PartKey).bytes(tag.as_bytes()).finish();
    let mut sealed = tag.as_bytes().to_vec();
    sealed.extend_from_slice(padded);
    ChaCha20::new(key.as_bytes().into(), &[0; 12].into()).apply_keystream(&mut sealed[32..]);
    sealed
}

/// A request whose device signs whatever it says, sealed to the hub: what opens is the one encoding of what it says.
fn join_request_check(inside: &[u8]) {
    let device = DeviceKey::from_seed(&[6; 32]);
    let plaintext = match payload::SealedJoin::decode(inside) {
        Ok(mut message) => {
            message.device = device.id().as_bytes().to_vec();
            message.signature.clear();
            let text = [market().as_bytes().as_slice(), &payload::encode(&message)].concat();
            message.signature = device.sign(Context::Join, &text).as_bytes().to_vec();
            payload::encode(&message)
        }
        Err(_) => inside.to_vec(),
    };
    let sealed = seal_to(&opening().public(), info::JOIN_REQUEST, &associated(&market(), &[]), &plaintext, [5; 32]);
    let sealed = sealed.unwrap();
    let id = Hasher::new(Domain::Join)
        .sized(&sealed.recipient)
        .sized(&sealed.encapsulated)
        .sized(&sealed.ciphertext)
        .u64(7)
        .finish();
    let request = payload::JoinRequest { id: id.as_bytes().to_vec(), sealed: Some(sealed), expires: 7 };
    if let Ok((opened, read)) = JoinRequest::open(&request, &market(), &opening()) {
        assert_eq!(opened, id);
        assert_eq!(read.device, device.id(), "whoever signed it");
    }
}
