//! What was promised to whom on a market day, kept beside the nodes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stallmesh_node::engine::SaleOrder;

use crate::simulation::{Disk, Key};

/// A sale that was acknowledged to whoever asked for it.
#[derive(Clone, Debug)]
pub struct Sold {
    /// Where it was sold.
    pub device: usize,
    /// Its entry.
    pub entry: Key,
    /// Minor units.
    pub total: u64,
    /// Of which tax.
    pub tax: u64,
    /// What promotions took off, by their ids.
    pub reductions: BTreeMap<String, u64>,
    /// When.
    pub at: u64,
    /// What the same sale came to when it was asked for before, and what it was recorded as was lost with its disk.
    pub before: BTreeSet<u64>,
}

/// What is known of a device that no node knows.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// Its stall, once it was let in.
    pub stall: String,
    /// The invite that let it in.
    pub invite: Option<String>,
    /// Whose helper it is.
    pub owner: Option<usize>,
    /// Never comes back.
    pub gone: bool,
    /// Its owner wants it to run.
    pub wanted: bool,
    /// It is about to be started.
    pub starts: bool,
    /// It doesn't keep to the rules.
    pub dishonest: bool,
    /// It has written two histories.
    pub forked: bool,
    /// Another machine has its key.
    pub copied: bool,
    /// The hub has revoked it.
    pub revoked: bool,
    /// What the hub held of it when it was revoked, or raised last: by (incarnation, lane), the last sequence.
    pub line: Option<Line>,
    /// The hub has raised that line.
    pub raised: bool,
    /// Its clock was off once: it may have started so, and then goes on from there.
    pub clock_was_off: bool,
    /// It was never let in.
    pub stranger: bool,
    /// What it acknowledged before this moment may be gone from its disk.
    pub lost_before: u64,
    /// The power goes right after the next sale that is acknowledged: so many writes later.
    pub cut_at_sale: Option<u64>,
    /// A cut waits for the next start: so many writes.
    pub cut_again: Option<u64>,
    /// An older copy of its disk.
    pub copy: Option<Disk>,
    /// Sales that were asked of it.
    pub asked: u64,
    /// The last of them: who got no answer asks again.
    pub orders: VecDeque<SaleOrder>,
    /// The trusted time that it told last.
    pub told_time: u64,
}

/// A line across a device's logs, by incarnation and lane as nodes write them.
pub(crate) type Line = BTreeMap<(String, String), u64>;

impl Device {
    /// Whether it should run, and nobody is about to start it.
    pub fn is_down_for_now(&self) -> bool {
        self.wanted && !self.gone && !self.starts
    }

    /// Whether it was let in, or asked to be.
    pub fn is_invited(&self) -> bool {
        self.invite.is_some() || self.owner.is_some()
    }
}

/// A settlement that was closed.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Its number.
    pub number: u64,
    /// What its statements say, by account.
    pub sums: BTreeMap<String, i64>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// By node.
    pub devices: Vec<Device>,
    /// Acknowledged sales, by sale id.
    pub sales: BTreeMap<String, Sold>,
    /// Settlements that were closed.
    pub settled: Vec<Settled>,
    /// Whether the hub has lost one that it had closed and not released: it may come back from a carrier, or not.
    pub settlements_uncertain: bool,
    /// What was ever given, by giver (empty for the market) and id: percent, and percent of it that the market pays.
    pub promotions: BTreeMap<(String, String), BTreeSet<(u64, u64)>>,
    /// Fingerprints of cards, by what the reader calls them.
    pub cards: BTreeMap<String, String>,
    /// Fingerprints that the organiser has ever blocked.
    pub blocked: BTreeSet<String>,
    /// Names of products that nobody may ever see.
    pub forbidden: Vec<String>,
    /// Rows of each entry that a settlement has posted.
    pub rows: BTreeMap<String, Vec<(String, i64)>>,
    /// When each of the hub's checkpoints was its newest, by its own time.
    pub checkpoints: BTreeMap<u64, u64>,
    /// When it was looked at last, by the day's clock.
    pub hub_looked_at: u64,
    /// Somebody has signed a second story with the hub's key.
    pub two_stories: bool,
    /// Before this moment the hub's disk was an older one: what it had acknowledged until then it need not have.
    pub hub_lost_before: u64,
}

impl Truth {
    pub(super) fn new(devices: usize) -> Self {
        let mut truth = Truth { devices: vec![Device::default(); devices], ..Truth::default() };
        truth.devices[0].wanted = true;
        truth
    }

    /// Whether a node keeps to the rules and is alone with its key.
    pub fn is_honest(&self, device: usize) -> bool {
        !self.devices[device].dishonest && !self.devices[device].forked
    }
}
