//! Statements: sealed at the hub, fetched and opened at their stalls.

use stallmesh_protocol::hash::{Domain, hash};
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::seal::{SealKey, associated, info, seal_to};
use stallmesh_protocol::{Hash, Kind, Lane, MarketId};

use super::closings::ClosedBatch;
use crate::engine::{Engine, EngineError, Notice};
use crate::hub::statement::Statement;
use crate::store::{Store, Table};

/// Statements that one entry names: a stall's slug has at most 60 bytes.
const STATEMENTS_MAX: usize = 400;
/// How the keys of statements begin that wait to be published.
const WAITING: &[u8] = b"w";

impl<S: Store> Engine<S> {
    /// Seals a statement to its stall's read key and keeps it as a blob. A stall without a key gets none yet.
    fn seal_statement(&mut self, statement: &Statement) -> Result<Option<payload::StatementBlob>, EngineError> {
        let seed = self.random_bytes();
        let Some(recipient) =
            self.views.stall_key(&statement.stall).and_then(|key| <[u8; 32]>::try_from(key.public_key.as_slice()).ok())
        else {
            return Ok(None);
        };
        let Some(market) = self.market else { return Ok(None) };
        let bound = associated(&market.id, statement.stall.as_bytes());
        let sealed = seal_to(&recipient, info::STATEMENT, &bound, &statement.to_bytes(), seed)?;
        let bytes = encode(&sealed);
        let blob = hash(Domain::Blob, &bytes);
        let length = bytes.len() as u64;
        self.overlay.put(Table::Blobs, *blob.as_bytes(), bytes);
        Ok(Some(payload::StatementBlob { stall: statement.stall.clone(), blob: blob.as_bytes().to_vec(), length }))
    }

    /// Publishes a batch: its settlement, with the statement of each stall whose read key is known. Those of others wait.
    pub(super) fn publish_settlement(&mut self, closed: &ClosedBatch) -> Result<(), EngineError> {
        let waiting = self.overlay.scan_prefix(Table::Closings, &waiting_key(closed.number, ""))?;
        let mut blobs = Vec::new();
        for (key, value) in waiting {
            let Ok(statement) = Statement::from_bytes(&value) else { continue };
            if let Some(blob) = self.seal_statement(&statement)? {
                blobs.push(blob);
                self.overlay.delete(Table::Closings, key);
            }
        }
        // Each entry names as many statements as a payload holds; a settlement without any is published, too.
        let chunks = if blobs.is_empty() { vec![Vec::new()] } else { chunked(blobs) };
        for statements in chunks {
            self.append_settlement(closed, statements)?;
        }
        self.notice(Notice::Settled { number: closed.number });
        Ok(())
    }

    fn append_settlement(
        &mut self,
        closed: &ClosedBatch,
        statements: Vec<payload::StatementBlob>,
    ) -> Result<(), EngineError> {
        let message = payload::Settlement {
            number: closed.number,
            closing: hex::decode(&closed.closing).unwrap_or_default(),
            digest: hex::decode(&closed.digest).unwrap_or_default(),
            statements,
        };
        self.append_public(Lane::CONTROL, Kind::SETTLEMENT, encode(&message)).map(|_| ())
    }

    /// Statements of released batches whose stall's read key has arrived since.
    pub(super) fn publish_waiting_statements(&mut self) {
        let waiting = self.overlay.scan_prefix(Table::Closings, WAITING);
        for (key, value) in self.guard(waiting).unwrap_or_default() {
            let Ok(statement) = Statement::from_bytes(&value) else { continue };
            let Some(closed) =
                self.closed_batch(statement.settlement).filter(|closed| !self.is_unreleased(closed.number))
            else {
                continue;
            };
            let Ok(Some(blob)) = self.seal_statement(&statement) else { continue };
            match self.append_settlement(&closed, vec![blob]) {
                Ok(()) => self.overlay.delete(Table::Closings, key),
                Err(error) => tracing::warn!(%error, "a statement could not be published"),
            }
        }
    }

    /// The own stall's name, and every statement that was published for it.
    pub(crate) fn own_statements(&self) -> Option<(String, Vec<Hash>)> {
        let stall = self.views.membership.stall(&self.device.id())?.to_owned();
        let settlements = self.views.settlements();
        let statements = settlements.iter().flat_map(|published| &published.message.statements);
        let blobs = statements
            .filter(|statement| statement.stall == stall)
            .filter_map(|statement| Hash::try_from(statement.blob.as_slice()).ok())
            .collect();
        Some((stall, blobs))
    }

    /// Asks for statements of the own stall that have not arrived.
    pub(super) fn fetch_statements(&mut self) {
        let Some((_, wanted)) = self.own_statements() else { return };
        let now = self.now.monotonic_ms;
        for blob in wanted {
            let held = self.overlay.get(Table::Blobs, blob.as_bytes());
            if self.guard(held).flatten().is_none()
                && let Some(replica) = &mut self.replica
            {
                replica.want_blob(blob, now);
            }
        }
    }

    /// A neighbour looks for a statement: it is fetched for it, sealed as it is, through whoever leads to the hub.
    pub(crate) fn blob_asked(&mut self, blob: Hash) {
        let named =
            self.views.settlements().iter().any(|published| {
                published.message.statements.iter().any(|statement| statement.blob == blob.as_bytes())
            });
        let now = self.now.monotonic_ms;
        if named && let Some(replica) = &mut self.replica {
            replica.want_blob(blob, now);
        }
    }

    pub(crate) fn blob_arrived(&mut self, blob: Hash, bytes: &[u8]) {
        self.overlay.put(Table::Blobs, *blob.as_bytes(), bytes.to_vec());
        let number = self
            .views
            .settlements()
            .iter()
            .find(|published| published.message.statements.iter().any(|statement| statement.blob == blob.as_bytes()))
            .map(|published| published.message.number);
        if let Some(number) = number {
            self.notice(Notice::Settled { number });
            self.read_statements();
        }
    }
}

/// Statements by the entries that publish them.
fn chunked(blobs: Vec<payload::StatementBlob>) -> Vec<Vec<payload::StatementBlob>> {
    blobs.chunks(STATEMENTS_MAX).map(<[_]>::to_vec).collect()
}

/// Opens a sealed statement with whichever of a stall's read keys fits.
pub(crate) fn open_statement(market: &MarketId, sealed: &[u8], stall: &str, keys: &[SealKey]) -> Option<Statement> {
    let sealed: payload::Wrap = payload::decode("statement", sealed).ok()?;
    let bound = associated(market, stall.as_bytes());
    let opened = keys.iter().find_map(|key| key.open(&sealed, info::STATEMENT, &bound).ok())?;
    Statement::from_bytes(&opened).ok()
}

/// Where a statement waits for its stall's read key.
pub(super) fn waiting_key(number: u64, stall: &str) -> Vec<u8> {
    [WAITING, &number.to_be_bytes(), stall.as_bytes()].concat()
}
