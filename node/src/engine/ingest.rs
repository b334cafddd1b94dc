//! What becomes of pages that peers send: verified whole, kept, read.

use std::collections::BTreeSet;

use stallmesh_protocol::entry::{Part, PartBody};
use stallmesh_protocol::fork::{ForkProof, branch_of};
use stallmesh_protocol::hash::{Domain, hash};
use stallmesh_protocol::membership::Position;
use stallmesh_protocol::page::{Page, VerifiedPage};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::replica::{PageOutcome, RefusalCode, SessionId};
use stallmesh_protocol::{DeviceId, Hash, Head, Kind, Lane, LogName, MarketId};

use super::logs::{Held, Inserted};
use super::views::Views;
use super::{Engine, Notice};
use crate::link::LinkId;
use crate::store::{Store, StoreError, Table};

/// How many proofs there may be before those about authors without a certificate are passed over.
const PROOFS_OF_STRANGERS_MAX: usize = 64;

impl<S: Store> Engine<S> {
    /// A page has arrived on a session.
    pub(crate) fn deliver(&mut self, session: SessionId, request: u64, log: LogName, bytes: &[u8], custody: bool) {
        let Some(verified) = self.verify(session, &log, bytes) else { return };
        if log.lane.is_sealed() {
            if custody {
                self.take_sealed(session, log, verified);
            }
            return;
        }
        if !log.lane.is_kept_by_all() || !self.may_write(&log) {
            // Unknown lanes and authors: nobody is to blame, and nothing is kept.
            if let Some(replica) = &mut self.replica {
                replica.refuse(
                    session,
                    log,
                    RefusalCode::NotAllowed,
                    "its author is not known as a member here",
                    5_000,
                );
            }
            return;
        }
        if !self.may_hold(&log) {
            return self.put_off(session, log);
        }
        let last = verified.head();
        let first = verified.page().first;
        let inserted = self.logs.insert(&mut self.overlay, &log, &verified);
        let Some(inserted) = self.guard(inserted) else { return };
        let outcome = match inserted {
            Inserted::New(new) => {
                self.grown.entry(log).or_insert(Some(session));
                self.take_in(&new);
                let empty = |held: &Held| self.views.ineffective.contains_key(&super::views::position(held));
                if planted::is_on(Bug::BlameBearer) && new.iter().any(empty) {
                    self.close_for_fault(LinkId(session.0), "an entry that says nothing".into());
                }
                PageOutcome::Stored
            }
            Inserted::Duplicate => PageOutcome::Duplicate,
            Inserted::Gap => PageOutcome::Gap,
            Inserted::Diverges if self.is_explained(session, log, first) => PageOutcome::Forked,
            Inserted::Diverges => PageOutcome::Diverges { first },
            Inserted::Fork { sequence, previous, .. } => {
                self.prove_fork(log, sequence, previous, &verified);
                if self.changes_branch(session, log, sequence, &verified) {
                    PageOutcome::Stored
                } else {
                    PageOutcome::Forked
                }
            }
            Inserted::TooScattered => PageOutcome::Declined,
        };
        if let Some(proof) = self.views.earliest_fork(&log).cloned() {
            self.settle_fork(&proof);
        }
        // The clock says the new head before the peer is told what became of its page.
        self.note_stored(log, session);
        if let Some(replica) = &mut self.replica {
            replica.page_result(session, request, log, last, outcome, self.now.monotonic_ms);
        }
    }

    /// Of a log whose fork is known, every page of the other branch diverges. It may part earlier than is known, so a
    /// link's branch is followed back once, and no page that lies after where it was seen to diverge says anything new.
    fn is_explained(&mut self, session: SessionId, log: LogName, first: u64) -> bool {
        let Some(parted) = self.views.earliest_fork(&log).map(|proof| proof.sequence) else { return false };
        // Once another branch counts, all of them may have to be looked at again.
        let limit = self.fork_limits.get(&log).copied().unwrap_or(Head::EMPTY);
        let lowest = self.divergences.entry((session, log, parted, limit)).or_insert(u64::MAX);
        let explained = first >= *lowest;
        *lowest = first.min(*lowest);
        explained
    }

    fn note_stored(&mut self, log: LogName, session: SessionId) {
        let head = self.head_of(&log);
        let now = self.now.monotonic_ms;
        if let Some(replica) = &mut self.replica {
            let holdings = super::HoldingsView { logs: &self.logs, overlay: &self.overlay };
            replica.note_head(log, head, Some(session), now, &holdings);
        }
    }

    /// Decodes and verifies; a page that doesn't hold is refused whole and its sender's link ends, for an honest holder
    /// never passes such a page on.
    fn verify(&mut self, session: SessionId, log: &LogName, bytes: &[u8]) -> Option<VerifiedPage> {
        let id = self.logs.id(log);
        match Page::decode(bytes).and_then(|page| page.verify(&id, &log.author)) {
            Ok(verified) => {
                let missing = self.lacks_a_part(log, &verified);
                if missing {
                    // Without an erasure the entry isn't held, and nobody is to blame: its erasure may be on its way.
                    if let Some(replica) = &mut self.replica {
                        replica.refuse(session, *log, RefusalCode::Incomplete, "a part is missing", 5_000);
                    }
                    return None;
                }
                Some(verified)
            }
            Err(error) => {
                let peer = self.peer_of(session).map(|peer| peer.short()).unwrap_or_default();
                tracing::warn!(peer, %log.lane, %error, "refused a page");
                self.close_for_fault(LinkId(session.0), format!("a page that doesn't hold: {error}"));
                None
            }
        }
    }

    /// Whether a personal part is missing without an erasure that is known here: then the entry isn't held.
    pub(crate) fn lacks_a_part(&self, log: &LogName, verified: &VerifiedPage) -> bool {
        verified.iter().any(|(sequence, hash, entry)| {
            matches!(entry.payload.part(Part::Personal), Some(PartBody::Erased(_)))
                && !self.is_erased(&Position { log: *log, sequence, hash })
        })
    }

    /// Whether pages of this author are taken: it is, or was, a member, or the root.
    fn may_write(&self, log: &LogName) -> bool {
        planted::is_on(Bug::StrangerKept) || self.views.membership.is_known(&log.author)
    }

    /// Reads new entries into the views.
    pub(crate) fn take_in(&mut self, new: &[Held]) {
        self.books.changed(new.iter().any(|held| held.log.lane == Lane::LEDGER));
        self.own_entries_came(new);
        let mut catalog = false;
        let mut joining = false;
        for held in new {
            if planted::is_on(Bug::BehindView) && held.entry.kind == Kind::PRODUCTS && held.sequence > 2 {
                continue;
            }
            self.views.insert(held);
            catalog |= held.entry.kind == Kind::PRODUCTS;
            match held.entry.kind {
                Kind::PAYMENT_OUTCOME => self.outcome_came(held),
                Kind::PAYMENT_INTENT | Kind::PAYMENT_VOID => self.payment_came(held),
                _ => {}
            }
            joining |= matches!(held.entry.kind, Kind::JOIN_REQUEST | Kind::JOIN_CHALLENGE | Kind::JOIN_REFUSAL);
            if matches!(held.entry.kind, Kind::FORK_PROOF | Kind::FORK_RESTATED)
                && let Some(bytes) = held.entry.payload.bytes(Part::Public)
                && let Ok(proof) = ForkProof::from_payload(bytes)
                && self.market.is_some_and(|market| proof.verify(&market.id).is_ok())
            {
                self.take_proof(proof, bytes.to_vec());
            }
        }
        self.sales_came(new);
        self.catalogs_came(new);
        self.carry_out_erasures();
        if let Some(held) = new.first() {
            self.heard_of(&held.log.author);
        }
        if catalog {
            self.notice(Notice::Catalog);
        }
        // Somebody waits at a door: not until the next checkpoint changes what stands.
        if joining {
            self.judge_joins();
        }
    }

    /// A page of `control` from the gate: what makes its bringer a member, or this device.
    pub(crate) fn take_control_page(&mut self, log: &LogName, bytes: &[u8]) -> Result<(), String> {
        let id = self.logs.id(log);
        let verified =
            Page::decode(bytes).and_then(|page| page.verify(&id, &log.author)).map_err(|error| error.to_string())?;
        if !self.may_hold(log) {
            return Err("its author has started too often since the last checkpoint that is known here".into());
        }
        let inserted = self.logs.insert(&mut self.overlay, log, &verified);
        match self.guard(inserted) {
            Some(Inserted::New(new)) => {
                self.grown.entry(*log).or_insert(None);
                self.take_in(&new);
            }
            Some(Inserted::Fork { sequence, previous, .. }) => self.prove_fork(*log, sequence, previous, &verified),
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Two histories of a log on a lane that everyone keeps: ours, and the page's.
    fn prove_fork(&mut self, log: LogName, sequence: u64, previous: Hash, page: &VerifiedPage) {
        let id = self.logs.id(&log);
        let Some(theirs) = branch_of(page, &id, &log.author, sequence) else { return };
        let hash = self.logs.hash_at(&self.overlay, &log, sequence);
        let Some(hash) = self.guard(hash).flatten() else { return };
        let ours = self.logs.branch(&self.overlay, &log, Head { sequence, hash });
        let Some(ours) = self.guard(ours).flatten() else { return };
        self.found_fork(log, sequence, previous, [ours, theirs]);
    }

    /// Two branches of a sealed log, both held.
    pub(crate) fn prove_held_fork(&mut self, log: LogName, sequence: u64, previous: Hash) {
        let held = self.logs.held_at(&self.overlay, &log, sequence);
        let held: Vec<Held> =
            self.guard(held).unwrap_or_default().into_iter().filter(|held| held.previous == previous).collect();
        let [one, other, ..] = held.as_slice() else { return };
        let mut branches = Vec::new();
        for held in [one, other] {
            let branch = self.logs.branch(&self.overlay, &log, Head { sequence, hash: held.hash });
            branches.extend(self.guard(branch).flatten());
        }
        if let Ok(branches) = <[_; 2]>::try_from(branches) {
            self.found_fork(log, sequence, previous, branches);
        }
    }

    fn found_fork(
        &mut self,
        log: LogName,
        sequence: u64,
        previous: Hash,
        branches: [stallmesh_protocol::fork::Branch; 2],
    ) {
        let Some(market) = self.market else { return };
        let Ok(proof) = ForkProof::new(&market.id, log, sequence, previous, branches) else { return };
        let bytes = proof.to_payload();
        self.take_proof(proof, bytes);
    }

    /// A fork proof from a peer, ahead of the entries that carry it.
    pub(crate) fn evidence(&mut self, session: SessionId, bytes: &[u8]) {
        let Some(market) = self.market else { return };
        match ForkProof::from_payload(bytes).map_err(|error| error.to_string()).and_then(|proof| {
            proof.verify(&market.id).map_err(|error| error.to_string())?;
            Ok(proof)
        }) {
            Ok(proof) => self.take_proof(proof, bytes.to_vec()),
            Err(_) if planted::is_on(Bug::ProofUnverified) => {
                if let Ok(proof) = ForkProof::from_payload(bytes) {
                    self.take_proof(proof, bytes.to_vec());
                }
            }
            Err(reason) => {
                self.close_for_fault(LinkId(session.0), format!("a proof that proves nothing: {reason}"));
            }
        }
    }

    /// Keeps a verified proof, spreads it, and publishes it where this device may.
    pub(crate) fn take_proof(&mut self, proof: ForkProof, bytes: Vec<u8>) {
        let key = hash(Domain::Blob, &bytes);
        let (author, lane, sequence) = (proof.log.author, proof.log.lane, proof.sequence);
        let known = self.views.earliest_fork(&proof.log);
        let earliest = known.is_none_or(|known| sequence < known.sequence);
        // Of a log the earliest proof alone says something new. A cheat could make any number of others from as many
        // histories, and a stranger's key from logs that never were.
        let redundant = known
            .is_some_and(|known| *known != proof && (known.sequence, known.previous) <= (sequence, proof.previous));
        let stranger = !self.views.membership.is_known(&author);
        if redundant || (stranger && self.views.proofs().count() >= PROOFS_OF_STRANGERS_MAX) {
            return;
        }
        self.views.insert_proof(proof.clone(), None);
        let known = self.overlay.get(Table::Evidence, key.as_bytes());
        let known = self.guard(known).flatten().is_some();
        self.settle_fork(&proof);
        if let Some(replica) = &mut self.replica
            && !planted::is_on(Bug::ForkKept)
        {
            replica.note_evidence(key, bytes.clone());
        }
        if known {
            return;
        }
        self.overlay.put(Table::Evidence, *key.as_bytes(), bytes.clone());
        if stranger || planted::is_on(Bug::ForkKept) {
            return;
        }
        self.alarm(format!(
            "device {} signed two histories of its {lane} log, from sequence {sequence} on: it is quarantined",
            author.short()
        ));
        // Whoever finds an earlier fork says so; the hub restates what it learns.
        if earliest && self.is_member() {
            let (lane, kind) =
                if self.is_hub() { (Lane::CONTROL, Kind::FORK_RESTATED) } else { (Lane::SIGNAL, Kind::FORK_PROOF) };
            if let Err(error) = self.append_public(lane, kind, bytes) {
                tracing::warn!(%error, "a fork proof could not be published");
            }
        }
    }

    pub(crate) fn load_proofs(&mut self) -> Result<(), StoreError> {
        for (_, bytes) in self.overlay.scan_prefix(Table::Evidence, &[])? {
            if let Ok(proof) = ForkProof::from_payload(&bytes) {
                self.views.insert_proof(proof, None);
            }
        }
        Ok(())
    }

    pub(crate) fn forks_into_replica(&mut self) {
        let forks: Vec<Vec<u8>> = self.views.proofs().map(|fact| fact.proof.to_payload()).collect();
        if let Some(replica) = &mut self.replica {
            forks.into_iter().for_each(|bytes| replica.note_evidence(hash(Domain::Blob, &bytes), bytes));
        }
        self.settle_forks();
    }

    /// After the views have changed: what counts of forked logs may have, too.
    pub(crate) fn settle_forks(&mut self) {
        let logs: BTreeSet<LogName> = self.views.proofs().map(|fact| fact.proof.log).collect();
        let earliest: Vec<ForkProof> = logs.iter().filter_map(|log| self.views.earliest_fork(log)).cloned().collect();
        earliest.iter().for_each(|proof| self.settle_fork(proof));
    }

    /// Of a forked log of a lane that everyone keeps every node must end up with the same branch: what was held of
    /// another one goes, and replication asks for the right one, as far as it counts.
    fn settle_fork(&mut self, proof: &ForkProof) {
        let log = proof.log;
        if !log.lane.is_kept_by_all() || log.author == self.device.id() {
            return;
        }
        let limit = self.views.membership.fork_limit(proof, &self.views.coverage);
        let head = self.head_of(&log);
        let at_limit = self.logs.hash_at(&self.overlay, &log, limit.sequence);
        let Some(at_limit) = self.guard(at_limit) else { return };
        let known = self.fork_limits.insert(log, limit) == Some(limit);
        let wrong = if head.sequence >= limit.sequence {
            limit.sequence > 0 && at_limit != Some(limit.hash)
        } else {
            // A branch that doesn't reach the limit can't show whether it leads there: it is fetched anew, once.
            head.sequence >= proof.sequence && !known
        };
        if wrong {
            let cut = self.logs.cut(&mut self.overlay, &log, proof.sequence - 1);
            self.guard(cut);
            self.reread_views();
        }
        let head = self.head_of(&log);
        if let Some(replica) = &mut self.replica {
            replica.note_forked(log, head, limit, self.now.monotonic_ms);
        }
    }

    /// A page shows another branch of a forked log than the one that is held. Takes it instead where it leads to what
    /// counts; where neither of the two can show that yet, once for each link.
    fn changes_branch(&mut self, session: SessionId, log: LogName, sequence: u64, page: &VerifiedPage) -> bool {
        let Some(limit) = self.fork_limits.get(&log).copied().filter(|limit| sequence <= limit.sequence) else {
            return false;
        };
        let at_limit = self.logs.hash_at(&self.overlay, &log, limit.sequence);
        if self.guard(at_limit).flatten() == Some(limit.hash) {
            return false;
        }
        let leads = match page.iter().find(|(at, _, _)| *at == limit.sequence) {
            Some((_, hash, _)) => hash == limit.hash,
            None => self.branches_tried.insert((session, log, limit)),
        };
        if !leads {
            return false;
        }
        let cut = self.logs.cut(&mut self.overlay, &log, sequence - 1);
        self.guard(cut);
        let inserted = self.logs.insert(&mut self.overlay, &log, page);
        let taken = matches!(self.guard(inserted), Some(Inserted::New(_)));
        self.reread_views();
        if taken {
            self.grown.entry(log).or_insert(Some(session));
        }
        taken
    }

    /// Reads all that is held into new views: something that was held is held no more.
    fn reread_views(&mut self) {
        let read = self.read_views();
        if let Some(mut views) = self.guard(read) {
            views.copy_leaves(&self.views);
            for (device, clones) in self.views.known_clones() {
                views.note_clones(*device, *clones);
            }
            for fact in self.views.proofs() {
                views.insert_proof(fact.proof.clone(), None);
            }
            self.views = views;
            self.finder = super::catalog::Finder::default();
            self.views.refresh();
        }
    }

    pub(crate) fn read_views(&self) -> Result<Views, StoreError> {
        let nowhere = (DeviceId::default(), MarketId::from_bytes([0; 32]));
        let (root, id) = self.market.map_or(nowhere, |market| (market.root, market.id));
        let mut views = Views::new(root, id);
        for (name, record) in self.logs.iter() {
            for run in &record.runs {
                for held in self.logs.entries(&self.overlay, name, run, run.from, run.to, usize::MAX)? {
                    views.insert(&held);
                }
            }
        }
        Ok(views)
    }
}
