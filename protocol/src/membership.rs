//! Who belongs to the market, and what of their logs stands: a pure view of a set of entries.
//!
//! Facts may come in any order, any number of times; [`Membership::build`] gives the same view. It works from the
//! root down: what a device's certificates, revocations and raises say counts only as far as the device's own
//! line, which only devices closer to the root can draw. So no two revocations can undo each other in a circle.
//!
//! ```text
//!   rank 0  root            its log always stands
//!   rank 1  hubs            certified, revoked by the root
//!   rank 2  stalls, …       certified, revoked by a hub (or the root)
//!   rank 3  helpers         certified by a stall's owner; revoked by her, a hub, or the root
//! ```

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::certificate::{Certificate, DEPTH_MAX, NarrowingError, Role, Scope};
use crate::fork::ForkProof;
use crate::hash::Hash;
use crate::id::{DeviceId, Head, Incarnation, Lane, LogName};
use crate::payload::{self, PayloadError, fixed};
use crate::planted::{self, Bug};

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// In which log.
    pub log: LogName,
    /// At which sequence.
    pub sequence: u64,
    /// The entry's hash.
    pub hash: Hash,
}

/// A line across a device's logs: what lies at or before it, log by log. A log that is not named has nothing.
pub type Line = BTreeMap<(Incarnation, Lane), Head>;

/// What a `control` entry says about membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlBody {
    /// A device belongs.
    Certificate(Certificate),
    /// A device no longer does.
    Revocation {
        /// Whose certificates end.
        device: DeviceId,
        /// What of its logs stands.
        line: Line,
        /// For people.
        reason: String,
        /// Whether the line may lie below what checkpoints named as standing.
        below_standing: bool,
    },
    /// Also this stands.
    Raise {
        /// Of whom.
        device: DeviceId,
        /// What.
        line: Line,
    },
    /// A quarantined incarnation counts again.
    Readmission {
        /// Whose.
        device: DeviceId,
        /// Which.
        incarnation: Incarnation,
    },
}

/// One entry about membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFact {
    /// Where it stands.
    pub at: Position,
    /// By its author's clock.
    pub timestamp: u64,
    /// The checkpoint that its author had seen.
    pub seen: [u8; 8],
    /// What it says.
    pub body: ControlBody,
}

/// A fork proof, and where it was published (nowhere yet, where a peer handed it over).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofFact {
    /// A verified proof.
    pub proof: ForkProof,
    /// The entries that carry it.
    pub published: Vec<Position>,
}

/// The first checkpoint that covers something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Covering {
    /// Its place in the chain of checkpoints, from 0.
    pub ordinal: u64,
    /// Its time.
    pub time: u64,
}

/// What checkpoints say: implemented by the checkpoint view, and by [`NoCoverage`] where none is known.
pub trait Coverage {
    /// Time of the checkpoint whose hash begins so.
    fn time_seen(&self, seen: &[u8; 8]) -> Option<u64>;
    /// Its place in the chain.
    fn ordinal_seen(&self, seen: &[u8; 8]) -> Option<u64>;
    /// The first checkpoint whose standing head of this log is at or after the sequence.
    fn covered_by(&self, log: &LogName, sequence: u64) -> Option<Covering>;
    /// The standing head of a log as of a checkpoint.
    fn standing_at(&self, ordinal: u64, log: &LogName) -> Option<Head>;
    /// All standing heads of one author's logs as of a checkpoint.
    fn standing_of(&self, ordinal: u64, author: &DeviceId) -> Vec<(LogName, Head)>;
    /// The newest checkpoint's ordinal.
    fn newest(&self) -> Option<u64>;
}

/// No checkpoint is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCoverage;

impl Coverage for NoCoverage {
    fn time_seen(&self, _: &[u8; 8]) -> Option<u64> {
        None
    }

    fn ordinal_seen(&self, _: &[u8; 8]) -> Option<u64> {
        None
    }

    fn covered_by(&self, _: &LogName, _: u64) -> Option<Covering> {
        None
    }

    fn standing_at(&self, _: u64, _: &LogName) -> Option<Head> {
        None
    }

    fn standing_of(&self, _: u64, _: &DeviceId) -> Vec<(LogName, Head)> {
        Vec::new()
    }

    fn newest(&self) -> Option<u64> {
        None
    }
}

/// Answers whether an entry is at or before a head on the head's own chain, as far as the holder can tell.
pub trait Ancestry {
    /// `None` where the holder lacks the entries between.
    fn is_at_or_before(&self, log: &LogName, entry: Head, head: Head) -> Option<bool>;
}

/// By sequence alone, and by hash where both are one position: right for logs without forks.
#[derive(Clone, Copy, Debug, Default)]
pub struct BySequence;

impl Ancestry for BySequence {
    fn is_at_or_before(&self, _: &LogName, entry: Head, head: Head) -> Option<bool> {
        Some(entry.sequence < head.sequence || entry == head)
    }
}

/// Why an entry has no effect, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum NotStanding {
    /// Its author never was a member.
    #[error("E_NOT_MEMBER: its author has no certificate")]
    NotMember,
    /// Its author's certificates were not valid when it was written.
    #[error("E_EXPIRED: its author had no valid certificate at that time")]
    NotValid,
    /// Its author may not do this.
    #[error("E_SCOPE: its author has no scope `{0}`")]
    Scope(Scope),
    /// Beyond a revocation's line.
    #[error("E_REVOKED: it lies beyond the line of a revocation")]
    BeyondLine,
    /// Its author forked a log.
    #[error("E_QUARANTINE: its author signed two histories of a log")]
    Quarantined,
}

/// The checkpoint that covers a decision; `None`: none does yet. No decision is earlier than another that isn't covered.
type Since = Option<Covering>;

/// The earlier of two.
fn earlier(one: Since, other: Since) -> Since {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A certificate that counts.
#[derive(Clone, Debug)]
pub struct Issued {
    /// What it says.
    pub certificate: Certificate,
    /// Where it stands: its author is the issuer.
    pub at: Position,
    /// When it counts as written, in milliseconds since 1970.
    pub time: u64,
}

#[derive(Clone, Debug, Default)]
struct Device {
    rank: u64,
    issued: Vec<Issued>,
    revocations: Vec<Line>,
    /// Incarnations that count in spite of a quarantine, and since when.
    readmitted: BTreeMap<Incarnation, Since>,
    /// What stands beyond a line, and since when.
    raises: Vec<(Line, Since)>,
    quarantines: Vec<Quarantine>,
}

#[derive(Clone, Debug)]
struct Quarantine {
    log: LogName,
    /// What stands of the forked log: everything before this.
    position: u64,
    /// The checkpoint before the first one that covers a proof; `None` before any checkpoint.
    frozen: Option<u64>,
    /// Whether a checkpoint covers a proof yet.
    covered: bool,
}

impl Quarantine {
    /// What a checkpoint named as standing of one of the device's logs, before the proof was known there.
    fn named(&self, log: &LogName, coverage: &dyn Coverage) -> Option<Head> {
        // Until a checkpoint covers a proof, what is covered now is what stands elsewhere.
        let ordinal = if self.covered { self.frozen } else { coverage.newest() };
        let ordinal = ordinal.filter(|_| !planted::is_on(Bug::StandingForgotten));
        ordinal.and_then(|ordinal| coverage.standing_at(ordinal, log))
    }
}

/// The view.
#[derive(Clone, Debug)]
pub struct Membership {
    root: DeviceId,
    devices: BTreeMap<DeviceId, Device>,
    refused: BTreeMap<Position, RefusedFact>,
    /// Whom somebody let in who had no say any more: by whom.
    let_in_vain: BTreeMap<DeviceId, DeviceId>,
    revision: u64,
}

/// Why a fact about membership has no effect.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RefusedFact {
    /// Its author's entry doesn't stand.
    #[error(transparent)]
    NotStanding(#[from] NotStanding),
    /// It grants what its author hasn't.
    #[error(transparent)]
    Narrowing(#[from] NarrowingError),
    /// Its author isn't closer to the root than its subject, or not of its line.
    #[error("E_CERT: its author has no say over that device")]
    NoSay,
}

impl Membership {
    /// Builds the view from all facts that are held; `coverage` must itself be a function of entries only.
    pub fn build(
        root: DeviceId,
        facts: &[ControlFact],
        proofs: &[ProofFact],
        coverage: &dyn Coverage,
        ancestry: &dyn Ancestry,
    ) -> Self {
        let mut view = Membership {
            root,
            devices: BTreeMap::new(),
            refused: BTreeMap::new(),
            let_in_vain: BTreeMap::new(),
            revision: 0,
        };
        let mut facts: Vec<&ControlFact> = facts.iter().collect();
        facts.sort_by_key(|fact| fact.at);
        facts.dedup_by_key(|fact| fact.at);
        let quarantines = quarantines(proofs, coverage);
        let mut certificates: BTreeMap<DeviceId, Vec<(&ControlFact, &Certificate)>> = BTreeMap::new();
        let mut judgements: BTreeMap<DeviceId, Vec<&ControlFact>> = BTreeMap::new();
        for fact in facts {
            match &fact.body {
                ControlBody::Certificate(certificate) => {
                    certificates.entry(fact.at.log.author).or_default().push((fact, certificate));
                }
                ControlBody::Revocation { device, .. }
                | ControlBody::Raise { device, .. }
                | ControlBody::Readmission { device, .. } => judgements.entry(*device).or_default().push(fact),
            }
        }
        // Rank by rank: what is said about a device, by devices closer to the root, is settled before anything that
        // the device itself says is judged.
        let mut authors = BTreeSet::from([root]);
        for rank in 1..=DEPTH_MAX {
            let mut next = BTreeSet::new();
            let mut issued = Vec::new();
            // All of a rank is judged by what was settled before it, not by what devices of one rank say of each other:
            // else it would matter whose key is smaller.
            for author in &authors {
                for (fact, certificate) in certificates.remove(author).into_iter().flatten() {
                    match view.judge_certificate(fact, certificate, coverage, ancestry) {
                        Ok(judged) => issued.push(judged),
                        Err(reason) => {
                            if let RefusedFact::NotStanding(NotStanding::BeyondLine | NotStanding::Quarantined) = reason
                            {
                                view.let_in_vain.insert(certificate.device, *author);
                            }
                            view.refused.insert(fact.at, reason);
                        }
                    }
                }
            }
            for issued in issued {
                let subject = issued.certificate.device;
                let device = view.devices.entry(subject).or_insert_with(|| {
                    next.insert(subject);
                    let quarantines = quarantines.get(&subject).cloned().unwrap_or_default();
                    Device { rank, quarantines, ..Device::default() }
                });
                device.issued.push(issued);
                // The newest first, for all who ask later.
                device.issued.sort_by_key(|issued| std::cmp::Reverse((issued.time, issued.at)));
            }
            for subject in &next {
                for fact in judgements.remove(subject).into_iter().flatten() {
                    if let Err(reason) = view.apply_judgement(fact, *subject, coverage, ancestry) {
                        view.refused.insert(fact.at, reason);
                    }
                }
            }
            authors = next;
        }
        for (fact, _) in certificates.into_values().flatten() {
            view.refused.insert(fact.at, NotStanding::NotMember.into());
        }
        for fact in judgements.into_values().flatten() {
            view.refused.insert(fact.at, RefusedFact::NoSay);
        }
        view.revision =
            view.devices.values().map(|device| (device.revocations.len() + device.raises.len()) as u64).sum();
        view
    }

    fn judge_certificate(
        &self,
        fact: &ControlFact,
        certificate: &Certificate,
        coverage: &dyn Coverage,
        ancestry: &dyn Ancestry,
    ) -> Result<Issued, RefusedFact> {
        let author = fact.at.log.author;
        let covering = self.covered(&fact.at, coverage, ancestry);
        let time = effective_time(fact.timestamp, &fact.seen, covering, coverage);
        let issued = || Issued { certificate: certificate.clone(), at: fact.at, time };
        if author == self.root {
            return Ok(issued());
        }
        self.stands(&fact.at, coverage, ancestry)?;
        let device = self.devices.get(&author).ok_or(NotStanding::NotMember)?;
        let mut reason = RefusedFact::NotStanding(NotStanding::NotValid);
        for own in device.issued.iter().filter(|own| own.certificate.is_valid_at(time)) {
            match certificate.narrows(&own.certificate) {
                Ok(()) => return Ok(issued()),
                Err(error) => reason = error.into(),
            }
        }
        Err(reason)
    }

    fn apply_judgement(
        &mut self,
        fact: &ControlFact,
        subject: DeviceId,
        coverage: &dyn Coverage,
        ancestry: &dyn Ancestry,
    ) -> Result<(), RefusedFact> {
        let author = fact.at.log.author;
        if author != self.root {
            self.stands(&fact.at, coverage, ancestry)?;
        }
        if !self.has_say(&author, &subject) {
            return Err(RefusedFact::NoSay);
        }
        let by_hub = author == self.root || self.role(&author) == Some(Role::Hub);
        let since = self.covered(&fact.at, coverage, ancestry);
        let before = since.map_or_else(|| coverage.newest(), |covering| covering.ordinal.checked_sub(1));
        let Some(device) = self.devices.get_mut(&subject) else { return Err(RefusedFact::NoSay) };
        match &fact.body {
            ControlBody::Certificate(_) => {}
            ControlBody::Revocation { line, below_standing, .. } => {
                let mut line = line.clone();
                // Only a hub's named decision may go below what a checkpoint before it named as standing.
                if !(by_hub && *below_standing)
                    && let Some(ordinal) = before
                {
                    raise_to_standing(&mut line, &subject, ordinal, coverage);
                }
                device.revocations.push(line);
            }
            ControlBody::Raise { .. } if planted::is_on(Bug::RaiseIgnored) => {}
            ControlBody::Raise { line, .. } => {
                if !by_hub {
                    return Err(RefusedFact::NoSay);
                }
                device.raises.push((line.clone(), since));
            }
            ControlBody::Readmission { incarnation, .. } => {
                device
                    .readmitted
                    .entry(*incarnation)
                    .and_modify(|known| *known = earlier(*known, since))
                    .or_insert(since);
            }
        }
        Ok(())
    }

    /// Whether `author` may revoke, raise or readmit `subject`: it is closer to the root, and a hub, the root, or an
    /// issuer of the subject's line.
    pub fn has_say(&self, author: &DeviceId, subject: &DeviceId) -> bool {
        let Some(subject) = self.devices.get(subject) else { return false };
        if *author == self.root {
            return true;
        }
        let Some(device) = self.devices.get(author) else { return false };
        if planted::is_on(Bug::AnyJudge) {
            return true;
        }
        device.rank < subject.rank
            && (self.role(author) == Some(Role::Hub)
                || subject.issued.iter().any(|issued| issued.at.log.author == *author))
    }

    /// Whether an entry counts, by lines and quarantines of its author alone (not by scope or validity).
    ///
    /// # Errors
    /// The reason why it has no effect.
    pub fn stands(&self, at: &Position, coverage: &dyn Coverage, ancestry: &dyn Ancestry) -> Result<(), NotStanding> {
        self.standing(at, coverage, ancestry).map(|_| ())
    }

    /// The first checkpoint that covers an entry, for whoever must know what came first: what stands only by a raise or
    /// a readmission counts as covered by the checkpoint that covers this, if that is later. So a decision of today
    /// doesn't change what yesterday's checkpoints have made of everything else.
    pub fn covered(&self, at: &Position, coverage: &dyn Coverage, ancestry: &dyn Ancestry) -> Option<Covering> {
        let own = coverage.covered_by(&at.log, at.sequence);
        match self.standing(at, coverage, ancestry) {
            Ok(Some(since)) => own.and_then(|own| since.map(|since| own.max(since))),
            Ok(None) | Err(_) => own,
        }
    }

    /// Whether an entry counts, and where it does so by a raise or a readmission alone, since when.
    fn standing(
        &self,
        at: &Position,
        coverage: &dyn Coverage,
        ancestry: &dyn Ancestry,
    ) -> Result<Option<Since>, NotStanding> {
        if at.log.author == self.root {
            return Ok(None);
        }
        let device = self.devices.get(&at.log.author).ok_or(NotStanding::NotMember)?;
        let key = (at.log.incarnation, at.log.lane);
        let entry = Head { sequence: at.sequence, hash: at.hash };
        let within = |head: Head| {
            entry.sequence <= head.sequence && ancestry.is_at_or_before(&at.log, entry, head).unwrap_or(true)
        };
        // Of several raises the earliest: none takes away what another one gave.
        let raised = || {
            let raises = device.raises.iter().filter(|(line, _)| line.get(&key).is_some_and(|head| within(*head)));
            raises.map(|(_, since)| *since).reduce(earlier)
        };
        let mut by = None;
        let beyond = device.revocations.iter().any(|line| !line.get(&key).is_some_and(|head| within(*head)));
        let beyond = beyond && !planted::is_on(Bug::LineIgnored);
        if beyond {
            by = Some(raised().ok_or(NotStanding::BeyondLine)?);
        }
        let readmitted = device.readmitted.get(&at.log.incarnation).copied();
        for quarantine in &device.quarantines {
            let before_fork = at.log == quarantine.log && at.sequence < quarantine.position;
            let named = quarantine.named(&at.log, coverage).is_some_and(within);
            if before_fork || named {
                continue;
            }
            // Of the forked log itself two histories can't both count: there a raise says which does.
            let readmitted = readmitted.filter(|_| at.log != quarantine.log);
            let lifted = readmitted.into_iter().chain(raised()).reduce(earlier).ok_or(NotStanding::Quarantined)?;
            // What lifts one of them doesn't lift the other: the later one counts, and one that isn't covered is later.
            by = Some(match by {
                None => lifted,
                Some(by) => by.and_then(|by: Covering| lifted.map(|lifted| by.max(lifted))),
            });
        }
        Ok(by)
    }

    /// The last entry that counts of a log of which two histories are proved: what a checkpoint or a raise named after
    /// the fork, on whichever branch, or else the entry before it.
    pub fn fork_limit(&self, proof: &ForkProof, coverage: &dyn Coverage) -> Head {
        let before = Head { sequence: proof.sequence - 1, hash: proof.previous };
        let Some(device) = self.devices.get(&proof.log.author) else { return before };
        let Some(quarantine) = device.quarantines.iter().find(|quarantine| quarantine.log == proof.log) else {
            return before;
        };
        let named = quarantine.named(&proof.log, coverage);
        let key = (proof.log.incarnation, proof.log.lane);
        let raised = device.raises.iter().filter_map(|(line, _)| line.get(&key).copied()).max();
        let beyond = |head: &Head| head.sequence >= proof.sequence;
        named.filter(beyond).or(raised.filter(beyond)).unwrap_or(before)
    }

    /// Whether an entry counts for what it does: lines, quarantines, validity at its time, and a scope.
    ///
    /// # Errors
    /// The reason why it has no effect.
    pub fn permits(
        &self,
        at: &Position,
        time: u64,
        scope: Scope,
        coverage: &dyn Coverage,
        ancestry: &dyn Ancestry,
    ) -> Result<Option<&Certificate>, NotStanding> {
        self.stands(at, coverage, ancestry)?;
        if at.log.author == self.root {
            return Ok(None);
        }
        let mut valid = self.certificates_at(&at.log.author, time).peekable();
        if valid.peek().is_none() {
            return Err(NotStanding::NotValid);
        }
        valid.find(|certificate| certificate.scopes.allows(scope)).map(Some).ok_or(NotStanding::Scope(scope))
    }

    /// Certificates of a device that are valid at a time, newest first.
    pub fn certificates_at(&self, device: &DeviceId, time: u64) -> impl Iterator<Item = &Certificate> {
        self.certificates(device).filter(move |certificate| certificate.is_valid_at(time))
    }

    /// All effective certificates of a device, valid or not, newest first.
    pub fn certificates(&self, device: &DeviceId) -> impl Iterator<Item = &Certificate> {
        self.issued(device).map(|issued| &issued.certificate)
    }

    /// All effective certificates of a device, newest first, with who gave them and when.
    pub fn issued(&self, device: &DeviceId) -> impl Iterator<Item = &Issued> {
        self.devices.get(device).into_iter().flat_map(|device| &device.issued)
    }

    /// The last millisecond at which any certificate of a device is valid; `None` for strangers and the root.
    pub fn valid_until(&self, device: &DeviceId) -> Option<u64> {
        self.devices.get(device)?.issued.iter().map(|issued| issued.certificate.not_after).max()
    }

    /// The newest certificate of a device, valid or not.
    pub fn certificate(&self, device: &DeviceId) -> Option<&Certificate> {
        self.certificates(device).next()
    }

    /// Where the certificates of a device stand: their issuers' entries, which make it a member.
    pub fn issued_at(&self, device: &DeviceId) -> impl Iterator<Item = Position> + '_ {
        self.devices.get(device).into_iter().flat_map(|device| &device.issued).map(|issued| issued.at)
    }

    /// Whether a device ever got an effective certificate, or is the root.
    pub fn is_known(&self, device: &DeviceId) -> bool {
        *device == self.root || self.devices.contains_key(device)
    }

    /// Who let a device in that is no member for that alone: its issuer's entry lies beyond a line, or after a fork. A raise
    /// of the issuer's line to that entry makes it one.
    pub fn let_in_vain_by(&self, device: &DeviceId) -> Option<&DeviceId> {
        self.let_in_vain.get(device).filter(|_| !self.is_known(device))
    }

    /// Whether a revocation names the device.
    pub fn is_revoked(&self, device: &DeviceId) -> bool {
        self.devices.get(device).is_some_and(|device| !device.revocations.is_empty())
    }

    /// Whether a fork proof names the device and this incarnation of it is not admitted again.
    pub fn is_quarantined(&self, device: &DeviceId, incarnation: &Incarnation) -> bool {
        self.devices
            .get(device)
            .is_some_and(|device| !device.quarantines.is_empty() && !device.readmitted.contains_key(incarnation))
    }

    /// The role in the newest certificate.
    pub fn role(&self, device: &DeviceId) -> Option<Role> {
        self.certificate(device).map(|certificate| certificate.role)
    }

    /// The stall in the newest certificate.
    pub fn stall(&self, device: &DeviceId) -> Option<&str> {
        self.certificate(device).map(|certificate| certificate.stall.as_str()).filter(|stall| !stall.is_empty())
    }

    /// All devices with an effective certificate.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.devices.keys()
    }

    /// The market's root key.
    pub fn root(&self) -> DeviceId {
        self.root
    }

    /// How many revocations and raises have effect: the version that checkpoints carry.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Facts that are kept but have no effect, with the reason.
    pub fn refused(&self) -> &BTreeMap<Position, RefusedFact> {
        &self.refused
    }
}

/// When an entry counts as written: its timestamp, not before the checkpoint that its author had seen, not after the
/// first one that covers it ([`Membership::covered`]). So one wrong clock moves nobody else, and nobody can backdate.
pub fn effective_time(timestamp: u64, seen: &[u8; 8], covering: Option<Covering>, coverage: &dyn Coverage) -> u64 {
    let floor = coverage.time_seen(seen).unwrap_or(0);
    let ceiling = covering.map_or(u64::MAX, |covering| covering.time);
    timestamp.min(ceiling).max(floor.min(ceiling))
}

fn quarantines(proofs: &[ProofFact], coverage: &dyn Coverage) -> BTreeMap<DeviceId, Vec<Quarantine>> {
    let mut forks: BTreeMap<LogName, (u64, Option<Covering>)> = BTreeMap::new();
    for fact in proofs {
        let covering = fact.published.iter().filter_map(|at| coverage.covered_by(&at.log, at.sequence)).min();
        let fork = forks.entry(fact.proof.log).or_insert((fact.proof.sequence, covering));
        fork.0 = match planted::is_on(Bug::LaterFork) {
            true => fork.0.max(fact.proof.sequence),
            false => fork.0.min(fact.proof.sequence),
        };
        fork.1 = match (fork.1, covering) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    let mut by_device: BTreeMap<DeviceId, Vec<Quarantine>> = BTreeMap::new();
    if planted::is_on(Bug::ForkPosted) {
        return by_device;
    }
    for (log, (position, covering)) in forks {
        by_device.entry(log.author).or_default().push(Quarantine {
            log,
            position,
            frozen: covering.and_then(|covering| covering.ordinal.checked_sub(1)),
            covered: covering.is_some(),
        });
    }
    by_device
}

/// Lifts a line to what a checkpoint named as standing, also of logs that the line leaves out.
fn raise_to_standing(line: &mut Line, subject: &DeviceId, ordinal: u64, coverage: &dyn Coverage) {
    for (log, standing) in coverage.standing_of(ordinal, subject) {
        let head = line.entry((log.incarnation, log.lane)).or_insert(standing);
        if head.sequence < standing.sequence {
            *head = standing;
        }
    }
}

/// Reads a payload of the `control` lane that is about membership; `None` for other kinds.
///
/// # Errors
/// The payload has no effect, and why.
pub fn read_control(kind: crate::Kind, bytes: &[u8]) -> Result<Option<ControlBody>, PayloadError> {
    use crate::Kind;
    Ok(Some(match kind {
        Kind::CERTIFICATE => ControlBody::Certificate(Certificate::from_payload(bytes)?),
        Kind::REVOCATION => {
            let message: payload::Revocation = payload::decode("revocation", bytes)?;
            ControlBody::Revocation {
                device: fixed("device", &message.device)?,
                line: read_line(&message.line)?,
                reason: message.reason,
                below_standing: message.below_standing,
            }
        }
        Kind::RAISE => {
            let message: payload::Raise = payload::decode("raise", bytes)?;
            ControlBody::Raise { device: fixed("device", &message.device)?, line: read_line(&message.line)? }
        }
        Kind::READMISSION => {
            let message: payload::Readmission = payload::decode("readmission", bytes)?;
            ControlBody::Readmission {
                device: fixed("device", &message.device)?,
                incarnation: fixed("incarnation", &message.incarnation)?,
            }
        }
        _ => return Ok(None),
    }))
}

/// Reads heads as a line: ascending, each log once.
///
/// # Errors
/// A field has the wrong length, or the heads are not ascending.
pub fn read_line(heads: &[payload::LogHead]) -> Result<Line, PayloadError> {
    let mut line = Line::new();
    for head in heads {
        let key = (fixed("line.incarnation", &head.incarnation)?, Lane(head.lane));
        if line.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(PayloadError::field("line", "is not ascending"));
        }
        line.insert(key, Head { sequence: head.sequence, hash: fixed("line.hash", &head.hash)? });
    }
    Ok(line)
}

/// Writes a line as heads.
pub fn write_line(line: &Line) -> Vec<payload::LogHead> {
    line.iter()
        .map(|((incarnation, lane), head)| payload::LogHead {
            incarnation: incarnation.as_bytes().to_vec(),
            lane: lane.0,
            sequence: head.sequence,
            hash: head.hash.as_bytes().to_vec(),
        })
        .collect()
}
