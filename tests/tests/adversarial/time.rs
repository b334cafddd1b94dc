//! D. Time that is wrong, jumps, or is said by those who have no say.

use stallmesh_protocol::checkpoint::Checkpoint;
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::{Kind, Lane};
use stallmesh_tests::simulation::Simulation;
use stallmesh_tests::simulation::export::exported_pages;

use super::{Turncoat, held, log_of};

const HOUR: u64 = 3_600_000;

#[test]
fn adv_068_timestamps_of_a_log_never_fall_however_its_clock_jumps() {
    let mut market = Simulation::market(930, 2);
    market.uplink(1, false);
    for (number, off) in [0, -(HOUR as i64), HOUR as i64, -(24 * HOUR as i64), 3 * HOUR as i64].into_iter().enumerate()
    {
        market.nodes[2].clock_error = off;
        market.sell(2, &format!("sale-{number}"));
        market.publish_at(2, number as u64);
        market.run_for(700);
        if number == 2 {
            market.kill(2);
            market.start(2);
        }
    }
    let id = market.nodes[2].id();
    let mut entries = market.entries(2, id);
    entries.sort_by_key(|entry| (entry.incarnation.clone(), entry.lane.clone(), entry.sequence));
    let mut falls = 0;
    for pair in entries.windows(2) {
        let same = pair[0].incarnation == pair[1].incarnation && pair[0].lane == pair[1].lane;
        falls += usize::from(same && pair[1].timestamp < pair[0].timestamp);
    }
    assert!(entries.len() > 12 && falls == 0, "{falls} of {} fall", entries.len());
    market.uplink(1, true);
    market.until("all are posted", 60_000, |market| market.settle(true).posted == 5);
}

#[test]
fn adv_069_a_device_that_slept_eight_hours_wakes_without_a_storm() {
    let mut market = Simulation::market(931, 4);
    market.run_for(5_000);
    market.pause(3);
    market.run_for(8 * HOUR);
    market.sell(2, "while it slept");
    let (closed, bytes) = (market.closed.len(), market.network.bytes);
    market.resume(3);
    market.until("it is linked again", 60_000, |market| market.status(3).peers.len() >= 3);
    market.run_for(60_000);
    market.sell(3, "awake");
    // Nobody blames anybody, and nobody dials without end.
    let after = &market.closed[closed..];
    assert!(after.iter().all(|end| !end.reason.starts_with("E_") || end.reason.starts_with("E_SILENT")), "{after:?}");
    assert!(after.len() <= 12, "{after:?}");
    let said = market.network.bytes - bytes;
    assert!(said < 2_000_000, "{said} bytes in the minute after");
    market.until("all are posted", 60_000, |market| market.settle(true).posted == 2);
}

#[test]
fn adv_073_only_a_hub_says_what_time_it_is() {
    let mut market = Simulation::market(932, 3);
    market.run_for(10_000);
    let hub = market.nodes[0].id();
    let pages = exported_pages(&market.export(1));
    let mut checkpoints = pages
        .iter()
        .filter(|(log, _)| (log.author, log.lane) == (hub, Lane::CHECKPOINT))
        .flat_map(|(_, page)| &page.entries);
    let newest = checkpoints.rfind(|entry| entry.kind == Kind::CHECKPOINT).unwrap();
    let mut false_one = Checkpoint::from_payload(newest.payload.bytes(Part::Public).unwrap()).unwrap();
    false_one.number += 1;
    false_one.epoch += 1;
    false_one.time += 10 * 365 * 24 * HOUR;
    // A member of the market, without the right to write any.
    let turncoat = Turncoat::of(&mut market, 2, 3);
    let (log, page) =
        log_of(&market, &turncoat.key, 40, Lane::CHECKPOINT, &[(Kind::CHECKPOINT, false_one.to_payload())]);
    turncoat.hands_on(&mut market, &log, &page);
    market.until("it is kept, as all that a member signs", 20_000, |market| held(market, 4, &log) == 2);
    market.run_for(5_000);
    let right = market.status(0).time;
    for at in [1, 3, 4] {
        assert!(market.status(at).time.abs_diff(right) < 60_000, "node {at} believes it");
        assert!(market.members(at).iter().all(|member| member.state == "valid"), "and finds nobody expired");
    }
}
