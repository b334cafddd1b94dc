//! A market of any size in the simulator: what a day costs, and how that grows with the number of devices.
//!
//! Whole engines on disks in memory, in one thread. Signatures are checked once, not once a node, for all nodes are in one
//! process; everything else each node does itself.

use std::collections::BTreeMap;
use std::time::Duration;

use stallmesh_node::engine::{Answer, Request, Settings};
use stallmesh_node::store::{Direction, Store, Table};
use stallmesh_protocol::sign::shared;

use crate::simulation::Simulation;

/// How a market is, and what happens in it.
#[derive(Clone, Copy, Debug)]
pub struct Market {
    /// Devices, without the hub.
    pub devices: usize,
    /// Sales of each, through the day.
    pub sales: usize,
    /// How long the day is, in simulated milliseconds.
    pub day_ms: u64,
    /// One of so many devices has a way to the hub.
    pub uplink_of: usize,
    /// Simulated milliseconds between checkpoints.
    pub checkpoint_every_ms: u64,
    /// What it is drawn from.
    pub seed: u64,
}

impl Market {
    /// So many devices, and a day of eight hours with a hundred sales each.
    pub fn of(devices: usize) -> Self {
        Market {
            devices,
            sales: 100,
            day_ms: 8 * 3_600_000,
            uplink_of: 10,
            checkpoint_every_ms: 60_000,
            seed: devices as u64,
        }
    }
}

/// What a part of a run took.
#[derive(Clone, Debug, Default)]
pub struct Phase {
    /// Processor time of this thread.
    pub cpu: Duration,
    /// Things that happened.
    pub events: u64,
    /// Bytes that all nodes sent.
    pub bytes: u64,
    /// Frames and bytes by kind.
    pub traffic: BTreeMap<&'static str, (u64, u64)>,
    /// Entries that came to disks of others than their authors.
    pub delivered: u64,
    /// Bytes of those.
    pub delivered_bytes: u64,
    /// Simulated milliseconds.
    pub span_ms: u64,
}

impl Phase {
    /// Bytes that were sent for each delivered entry beside the entry itself.
    pub fn overhead(&self) -> f64 {
        (self.bytes as f64 - self.delivered_bytes as f64) / (self.delivered as f64).max(1.0)
    }
}

/// What a market took.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// From the first device to the last one that has every catalog.
    pub opening: Phase,
    /// From the first sale until the hub has them all.
    pub day: Phase,
    /// Sales that the hub has posted.
    pub posted: u64,
}

/// Runs it.
///
/// # Panics
/// Somebody doesn't become a member, or a sale doesn't reach the hub, within a time that is ample.
pub fn run(market: &Market, mut tell: impl FnMut(&str)) -> Figures {
    shared::share_checks(true);
    let mut simulation = Simulation::new(market.seed);
    simulation.witness.look_away();
    simulation.kill(0);
    simulation.nodes[0].settings.checkpoint_every_ms = market.checkpoint_every_ms;
    simulation.start(0);
    let mut figures = Figures::default();

    let from = Mark::set(&simulation);
    let hour = 3_600_000;
    let mut known = 1;
    while simulation.nodes.len() <= market.devices {
        // They come by and by: a twentieth of them at a time.
        for _ in 0..(market.devices / 20).max(5).min(market.devices + 1 - simulation.nodes.len()) {
            let index = simulation.add_idle(Settings::default());
            simulation.start(index);
            if (index - 1).is_multiple_of(market.uplink_of) {
                simulation.uplink(index, true);
            }
            simulation.invite(index, &format!("stall-{index}"));
        }
        let last = simulation.nodes.len();
        simulation.until("everybody joins", hour, |simulation| {
            while known < last && simulation.status(known).role != "none" {
                simulation.publish(known);
                known += 1;
            }
            known == last
        });
        tell(&format!("{} members after {:.1} s", last - 1, from.since(&simulation).cpu.as_secs_f64()));
    }
    let mut complete = 1;
    simulation.until("everybody has every catalog", hour, |simulation| {
        while complete <= market.devices && catalogs(simulation, complete) == market.devices {
            complete += 1;
        }
        complete > market.devices
    });
    figures.opening = from.since(&simulation);
    let opened = Held::on(&simulation);
    (figures.opening.delivered, figures.opening.delivered_bytes) = opened.delivered();
    tell(&format!("open after {:.1} s", figures.opening.cpu.as_secs_f64()));

    let from = Mark::set(&simulation);
    let begun = simulation.now;
    let all = market.devices * market.sales;
    for sale in 0..all {
        let at = begun + sale as u64 * market.day_ms / all as u64;
        let wait = at.saturating_sub(simulation.now);
        simulation.run_for(wait);
        let device = 1 + sale % market.devices;
        simulation.sell(device, &format!("sale-{sale}"));
        if sale % (all / 10).max(1) == 0 {
            tell(&format!("{sale} sales after {:.1} s", from.since(&simulation).cpu.as_secs_f64()));
        }
    }
    let mut device = 1;
    simulation.until("the hub has every sale", hour, |simulation| {
        while device <= market.devices && simulation.status(device).sales.at_the_hub >= market.sales {
            device += 1;
        }
        device > market.devices
    });
    figures.day = from.since(&simulation);
    let held = Held::on(&simulation).delivered();
    let opened = opened.delivered();
    (figures.day.delivered, figures.day.delivered_bytes) = (held.0 - opened.0, held.1 - opened.1);
    figures.posted = simulation.settle(true).posted as u64;
    shared::share_checks(false);
    figures
}

fn catalogs(simulation: &mut Simulation, device: usize) -> usize {
    match simulation.ask(device, Request::CatalogCounts) {
        Answer::CatalogCounts(counts) => counts.len(),
        _ => 0,
    }
}

/// A moment.
struct Mark {
    cpu: Duration,
    events: u64,
    bytes: u64,
    now: u64,
    traffic: BTreeMap<&'static str, (u64, u64)>,
}

impl Mark {
    fn set(simulation: &Simulation) -> Self {
        let mut traffic: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
        for ((_, kind), (frames, bytes)) in &simulation.traffic {
            let sum = traffic.entry(kind).or_default();
            *sum = (sum.0 + frames, sum.1 + bytes);
        }
        Mark {
            cpu: thread_time(),
            events: simulation.steps(),
            bytes: simulation.network.bytes,
            now: simulation.now,
            traffic,
        }
    }

    fn since(&self, simulation: &Simulation) -> Phase {
        let now = Mark::set(simulation);
        let mut traffic = now.traffic;
        for (kind, (frames, bytes)) in &mut traffic {
            let before = self.traffic.get(kind).copied().unwrap_or_default();
            (*frames, *bytes) = (*frames - before.0, *bytes - before.1);
        }
        Phase {
            cpu: now.cpu.saturating_sub(self.cpu),
            events: now.events - self.events,
            bytes: now.bytes - self.bytes,
            traffic,
            span_ms: now.now - self.now,
            ..Phase::default()
        }
    }
}

/// Time that this thread has spent on a processor.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// Entries that are on disks.
struct Held {
    /// All copies: entries and bytes.
    copies: (u64, u64),
    /// Of each entry one.
    entries: (u64, u64),
}

impl Held {
    fn on(simulation: &Simulation) -> Self {
        let mut sizes: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut copies = (0, 0);
        for node in &simulation.nodes {
            let all = node.disk.scan(Table::Entries, &[], &[0xff; 129], usize::MAX, Direction::Forward);
            for (key, value) in all.unwrap_or_default() {
                // Two hashes stand before the entry.
                let bytes = (value.len() as u64).saturating_sub(64);
                copies = (copies.0 + 1, copies.1 + bytes);
                sizes.insert(key, bytes);
            }
        }
        Held { copies, entries: (sizes.len() as u64, sizes.values().sum()) }
    }

    /// Copies that others than the authors have: entries and bytes.
    fn delivered(&self) -> (u64, u64) {
        (self.copies.0 - self.entries.0, self.copies.1 - self.entries.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_market_opens_and_sells_for_a_day_and_the_hub_has_it_all() {
        let market = Market { sales: 5, day_ms: 600_000, ..Market::of(12) };
        let figures = run(&market, |_| {});
        assert_eq!(figures.posted, 60);
        // Each sale is at the hub and at carriers; each catalog and certificate everywhere.
        assert!(figures.day.delivered >= 120 && figures.opening.delivered >= 12 * 12, "{figures:?}");
        let again = run(&market, |_| {});
        assert_eq!(
            (figures.day.events, figures.day.bytes),
            (again.day.events, again.day.bytes),
            "a seed does it again"
        );
    }
}
