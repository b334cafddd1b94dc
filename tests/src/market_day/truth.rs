//! What was promised to whom on a market day, kept beside the nodes.

use std::collections::BTreeMap;

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
    /// When.
    pub at: u64,
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
    /// What it acknowledged before this moment may be gone from its disk.
    pub lost_before: u64,
    /// A cut waits for the next start: so many writes.
    pub cut_again: Option<u64>,
    /// An older copy of its disk.
    pub copy: Option<Disk>,
    /// Sales that were asked of it.
    pub asked: u64,
    /// The trusted time that it told last.
    pub told_time: u64,
}

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

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// By node.
    pub devices: Vec<Device>,
    /// Acknowledged sales, by sale id.
    pub sales: BTreeMap<String, Sold>,
    /// Settlements that were closed: number and digest.
    pub settled: Vec<(u64, String)>,
    /// Sums that settlements have published, by account.
    pub published: BTreeMap<String, i64>,
    /// Names of products that nobody may ever see.
    pub forbidden: Vec<String>,
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
