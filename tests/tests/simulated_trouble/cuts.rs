//! Links that die at the moment at which a new entry sets out: when it is everywhere all the same.
//!
//! Nobody is told of the cut; a link that is silent ends much later. Time is virtual, so these are counts, not timings.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_node::engine::Notice;
use stallmesh_protocol::replica::Limits;
use stallmesh_tests::simulation::{Conditions, Simulation};

const STALLS: usize = 24;
/// The gateway and all stalls: who has catalogs and reaches the others over the market's own network.
const NODES: std::ops::RangeInclusive<usize> = 1..=1 + STALLS;
/// One way between two nodes, in milliseconds.
const LATENCY_MS: u64 = 20;
const ROUND_TRIP_MS: u64 = 2 * LATENCY_MS;
/// Entries that set out in each market.
const TURNS: usize = 12;

/// From whom to whom.
type Edge = (usize, usize);

/// What became of an entry.
struct Spread {
    /// Milliseconds until the last node had it.
    last_ms: u64,
    /// Along which links it came.
    tree: Vec<Edge>,
}

/// Publishes something new at a node, with links that die at that moment.
fn publish(market: &mut Simulation, author: usize, price: u64, cut: &[Edge]) -> Spread {
    market.notices.clear();
    market.carried = Some(Vec::new());
    for (one, other) in cut.iter().copied() {
        market.network.silence(market.now, one, other);
        market.network.silence(market.now, other, one);
    }
    let begun = market.now;
    market.publish_at(author, price);
    let mut came = BTreeMap::from([(author, 0)]);
    while came.len() < STALLS + 1 {
        market.run_for(1);
        let now = market.now - begun;
        assert!(now < 10_000, "{cut:?}: it came to {came:?} alone");
        for (node, notice) in std::mem::take(&mut market.notices) {
            if notice == Notice::Catalog && NODES.contains(&node) {
                came.entry(node).or_insert(now);
            }
        }
    }
    let sent = market.carried.take().unwrap_or_default();
    // Of the pages that went to a node the first that could come brought it.
    let mut brought = BTreeMap::new();
    for frame in sent.iter().filter(|frame| frame.kind == "page" && NODES.contains(&frame.to)) {
        if !cut.contains(&(frame.from, frame.to)) && !cut.contains(&(frame.to, frame.from)) {
            brought.entry(frame.to).or_insert(frame.from);
        }
    }
    brought.remove(&author);
    for (one, other) in cut.iter().copied() {
        market.network.unsilence(market.now, one, other);
        market.network.unsilence(market.now, other, one);
    }
    // All that is still said of it is said, and trees are as they will be.
    market.run_for(2_000);
    let tree = brought.into_iter().map(|(to, from)| (from, to)).collect();
    Spread { last_ms: came.into_values().max().unwrap_or(0), tree }
}

/// Who gets an entry through a link of its tree.
fn behind(tree: &[Edge], link: Edge) -> BTreeSet<usize> {
    let mut behind = BTreeSet::from([link.1]);
    loop {
        let next: Vec<usize> = tree.iter().filter(|(from, _)| behind.contains(from)).map(|(_, to)| *to).collect();
        let before = behind.len();
        behind.extend(next);
        if behind.len() == before {
            return behind;
        }
    }
}

fn neighbours(market: &mut Simulation, node: usize) -> BTreeSet<usize> {
    let peers: BTreeSet<String> = market.status(node).peers.into_iter().map(|peer| peer.device).collect();
    NODES.filter(|other| peers.contains(&market.nodes[*other].id().to_string())).collect()
}

/// Whether whoever is behind one of two cut links has neighbours only behind the other: it must be repaired there first.
fn on_one_path(market: &mut Simulation, tree: &[Edge], cut: [Edge; 2]) -> bool {
    let lost = cut.map(|link| behind(tree, link));
    if lost[0].is_subset(&lost[1]) || lost[1].is_subset(&lost[0]) {
        return true;
    }
    let is_cut = |one, other| cut.contains(&(one, other)) || cut.contains(&(other, one));
    lost.iter().any(|nodes| {
        !nodes.iter().any(|node| {
            let reached = neighbours(market, *node);
            reached.iter().any(|other| !lost.iter().any(|lost| lost.contains(other)) && !is_cut(*node, *other))
        })
    })
}

#[test]
#[allow(clippy::print_stdout)]
fn a_new_entry_is_at_25_nodes_within_one_note_one_repair_timer_and_two_round_trips_though_two_links_die_under_it() {
    let limits = Limits::default();
    let (mut apart, mut path, mut uncut) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 0..6_usize {
        let mut market = Simulation::market(900 + seed as u64, STALLS);
        market.network.usual = Conditions { latency_ms: LATENCY_MS, jitter_ms: 0, loss_percent: 0, rate: None };
        market.run_for(60_000);
        let author = 2 + seed;
        let mut price = 1_000;
        let mut whole = |market: &mut Simulation, cut: &[Edge]| {
            price += 1;
            publish(market, author, price, cut)
        };
        // The tree takes shape.
        (0..3).for_each(|_| drop(whole(&mut market, &[])));
        for turn in 0..TURNS {
            let Spread { tree, last_ms } = whole(&mut market, &[]);
            uncut.push(last_ms);
            // Any two links along which the last one went; in every third turn one that leads on to the other, if there is.
            let one = tree[(turn * 7 + seed) % tree.len()];
            let below = tree.iter().copied().find(|(from, _)| *from == one.1).filter(|_| turn % 3 == 2);
            let other = below.unwrap_or(tree[(turn * 5 + 3) % tree.len()]);
            if one == other {
                continue;
            }
            let together = on_one_path(&mut market, &tree, [one, other]);
            let last = whole(&mut market, &[one, other]).last_ms;
            if together {
                path.push(last)
            } else {
                apart.push(last)
            };
            // The tree heals along other links.
            whole(&mut market, &[]);
        }
    }
    for all in [&mut uncut, &mut apart, &mut path] {
        all.sort_unstable();
    }
    println!("without a cut: {uncut:?}\ntwo links: {apart:?}\ntwo on one path: {path:?}");
    assert!(apart.len() >= 40 && path.len() >= 8, "{} and {}", apart.len(), path.len());
    let bound = limits.have_ms + limits.repair_ms + 2 * ROUND_TRIP_MS;
    // Since it was published, not since it would have been there: only a rare one goes one way more between neighbours.
    let late = apart.iter().filter(|last| **last > bound).count();
    assert!(late * 20 <= apart.len(), "{late} later than {bound}: {apart:?}");
    assert!(apart.iter().all(|last| *last <= bound + ROUND_TRIP_MS), "{apart:?}");
    // One after the other.
    assert!(path.iter().all(|last| *last <= 2 * bound), "{path:?}: more than 2 × {bound}");
}
