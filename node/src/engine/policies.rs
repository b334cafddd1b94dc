//! The market's policies: the one in force, and the one that a sale's author knew.
//!
//! A stall that was cut off when the market's fee changed went on selling under the old one. So a sale is charged by
//! the policy that stood at the checkpoint which its author had seen last (its entry says which), not by the policy of
//! the day on which somebody settles, and not by the author's clock.

use std::collections::BTreeMap;

use stallmesh_protocol::checkpoint::CheckpointView;
use stallmesh_protocol::membership::Coverage;
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Hash, payload};

use super::promotions::Share;
use super::views::{Views, Written, unreplaced};

impl Views {
    /// The policy in force, as far as this node knows; what the market's hub has not said yet is as if empty.
    pub(crate) fn policy(&self) -> payload::Policy {
        self.newest(self.policies(), |message| &message.replaces)
            .map(|(_, message)| message.clone())
            .unwrap_or_default()
    }

    /// The policy that quotes are worked out by: the newest that this version can. A hub publishes no other, but a newer
    /// one may know terms that this version doesn't; whoever doesn't goes on selling by what it knows.
    pub(crate) fn policy_of_quotes(&self) -> Option<&(Written, payload::Policy)> {
        let usable = self.policies().into_iter().filter(|(_, message)| super::market::check_policy(message).is_ok());
        let usable: Vec<&(Written, payload::Policy)> = usable.collect();
        self.newest(usable, |message| &message.replaces)
    }

    /// Hashes of the policies that a new one replaces.
    pub(crate) fn policies_in_force(&self) -> Vec<Hash> {
        unreplaced(self.policies(), |message| &message.replaces).map(|(written, _)| written.at.hash).collect()
    }

    /// What a sale is settled by, by what its author had seen.
    pub(crate) fn settlement_terms(&self) -> SettlementTerms {
        let policies = self.policies();
        let fee = self.steps(&policies, |message| &message.replaces, |message| message.fee_rate.clone());
        let mut by_promotion: BTreeMap<&str, Vec<(Written, Share<'_>)>> = BTreeMap::new();
        let mut cited = BTreeMap::new();
        for share in self.promotion_shares() {
            let entry = share.written.at.hash.prefix().to_vec();
            let (ordinal, _) = self.rank(share.written);
            cited.entry((share.id.to_owned(), entry)).or_insert_with(|| (ordinal, share.percent.to_owned()));
            let shares = by_promotion.entry(share.id).or_default();
            // Of an entry that names one promotion twice, the first counts.
            if shares.last().is_none_or(|(written, _)| written.at.hash != share.written.at.hash) {
                shares.push((*share.written, share));
            }
        }
        let borne = by_promotion.into_iter().map(|(id, shares)| {
            let shares: Vec<&(Written, Share<'_>)> = shares.iter().collect();
            (id.to_owned(), self.steps(&shares, |share| share.replaces, |share| share.percent.to_owned()))
        });
        SettlementTerms { fee, borne: borne.collect(), cited }
    }

    /// Which of several versions of one thing was known from which checkpoint on.
    fn steps<M>(
        &self,
        versions: &[&(Written, M)],
        replaces: impl Fn(&M) -> &Vec<Vec<u8>>,
        rate: impl Fn(&M) -> String,
    ) -> Steps {
        let mut versions = versions.to_vec();
        versions.sort_by_key(|(written, _)| self.rank(written));
        let mut steps = Steps::default();
        for (index, (written, _)) in versions.iter().enumerate() {
            let (ordinal, _) = self.rank(written);
            // Of what one checkpoint covers, and all before it, one counts.
            let known = versions[..=index].iter().copied();
            let counts = self.newest(known, &replaces);
            let rate = counts.map(|(_, message)| rate(message)).unwrap_or_default();
            match steps.0.last_mut() {
                Some((last, last_rate)) if *last == ordinal => *last_rate = rate,
                _ => steps.0.push((ordinal, rate)),
            }
        }
        steps
    }
}

/// What sales are settled by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SettlementTerms {
    /// The market's share of a sale's net.
    pub(crate) fee: Steps,
    /// The market's share of what its promotions take off, by their ids.
    borne: BTreeMap<String, Steps>,
    /// The same by what a sale may cite, the promotion and its entry: from which checkpoint on it is covered, and the share.
    cited: BTreeMap<(String, Vec<u8>), (u64, String)>,
}

impl SettlementTerms {
    /// The market's shares of those promotions that a sale names, as its author knew them: by the entry that the sale
    /// cites where that is newer than what its author had seen covered, and else by what was known at that checkpoint.
    pub(crate) fn borne(
        &self,
        sale: &payload::Sale,
        seen: &[u8; 8],
        coverage: &CheckpointView,
    ) -> BTreeMap<String, String> {
        let reductions = sale.lines.iter().flat_map(|line| &line.reductions);
        let known = reductions.filter_map(|reduction| {
            let rate = self.cited(reduction, seen, coverage);
            let rate = rate.or_else(|| Some(self.borne.get(&reduction.promotion)?.known_to(seen, coverage)))?;
            (!rate.is_empty()).then(|| (reduction.promotion.clone(), rate))
        });
        known.collect()
    }
}

impl SettlementTerms {
    fn cited(&self, reduction: &payload::SaleReduction, seen: &[u8; 8], coverage: &CheckpointView) -> Option<String> {
        let (ordinal, percent) = self.cited.get(&(reduction.promotion.clone(), reduction.entry.clone()))?;
        coverage.ordinal_seen(seen).is_none_or(|seen| *ordinal > seen).then(|| percent.clone())
    }
}

/// Percentages, by the checkpoint from which on they were known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Steps(
    /// (Ordinal of the first checkpoint that covers the entry, percentage), ascending.
    Vec<(u64, String)>,
);

impl Steps {
    /// The percentage for a sale whose author had seen this checkpoint. One who had seen none, or none that covers an
    /// entry, knew the first; without any entry there is none.
    pub(crate) fn known_to(&self, seen: &[u8; 8], coverage: &CheckpointView) -> String {
        let known = coverage.ordinal_seen(seen).map_or(0, |seen| self.0.partition_point(|(at, _)| *at <= seen));
        let known = if planted::is_on(Bug::FeeOfToday) { self.0.len() } else { known };
        self.0.get(known.saturating_sub(1)).map(|(_, rate)| rate.clone()).unwrap_or_default()
    }
}
