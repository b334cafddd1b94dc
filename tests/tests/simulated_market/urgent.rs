//! The newest sale overtakes all that waits.

use std::cell::RefCell;
use std::rc::Rc;

use stallmesh_protocol::page::Page;
use stallmesh_protocol::wire::frame::Body;
use stallmesh_tests::simulation::Simulation;

/// What passed of sealed entries, in order: who sent it, and up to which sequence of the device's sales.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Passed {
    Page { by: usize, from: u64, to: u64 },
    Acknowledged { by: usize, to: u64 },
}

fn watch(market: &mut Simulation, nodes: &[usize]) -> Rc<RefCell<Vec<Passed>>> {
    let passed = Rc::new(RefCell::new(Vec::new()));
    for by in nodes.iter().copied() {
        let log = Rc::clone(&passed);
        market.tamper_messages(by, move |body| {
            match &body {
                Body::Page(page) if page.custody => {
                    let page = Page::decode(&page.page).unwrap();
                    log.borrow_mut().push(Passed::Page { by, from: page.first, to: page.last() });
                }
                Body::Acknowledgement(acknowledgement) => {
                    let to = acknowledgement.intervals.iter().map(|interval| interval.to).max().unwrap_or(0);
                    log.borrow_mut().push(Passed::Acknowledged { by, to });
                }
                _ => {}
            }
            vec![body]
        });
    }
    passed
}

/// The first page of entries (not of a key alone) that a node sent after a place in what passed.
fn first_page(passed: &[Passed], by: usize) -> Option<(u64, u64)> {
    passed.iter().find_map(|passed| match passed {
        Passed::Page { by: sender, from, to } if *sender == by && *to > 2 => Some((*from, *to)),
        _ => None,
    })
}

fn first_acknowledgement(passed: &[Passed], by: usize, after: u64) -> Option<u64> {
    passed.iter().find_map(|passed| match passed {
        Passed::Acknowledged { by: sender, to } if *sender == by && *to >= after => Some(*to),
        _ => None,
    })
}

#[test]
fn a_sale_of_a_device_that_never_comes_back_reaches_the_hub_in_one_round_trip_though_5000_older_ones_wait() {
    let mut market = Simulation::market(20, 2);
    // Or older ones that left later, on another stream, could be there a few milliseconds before it.
    market.network.usual.jitter_ms = 0;
    market.partition(&[&[2], &[1, 3]]);
    for number in 0..5_000 {
        market.sell(2, &format!("older-{number}"));
    }
    market.sell(2, "the last one");
    // An opening and a key come first.
    let newest = 5_003;
    let passed = watch(&mut market, &[0, 1, 2]);
    market.heal();
    market.until("a neighbour has the last one", 10_000, |market| market.status(2).sales.copied > 0);
    market.kill(2);
    let all = passed.borrow().clone();
    assert_eq!(first_page(&all, 2).map(|page| page.1), Some(newest), "the first page has the newest sale");
    assert_eq!(first_page(&all, 1).map(|page| page.1), Some(newest), "also on its way to the hub");
    let place = all.iter().position(|passed| matches!(passed, Passed::Page { by: 1, to, .. } if *to == newest));
    market.until("the hub has said that it has it", 10_000, |_| {
        first_acknowledgement(&passed.borrow()[place.unwrap_or(0)..], 0, newest).is_some()
    });
    // One page there, one word back: after its word on the key, which went ahead, the hub's next word names it.
    let after = passed.borrow()[place.unwrap()..].to_vec();
    let words: Vec<u64> = after
        .iter()
        .filter_map(|passed| match passed {
            Passed::Acknowledged { by: 0, to } if *to > 2 => Some(*to),
            _ => None,
        })
        .collect();
    assert_eq!(words.first(), Some(&newest), "{words:?}");
}

#[test]
fn a_new_sale_overtakes_5000_that_are_on_their_way() {
    let mut market = Simulation::market(21, 2);
    market.partition(&[&[2], &[1, 3]]);
    for number in 0..5_000 {
        market.sell(2, &format!("older-{number}"));
    }
    let passed = watch(&mut market, &[0, 1, 2]);
    market.uplink(2, true);
    market.until("they are on their way", 10_000, |_| {
        passed.borrow().iter().any(|passed| matches!(passed, Passed::Page { by: 2, .. }))
    });
    let place = passed.borrow().len();
    market.sell(2, "a new one");
    let newest = 5_003;
    let after = passed.borrow()[place..].to_vec();
    assert_eq!(first_page(&after, 2), Some((newest, newest)), "it leaves at once, alone: {after:?}");
    market.until("the hub has said that it has it", 10_000, |_| {
        first_acknowledgement(&passed.borrow()[place..], 0, newest).is_some()
    });
    market.until("the rest follows", 60_000, |market| market.settle(true).posted == 5_001);
}
