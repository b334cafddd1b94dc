//! Promotions and fees, as the entries that are held say them: the market's, and each stall's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::payload::{self, PayloadError};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Hash, Lane};

use super::views::Written;
use crate::quote::files::{Owner, PromotionFile};
use crate::quote::{Source, canonical, read};

/// The longest terms of one promotion, in bytes.
pub(crate) const TERMS_MAX: usize = 16 * 1024;
/// The longest id and name, in bytes.
const NAME_MAX: usize = 200;

/// One promotion of an entry.
#[derive(Clone, Debug)]
struct Version {
    id: String,
    /// Nothing where it is withdrawn.
    terms: Option<Arc<PromotionFile>>,
}

/// One entry, of which this version understands everything.
#[derive(Debug)]
struct Offer {
    written: Written,
    versions: Vec<Version>,
    replaces: Vec<Hash>,
}

/// Who gives a promotion: `None` for the market.
type Giver = Option<String>;

/// What one giver gives.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// By id, with the entry that says so.
    by_id: BTreeMap<String, (Hash, Arc<PromotionFile>)>,
    /// Over the entries that say so.
    entries: BTreeSet<Hash>,
}

impl Given {
    pub(crate) fn all(&self) -> impl Iterator<Item = &PromotionFile> {
        self.by_id.values().map(|(_, file)| file.as_ref())
    }

    /// The entry that gives a promotion.
    fn entry(&self, id: &str) -> Option<&Hash> {
        self.by_id.get(id).map(|(entry, _)| entry)
    }
}

/// The view, and the entries that it is made of.
#[derive(Debug, Default)]
pub(crate) struct PromotionBook {
    offers: Vec<Offer>,
    /// The market's, also those whose terms this version can't read: who pays for them must not depend on that.
    of_market: Vec<(Written, payload::Promotions)>,
    given: BTreeMap<Giver, Given>,
    /// Entries of each promotion that no other one replaces.
    in_force: BTreeMap<(Giver, String), Vec<Hash>>,
}

/// A promotion's text in the one form that an entry may have.
pub(crate) fn terms_of(file: &PromotionFile) -> String {
    canonical(file)
}

fn versions_of(lane: Lane, message: &payload::Promotions) -> Result<Vec<Version>, PayloadError> {
    let ids: BTreeSet<&str> = message.promotions.iter().map(|promotion| promotion.id.as_str()).collect();
    if ids.len() < message.promotions.len() {
        return Err(PayloadError::field("promotions", "name one twice"));
    }
    let versions = message.promotions.iter().map(|promotion| {
        if promotion.id.is_empty() || promotion.id.len() > NAME_MAX {
            return Err(PayloadError::field("id", "has not 1 to 200 bytes"));
        }
        if promotion.withdrawn {
            let is_empty = promotion.terms.is_empty() && promotion.borne_by_market.is_empty();
            let version = Version { id: promotion.id.clone(), terms: None };
            return if is_empty { Ok(version) } else { Err(PayloadError::field("terms", "of what is withdrawn")) };
        }
        if promotion.terms.len() > TERMS_MAX {
            return Err(PayloadError::field("terms", "are longer than 16 KiB"));
        }
        let file: PromotionFile =
            read(Source::Promotions, &promotion.terms).map_err(|_| PayloadError::field("terms", "are no promotion"))?;
        if terms_of(&file) != promotion.terms {
            return Err(PayloadError::field("terms", "are not in their one form"));
        }
        if file.id != promotion.id || borne_of(&file) != promotion.borne_by_market {
            return Err(PayloadError::field("terms", "say other than what stands beside them"));
        }
        if file.name.len() > NAME_MAX {
            return Err(PayloadError::field("terms", "have a name of more than 200 bytes"));
        }
        let owner = if lane == Lane::CONTROL { Owner::Market } else { Owner::Stall };
        if file.owner != owner {
            return Err(PayloadError::field("terms", "have another owner than the lane"));
        }
        Ok(Version { id: promotion.id.clone(), terms: Some(Arc::new(file)) })
    });
    versions.collect()
}

impl PromotionBook {
    /// Takes in an entry.
    pub(super) fn insert(&mut self, written: Written, message: payload::Promotions) -> Result<(), PayloadError> {
        let versions = versions_of(written.at.log.lane, &message);
        let replaces = message.replaces.iter().filter_map(|hash| Hash::try_from(hash.as_slice()).ok()).collect();
        if written.at.log.lane == Lane::CONTROL {
            self.of_market.push((written, message));
        }
        self.offers.push(Offer { written, versions: versions?, replaces });
        Ok(())
    }

    /// Builds the view anew. `judge`: who gives what an entry says (`None`: it has no effect), and its rank among
    /// versions of one promotion.
    pub(super) fn refresh(&mut self, judge: impl Fn(&Written) -> Option<(Giver, (u64, Hash))>) {
        type Candidates<'a> = Vec<((u64, Hash), &'a Version)>;
        let mut candidates: BTreeMap<(Giver, &str), Candidates<'_>> = BTreeMap::new();
        let mut replaced: BTreeMap<(Giver, &str), BTreeSet<Hash>> = BTreeMap::new();
        for offer in &self.offers {
            let Some((giver, rank)) = judge(&offer.written) else { continue };
            for version in &offer.versions {
                if version.terms.is_none() && planted::is_on(Bug::WithdrawnGiven) {
                    continue;
                }
                candidates.entry((giver.clone(), &version.id)).or_default().push((rank, version));
                replaced.entry((giver.clone(), &version.id)).or_default().extend(&offer.replaces);
            }
        }
        let mut given: BTreeMap<Giver, Given> = BTreeMap::new();
        let mut in_force = BTreeMap::new();
        for ((giver, id), versions) in candidates {
            let replaced = replaced.remove(&(giver.clone(), id)).unwrap_or_default();
            let left: Candidates<'_> = versions.into_iter().filter(|((_, hash), _)| !replaced.contains(hash)).collect();
            in_force.insert((giver.clone(), id.to_owned()), left.iter().map(|((_, hash), _)| *hash).collect());
            let Some(((_, hash), version)) = left.into_iter().max_by_key(|(rank, _)| *rank) else { continue };
            let given = given.entry(giver).or_default();
            given.entries.insert(hash);
            if let Some(terms) = &version.terms {
                given.by_id.insert(id.to_owned(), (hash, Arc::clone(terms)));
            }
        }
        (self.given, self.in_force) = (given, in_force);
    }

    /// What a giver gives: a stall, or the market.
    pub(crate) fn of(&self, giver: Option<&str>) -> Option<&Given> {
        self.given.get(&giver.map(str::to_owned))
    }

    /// What applies at a stall, the market's first. A stall's with the id of one of the market's doesn't: receipts
    /// and statements name promotions by their ids alone.
    pub(crate) fn at_stall(&self, stall: &str) -> Vec<&PromotionFile> {
        let market = self.of(None);
        let own = self.of(Some(stall)).into_iter().flat_map(Given::all);
        let own = own.filter(|file| market.is_none_or(|market| market.entry(&file.id).is_none()));
        market.into_iter().flat_map(Given::all).chain(own).collect()
    }

    /// The entry by which a promotion applies at a stall.
    pub(crate) fn entry_at(&self, stall: &str, id: &str) -> Option<&Hash> {
        self.of(None).and_then(|given| given.entry(id)).or_else(|| self.of(Some(stall))?.entry(id))
    }

    /// Names what applies at a stall, as a sale cites it: over the entries that say so; empty where none does.
    pub(crate) fn version(&self, stall: &str) -> Vec<u8> {
        let entries = [self.of(None), self.of(Some(stall))].into_iter().flatten().flat_map(|given| &given.entries);
        let ordered: BTreeSet<&Hash> = entries.collect();
        if ordered.is_empty() {
            return Vec::new();
        }
        let hasher = Hasher::new(Domain::PromotionsVersion);
        let hasher = ordered.into_iter().fold(hasher, |hasher, hash| hasher.bytes(hash.as_bytes()));
        hasher.finish().prefix().to_vec()
    }

    /// Every entry in force that says something of one of these promotions: what a change names.
    pub(crate) fn entries_of<'a>(&self, giver: Option<&str>, ids: impl Iterator<Item = &'a str>) -> BTreeSet<Hash> {
        let giver = giver.map(str::to_owned);
        ids.flat_map(|id| self.in_force.get(&(giver.clone(), id.to_owned())).into_iter().flatten()).copied().collect()
    }

    /// What every entry says of who pays for the market's promotions.
    pub(super) fn shares(&self) -> impl Iterator<Item = Share<'_>> {
        self.of_market.iter().flat_map(|(written, message)| {
            message.promotions.iter().map(move |promotion| Share {
                written,
                replaces: &message.replaces,
                id: &promotion.id,
                percent: &promotion.borne_by_market,
            })
        })
    }
}

/// What one entry says of who pays for one of the market's promotions.
pub(super) struct Share<'a> {
    pub(super) written: &'a Written,
    pub(super) replaces: &'a Vec<Vec<u8>>,
    pub(super) id: &'a str,
    /// Of what it takes off; empty for nothing.
    pub(super) percent: &'a str,
}

/// What the market bears of a promotion, as an entry says it beside the terms.
pub(crate) fn borne_of(file: &PromotionFile) -> String {
    file.borne_by_market.map(|percent| percent.to_string()).unwrap_or_default()
}
