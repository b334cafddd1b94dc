//! Whether what a market day needs is here before it begins: each stall's catalog, the market's terms, the keys.
//!
//! A node can know what it lacks of what the hub's checkpoints name, and of what its neighbours say they have. When a
//! stall's catalog came to be complete is kept, for presync is a promise about time: a day before the market opens.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::{DeviceId, Kind, Lane, LogName};

use super::logs::Held;
use super::{CatalogStatusView, Engine, Failure, FailureCode, StallReadiness, TermsReadiness};
use crate::quote::day;
use crate::store::{Store, StoreError, Table};

/// Since when a stall's catalog is complete: 8 bytes, by its name.
const META_COMPLETE: &[u8] = b"complete:";
/// How long before a market day everything is to be here, in milliseconds.
const AHEAD_MS: u64 = 24 * 3_600_000;

/// Since when each stall's catalog is complete, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct Presync {
    since: BTreeMap<String, u64>,
}

/// What is known of a stall's catalog logs.
#[derive(Clone, Debug, Default)]
struct Lacking {
    /// Whether any log of it is named or held.
    is_known: bool,
    /// Entries that checkpoints name and that aren't here.
    entries: u64,
}

impl<S: Store> Engine<S> {
    pub(crate) fn load_presync(&mut self) -> Result<(), StoreError> {
        for (key, value) in self.overlay.scan_prefix(Table::Meta, META_COMPLETE)? {
            let stall = key.get(META_COMPLETE.len()..).and_then(|name| String::from_utf8(name.to_vec()).ok());
            if let (Some(stall), Ok(since)) = (stall, value.as_slice().try_into()) {
                self.presync.since.insert(stall, u64::from_be_bytes(since));
            }
        }
        Ok(())
    }

    /// Something came that may complete a catalog.
    pub(crate) fn catalogs_came(&mut self, new: &[Held]) {
        if new.iter().any(|held| held.log.lane == Lane::CATALOG || held.entry.kind == Kind::CHECKPOINT) {
            self.presync_waits = true;
        }
    }

    /// Notes whose catalog is complete now, and whose isn't any more.
    pub(crate) fn note_presync(&mut self) {
        if !std::mem::take(&mut self.presync_waits) {
            return;
        }
        let time = self.time();
        for (stall, lacking) in self.lacking() {
            let key = [META_COMPLETE, stall.as_bytes()].concat();
            let complete = lacking.is_known && lacking.entries == 0;
            if complete && !self.presync.since.contains_key(&stall) {
                self.overlay.put(Table::Meta, key, time.to_be_bytes());
                self.presync.since.insert(stall, time);
            } else if !complete && self.presync.since.remove(&stall).is_some() {
                self.overlay.delete(Table::Meta, key);
            }
        }
    }

    /// By stall, what checkpoints name of its catalog and isn't here.
    fn lacking(&self) -> BTreeMap<String, Lacking> {
        let membership = &self.views.membership;
        let mut stalls: BTreeMap<String, Lacking> = BTreeMap::new();
        for device in membership.devices() {
            if let Some(stall) = membership.stall(device).filter(|stall| !stall.is_empty()) {
                stalls.entry(stall.to_owned()).or_default();
            }
        }
        for (log, missing) in self.named_and_lacked(Lane::CATALOG) {
            let Some(lacking) = membership.stall(&log.author).and_then(|stall| stalls.get_mut(stall)) else { continue };
            lacking.is_known = true;
            lacking.entries += missing;
        }
        for (log, _) in self.logs.on_lane(Lane::CATALOG) {
            if let Some(lacking) = membership.stall(&log.author).and_then(|stall| stalls.get_mut(stall)) {
                lacking.is_known = true;
            }
        }
        stalls
    }

    /// Logs of a lane that checkpoints name, and how many entries of each aren't here.
    fn named_and_lacked(&self, lane: Lane) -> impl Iterator<Item = (LogName, u64)> {
        let heads = self.views.coverage.heads(lane);
        heads.map(|(log, head)| (log, head.sequence.saturating_sub(self.head_of(&log).sequence)))
    }

    /// What is here for a market day, and what isn't.
    pub(crate) fn catalog_status(&mut self, date: Option<&str>) -> Result<CatalogStatusView, Failure> {
        if !self.is_member() {
            return Err(Failure::new(FailureCode::ENotMember, "this device is in no market yet: join one first"));
        }
        self.note_presync();
        let now = self.time();
        let policy = self.views.policy_of_quotes().map(|(_, policy)| policy.clone());
        let terms = super::market::terms(&policy.clone().unwrap_or_default(), "EUR")?;
        let Some((day, from, to)) = day(&terms.time_zone, date, now) else {
            let detail = "day: expected a date, like 2026-06-06";
            return Err(Failure { field: Some("day".into()), ..Failure::new(FailureCode::EInvalid, detail) });
        };
        let own = self.device.id();
        let own_stall = self.views.membership.stall(&own).unwrap_or_default().to_owned();
        let said = self.said_by_neighbours();
        let (mut offered, mut sellable): (BTreeMap<&str, usize>, BTreeMap<&str, usize>) = Default::default();
        let products: Vec<(&str, bool)> = self
            .views
            .catalog()
            .offered_at(to - 1)
            .map(|(stall, product)| (stall, product.taxes.iter().all(|tax| terms.tax_rates.0.contains_key(tax))))
            .collect();
        for (stall, sells) in products {
            *offered.entry(stall).or_insert(0) += 1;
            *sellable.entry(stall).or_insert(0) += usize::from(sells);
        }
        let silent = self.publishers_unheard_of();
        let stalls = self.lacking().into_iter().map(|(stall, lacking)| {
            let since = self.presync.since.get(&stall).copied();
            let complete = lacking.is_known && lacking.entries == 0;
            let sellable = sellable.get(stall.as_str()).copied().unwrap_or(0);
            StallReadiness {
                complete,
                missing: lacking.entries,
                announced: said.get(&stall).copied().unwrap_or(0),
                unheard: silent.get(&stall).cloned().unwrap_or_default(),
                products: offered.get(stall.as_str()).copied().unwrap_or(0),
                sellable,
                complete_since: since.filter(|_| complete),
                in_time: complete && sellable > 0 && since.is_some_and(|since| since.saturating_add(AHEAD_MS) <= from),
                stall,
            }
        });
        let stalls: Vec<StallReadiness> = stalls.collect();
        let named: u64 = self.named_and_lacked(Lane::CONTROL).map(|(_, missing)| missing).sum();
        let terms = TermsReadiness {
            missing: named,
            policy: policy.is_some(),
            hub_key: !self.views.opening_keys().is_empty(),
            read_key: (!own_stall.is_empty()).then(|| !self.stall_read_keys(&own_stall).is_empty()),
            valid: self.views.membership.certificates_at(&own, from.max(now)).next().is_some(),
        };
        let newest = self.views.coverage.latest().map(|(checkpoint, _)| (checkpoint.number, checkpoint.time));
        let (checkpoint, checkpoint_at) = newest.unwrap_or_default();
        let ready = stalls.iter().all(|stall| stall.complete && stall.sellable > 0);
        Ok(CatalogStatusView {
            ready: ready && checkpoint > 0 && terms.missing == 0 && terms.policy && terms.hub_key,
            day,
            from,
            to,
            checkpoint,
            checkpoint_at,
            terms,
            stalls,
            unknown: unknown(checkpoint, &crate::date::utc_minute(checkpoint_at)),
        })
    }

    /// By stall, entries of its catalog that neighbours say they have and that aren't here.
    fn said_by_neighbours(&self) -> BTreeMap<String, u64> {
        let lacked = self.replica.as_ref().map(|replica| replica.lacked(Lane::CATALOG)).unwrap_or_default();
        let mut said: BTreeMap<String, u64> = BTreeMap::new();
        for (log, missing) in lacked {
            if let Some(stall) = self.views.membership.stall(&log.author) {
                let sum = said.entry(stall.to_owned()).or_insert(0);
                *sum = sum.saturating_add(missing);
            }
        }
        said
    }

    /// By stall, devices that may publish for it and of whose catalog nothing is named or held.
    fn publishers_unheard_of(&self) -> BTreeMap<String, Vec<String>> {
        let named = self.views.coverage.heads(Lane::CATALOG).map(|(log, _)| log.author);
        let held = self.logs.on_lane(Lane::CATALOG).map(|(log, _)| log.author);
        let heard: BTreeSet<DeviceId> = named.chain(held).collect();
        let membership = &self.views.membership;
        let mut silent: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for device in membership.devices().filter(|device| !heard.contains(device) && !membership.is_revoked(device)) {
            let Some(certificate) = membership.certificate(device) else { continue };
            if !certificate.stall.is_empty() && certificate.scopes.allows(Scope::PUBLISH_CATALOG) {
                silent.entry(certificate.stall.clone()).or_default().push(device.to_string());
            }
        }
        silent
    }
}

/// What no node can know, in sentences.
fn unknown(checkpoint: u64, at: &str) -> Vec<String> {
    let beyond = match checkpoint {
        0 => "No checkpoint of the hub is known here: what stalls have published and this node lacks can't be told."
            .to_owned(),
        number => format!(
            "What a stall has published since checkpoint {number} ({at}) and what hasn't reached the hub is known only as \
             far as neighbours say so."
        ),
    };
    vec![
        beyond,
        "A stall that has published nothing may mean to publish later, or not to come.".to_owned(),
        "Stalls that have no certificate yet aren't in this list.".to_owned(),
    ]
}
