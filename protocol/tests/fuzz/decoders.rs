//! Every decoder of `protocol`: no bytes make it panic, and what it accepts it writes again as it was, where the format
//! says that there is one encoding.

use prost::Message;
use stallmesh_protocol::acknowledgement::Acknowledgement;
use stallmesh_protocol::certificate::Certificate;
use stallmesh_protocol::checkpoint::{Checkpoint, CheckpointView, ProvenLeaf};
use stallmesh_protocol::codec::{Reader, put_varint, varint_length};
use stallmesh_protocol::fork::ForkProof;
use stallmesh_protocol::invite::{self, Invite};
use stallmesh_protocol::join::check_id;
use stallmesh_protocol::membership::{ControlBody, read_control, read_line, write_line};
use stallmesh_protocol::page::{PAGE_MAX, Page};
use stallmesh_protocol::replica::unpack;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{
    DeviceId, Hash, Incarnation, Kind, Lane, LogId, LogName, MarketId, SaleId, money, payload, wire,
};

/// The market and the author of the vectors.
pub(crate) fn market() -> MarketId {
    MarketId::new(&DeviceKey::from_seed(&[1; 32]).id(), 1)
}

fn log(lane: u32) -> LogName {
    let author = DeviceKey::from_seed(&[3; 32]).id();
    LogName { author, incarnation: Incarnation::from_bytes([0xa3; 16]), lane: Lane(lane) }
}

targets! {
    varint(20_000, 64) varint_check;
    page(4_000, 4_096) page_check;
    packed(4_000, 4_096) |bytes| {
        let Some((length, block)) = bytes.split_first_chunk::<4>() else { return };
        let unpacked = u32::from_le_bytes(*length);
        let page = wire::Page { page: block.to_vec(), unpacked, ..wire::Page::default() };
        match unpack(&page) {
            Ok(read) if unpacked > 0 => assert!(read.len() == unpacked as usize && read.len() <= PAGE_MAX),
            Ok(read) => assert_eq!(read.as_ref(), block),
            Err(_) => assert!(unpacked > 0),
        }
    };
    certificate(4_000, 1_024) |bytes| {
        if let Ok(read) = Certificate::from_payload(bytes) {
            assert_eq!(read.to_payload(), bytes);
            // Judged without panic, whatever it says.
            let _ = read.narrows(&read);
        }
    };
    revocation(4_000, 1_024) |bytes| control(Kind::REVOCATION, bytes);
    raise(4_000, 1_024) |bytes| control(Kind::RAISE, bytes);
    readmission(4_000, 256) |bytes| control(Kind::READMISSION, bytes);
    checkpoint(4_000, 4_096) checkpoint_check;
    leaf(4_000, 4_096) |bytes| {
        if let Ok(read) = ProvenLeaf::from_bytes(bytes) {
            assert_eq!(read.to_bytes(), bytes);
            assert!(!CheckpointView::default().insert_proven(&market(), &read), "of a checkpoint that nobody has");
        }
    };
    fork_proof(4_000, 4_096) |bytes| {
        if let Ok(read) = ForkProof::from_payload(bytes) {
            assert_eq!(read.to_payload(), bytes);
            let _ = read.verify(&market());
        }
    };
    acknowledgement(4_000, 2_048) acknowledgement_check;
    invite(4_000, 1_024) |bytes| {
        if let Ok(read) = Invite::from_bytes(bytes) {
            let (again, same) = Invite::from_text(&invite::to_text(bytes)).unwrap();
            assert_eq!((again, same.as_slice()), (read, bytes));
        }
    };
    invite_text(4_000, 1_024) |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Ok((_, read)) = Invite::from_text(text)
        {
            assert_eq!(invite::to_text(&read), text.trim());
        }
    };
    join_request(4_000, 2_048) |bytes| {
        if let Ok(read) = payload::decode::<payload::JoinRequest>("join request", bytes) {
            assert_eq!(payload::encode(&read), bytes);
            let _ = check_id(&read);
        }
    };
    payloads(8_000, 4_096) |bytes| if let Some((kind, bytes)) = bytes.split_first() { one_payload(*kind, bytes) };
    session_frame(8_000, 4_096) frame_check;
    join_frame(8_000, 4_096) |bytes| {
        if let Ok(read) = wire::JoinFrame::decode(bytes) {
            let again = wire::JoinFrame::decode(read.encode_to_vec().as_slice()).unwrap();
            assert_eq!(again, read);
        }
    };
    names(8_000, 80) names_check;
    amounts(8_000, 64) amounts_check;
}

fn varint_check(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    if let Ok(value) = reader.varint("a number") {
        let mut again = Vec::new();
        put_varint(&mut again, value);
        assert_eq!(again, bytes[..bytes.len() - reader.remaining()], "one value, one encoding");
        assert_eq!(again.len(), varint_length(value));
    }
    let mut reader = Reader::new(bytes);
    if let Ok(length) = reader.length(1_000, "a length") {
        let there = reader.remaining();
        assert!(length <= 1_000);
        assert_eq!(reader.take(length, "bytes").is_ok(), length <= there, "no more is taken than there is");
    }
}

fn page_check(bytes: &[u8]) {
    let Ok(page) = Page::decode(bytes) else { return };
    assert_eq!(page.encode(), bytes, "a page in another encoding than its own");
    assert!(page.last() >= page.first && page.entries.len() <= 1_024);
    let log = log(3);
    if let Ok(verified) = page.clone().verify(&log.id(&market()), &log.author) {
        assert_eq!(verified.iter().count(), page.entries.len());
        assert_eq!(verified.head().sequence, page.last());
    }
}

fn control(kind: Kind, bytes: &[u8]) {
    let Ok(Some(read)) = read_control(kind, bytes) else { return };
    let again = match read {
        ControlBody::Certificate(read) => read.to_payload(),
        ControlBody::Revocation { device, line, reason, below_standing } => payload::encode(&payload::Revocation {
            device: device.as_bytes().to_vec(),
            line: write_line(&line),
            reason,
            below_standing,
        }),
        ControlBody::Raise { device, line } => {
            payload::encode(&payload::Raise { device: device.as_bytes().to_vec(), line: write_line(&line) })
        }
        ControlBody::Readmission { device, incarnation } => payload::encode(&payload::Readmission {
            device: device.as_bytes().to_vec(),
            incarnation: incarnation.as_bytes().to_vec(),
        }),
    };
    assert_eq!(again, bytes);
}

fn checkpoint_check(bytes: &[u8]) {
    let Ok(read) = Checkpoint::from_payload(bytes) else { return };
    assert_eq!(read.to_payload(), bytes);
    // A view takes it in whatever it says, and once.
    let mut view = CheckpointView::default();
    let hash = Hash::from_bytes([7; 32]);
    view.insert(hash, read.clone());
    view.insert(hash, read);
    assert_eq!(view.len(), 1);
}

fn acknowledgement_check(bytes: &[u8]) {
    let Ok(message) = wire::Acknowledgement::decode(bytes) else { return };
    let Some(read) = Acknowledgement::from_wire(&message) else { return };
    assert!(read.intervals.len() <= 256 && read.intervals.iter().all(|interval| interval.from <= interval.to));
    let _ = read.verify(&market());
    assert_eq!(Acknowledgement::from_wire(&read.to_wire()), Some(read));
}

fn one_payload(kind: u8, bytes: &[u8]) {
    fn again<M: Message + Default>(bytes: &[u8]) {
        if let Ok(read) = payload::decode::<M>("message", bytes) {
            assert_eq!(payload::encode(&read), bytes);
        }
    }
    match kind % 27 {
        0 => again::<payload::Opening>(bytes),
        1 => again::<payload::LowMark>(bytes),
        2 => again::<payload::DayKey>(bytes),
        3 => again::<payload::Market>(bytes),
        4 => again::<payload::Policy>(bytes),
        5 => again::<payload::OpeningKey>(bytes),
        6 => again::<payload::StallKey>(bytes),
        7 => again::<payload::JoinChallenge>(bytes),
        8 => again::<payload::JoinRefusal>(bytes),
        9 => again::<payload::Settlement>(bytes),
        10 => again::<payload::Erasure>(bytes),
        11 => again::<payload::Products>(bytes),
        12 => again::<payload::Sale>(bytes),
        13 => again::<payload::SalePersonal>(bytes),
        14 => again::<payload::ClosingInput>(bytes),
        15 => again::<payload::Closing>(bytes),
        16 => again::<payload::Succession>(bytes),
        17 => again::<payload::Standing>(bytes),
        18 => again::<payload::Promotions>(bytes),
        19 => again::<payload::Conditions>(bytes),
        20 => again::<payload::Restoration>(bytes),
        21 => again::<payload::Signals>(bytes),
        22 => again::<payload::CheckoutRules>(bytes),
        23 => again::<payload::PaymentIntent>(bytes),
        24 => again::<payload::PaymentVoid>(bytes),
        25 => again::<payload::PaymentOutcome>(bytes),
        _ => again::<payload::PaymentAnswer>(bytes),
    }
    // The one that has a list of its own order in it.
    if let Ok(read) = payload::decode::<payload::Opening>("opening", bytes)
        && let Ok(line) = read_line(&read.parents)
    {
        assert_eq!(write_line(&line), read.parents);
    }
}

/// Frames may grow, and are not signed as they travel: decoded, they must say the same when they are encoded again.
fn frame_check(bytes: &[u8]) {
    let Ok(read) = wire::Frame::decode(bytes) else { return };
    let again = wire::Frame::decode(read.encode_to_vec().as_slice()).unwrap();
    assert_eq!(again, read);
}

fn names_check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    macro_rules! again {
        ($($name:ty),*) => {$(
            if let Ok(read) = text.parse::<$name>() {
                assert_eq!(read.to_string(), text.to_lowercase());
                assert_eq!(<$name>::try_from(read.as_bytes().as_slice()).ok(), Some(read));
            }
        )*};
    }
    again!(DeviceId, MarketId, Incarnation, LogId, SaleId);
}

fn amounts_check(bytes: &[u8]) {
    let Some((amount, text)) = bytes.split_first_chunk::<8>() else { return };
    let amount = u64::from_le_bytes(*amount);
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok(factor) = money::decimal(text) {
        if let (Ok(one), Ok(hundredth)) = (money::extend(amount, factor), money::percentage(amount, factor)) {
            assert!(hundredth <= one, "{amount} × {text}");
        }
        let _ = money::round(factor);
    }
    let weights: Vec<u64> = text.bytes().map(u64::from).collect();
    if let Ok(parts) = money::share(amount, &weights) {
        assert_eq!(parts.iter().map(|part| u128::from(*part)).sum::<u128>(), u128::from(amount));
    }
}
