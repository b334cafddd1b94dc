//! What goes with the first packets on the way to a hub, and what a hub makes of it.
//!
//! Such a packet may be a copy that somebody sends again, and its sender may be gone: so it carries sealed entries alone,
//! of which a second copy changes nothing, and the hub counts nobody as here because of it. Only a member to whom nothing
//! is held against is listened to. The answer is the hub's word on each log; without one, all goes the usual way.

use std::collections::BTreeSet;

use prost::Message;
use stallmesh_protocol::page::Page;
use stallmesh_protocol::replica::SessionId;
use stallmesh_protocol::wire::frame::Body;
use stallmesh_protocol::{DeviceId, Lane, LogName, wire};

use crate::engine::logs::Run;
use crate::engine::{Effect, Engine};
use crate::link::{LinkCommand, LinkId, Road};
use crate::phases;
use crate::store::Store;

/// Bytes of frames: with the handshake they fit the first window that QUIC opens, so nothing waits for an answer.
const BYTES_MAX: usize = 8 * 1024;
/// Logs that are looked through for it: own ones first.
const LOGS_MAX: usize = 64;

impl<S: Store> Engine<S> {
    /// Sealed entries that no hub has acknowledged, as frames: own ones first, of each log the newest.
    pub(crate) fn submission(&mut self) -> Vec<Vec<u8>> {
        let own = self.device.id();
        if !self.is_member() || self.views.membership.is_revoked(&own) {
            return Vec::new();
        }
        let mut logs: Vec<(LogName, Vec<Run>)> = self
            .logs
            .iter()
            .filter(|(name, _)| name.lane == Lane::SALES)
            .map(|(name, record)| (*name, record.runs.clone()))
            .collect();
        logs.sort_by_key(|(name, _)| (name.author != own, name.incarnation != self.incarnation));
        let (mut frames, mut room) = (Vec::new(), BYTES_MAX);
        for (log, runs) in logs.into_iter().take(LOGS_MAX) {
            for run in runs.iter().rev() {
                let Some(pages) = self.submission_of(&log, run, room) else { continue };
                let pages: Vec<Vec<u8>> = pages.into_iter().map(|page| page_frame(&log, page.encode())).collect();
                let bytes: usize = pages.iter().map(Vec::len).sum();
                // A key entry without what it opens is of no use, nor the other way round.
                if bytes <= room {
                    room -= bytes;
                    frames.extend(pages);
                }
            }
        }
        frames
    }

    /// The newest waiting entries of a run, after the key entries that they need.
    fn submission_of(&mut self, log: &LogName, run: &Run, room: usize) -> Option<Vec<Page>> {
        let waiting = self.waiting_of(log, run);
        let newest = waiting.iter().map(|(_, to)| *to).max()?;
        let oldest = waiting.iter().map(|(from, _)| *from).min()?;
        // What a page and its frame cost beside the entries.
        let bytes = room.checked_sub(512)?;
        let from = self.start_within(log, run, oldest, newest, bytes);
        let page = self.page_through(log, run, from, newest, bytes)?;
        let received = self.received_of(log, run);
        let keys: BTreeSet<u64> = page.entries.iter().filter_map(|entry| entry.payload.key).collect();
        let mut pages = Vec::new();
        for key in keys {
            let known = received.iter().any(|(from, to)| (*from..=*to).contains(&key));
            if key < page.first && !known && key >= run.from {
                pages.extend(self.page_through(log, run, key, key, bytes));
            }
        }
        pages.push(page);
        Some(pages)
    }

    /// Hub: sealed entries have come, maybe ahead of a handshake, maybe as a copy.
    pub(crate) fn submitted(&mut self, link: LinkId, peer: DeviceId, frame: &[u8]) {
        self.received_bytes += frame.len() as u64;
        if !self.is_hub() || !self.views.membership.is_known(&peer) || self.is_restricted(&peer) {
            tracing::debug!(peer = %peer.short(), "entries are handed in by whoever may not, and not taken");
            return;
        }
        let Ok(wire::Frame { body: Some(Body::Page(page)) }) = wire::Frame::decode(frame) else { return };
        let Some(log) = page.log.as_ref().and_then(wire::LogName::to_domain) else { return };
        if log.lane != Lane::SALES || !page.custody {
            return;
        }
        // Nobody loses a link for what may be another's copy: what doesn't hold is passed over.
        let id = self.logs.id(&log);
        let verified = Page::decode(&page.page).and_then(|page| page.verify(&id, &log.author));
        let Ok(verified) = verified else { return };
        if self.lacks_a_part(&log, &verified) {
            return;
        }
        phases::reached("submitted");
        let (first, last) = (verified.page().first, verified.page().last());
        tracing::debug!(peer = %peer.short(), first, last, "entries came ahead of a session");
        let session = SessionId(link.0);
        self.custody.submitting = Some((session, peer));
        self.take_sealed(session, log, verified);
        self.custody.submitting = None;
        if !self.links.contains_key(&link) {
            // It may never come up, and then nothing would say that it is down.
            self.custody.forget_session(session);
        }
        if let Some(known) = self.custody.received.get(&log) {
            let frame = wire::Frame { body: Some(Body::Acknowledgement(known.to_wire())) }.encode_to_vec();
            self.sent_bytes += frame.len() as u64;
            self.effects.push(Effect::Link(Road::Uplink, LinkCommand::Answer { link, frame }));
        }
    }

    /// What a hub answered to what was submitted. Its signature counts, not who brings it.
    pub(crate) fn submission_answered(&mut self, frame: &[u8]) {
        self.received_bytes += frame.len() as u64;
        if let Ok(wire::Frame { body: Some(Body::Acknowledgement(acknowledgement)) }) = wire::Frame::decode(frame) {
            phases::reached("acknowledged");
            self.acknowledged(None, &acknowledgement);
        }
    }
}

fn page_frame(log: &LogName, page: Vec<u8>) -> Vec<u8> {
    let page = wire::Page { request: 0, log: Some(log.into()), page, custody: true, unpacked: 0 };
    wire::Frame { body: Some(Body::Page(page)) }.encode_to_vec()
}
