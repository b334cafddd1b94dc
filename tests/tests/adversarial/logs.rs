//! B. Logs: gaps, repetitions, forks, back-links, markets, numbers at the edge.

use stallmesh_node::link::{Channel, Road};
use stallmesh_protocol::checkpoint::Checkpoint;
use stallmesh_protocol::entry::{Entry, Part, Payload, sign_head};
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::page::Page;
use stallmesh_protocol::payload::{Product, Products, encode};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::{self, frame::Body};
use stallmesh_protocol::{Hash, Head, Incarnation, Kind, Lane, LogName, MarketId};
use stallmesh_tests::simulation::export::exported_pages;
use stallmesh_tests::simulation::{OPENING_MS, Simulation};

use super::{Turncoat, held, log_of, state};

fn products(name: &str) -> Vec<u8> {
    let product = Product { sku: "P1".into(), name: name.into(), price: 100, ..Product::default() };
    encode(&Products { products: vec![product], ..Default::default() })
}

/// A catalog log of 64 entries a page.
fn long_log(market: &Simulation, key: &DeviceKey, incarnation: u8, pages: usize) -> (LogName, Vec<Page>) {
    let log =
        LogName { author: key.id(), incarnation: Incarnation::from_bytes([incarnation; 16]), lane: Lane::CATALOG };
    let mut writer = LogWriter::open(&market.market_id(), log);
    let pages = (0..pages).map(|_| {
        let previous = writer.head();
        let mut page =
            Page { first: previous.sequence + 1, previous: previous.hash, entries: Vec::new(), signatures: Vec::new() };
        for _ in 0..64 {
            let first = writer.head().sequence == 0;
            let (kind, body) = if first { (Kind::OPENING, Vec::new()) } else { (Kind::PRODUCTS, products("A pot")) };
            let appended = writer.append(key, OPENING_MS + market.now, [0; 8], kind, Payload::public(body)).unwrap();
            page.entries.push(appended.entry);
        }
        page.signatures.push((writer.head().sequence, writer.sign(key)));
        page
    });
    (log, pages.collect())
}

#[test]
fn adv_021_nothing_after_a_gap_counts_and_what_is_missing_is_asked_for() {
    let mut market = Simulation::market(920, 3);
    let turncoat = Turncoat::of(&mut market, 2, 3);
    let (log, pages) = long_log(&market, &turncoat.key, 50, 3);
    for page in [&pages[2], &pages[1], &pages[2]] {
        turncoat.hands_on(&mut market, &log, page);
        market.run_for(300);
        assert_eq!(held(&mut market, 3, &log), 0, "applied out of order");
    }
    let asked = turncoat
        .heard(&market)
        .into_iter()
        .any(|body| matches!(body, Body::Want(want) if want.log == Some((&log).into()) && want.from == 1));
    assert!(asked, "what is missing is asked for: {:?}", turncoat.heard(&market));
    // Gaps of many logs take no room.
    let before = market.nodes[3].disk.contains(&[51; 16]);
    for incarnation in 51..60 {
        let (log, pages) = long_log(&market, &turncoat.key, incarnation, 2);
        turncoat.hands_on(&mut market, &log, &pages[1]);
    }
    market.run_for(1_000);
    assert!(!before && !market.nodes[3].disk.contains(&[51; 16]), "nothing of them is kept");
    for page in &pages {
        turncoat.hands_on(&mut market, &log, page);
    }
    market.until("all are there, everywhere", 20_000, |market| {
        [1, 3, 4].into_iter().all(|at| held(market, at, &log) == 192)
    });
    assert!(!turncoat.was_shown_out(&market));
}

#[test]
fn adv_023_the_same_page_a_thousand_times_changes_nothing() {
    let mut market = Simulation::market(921, 3);
    let turncoat = Turncoat::of(&mut market, 2, 3);
    let (log, page) = log_of(&market, &turncoat.key, 40, Lane::CATALOG, &[(Kind::PRODUCTS, products("Once"))]);
    turncoat.hands_on(&mut market, &log, &page);
    market.until("it is everywhere", 20_000, |market| [0, 1, 4].into_iter().all(|at| held(market, at, &log) == 2));
    market.run_for(10_000);
    let before = state(&mut market, &[0, 1, 3, 4]);
    let sent = market.network.bytes;
    for _ in 0..1_000 {
        turncoat.hands_on(&mut market, &log, &page);
    }
    market.run_for(5_000);
    assert_eq!(state(&mut market, &[0, 1, 3, 4]), before);
    assert!(!turncoat.was_shown_out(&market), "who repeats itself is no liar");
    let spread = market.network.bytes - sent - 1_000 * page.encode().len() as u64;
    assert!(spread < 400_000, "{spread} bytes were said about it");
}

#[test]
fn adv_026_two_histories_from_the_first_entry_on_quarantine_their_author() {
    let mut market = Simulation::market(922, 3);
    // A checkpoint names what it has published before.
    market.run_for(5_000);
    let one = Turncoat::of(&mut market, 2, 3);
    let left = log_of(&market, &one.key, 40, Lane::CATALOG, &[(Kind::PRODUCTS, products("Left"))]);
    market.run_for(10);
    let right = log_of(&market, &one.key, 40, Lane::CATALOG, &[(Kind::PRODUCTS, products("Right"))]);
    assert_ne!(left.1.entries[0], right.1.entries[0]);
    // Each neighbour is shown another one, while no checkpoint can name either.
    market.uplink(1, false);
    let link = market.puppet_dial(one.puppet, Road::Mesh, 4);
    market.puppet_opens_session(one.puppet, link, [6; 16]);
    one.hands_on(&mut market, &left.0, &left.1);
    market.puppet_sends_page(one.puppet, link, &right.0, &right.1, false);
    let id = one.key.id();
    let know = |market: &mut Simulation, nodes: &[usize]| {
        nodes.iter().all(|at| {
            let found = market.members(*at).into_iter().find(|member| member.device == id);
            found.is_some_and(|member| member.state == "quarantined" && member.alarms.contains(&"fork".to_owned()))
        })
    };
    market.until("all on the square know of it", 60_000, |market| know(market, &[1, 3, 4]));
    market.uplink(1, true);
    market.until("the hub knows of it", 60_000, |market| know(market, &[0]));
    let beliefs = market.until_agreed(&[0, 1, 3, 4], 120_000);
    assert!(beliefs.products.iter().all(|product| !["Left", "Right"].contains(&product.name.as_str())));
    assert!(
        beliefs.products.iter().any(|product| product.stall == "stall-1"),
        "its other logs stand as a checkpoint named them"
    );
}

#[test]
fn adv_027_a_back_link_to_nothing_to_anothers_or_to_itself_leads_nowhere() {
    let mut market = Simulation::market(923, 3);
    let turncoat = Turncoat::of(&mut market, 2, 3);
    let before = state(&mut market, &[1, 3, 4]);
    let market_id = market.market_id();
    let log =
        LogName { author: turncoat.key.id(), incarnation: Incarnation::from_bytes([40; 16]), lane: Lane::CATALOG };
    let id = log.id(&market_id);
    let others_head = market.status(3).heads.iter().find(|head| head.lane == "catalog").unwrap().hash.clone();
    let others_head: [u8; 32] = hex::decode(others_head).unwrap().try_into().unwrap();
    let entry = Entry {
        timestamp: OPENING_MS,
        seen: [0; 8],
        kind: Kind::PRODUCTS,
        payload: Payload::public(products("From nowhere")),
    };
    for previous in [Hash::from_bytes([7; 32]), Hash::from_bytes(others_head)] {
        // Signed by its author, after something that isn't there.
        let hash = entry.header().hash(&id, 2, &previous);
        let signature = sign_head(&turncoat.key, &id, &Head { sequence: 2, hash });
        let page = Page { first: 2, previous, entries: vec![entry.clone()], signatures: vec![(2, signature)] };
        turncoat.hands_on(&mut market, &log, &page);
        market.run_for(1_000);
        assert_eq!(held(&mut market, 3, &log), 0);
        // And not even signed: as a page of a log that is there.
        let honest = LogName { author: market.nodes[4].id(), ..log };
        assert!(page.verify(&honest.id(&market_id), &honest.author).is_err(), "a log has one author");
    }
    assert_eq!(state(&mut market, &[1, 3, 4]), before);
    // The only back-link that a page says is the distance to a key entry: it is at least 1, and stays within the log.
    let mut keyed = entry.clone();
    keyed.payload.key = Some(1);
    let page = Page { first: 2, previous: Hash::from_bytes([7; 32]), entries: vec![keyed], signatures: Vec::new() };
    let bytes = page.encode();
    // Version, first, hash, count, timestamp (six bytes), kind, flags, and then the distance.
    let at = 1 + 1 + 32 + 1 + 6 + 1 + 1;
    assert_eq!((bytes[at - 1] & 2, bytes[at]), (2, 1));
    for distance in [0, 2, 3, 0x7f] {
        let mut other = bytes.clone();
        other[at] = distance;
        let error = Page::decode(&other).unwrap_err().to_string();
        assert!(error.starts_with("E_DECODE"), "{distance}: {error}");
    }
}

#[test]
fn adv_030_nothing_of_another_season_holds_in_this_one() {
    let root = DeviceKey::from_seed(&[1; 32]);
    let (yesterday, today) = (MarketId::new(&root.id(), 1), MarketId::new(&root.id(), 2));
    let author = DeviceKey::from_seed(&[2; 32]);
    let name = LogName { author: author.id(), incarnation: Incarnation::from_bytes([3; 16]), lane: Lane::SALES };
    let mut writer = LogWriter::open(&yesterday, name);
    let appended = writer.append(&author, 1_000, [0; 8], Kind::OPENING, Payload::default()).unwrap();
    let signatures = vec![(1, writer.sign(&author))];
    let page = Page { first: 1, previous: Hash::ZERO, entries: vec![appended.entry], signatures };
    assert!(page.clone().verify(&name.id(&yesterday), &name.author).is_ok());
    let error = page.verify(&name.id(&today), &name.author).unwrap_err().to_string();
    assert!(error.starts_with("E_SIG"), "{error}");
    let word = stallmesh_protocol::acknowledgement::Acknowledgement::sign(&author, &yesterday, name, Vec::new(), 5);
    assert!(word.verify(&yesterday).is_ok() && word.verify(&today).is_err());
}

#[test]
fn adv_036_a_sequence_at_the_end_of_all_numbers_is_no_jump_and_no_overflow() {
    let mut market = Simulation::market(924, 3);
    let turncoat = Turncoat::of(&mut market, 2, 3);
    let before = state(&mut market, &[1, 3, 4]);
    let log =
        LogName { author: turncoat.key.id(), incarnation: Incarnation::from_bytes([40; 16]), lane: Lane::CATALOG };
    let id = log.id(&market.market_id());
    let entry =
        Entry { timestamp: u64::MAX, seen: [0; 8], kind: Kind::PRODUCTS, payload: Payload::public(products("Last")) };
    let previous = Hash::from_bytes([7; 32]);
    for sequence in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let hash = entry.header().hash(&id, sequence, &previous);
        let signature = sign_head(&turncoat.key, &id, &Head { sequence, hash });
        let page =
            Page { first: sequence, previous, entries: vec![entry.clone()], signatures: vec![(sequence, signature)] };
        // One that ends at the very last number can't be written at all.
        if sequence < u64::MAX {
            assert!(Page::decode(&page.encode()).is_ok());
            turncoat.hands_on(&mut market, &log, &page);
        }
        let name = Some(wire::LogName::from(&log));
        let real = market.status(4).heads.into_iter().find(|head| head.lane == "catalog").unwrap();
        let real = wire::LogName {
            author: hex::decode(real.author).unwrap(),
            incarnation: hex::decode(real.incarnation).unwrap(),
            lane: Lane::CATALOG.0,
        };
        for log in [name, Some(real)] {
            let have = wire::HaveLog { log: log.clone(), sequence, prefix: vec![1; 2] };
            turncoat.says(&mut market, Body::Have(wire::Have { logs: vec![have] }));
            turncoat.says(
                &mut market,
                Body::Want(wire::Want { request: u64::MAX, log: log.clone(), from: sequence, to: u64::MAX }),
            );
            let target = market.nodes[3].id().as_bytes().to_vec();
            let own = log.clone().map(|log| wire::LogName { author: target, lane: Lane::SALES.0, ..log });
            for log in [log, own] {
                // Two that end at one number, and one that holds all numbers.
                let interval = |from: u64, hash: u8| wire::Interval { from, to: sequence, hash: vec![hash; 32] };
                let intervals = vec![interval(sequence, 1), interval(sequence, 2), interval(1, 3)];
                let logs = vec![wire::LogIntervals { log, intervals }];
                turncoat.says(&mut market, Body::Offer(wire::Offer { logs: logs.clone() }));
                turncoat.says(&mut market, Body::Custody(wire::Custody { logs }));
            }
        }
        turncoat.says(&mut market, Body::Done(wire::Done { request: u64::MAX, sequence }));
        market.run_for(5_000);
        assert_eq!(held(&mut market, 3, &log), 0);
    }
    assert_eq!(state(&mut market, &[1, 3, 4]), before);
    market.publish_at(4, 77);
    market.until("what is true still spreads", 30_000, |market| {
        market.products(3, Some("stall-3")).iter().any(|product| product.price == 277)
    });
}

#[test]
fn adv_038_whoever_shows_only_the_beginning_hides_the_rest_from_nobody_who_meets_another() {
    let mut market = Simulation::market(925, 4);
    market.partition(&[&[1, 2, 3, 4], &[5]]);
    for cents in 0..20 {
        market.publish_at(2, cents);
        market.run_for(200);
    }
    let author = market.nodes[2].id();
    // Node 3 gives the first page of anything, and says that there is no more.
    market.tamper_messages(3, move |body| match body {
        Body::Page(page)
            if page.log.as_ref().is_some_and(|log| log.lane == Lane::CATALOG.0 && log.author == author.as_bytes()) =>
        {
            vec![Body::Done(wire::Done { request: page.request, sequence: 1 })]
        }
        Body::Have(_) => Vec::new(),
        body => vec![body],
    });
    let newest =
        |market: &mut Simulation| market.products(5, Some("stall-1")).iter().any(|product| product.price == 219);
    market.kill(2);
    market.partition(&[&[3, 5], &[1, 4]]);
    market.run_for(20_000);
    assert!(!newest(&mut market), "the liar was all it knew");
    market.heal();
    market.until("another one has the rest", 60_000, newest);
}

#[test]
fn adv_039_a_hub_that_tells_two_stories_is_found_out_by_whoever_has_heard_both() {
    let mut market = Simulation::market(926, 3);
    market.run_for(10_000);
    let hub = market.nodes[0].id();
    let pages = exported_pages(&market.export(1));
    let mut newest = pages
        .iter()
        .filter(|(log, _)| (log.author, log.lane) == (hub, Lane::CHECKPOINT))
        .flat_map(|(_, page)| &page.entries);
    let newest = newest.rfind(|entry| entry.kind == Kind::CHECKPOINT).unwrap();
    let mut other = Checkpoint::from_payload(newest.payload.bytes(Part::Public).unwrap()).unwrap();
    // The same number; another tree.
    other.root = Hash::from_bytes([9; 32]);
    let turncoat = Turncoat::of(&mut market, 0, 3);
    let (log, page) = log_of(&market, &turncoat.key, 40, Lane::CHECKPOINT, &[(Kind::CHECKPOINT, other.to_payload())]);
    turncoat.hands_on(&mut market, &log, &page);
    market.until("all say so", 30_000, |market| {
        [1, 2, 3, 4].into_iter().all(|at| market.status(at).notices.iter().any(|notice| notice.contains("two stories")))
    });
    // The alarm is the hub's alone: everybody goes on.
    market.sell(2, "all the same");
    turncoat.sends(&mut market, Channel::Live, &[]);
    assert!(!turncoat.was_shown_out(&market));
}
