use serde_json::{Value, json};
use stallmesh_protocol::codec::put_varint;
use stallmesh_protocol::entry::{Entry, Part, PartBody, Payload};
use stallmesh_protocol::hash::Hash;
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::page::{ENTRIES_MAX, PAGE_MAX, Page, VerifiedPage};
use stallmesh_protocol::seal::{DayKey, SealKey, SealedAt};
use stallmesh_protocol::sign::Signature;
use stallmesh_protocol::{Head, Kind, Lane, LogName, payload};

use super::{HUB, MORNING, OWNER, STRANGER, code, key, log, market};

/// A log as its author has it.
pub(crate) struct Written {
    pub(crate) name: LogName,
    writer: LogWriter,
    pub(crate) entries: Vec<Entry>,
    pub(crate) heads: Vec<Head>,
    signatures: Vec<(u64, Signature)>,
    who: u8,
}

impl Written {
    pub(crate) fn open(who: u8, lane: Lane) -> Self {
        let name = log(who, lane);
        let writer = LogWriter::open(&market(), name);
        Written { name, writer, entries: Vec::new(), heads: vec![Head::EMPTY], signatures: Vec::new(), who }
    }

    pub(crate) fn append(&mut self, time: u64, seen: [u8; 8], kind: Kind, payload: Payload) -> Head {
        let appended = self.writer.append(&key(self.who), time, seen, kind, payload).unwrap();
        self.entries.push(appended.entry);
        self.heads.push(appended.head);
        self.signatures.extend(appended.signature.map(|signature| (appended.head.sequence, signature)));
        appended.head
    }

    pub(crate) fn public(&mut self, time: u64, kind: Kind, bytes: Vec<u8>) -> Head {
        self.append(time, [0; 8], kind, Payload::public(bytes))
    }

    /// A page with every signature that the author gave inside it; its last entry is signed for it.
    pub(crate) fn page(&self, first: u64, last: u64) -> Page {
        let head = self.heads[last as usize];
        let signature = stallmesh_protocol::entry::sign_head(&key(self.who), &self.writer.id(), &head);
        let inside = self.signatures.iter().filter(|(at, _)| (first..last).contains(at)).copied();
        Page {
            first,
            previous: self.heads[first as usize - 1].hash,
            entries: self.entries[first as usize - 1..last as usize].to_vec(),
            signatures: inside.chain([(last, signature)]).collect(),
        }
    }

    /// Where a sealed part of the next entry will stand.
    fn next(&self, time: u64, seen: [u8; 8], kind: Kind) -> SealedAt {
        SealedAt {
            log: self.writer.id(),
            sequence: self.writer.head().sequence + 1,
            previous: self.writer.head().hash,
            timestamp: self.writer.next_timestamp(time),
            seen,
            kind,
        }
    }
}

/// A catalog of many small entries.
fn long(entries: u64) -> Written {
    let mut written = Written::open(OWNER, Lane::CATALOG);
    written.public(MORNING, Kind::OPENING, Vec::new());
    for number in 2..=entries {
        let seen = if number < 5 { [0; 8] } else { [number as u8 / 9; 8] };
        let bytes = number.to_be_bytes().to_vec();
        written.append(MORNING + number * 250, seen, Kind::PRODUCTS, Payload::public(bytes));
    }
    written
}

/// A key entry and sales under it.
fn sealed() -> Written {
    let mut written = Written::open(OWNER, Lane::SALES);
    written.public(MORNING, Kind::OPENING, Vec::new());
    let key = DayKey::new([0x11; 32]);
    let hub = SealKey::from_secret(&[HUB; 32]).unwrap();
    let message = key.publish(&market(), &written.writer.id(), &[hub.public()], [0x22; 32]).unwrap();
    written.public(MORNING + 1, Kind::KEY, payload::encode(&message));
    for number in 0..3_u64 {
        let (time, seen) = (MORNING + 1_000 * number, [9; 8]);
        let at = written.next(time, seen, Kind::SALE);
        let money = key.seal(&at, Part::Money, format!("money of sale {number}").as_bytes()).unwrap();
        let personal = key.seal(&at, Part::Personal, b"Ada").unwrap();
        let mut payload = Payload::default().with(Part::Money, money).with(Part::Personal, personal);
        payload.key = Some(2);
        written.append(time, seen, Kind::SALE, payload);
    }
    written
}

fn every_part() -> Vec<Payload> {
    (0_u8..16)
        .map(|mask| {
            let mut payload = Payload::default();
            for part in Part::ALL.into_iter().filter(|part| mask & 1 << *part as u8 != 0) {
                payload.set(part, PartBody::Bytes(format!("{part:?} of {mask}").into_bytes()));
            }
            payload
        })
        .collect()
}

pub(crate) fn make() -> Value {
    json!({
        "about": "Entries and their hashes; pages that hold, and pages that must be refused for the first reason named.",
        "market": market().to_string(),
        "entries": entries(),
        "accepted": accepted(),
        "refused": refused(),
    })
}

fn entries() -> Vec<Value> {
    let mut payloads = every_part();
    let mut keyed = payloads[6].clone();
    keyed.key = Some(3);
    let leaf = PartBody::Bytes(b"Personal of 6".to_vec()).leaf(Part::Personal);
    let erased = keyed.clone().with(Part::Personal, PartBody::Erased(leaf));
    payloads.extend([keyed, erased]);
    payloads
        .into_iter()
        .zip(7_u64..)
        .map(|(payload, sequence)| {
            let id = log(OWNER, Lane::SALES).id(&market());
            let previous = Hash::from_bytes([sequence as u8; 32]);
            let entry = Entry { timestamp: MORNING + sequence, seen: [sequence as u8; 8], kind: Kind(96), payload };
            let header = entry.header();
            json!({
                "log": id.to_string(),
                "sequence": sequence,
                "previous": previous.to_string(),
                "timestamp": entry.timestamp,
                "seen": hex::encode(entry.seen),
                "kind": entry.kind.0,
                "key_entry": entry.payload.key.unwrap_or(0),
                "parts": parts(&entry.payload),
                "payload_root": header.payload_root.to_string(),
                "hash": header.hash(&id, sequence, &previous).to_string(),
            })
        })
        .collect()
}

fn parts(payload: &Payload) -> Vec<Value> {
    payload
        .parts()
        .map(|(part, body)| {
            let bytes = match body {
                PartBody::Bytes(bytes) => json!(hex::encode(bytes)),
                PartBody::Erased(_) => Value::Null,
            };
            json!({ "part": part as u8, "bytes": bytes, "leaf": body.leaf(part).to_string() })
        })
        .collect()
}

fn accepted_case(name: &str, written: &Written, page: &Page) -> Value {
    let bytes = page.encode();
    let decoded = Page::decode(&bytes).unwrap();
    assert_eq!(decoded, *page);
    let verified: VerifiedPage = decoded.verify(&written.name.id(&market()), &written.name.author).unwrap();
    let entries = verified.iter().map(|(sequence, hash, entry)| {
        json!({
            "sequence": sequence.to_string(),
            "hash": hash.to_string(),
            "timestamp": entry.timestamp.to_string(),
            "seen": hex::encode(entry.seen),
            "kind": entry.kind.0,
            "key_entry": entry.payload.key.unwrap_or(0),
            "payload_root": entry.payload.root().to_string(),
        })
    });
    // Of a long page its ends say enough: each hash stands on the one before.
    let count = verified.page().entries.len();
    let shown: Vec<Value> =
        entries.enumerate().filter(|(at, _)| *at < 4 || at + 2 > count).map(|(_, json)| json).collect();
    json!({
        "name": name,
        "author": written.name.author.to_string(),
        "incarnation": written.name.incarnation.to_string(),
        "lane": written.name.lane.0,
        "page": hex::encode(bytes),
        "first": page.first.to_string(),
        "previous": page.previous.to_string(),
        "signatures": page.signatures.iter().map(|(at, _)| at.to_string()).collect::<Vec<_>>(),
        "count": count,
        "entries": shown,
    })
}

fn accepted() -> Vec<Value> {
    let long = long(530);
    let (whole, middle, few) = (long.page(1, 64), long.page(100, 200), long.page(500, 530));
    let sealed = sealed();
    let sales = sealed.page(1, 5);
    let tail = sealed.page(4, 5);
    let mut erased = sales.clone();
    for entry in &mut erased.entries {
        if let Some(PartBody::Bytes(bytes)) = entry.payload.part(Part::Personal).cloned() {
            let leaf = PartBody::Bytes(bytes).leaf(Part::Personal);
            entry.payload.set(Part::Personal, PartBody::Erased(leaf));
        }
    }
    let mut mixed = Written::open(OWNER, Lane(99));
    for (payload, number) in every_part().into_iter().zip(0..) {
        let seen = if number % 3 == 0 { [0; 8] } else { [number; 8] };
        mixed.append(MORNING, seen, Kind(u32::MAX - u32::from(number)), payload);
    }
    let mixed_page = mixed.page(1, 16);
    // No honest writer makes this: time falls between two entries. Whoever holds it can still pass it on.
    let mut falling = long.page(1, 3);
    falling.entries[2].timestamp = 5;
    let id = long.name.id(&market());
    let mut hash = Hash::ZERO;
    for (entry, sequence) in falling.entries.iter().zip(1..) {
        hash = entry.header().hash(&id, sequence, &hash);
    }
    falling.signatures = vec![(3, stallmesh_protocol::entry::sign_head(&key(OWNER), &id, &Head { sequence: 3, hash }))];
    vec![
        accepted_case("sixty-four entries from the first", &long, &whole),
        accepted_case("from the middle, with two signatures", &long, &middle),
        accepted_case("over a sequence where a signature must be", &long, &few),
        accepted_case("a key entry and sealed sales", &sealed, &sales),
        accepted_case("sealed sales without their key entry", &sealed, &tail),
        accepted_case("sealed sales whose personal parts are erased", &sealed, &erased),
        accepted_case("every combination of parts, unknown kinds and lane", &mixed, &mixed_page),
        accepted_case("time that falls", &long, &falling),
    ]
}

fn refused() -> Vec<Value> {
    let written = long(530);
    let good = written.page(3, 10);
    let bytes = good.encode();
    let long_page = written.page(500, 530);
    let mut cases: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut page = |name, change: &dyn Fn(&mut Page)| {
        let mut page = good.clone();
        change(&mut page);
        cases.push((name, page.encode()));
    };
    page("an entry dropped", &|page| drop(page.entries.remove(3)));
    page("two entries swapped", &|page| page.entries.swap(2, 3));
    page("an entry added", &|page| page.entries.insert(3, page.entries[2].clone()));
    page("a later time", &|page| page.entries[0].timestamp += 1);
    page("another kind", &|page| page.entries[0].kind = Kind(65));
    page("another checkpoint seen", &|page| page.entries[0].seen = [7; 8]);
    page("another sequence", &|page| {
        page.first += 1;
        page.signatures.iter_mut().for_each(|(at, _)| *at += 1);
    });
    page("another predecessor", &|page| page.previous = Hash::from_bytes([1; 32]));
    page("a part erased that has another leaf", &|page| {
        page.entries[0].payload.set(Part::Personal, PartBody::Erased(Hash::from_bytes([1; 32])));
    });
    page("a signature that does not hold beside one that does", &|page| {
        page.signatures.insert(0, (5, Signature::from_bytes([1; 64])));
    });
    page("no signature", &|page| page.signatures.clear());
    page("a signature before the end alone", &|page| page.signatures[0].0 -= 1);
    page("sequence 0", &|page| page.first = 0);
    page("sequence 1 with a predecessor", &|page| page.first = 1);
    page("no predecessor in the middle", &|page| page.previous = Hash::ZERO);
    page("no entries", &|page| page.entries.clear());
    page("signatures out of order", &|page| page.signatures.insert(0, page.signatures[0]));
    let mut unsigned = long_page.clone();
    unsigned.signatures.retain(|(at, _)| *at != 512);
    cases.push(("no signature where one must be", unsigned.encode()));
    let mut large = good.clone();
    large.entries[0].payload = Payload::public(vec![0; 65_537]);
    cases.push(("a payload of 65,537 bytes", large.encode()));
    let two = Payload::public(vec![0; 65_000]).with(Part::Extra, PartBody::Bytes(vec![0; 537]));
    large.entries[0].payload = two;
    cases.push(("parts of 65,537 bytes together", large.encode()));
    cases.push(("an altered byte of a payload", flip(&bytes, 60)));
    cases.push(("another version", flip(&bytes, 0)));
    cases.push(("a byte after the end", [bytes.as_slice(), &[0]].concat()));
    cases.push(("cut", bytes[..bytes.len() - 1].to_vec()));
    cases.push(("nothing", Vec::new()));
    // By hand: what the encoder can't be brought to write.
    let mut beyond = vec![1];
    put_varint(&mut beyond, u64::MAX - 2);
    cases.push(("a sequence beyond the end of numbers", [beyond.as_slice(), &bytes[2..]].concat()));
    let start = |first: u64, count: u64| {
        let mut out = vec![1];
        put_varint(&mut out, first);
        out.extend_from_slice(&[9; 32]);
        put_varint(&mut out, count);
        out
    };
    let entry = |flags: u8, rest: &[u8]| [start(3, 1).as_slice(), &[5, 64, flags], rest].concat();
    cases.push(("a flag that does not exist", entry(0x08, &[0])));
    cases.push(("erased without a personal part", entry(0x14, &[0, 0])));
    cases.push(("a seen checkpoint that did not change", entry(0x11, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0])));
    cases.push(("a key entry that is its own user", entry(0x12, &[0, 0, 0])));
    cases.push(("a key entry before the first", entry(0x12, &[3, 0, 0])));
    cases.push(("a kind above 32 bits", [start(3, 1).as_slice(), &[5, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]].concat()));
    cases.push(("an integer that is not minimal", [start(3, 1).as_slice(), &[0x85, 0, 64, 0]].concat()));
    cases.push(("more entries than a page may have", start(3, ENTRIES_MAX as u64 + 1)));
    cases.push(("a count that nothing follows", start(3, ENTRIES_MAX as u64)));
    cases.push(("a length that nothing follows", entry(0x10, &[0xff, 0xff, 0x03])));
    cases.push(("a length of 2^63", entry(0x10, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01])));
    cases.push(("more signatures than entries", entry(0x10, &[0, 2])));
    cases.push(("a signature beyond the end", entry(0x10, &[0, 1, 1])));
    let mut out: Vec<Value> =
        cases.into_iter().map(|(name, bytes)| refused_case(name, &written.name, &bytes)).collect();
    // Zeros after a good page: too large before anything else is read.
    let error = Page::decode(&vec![0; PAGE_MAX + 1]).unwrap_err();
    out.push(json!({ "name": "more bytes than a page may have", "zeros": PAGE_MAX + 1, "code": code(error) }));
    out.push(refused_case("another author", &log(STRANGER, Lane::CATALOG), &bytes));
    out.push(refused_case("another lane", &log(OWNER, Lane::SIGNAL), &bytes));
    out
}

fn flip(bytes: &[u8], index: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out[index] ^= 1;
    out
}

fn refused_case(name: &str, log: &LogName, bytes: &[u8]) -> Value {
    let error = Page::decode(bytes)
        .and_then(|page| page.verify(&log.id(&market()), &log.author))
        .map_or_else(|error| error, |_| panic!("{name} was accepted"));
    json!({
        "name": name,
        "author": log.author.to_string(),
        "incarnation": log.incarnation.to_string(),
        "lane": log.lane.0,
        "page": hex::encode(bytes),
        "code": code(error),
    })
}
