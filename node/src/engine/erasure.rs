//! Erasures: what an entry says about a person goes, its hash stays, and every signature over it still holds.
//!
//! An erasure is a `control` entry of the hub or of the stall's owner. Whoever holds the entry drops the part, whichever
//! of the two came first, and from then on takes the entry without it from others.

use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::entry::{Part, PartBody};
use stallmesh_protocol::membership::Position;
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::{Head, Kind, Lane, LogName, SaleId};

use super::author::parse_position;
use super::views::position;
use super::{Engine, Failure, FailureCode};
use crate::store::Store;

impl<S: Store> Engine<S> {
    /// Whether the personal part of an entry may be absent: some erasure of it has effect.
    pub(crate) fn is_erased(&self, at: &Position) -> bool {
        let erasures = self.views.erasures.get(at).into_iter().flatten();
        erasures.into_iter().any(|written| match self.views.permits(written, Scope::SETTLE) {
            // The root or a hub, of any sale; a stall's owner, of her stall's.
            Ok(_) => true,
            Err(_) => self.views.permits(written, Scope::GRANT).ok().flatten().is_some_and(|certificate| {
                !certificate.stall.is_empty()
                    && self.views.membership.stall(&at.log.author) == Some(certificate.stall.as_str())
            }),
        })
    }

    /// Drops parts that erasures name and that are still held.
    pub(crate) fn carry_out_erasures(&mut self) {
        let waiting: Vec<Position> =
            self.views.erasures.keys().filter(|at| !self.erased.contains(at)).copied().collect();
        for at in waiting {
            if self.logs.get(&at.log).is_none() || !self.is_erased(&at) {
                continue;
            }
            let head = Head { sequence: at.sequence, hash: at.hash };
            let held = self.logs.entry(&self.overlay, &at.log, head);
            let Some(mut held) = self.guard(held).flatten() else { continue };
            self.erased.insert(at);
            if let Some(body @ PartBody::Bytes(bytes)) = held.entry.payload.part(Part::Personal) {
                let (leaf, length) = (body.leaf(Part::Personal), bytes.len() as u64);
                held.entry.payload.set(Part::Personal, PartBody::Erased(leaf));
                self.logs.replace(&mut self.overlay, &held);
                self.custody_shrank(&at.log, length);
            }
        }
    }

    /// Writes an erasure, for an own sale by its id or any held entry by its place.
    pub(crate) fn erase(&mut self, subject: &str) -> Result<(), Failure> {
        let at = self.erasable(subject)?;
        // As the hub, or as the stall's owner.
        if self.valid_certificate(Scope::SETTLE).is_err() {
            let certificate = self.valid_certificate(Scope::GRANT)?;
            if self.views.membership.stall(&at.log.author) != Some(certificate.stall.as_str()) {
                let detail = "only the hub and the owner of the stall that wrote the entry may erase parts of it";
                return Err(Failure::new(FailureCode::EScope, detail));
            }
        }
        let message = payload::Erasure {
            entry: Some(payload::LogPosition {
                author: at.log.author.as_bytes().to_vec(),
                incarnation: at.log.incarnation.as_bytes().to_vec(),
                lane: at.log.lane.0,
                sequence: at.sequence,
                hash: at.hash.as_bytes().to_vec(),
            }),
        };
        self.append_public(Lane::CONTROL, Kind::ERASURE, encode(&message))?;
        self.carry_out_erasures();
        Ok(())
    }

    fn erasable(&self, subject: &str) -> Result<Position, Failure> {
        if let Ok(sale) = subject.parse::<SaleId>() {
            return self.sale_record(&sale)?.and_then(|record| record.position()).ok_or_else(|| {
                let detail = "this device recorded no such sale: name its entry, as `sales --json` shows it there";
                Failure::new(FailureCode::ENotFound, detail)
            });
        }
        let (log, sequence): (LogName, u64) = parse_position(subject).ok_or_else(|| {
            let detail = format!("`{subject}` is neither a sale id nor author/incarnation/lane/sequence");
            Failure::new(FailureCode::EInvalid, detail)
        })?;
        let held = self.logs.held_at(&self.overlay, &log, sequence)?;
        match held.as_slice() {
            [] => Err(Failure::new(FailureCode::ENotFound, "that entry is not here")),
            [only] => Ok(position(only)),
            _ => Err(Failure::new(FailureCode::EConflict, "its author wrote several entries at that place")),
        }
    }
}

/// Reads an erasure.
///
/// # Errors
/// A field is missing or has the wrong length.
pub(crate) fn read_erasure(bytes: &[u8]) -> Result<Position, payload::PayloadError> {
    let message: payload::Erasure = payload::decode("erasure", bytes)?;
    let entry = message.entry.ok_or_else(|| payload::PayloadError::field("entry", "is missing"))?;
    let log = LogName {
        author: payload::fixed("entry.author", &entry.author)?,
        incarnation: payload::fixed("entry.incarnation", &entry.incarnation)?,
        lane: Lane(entry.lane),
    };
    Ok(Position { log, sequence: entry.sequence, hash: payload::fixed("entry.hash", &entry.hash)? })
}
