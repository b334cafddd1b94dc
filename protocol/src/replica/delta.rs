//! What changed since two agreed: logs that were there by their place among them, others by name.

use super::clock::Clock;
use super::compare::DELTA_MAX;
use super::runs::{self, HASH_BYTES, Told};
use super::{Channel, Holdings, Replica, SessionId};
use crate::codec::{CodecError, Reader, put_varint};
use crate::id::LogName;
use crate::wire;

/// With more changes than that one byte of each hash is said. What that misses, the next fingerprint finds.
const MANY: usize = 64;

/// What changed in a clock since a version: logs that were there by their place, others by name.
pub(super) fn changes(clock: &Clock, since: u64) -> Vec<u8> {
    let (mut changed, mut new, mut place) = (Vec::new(), Vec::new(), 0_u64);
    for (log, known) in clock.iter() {
        if known.created > since {
            new.push((*log, runs::told(&known.head)));
            continue;
        }
        if known.changed > since {
            changed.push((place, runs::told(&known.head)));
        }
        place += 1;
    }
    if changed.is_empty() && new.is_empty() {
        return Vec::new();
    }
    let prefix = if changed.len() + new.len() > MANY { 1 } else { 2 };
    let mut out = vec![prefix as u8];
    put_varint(&mut out, changed.len() as u64);
    let mut next = 0;
    for (place, told) in &changed {
        put_varint(&mut out, place - next);
        runs::put_told(&mut out, told, prefix);
        next = place + 1;
    }
    if !new.is_empty() {
        runs::put_named(&mut out, &new, prefix);
    }
    out
}

/// Reads what [`changes`] writes: how many bytes of hashes there are, logs by place, logs by name.
type Changes = (usize, Vec<(u64, Told)>, Vec<(LogName, Told)>);

fn read_changes(bytes: &[u8]) -> Result<Changes, CodecError> {
    if bytes.is_empty() {
        return Ok((0, Vec::new(), Vec::new()));
    }
    let mut reader = Reader::new(bytes);
    let prefix = usize::from(reader.u8("changes")?);
    if prefix > HASH_BYTES {
        return Err(CodecError::TooLarge("a hash"));
    }
    let count = reader.length(reader.remaining(), "changes")?;
    let (mut changed, mut next) = (Vec::new(), 0_u64);
    for _ in 0..count {
        let place = next.checked_add(reader.varint("a place")?).ok_or(CodecError::TooLarge("a place"))?;
        changed.push((place, runs::read_told(&mut reader, prefix)?));
        next = place.checked_add(1).ok_or(CodecError::TooLarge("a place"))?;
    }
    let new = if reader.remaining() > 0 { runs::read_named(&mut reader, prefix)? } else { Vec::new() };
    reader.finish()?;
    Ok((prefix, changed, new))
}

impl Replica {
    pub(super) fn send_delta(&mut self, session: SessionId, changes: Vec<u8>, own: bool) {
        self.send(session, Channel::Live, wire::frame::Body::Delta(wire::Delta { changes, own }));
    }

    /// What changed at a peer since both agreed.
    pub(super) fn handle_delta(&mut self, session: SessionId, delta: &wire::Delta, now: u64, holdings: &dyn Holdings) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.comparison.passes_over_summary = false;
        let base = if delta.own { state.comparison.based } else { state.comparison.offered };
        // A restricted peer is told of less than what changed.
        let Some(base) = base.filter(|_| !state.restricted) else { return };
        let read = read_changes(&delta.changes);
        let Ok((prefix, changed, new)) = read else {
            return self.close(session, "E_DECODE: damaged changes");
        };
        let logs = self.clock.len() as u64;
        if !self.may_answer(session, delta.changes.len() as u64 + logs, now) {
            return;
        }
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.theirs.begin(base, &self.clock);
        let there: Vec<LogName> = if changed.is_empty() {
            Vec::new()
        } else {
            self.clock.iter().filter(|(_, known)| known.created <= base).map(|(log, _)| *log).collect()
        };
        let mut touched = Vec::new();
        for (place, told) in &changed {
            let Some(log) = usize::try_from(*place).ok().and_then(|place| there.get(place)) else {
                return self.close(session, "E_DECODE: a change of a log that wasn't there");
            };
            self.absorb(session, *log, told, prefix, holdings, &mut touched);
        }
        for (log, told) in &new {
            self.absorb(session, *log, told, prefix, holdings, &mut touched);
        }
        self.consider_all(touched, now);
        let Some(state) = self.sessions.get_mut(&session) else { return };
        // Its first word was a summary, or it would have told what changed here.
        let answered = delta.own || state.comparison.based.is_some();
        state.comparison.told = None;
        self.know(session, now);
        if !answered {
            let changes = changes(&self.clock, base);
            if changes.len() <= DELTA_MAX {
                self.send_delta(session, changes, true);
            } else {
                self.send_summary(session, false);
            }
        }
    }
}
