//! By what a till judges payments: the hub's rules, the keys of fingerprints, and what everybody says.

use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::membership::BySequence;
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Hash, payload};

use super::{Views, Written, unreplaced};
use crate::engine::signals::{Judgement, SignalBook};
use crate::fraud::Fact;

impl Views {
    /// The newest checkout rules, and their hash.
    pub(crate) fn checkout_rules(&self) -> Option<(Hash, &payload::CheckoutRules)> {
        let effective = self.effective_rules();
        self.newest(effective, |message| &message.replaces).map(|(written, message)| (written.at.hash, message))
    }

    /// Hashes of the rules that new ones replace.
    pub(crate) fn checkout_rules_in_force(&self) -> Vec<Hash> {
        unreplaced(self.effective_rules(), |message| &message.replaces).map(|(written, _)| written.at.hash).collect()
    }

    /// The keys of cards' fingerprints, the newest first, at most so many.
    pub(crate) fn fingerprint_keys(&self, at_most: usize) -> Vec<[u8; 32]> {
        let mut rules = self.effective_rules();
        rules.sort_by_key(|(written, _)| std::cmp::Reverse(self.rank(written)));
        let mut keys: Vec<[u8; 32]> = Vec::new();
        for (_, message) in rules {
            if let Ok(key) = <[u8; 32]>::try_from(message.fingerprint_key.as_slice())
                && !keys.contains(&key)
                && keys.len() < at_most
            {
                keys.push(key);
            }
        }
        keys
    }

    fn effective_rules(&self) -> Vec<&(Written, payload::CheckoutRules)> {
        self.checkout_rules.iter().filter(|(written, _)| self.permits(written, Scope::POLICY).is_ok()).collect()
    }

    /// What is said about cards, devices and people at tills, as of a time.
    pub(crate) fn signals(&mut self, now: u64) -> &mut SignalBook {
        let mut signals = std::mem::take(&mut self.signals);
        if std::mem::take(&mut self.standings_dirty) {
            let covered = |position| self.membership.covered(position, &self.coverage, &BySequence).is_some();
            let basis = [
                self.facts.len(),
                self.facts.iter().filter(|fact| covered(&fact.at)).count(),
                self.proofs().count(),
                self.known_clones.len(),
            ];
            let forks = self.proofs.keys().map(|log| (log.author, Fact::Equivocation));
            let clones = self.known_clones.keys().map(|device| (*device, Fact::Clone));
            signals.judge_anew(now, basis, forks.chain(clones));
        }
        signals.refresh(now, |written| {
            let is_covered = self.covered(written).is_some();
            let by = |stall| Judgement { stall, at_ms: self.time_of(written) };
            if self.permits(written, Scope::POLICY).is_ok() {
                return (Some(by(None)), is_covered);
            }
            let certificate = self.permits(written, Scope::SIGNAL).ok().flatten();
            let stall = certificate.map(|certificate| certificate.stall.clone()).filter(|stall| !stall.is_empty());
            let is_markets = planted::is_on(Bug::AnyBlocker);
            (stall.map(|stall| by(Some(stall).filter(|_| !is_markets))), is_covered)
        });
        self.signals = signals;
        &mut self.signals
    }
}
