//! The market's policies: the one in force, and the one that a sale's author knew.
//!
//! A stall that was cut off when the market's fee changed went on selling under the old one. So a sale is charged by
//! the policy that stood at the checkpoint which its author had seen last (its entry says which), not by the policy of
//! the day on which somebody settles, and not by the author's clock.

use stallmesh_protocol::checkpoint::CheckpointView;
use stallmesh_protocol::membership::Coverage;
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Hash, payload};

use super::views::{Views, unreplaced};

impl Views {
    /// The policy in force, as far as this node knows; what the market's hub has not said yet is as if empty.
    pub(crate) fn policy(&self) -> payload::Policy {
        self.newest(self.policies(), |message| &message.replaces)
            .map(|(_, message)| message.clone())
            .unwrap_or_default()
    }

    /// What a sale cites as the policy that it was priced under: the first 8 bytes of its hash; empty for none.
    pub(crate) fn policy_version(&self) -> Vec<u8> {
        self.newest(self.policies(), |message| &message.replaces)
            .map(|(written, _)| written.at.hash.prefix().to_vec())
            .unwrap_or_default()
    }

    /// Hashes of the policies that a new one replaces.
    pub(crate) fn policies_in_force(&self) -> Vec<Hash> {
        unreplaced(self.policies(), |message| &message.replaces).map(|(written, _)| written.at.hash).collect()
    }

    /// The market's share of sales' net, by what their authors had seen.
    pub(crate) fn fee_rates(&self) -> FeeRates {
        let mut policies = self.policies();
        policies.sort_by_key(|(written, _)| self.rank(written));
        let mut rates = FeeRates::default();
        for (index, (written, _)) in policies.iter().enumerate() {
            let (ordinal, _) = self.rank(written);
            // Of what one checkpoint covers, and all before it, one counts.
            let known = policies[..=index].iter().copied();
            let counts = self.newest(known, |message| &message.replaces);
            let rate = counts.map(|(_, message)| message.fee_rate.clone()).unwrap_or_default();
            match rates.steps.last_mut() {
                Some((last, last_rate)) if *last == ordinal => *last_rate = rate,
                _ => rates.steps.push((ordinal, rate)),
            }
        }
        rates
    }
}

/// Fee rates in percent, by the checkpoint from which on they were known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FeeRates {
    /// (Ordinal of the first checkpoint that covers the policy, rate), ascending.
    steps: Vec<(u64, String)>,
}

impl FeeRates {
    /// The rate for a sale whose author had seen this checkpoint. One who had seen none, or none that covers a policy,
    /// knew the first; without any policy there is no fee.
    pub(crate) fn known_to(&self, seen: &[u8; 8], coverage: &CheckpointView) -> String {
        let known = coverage.ordinal_seen(seen).map_or(0, |seen| self.steps.partition_point(|(at, _)| *at <= seen));
        let known = if planted::is_on(Bug::FeeOfToday) { self.steps.len() } else { known };
        self.steps.get(known.saturating_sub(1)).map(|(_, rate)| rate.clone()).unwrap_or_default()
    }
}
