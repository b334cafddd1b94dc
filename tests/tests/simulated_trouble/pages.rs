//! Pages that were altered on their way, as a session sees them.

use stallmesh_node::link::Road;
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::page::Page;
use stallmesh_protocol::payload::{self, Product, Products};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::{self, frame::Body};
use stallmesh_protocol::{Incarnation, Kind, Lane, LogName};
use stallmesh_tests::simulation::hostile::encode;
use stallmesh_tests::simulation::{OPENING_MS, Simulation};

/// Two pages of 64 entries of one catalog log.
fn two_pages(market: &Simulation, key: &DeviceKey) -> (LogName, [Page; 2]) {
    let log = LogName { author: key.id(), incarnation: Incarnation::from_bytes([5; 16]), lane: Lane::CATALOG };
    let mut writer = LogWriter::open(&market.market_id(), log);
    let pages = [1, 65].map(|first| {
        let previous = writer.head().hash;
        let mut page = Page { first, previous, entries: Vec::new(), signatures: Vec::new() };
        for sequence in first..first + 64 {
            let (kind, bytes) = if sequence == 1 { (Kind::OPENING, Vec::new()) } else { product(sequence) };
            let body = stallmesh_protocol::entry::Payload::public(bytes);
            let appended = writer.append(key, OPENING_MS + market.now + sequence, [0; 8], kind, body).unwrap();
            page.entries.push(appended.entry);
        }
        page.signatures.push((first + 63, writer.sign(key)));
        page
    });
    (log, pages)
}

fn product(sequence: u64) -> (Kind, Vec<u8>) {
    let product = Product { sku: format!("S{sequence}"), name: "A pot".into(), price: sequence, ..Product::default() };
    (Kind::PRODUCTS, payload::encode(&Products { products: vec![product], ..Default::default() }))
}

/// Every seventeenth byte flipped, and entries dropped, swapped, added, or put in another's place.
fn alterations(page: &Page) -> Vec<Vec<u8>> {
    let bytes = page.encode();
    let mut altered: Vec<Vec<u8>> = (0..bytes.len())
        .step_by(17)
        .chain(bytes.len() - 70..bytes.len())
        .map(|at| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        })
        .collect();
    for at in [0, 1, 31, 63] {
        let mut dropped = page.clone();
        dropped.entries.remove(at);
        let mut added = page.clone();
        added.entries.insert(at, page.entries[(at + 7) % 64].clone());
        let mut replaced = page.clone();
        replaced.entries[at] = page.entries[(at + 9) % 64].clone();
        let mut swapped = page.clone();
        swapped.entries.swap(at, (at + 1) % 64);
        altered.extend([dropped, added, replaced, swapped].map(|page| page.encode()));
    }
    let mut moved = page.clone();
    moved.first += 1;
    let mut earlier = page.clone();
    earlier.first -= 1;
    let mut longer = bytes.clone();
    longer.push(0);
    altered.extend([moved.encode(), earlier.encode(), longer, bytes[..bytes.len() - 1].to_vec(), Vec::new()]);
    altered
}

#[test]
fn an_altered_page_is_refused_whole_its_sender_named_and_the_true_one_taken_from_another() {
    let mut market = Simulation::market(100, 3);
    market.uplink(1, false);
    // The author is gone; two other members hand its pages on to node 4, and one of them lies.
    let [author, liar, honest] = [2, 3, 1].map(|index| market.nodes[index].identity.clone());
    [0, 1, 2, 3].into_iter().for_each(|index| market.kill(index));
    let (log, [first, second]) = two_pages(&market, &author.device);
    let (liar, honest) = (market.add_puppet(liar), market.add_puppet(honest));
    let held = |market: &mut Simulation| {
        let incarnation = log.incarnation.to_string();
        let entries = market.entries(4, log.author).into_iter();
        entries.filter(|entry| entry.incarnation == incarnation).count()
    };
    let mut link = market.puppet_dial(liar, Road::Mesh, 4);
    market.puppet_opens_session(liar, link, [1; 16]);
    market.puppet_sends_page(liar, link, &log, &first, false);
    market.until("the first page is there", 5_000, |market| held(market) == 64);
    let liar_id = market.nodes[liar].id();
    for (number, bytes) in alterations(&second).into_iter().enumerate() {
        let closed = market.closed.len();
        let page = wire::Page { request: 0, log: Some((&log).into()), page: bytes, custody: false, unpacked: 0 };
        market.puppet_send(liar, link, stallmesh_node::link::Channel::Live, encode(Body::Page(page)));
        market.until("the sender's link ends", 5_000, |market| market.is_down(liar, link));
        let named = market.closed[closed..].iter().any(|closed| {
            (closed.by, closed.peer) == (4, liar_id) && closed.reason.starts_with("a page that doesn't hold")
        });
        assert!(named, "alteration {number}: {:?}", &market.closed[closed..]);
        assert_eq!(held(&mut market), 64, "alteration {number}: nothing of it was taken, and nothing was lost");
        link = market.puppet_dial(liar, Road::Mesh, 4);
        market.puppet_opens_session(liar, link, [1; 16]);
    }
    let link = market.puppet_dial(honest, Road::Mesh, 4);
    market.puppet_opens_session(honest, link, [2; 16]);
    market.puppet_sends_page(honest, link, &log, &second, false);
    market.until("the true page is there", 5_000, |market| held(market) == 128);
    assert!(!market.is_down(honest, link), "its sender is no liar");
}

/// Somebody who breaks the protocol on every link costs its neighbours a link now and then, not four a second.
#[test]
fn whoever_breaks_the_protocol_is_not_dialled_again_at_once() {
    let mut market = Simulation::market(61, 3);
    let rude = market.nodes[3].id();
    market.tamper_messages(3, |body| match body {
        Body::Hello(_) => vec![body.clone(), body],
        body => vec![body],
    });
    // Its links begin anew.
    market.partition(&[&[1, 2, 4], &[3]]);
    market.heal();
    let before = market.closed.len();
    market.run_for(120_000);
    let ended = market.closed[before..].iter().filter(|end| end.peer == rude && end.reason.contains("second hello"));
    let ended = ended.count();
    // Each of three neighbours tries five times, and it dials each nine times, at waits that double.
    assert!((3..=42).contains(&ended), "{ended} links ended in two minutes");
    market.reform(3);
    market.until("it is taken back once it keeps to the rules", 60_000, |market| market.status(3).peers.len() == 3);
}
