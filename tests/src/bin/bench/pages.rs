//! Verifying what peers send: one signature for a run of entries, against one for each.

use std::time::Duration;

use stallmesh_protocol::entry::{Payload, sign_head, verify_head};
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::page::{ENTRIES_MAX, Page};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Kind, Lane, LogName, MarketId};

use crate::Options;
use crate::figures::{Report, Row, Sample, Target};
use crate::machine::thread_time;

/// Bytes of payload in an entry, about those of a sale.
const PAYLOAD: usize = 250;
/// Entries to verify in a second on one core.
const TARGET: f64 = 300_000.0;

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let (entries, repetitions) = if options.quick { (2_000, 2) } else { (100_000, 11) };
    let market = MarketId::new(&DeviceId::from_bytes([1; 32]), 1);
    let key = DeviceKey::from_seed(&[7; 32]);
    let name = LogName { author: key.id(), incarnation: Incarnation::from_bytes([2; 16]), lane: Lane::CATALOG };
    let log = name.id(&market);

    for bytes in [PAYLOAD, 60] {
        let pages = write(&market, &key, name, entries, bytes);
        let mut took = Sample::default();
        let mut decoding = Sample::default();
        let mut signatures = Sample::default();
        let head = Head { sequence: 1, hash: Hash::from_bytes([9; 32]) };
        let signature = sign_head(&key, &log, &head);
        for _ in 0..repetitions {
            let start = thread_time();
            let decoded: Vec<Page> = pages.iter().map(|page| Page::decode(page).expect("a page")).collect();
            let decode = thread_time() - start;
            for page in decoded {
                let verified = page.verify(&log, &key.id()).expect("a page that holds");
                assert!(verified.head().sequence > 0);
            }
            took.add(per_second(entries, thread_time() - start));
            decoding.add(per_second(entries, decode));

            // A signature for each entry, of fewer of them: a hundred thousand would take ten seconds.
            let few = if options.quick { 20 } else { 2_000 };
            let start = thread_time();
            (0..few).for_each(|_| verify_head(&key.id(), &log, &head, &signature).expect("a signature that holds"));
            signatures.add(per_second(few, thread_time() - start));
        }
        report.row(
            Row::median(format!("{entries} entries of {bytes} B as pages, a core"), &took, "entries/s")
                .beside("a signature each", signatures.median())
                .target(Target::AtLeast(TARGET)),
        );
        report.row(Row::median("  of which decoding alone", &decoding, "entries/s"));
    }
}

fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-6)
}

/// A log in pages as large as they may be.
fn write(market: &MarketId, key: &DeviceKey, name: LogName, entries: usize, bytes: usize) -> Vec<Vec<u8>> {
    let mut writer = LogWriter::open(market, name);
    let mut pages = Vec::new();
    while (writer.head().sequence as usize) < entries {
        let first = writer.head().sequence + 1;
        let mut page = Page { first, previous: writer.head().hash, entries: Vec::new(), signatures: Vec::new() };
        let room = (ENTRIES_MAX).min(entries - first as usize + 1).min(256 * 1024 / (bytes + 20));
        // Pages end at signed entries; those at multiples of 64 are signed by themselves.
        let room = if room > 64 { room / 64 * 64 } else { room };
        for number in 0..room {
            let payload = Payload::public(vec![number as u8; bytes]);
            let appended = writer.append(key, 1_760_000_000_000, [0; 8], Kind::PRODUCTS, payload).expect("an entry");
            if let Some(signature) = appended.signature {
                page.signatures.push((appended.head.sequence, signature));
            }
            page.entries.push(appended.entry);
        }
        let last = writer.head().sequence;
        if page.signatures.last().is_none_or(|(sequence, _)| *sequence != last) {
            page.signatures.push((last, writer.sign(key)));
        }
        pages.push(page.encode());
    }
    pages
}
