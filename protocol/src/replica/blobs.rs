//! Blobs: what entries name by hash alone, asked for of one peer after another.

use std::collections::BTreeSet;

use super::{Channel, Holdings, Output, RESTRICTED, RefusalCode, Replica, SessionId};
use crate::hash::{Domain, Hash, hash};
use crate::wire;

/// Each time that all peers were asked in vain the wait is twice as long, so many times: from a fifth of a second to
/// 100 s. A blob may have been lost with its maker, and all who pass on a request for it ask for it, too.
const ROUNDS_MAX: u32 = 10;

/// A blob that somebody here waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct BlobWant {
    /// Who was asked in this round.
    asked: BTreeSet<SessionId>,
    /// How often everybody was asked.
    rounds: u32,
    /// The request that is outstanding.
    request: u64,
    deadline: Option<u64>,
}

impl BlobWant {
    pub(super) fn next_timeout(&self) -> Option<u64> {
        self.deadline
    }
}

impl Replica {
    /// Asks for a blob, of one peer after another.
    pub fn want_blob(&mut self, hash: Hash, now: u64) {
        if let std::collections::btree_map::Entry::Vacant(place) = self.blobs.entry(hash) {
            place.insert(BlobWant::default());
            self.ask_for_blob(hash, now);
        }
    }

    fn ask_for_blob(&mut self, hash: Hash, now: u64) {
        let greeted: Vec<SessionId> = self.greeted().collect();
        let Some(want) = self.blobs.get_mut(&hash) else { return };
        match greeted.into_iter().find(|session| !want.asked.contains(session)) {
            Some(session) => self.ask_peer_for_blob(hash, session, now),
            None => {
                // Everybody was asked: begin again later, for they may have it by then.
                want.asked.clear();
                want.rounds = (want.rounds + 1).min(ROUNDS_MAX);
                want.deadline = Some(now + (self.limits.repair_ms << want.rounds));
            }
        }
    }

    fn ask_peer_for_blob(&mut self, hash: Hash, session: SessionId, now: u64) {
        let deadline = now + self.limits.request_ms;
        let request = self.request();
        let Some(want) = self.blobs.get_mut(&hash) else { return };
        want.asked.insert(session);
        (want.deadline, want.request) = (Some(deadline), request);
        let body = wire::frame::Body::WantBlob(wire::WantBlob { request, hash: hash.as_bytes().to_vec() });
        self.send(session, Channel::Live, body);
    }

    /// Somebody new may have what nobody else had: asks it for what waits for the next round.
    pub(super) fn ask_newcomer_for_blobs(&mut self, session: SessionId, now: u64) {
        let waiting = self.blobs.iter().filter(|(_, want)| want.asked.is_empty()).map(|(hash, _)| *hash);
        for hash in waiting.collect::<Vec<_>>() {
            // The others have only just been asked.
            let others: Vec<SessionId> = self.greeted().collect();
            if let Some(want) = self.blobs.get_mut(&hash) {
                want.asked.extend(others);
            }
            self.ask_peer_for_blob(hash, session, now);
        }
    }

    pub(super) fn blob_timeouts(&mut self, now: u64) {
        let late = self.blobs.iter().filter(|(_, want)| want.deadline.is_some_and(|deadline| deadline <= now));
        for hash in late.map(|(hash, _)| *hash).collect::<Vec<_>>() {
            self.ask_for_blob(hash, now);
        }
    }

    /// A session is gone: what was asked of it is asked of others.
    pub(super) fn forget_blob_requests(&mut self, session: SessionId) {
        for want in self.blobs.values_mut().filter(|want| want.asked.contains(&session)) {
            want.deadline = want.deadline.map(|_| 0);
        }
    }

    /// A peer hasn't got it, or has no room for it now: the next one is asked, in a moment.
    pub(super) fn blob_refused(&mut self, session: SessionId, request: u64, now: u64) {
        let have_ms = self.limits.have_ms;
        let want = self.blobs.values_mut().find(|want| want.request == request && want.asked.contains(&session));
        if let Some(want) = want {
            want.deadline = Some(want.deadline.unwrap_or(u64::MAX).min(now + have_ms));
        }
    }

    pub(super) fn handle_want_blob(&mut self, session: SessionId, want: &wire::WantBlob, holdings: &dyn Holdings) {
        let Ok(hash) = Hash::try_from(want.hash.as_slice()) else {
            return self.close(session, "E_DECODE: a blob's hash has 32 bytes");
        };
        if self.is_restricted(session) {
            let refusal = wire::Refusal {
                request: want.request,
                log: None,
                code: RefusalCode::NotAllowed.number(),
                detail: RESTRICTED.into(),
                retry_after_ms: 0,
            };
            return self.send(session, Channel::Live, wire::frame::Body::Refusal(refusal));
        }
        let room = self.bulk_room(session) > 0;
        let held = holdings.blob(&hash);
        if held.is_none() {
            self.outputs.push_back(Output::BlobAsked { hash });
        }
        let body = match held.filter(|_| room) {
            Some(bytes) => {
                wire::frame::Body::Blob(wire::Blob { request: want.request, hash: want.hash.clone(), bytes })
            }
            None => wire::frame::Body::Refusal(wire::Refusal {
                request: want.request,
                log: None,
                code: if room { RefusalCode::NotHeld } else { RefusalCode::Busy }.number(),
                detail: String::new(),
                retry_after_ms: 1000,
            }),
        };
        self.send(session, Channel::Bulk, body);
    }

    pub(super) fn handle_blob(&mut self, blob: wire::Blob) {
        let hash = hash(Domain::Blob, &blob.bytes);
        // A wrong blob is as good as none: the next peer is asked when the time is up.
        if self.blobs.remove(&hash).is_some() {
            self.outputs.push_back(Output::Blob { hash, bytes: blob.bytes });
        }
    }
}
