//! What holds of every decoder: accepted bytes are the one encoding of what they say, a cut is an error, and no bytes
//! make it panic or allocate what they only claim.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Debug;
use std::path::Path;

use proptest::prelude::*;
use prost::Message;
use serde_json::Value;
use stallmesh_protocol::acknowledgement::Acknowledgement;
use stallmesh_protocol::certificate::Certificate;
use stallmesh_protocol::checkpoint::{Checkpoint, ProvenLeaf};
use stallmesh_protocol::entry::{Entry, Part, PartBody, Payload, sign_head};
use stallmesh_protocol::fork::ForkProof;
use stallmesh_protocol::id::Head;
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::invite::Invite;
use stallmesh_protocol::join::JoinRequest;
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::membership::{read_control, read_line, write_line};
use stallmesh_protocol::page::{CARRIED_EVERY, Page};
use stallmesh_protocol::seal::SealKey;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{Hash, Incarnation, Kind, Lane, LogName, MarketId, payload, wire};

/// A decoder, and what encodes its result again: `None` where it refuses.
type Again = fn(&[u8]) -> Option<Vec<u8>>;

fn again<M: Message + Default>(bytes: &[u8]) -> Option<Vec<u8>> {
    payload::decode::<M>("message", bytes).ok().map(|message| payload::encode(&message))
}

fn control(kind: Kind, bytes: &[u8]) -> Option<Vec<u8>> {
    read_control(kind, bytes).ok().flatten().map(|_| bytes.to_vec())
}

/// Whether a cut always shows. A message of repeated fields cut between two of them is a shorter one: what carries a
/// payload carries its length.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    Shows,
    MayBeShorter,
}

fn decoders() -> Vec<(&'static str, Again, Cut)> {
    use Cut::{MayBeShorter, Shows};
    vec![
        ("page", |bytes| Page::decode(bytes).ok().map(|page| page.encode()), Shows),
        ("leaf", |bytes| ProvenLeaf::from_bytes(bytes).ok().map(|leaf| leaf.to_bytes()), Shows),
        ("certificate", |bytes| Certificate::from_payload(bytes).ok().map(|read| read.to_payload()), MayBeShorter),
        ("checkpoint", |bytes| Checkpoint::from_payload(bytes).ok().map(|read| read.to_payload()), MayBeShorter),
        ("fork proof", |bytes| ForkProof::from_payload(bytes).ok().map(|proof| proof.to_payload()), Shows),
        ("invite", |bytes| Invite::from_bytes(bytes).ok().map(|_| bytes.to_vec()), Shows),
        ("revocation", |bytes| control(Kind::REVOCATION, bytes), MayBeShorter),
        ("raise", |bytes| control(Kind::RAISE, bytes), MayBeShorter),
        ("readmission", |bytes| control(Kind::READMISSION, bytes), Shows),
        ("Opening", again::<payload::Opening>, MayBeShorter),
        ("LowMark", again::<payload::LowMark>, MayBeShorter),
        ("DayKey", again::<payload::DayKey>, MayBeShorter),
        ("Market", again::<payload::Market>, MayBeShorter),
        ("Policy", again::<payload::Policy>, MayBeShorter),
        ("OpeningKey", again::<payload::OpeningKey>, MayBeShorter),
        ("StallKey", again::<payload::StallKey>, MayBeShorter),
        ("JoinChallenge", again::<payload::JoinChallenge>, MayBeShorter),
        ("JoinRefusal", again::<payload::JoinRefusal>, MayBeShorter),
        ("JoinRequest", again::<payload::JoinRequest>, MayBeShorter),
        ("Settlement", again::<payload::Settlement>, MayBeShorter),
        ("Erasure", again::<payload::Erasure>, MayBeShorter),
        ("Succession", again::<payload::Succession>, MayBeShorter),
        ("Restoration", again::<payload::Restoration>, MayBeShorter),
        ("Products", again::<payload::Products>, MayBeShorter),
        ("Promotions", again::<payload::Promotions>, MayBeShorter),
        ("Conditions", again::<payload::Conditions>, MayBeShorter),
        ("Signals", again::<payload::Signals>, MayBeShorter),
        ("CheckoutRules", again::<payload::CheckoutRules>, MayBeShorter),
        ("PaymentIntent", again::<payload::PaymentIntent>, MayBeShorter),
        ("PaymentVoid", again::<payload::PaymentVoid>, MayBeShorter),
        ("PaymentOutcome", again::<payload::PaymentOutcome>, MayBeShorter),
        ("PaymentAnswer", again::<payload::PaymentAnswer>, MayBeShorter),
        ("Sale", again::<payload::Sale>, MayBeShorter),
        ("SalePersonal", again::<payload::SalePersonal>, MayBeShorter),
        ("ClosingInput", again::<payload::ClosingInput>, MayBeShorter),
        ("Closing", again::<payload::Closing>, MayBeShorter),
        ("Standing", again::<payload::Standing>, MayBeShorter),
        // Frames may grow, and are not signed as they travel: decoded, they must only be harmless.
        ("frame", |bytes| wire::Frame::decode(bytes).ok().map(|_| bytes.to_vec()), MayBeShorter),
        ("join frame", |bytes| wire::JoinFrame::decode(bytes).ok().map(|_| bytes.to_vec()), MayBeShorter),
    ]
}

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn field(case: &Value, name: &str) -> Vec<u8> {
    hex::decode(case[name].as_str().unwrap()).unwrap()
}

/// Accepted bytes for each decoder, from the vectors.
fn examples() -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    let mut take = |decoder: &str, file: &str, list: &str, name: &str| {
        for case in vectors(file)[list].as_array().unwrap() {
            out.push((decoder.to_owned(), field(case, name)));
        }
    };
    take("page", "pages.json", "accepted", "page");
    take("leaf", "checkpoints.json", "leaves", "bytes");
    take("certificate", "members.json", "certificates", "payload");
    take("checkpoint", "checkpoints.json", "checkpoints", "payload");
    take("fork proof", "forks.json", "accepted", "payload");
    take("JoinRequest", "joining.json", "requests", "payload");
    out.push(("invite".into(), field(&vectors("joining.json")["invite"], "bytes")));
    for case in vectors("members.json")["judgements"].as_array().unwrap() {
        let decoder = match case["kind"].as_u64() {
            Some(18) => "revocation",
            Some(19) => "raise",
            _ => "readmission",
        };
        out.push((decoder.into(), field(case, "payload")));
    }
    for case in vectors("payloads.json")["accepted"].as_array().unwrap() {
        out.push((case["message"].as_str().unwrap().to_owned(), field(case, "payload")));
    }
    out
}

fn decoder(name: &str) -> (Again, Cut) {
    let found = decoders().into_iter().find(|(known, _, _)| *known == name).unwrap();
    (found.1, found.2)
}

#[test]
fn every_decoder_has_an_example_and_reads_it_as_it_writes_it() {
    let examples = examples();
    for (name, again, _) in decoders() {
        let own = examples.iter().filter(|(decoder, _)| decoder == name);
        let count = own.map(|(_, bytes)| assert_eq!(again(bytes).as_ref(), Some(bytes), "{name}")).count();
        assert!(count > 0 || name.ends_with("frame"), "no example of a {name}");
    }
}

#[test]
fn adv_001_a_cut_at_any_offset_is_an_error_or_a_shorter_message_in_its_one_encoding() {
    for (name, bytes) in examples() {
        let (again, cut) = decoder(&name);
        // Of long pages each cut costs a decoding: the ends, and some between.
        let step = 1 + bytes.len() / 3_000;
        for end in (0..bytes.len()).filter(|end| end % step == 0 || end + 200 > bytes.len()) {
            let short = &bytes[..end];
            if let Some(read) = again(short) {
                assert!(cut == Cut::MayBeShorter && read == short, "{name} cut at {end}");
            }
        }
    }
}

/// Lengths of 4 GiB and more after a few bytes: whoever believed them would be killed here.
#[test]
fn adv_003_a_length_that_is_only_claimed_allocates_nothing() {
    let claims: [&[u8]; 3] = [
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ];
    for (name, bytes) in examples() {
        let (again, _) = decoder(&name);
        for start in 0..bytes.len().min(300) {
            for claim in claims {
                let lie = [&bytes[..start], claim, &[0; 8]].concat();
                assert!(again(&lie).is_none_or(|read| read == lie), "{name} at {start}");
            }
        }
    }
    for tag in 0_u8..=255 {
        for claim in claims {
            let lie = [&[tag], claim].concat();
            for (name, again, _) in decoders() {
                assert!(again(&lie).is_none_or(|read| read == lie), "{name}, tag {tag}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn adv_020_random_bytes_panic_nowhere_and_what_is_accepted_is_the_one_encoding(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for (name, again, _) in decoders() {
            if let Some(read) = again(&bytes) {
                prop_assert_eq!(&read, &bytes, "{}", name);
            }
        }
    }

    #[test]
    fn adv_008_what_is_accepted_near_an_example_is_the_one_encoding(
        example: prop::sample::Index,
        at: prop::sample::Index,
        change in prop_oneof![any::<u8>().prop_map(Some), Just(None)],
        more in any::<bool>(),
    ) {
        let examples = examples_once();
        let (name, bytes) = &examples[example.index(examples.len())];
        prop_assume!(!bytes.is_empty());
        let mut altered = bytes.clone();
        let at = at.index(altered.len());
        match change {
            Some(byte) if more => altered.insert(at, byte),
            Some(byte) => altered[at] = byte,
            None => drop(altered.drain(at..=at)),
        }
        let (again, _) = decoder(name);
        if let Some(read) = again(&altered) {
            prop_assert_eq!(&read, &altered, "{}", name);
        }
    }

    #[test]
    fn pages_survive_their_encoding(page in any_page()) {
        let bytes = page.encode();
        prop_assert_eq!(Page::decode(&bytes).unwrap(), page);
    }

    #[test]
    fn acknowledgements_survive_their_encoding(intervals in prop::collection::btree_set((1_u64..50, 0_u64..50, any::<[u8; 32]>()), 0..9), time: u64) {
        let interval = |(from, more, hash): (u64, u64, [u8; 32])| Interval { from, to: from + more, hash: Hash::from_bytes(hash) };
        let mut intervals: Vec<Interval> = intervals.into_iter().map(interval).collect();
        intervals.sort();
        intervals.dedup();
        let log = LogName { author: key().id(), incarnation: Incarnation::from_bytes([1; 16]), lane: Lane::SALES };
        let made = Acknowledgement::sign(&key(), &market(), log, intervals, time);
        let message = wire::Acknowledgement::decode(made.to_wire().encode_to_vec().as_slice()).unwrap();
        let read = Acknowledgement::from_wire(&message).unwrap();
        prop_assert_eq!(&read, &made);
        prop_assert!(read.verify(&market()).is_ok());
        let mut backwards = message;
        backwards.intervals.reverse();
        prop_assert_eq!(Acknowledgement::from_wire(&backwards).is_some(), made.intervals.len() < 2);
    }

    #[test]
    fn lines_survive_their_encoding(heads in prop::collection::btree_map((any::<[u8; 16]>(), 1_u32..9), (any::<u64>(), any::<[u8; 32]>()), 0..9)) {
        let line = heads.into_iter().map(|((incarnation, lane), (sequence, hash))| {
            ((Incarnation::from_bytes(incarnation), Lane(lane)), Head { sequence, hash: Hash::from_bytes(hash) })
        }).collect();
        prop_assert_eq!(read_line(&write_line(&line)).unwrap(), line);
    }
}

fn examples_once() -> &'static [(String, Vec<u8>)] {
    static EXAMPLES: std::sync::OnceLock<Vec<(String, Vec<u8>)>> = std::sync::OnceLock::new();
    EXAMPLES.get_or_init(|| examples().into_iter().filter(|(_, bytes)| bytes.len() < 4_000).collect())
}

fn key() -> DeviceKey {
    DeviceKey::from_seed(&[3; 32])
}

fn market() -> MarketId {
    MarketId::new(&DeviceKey::from_seed(&[1; 32]).id(), 1)
}

fn name() -> LogName {
    LogName { author: key().id(), incarnation: Incarnation::from_bytes([7; 16]), lane: Lane::CATALOG }
}

/// Timestamp, checkpoint seen, kind, distance to the key entry, parts, and whether the personal one is erased.
type Drawn = (u64, [u8; 8], u32, Option<u64>, Vec<Option<Vec<u8>>>, bool);

fn any_entry() -> impl Strategy<Value = Drawn> {
    let part = prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
    // Timestamps of every size, falling ones too; few checkpoints, so that some don't change.
    let seen = (0_u8..3).prop_map(|seen| [seen; 8]);
    let timestamp = prop_oneof![0_u64..1_000, any::<u64>()];
    (timestamp, seen, any::<u32>(), prop::option::of(1_u64..4), prop::collection::vec(part, 4), any::<bool>())
}

fn any_page() -> impl Strategy<Value = Page> {
    let first = prop_oneof![Just(1_u64), 5_u64..2_000, (u64::MAX - 2_000)..(u64::MAX - 1_100)];
    (first, prop::collection::vec(any_entry(), 1..90), any::<u64>()).prop_map(|(first, drawn, signed)| {
        let mut entries = Vec::new();
        for ((timestamp, seen, kind, back, parts, erased), sequence) in drawn.into_iter().zip(first..) {
            let mut payload = Payload::default();
            for (part, bytes) in Part::ALL.into_iter().zip(parts) {
                match bytes {
                    Some(_) if part == Part::Personal && erased => {
                        payload.set(part, PartBody::Erased(Hash::from_bytes([9; 32])));
                    }
                    Some(bytes) => payload.set(part, PartBody::Bytes(bytes)),
                    None => {}
                }
            }
            payload.key = back.and_then(|back| sequence.checked_sub(back)).filter(|key| *key > 0);
            entries.push(Entry { timestamp, seen, kind: Kind(kind), payload });
        }
        let last = first + entries.len() as u64 - 1;
        let carried = |at: &u64| *at == last || at.is_multiple_of(CARRIED_EVERY) || signed >> (at % 64) & 1 == 1;
        let signature = stallmesh_protocol::sign::Signature::from_bytes([5; 64]);
        let signatures = (first..=last).filter(carried).map(|at| (at, signature)).collect();
        let previous = if first == 1 { Hash::ZERO } else { Hash::from_bytes([8; 32]) };
        Page { first, previous, entries, signatures }
    })
}

/// A page of 64 entries that begins at `first`, each with a payload; signed where its author signs, and at its end.
fn page_of_64(first: u64) -> Page {
    let mut writer = LogWriter::open(&market(), name());
    let mut page = Page { first, previous: Hash::ZERO, entries: Vec::new(), signatures: Vec::new() };
    for sequence in 1..first + 64 {
        let previous = writer.head().hash;
        let payload = Payload::public(vec![sequence as u8; 8]).with(Part::Extra, PartBody::Bytes(vec![1]));
        let appended =
            writer.append(&key(), 1_000 * sequence, [(sequence / 9) as u8; 8], Kind::PRODUCTS, payload).unwrap();
        if sequence < first {
            continue;
        }
        page.previous = if sequence == first { previous } else { page.previous };
        page.entries.push(appended.entry);
        page.signatures.extend(appended.signature.map(|signature| (sequence, signature)));
    }
    if page.signatures.last().is_none_or(|(at, _)| *at != page.last()) {
        page.signatures.push((page.last(), sign_head(&key(), &writer.id(), &writer.head())));
    }
    page
}

fn holds(bytes: &[u8]) -> bool {
    let verified = Page::decode(bytes).and_then(|page| page.verify(&name().id(&market()), &name().author));
    verified.is_ok()
}

#[track_caller]
fn refused(what: impl Debug, bytes: &[u8]) {
    assert!(!holds(bytes), "{what:?} was accepted");
}

#[test]
fn adv_015_each_byte_of_a_page_of_64_entries_is_bound_wherever_the_page_begins() {
    // From the first entry; over a sequence where authors sign; over one where a page must carry a signature.
    for first in [1, 2, 40, 470] {
        let bytes = page_of_64(first).encode();
        assert!(holds(&bytes));
        for index in 0..bytes.len() {
            for bit in [1, 0x80] {
                let mut altered = bytes.clone();
                altered[index] ^= bit;
                refused(("byte", index, "from", first), &altered);
            }
        }
    }
}

#[test]
fn adv_036_a_page_that_ends_at_the_last_sequence_there_is_holds_like_any_other() {
    let mut page = page_of_64(2);
    page.first = u64::MAX - 64;
    let (id, mut previous) = (name().id(&market()), page.previous);
    for (entry, sequence) in page.entries.iter().zip(page.first..) {
        previous = entry.header().hash(&id, sequence, &previous);
    }
    // One of its sequences is one at which a page must carry a signature.
    page.signatures.clear();
    let mut hash = page.previous;
    for (entry, sequence) in page.entries.iter().zip(page.first..) {
        hash = entry.header().hash(&id, sequence, &hash);
        if sequence.is_multiple_of(CARRIED_EVERY) || sequence == u64::MAX - 1 {
            page.signatures.push((sequence, sign_head(&key(), &id, &Head { sequence, hash })));
        }
    }
    let verified = Page::decode(&page.encode()).unwrap().verify(&id, &name().author).unwrap();
    assert_eq!(verified.head(), Head { sequence: u64::MAX - 1, hash: previous });
    assert_eq!(verified.iter().last().map(|(sequence, ..)| sequence), Some(u64::MAX - 1));
    // One more would be none: refused by its head, before anything of it is read.
    let bytes = page.encode();
    let mut beyond = vec![bytes[0]];
    stallmesh_protocol::codec::put_varint(&mut beyond, u64::MAX - 63);
    beyond.extend_from_slice(&bytes[11..]);
    let error = Page::decode(&beyond).unwrap_err().to_string();
    assert!(error.starts_with("E_TOO_LARGE"), "{error}");
}

#[test]
fn adv_015_entries_dropped_swapped_or_added_are_refused_and_so_is_a_signature_that_does_not_hold() {
    let page = page_of_64(2);
    assert!(holds(&page.encode()) && page.signatures.len() == 2);
    let change = |what: &str, at: usize, change: &dyn Fn(&mut Page)| {
        let mut changed = page.clone();
        change(&mut changed);
        refused((what, at), &changed.encode());
    };
    for at in 0..64 {
        change("dropped", at, &|page| page.entries.truncate(at));
        change("removed", at, &|page| drop(page.entries.remove(at)));
        change("added", at, &|page| page.entries.insert(at, page.entries[at].clone()));
        change("replaced", at, &|page| page.entries[at] = page.entries[(at + 1) % 64].clone());
        for other in 0..at {
            change("swapped", at * 64 + other, &|page| page.entries.swap(at, other));
        }
        let forged = stallmesh_protocol::sign::Signature::from_bytes([at as u8; 64]);
        change("a signature more", at, &|page| {
            let sequence = page.first + at as u64;
            page.signatures.retain(|(known, _)| *known != sequence);
            page.signatures.push((sequence, forged));
            page.signatures.sort_by_key(|(known, _)| *known);
        });
    }
    // Cut where nothing is signed. (At sequence 64, which is signed, a cut leaves a shorter page that is as true.)
    change("the end cut off", 0, &|page| {
        page.entries.truncate(62);
        page.signatures.clear();
    });
}

#[test]
fn adv_016_a_request_that_is_altered_anywhere_is_not_opened() {
    let opening = SealKey::from_secret(&[2; 32]).unwrap();
    for case in vectors("joining.json")["requests"].as_array().unwrap() {
        let bytes = field(case, "payload");
        let read = |bytes: &[u8]| -> bool {
            let message = payload::decode::<payload::JoinRequest>("join request", bytes);
            message.is_ok_and(|message| JoinRequest::open(&message, &market(), &opening).is_ok())
        };
        assert!(read(&bytes));
        for index in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[index] ^= 1;
            assert!(!read(&altered), "byte {index}");
        }
    }
}
