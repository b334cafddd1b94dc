//! Going on without what is lost: sales that a batch had read, and that are on no device any more.
//!
//! A person decides it, batch by batch. One that was released is then worked out from what is left of it, so that none of
//! that is published again; what is lost of it was published, and stays so. One that was not released is void. Should
//! what was taken for lost turn up, the batch is worked out as it was, so that none of that is published a second time
//! either.

use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::{Kind, LogName};

use super::closings::{BATCH, ClosedBatch, LOSS, key, number_of};
use crate::engine::logs::Held;
use crate::engine::{Engine, Failure, FailureCode};
use crate::hub::ledger::Row;
use crate::hub::reconcile::batch;
use crate::store::{Store, StoreError, Table};

impl<S: Store> Engine<S> {
    /// A person says that what an earlier batch had read, and isn't here, is on no device any more.
    pub(crate) fn accept_loss(&mut self, number: u64) -> Result<(), Failure> {
        self.hub_certificate()?;
        self.take_in_closings();
        if !self.books.unread.iter().any(|(unread, _)| *unread == number) {
            let detail = format!("nothing is known to be missing of settlement {number}: see `stallmesh ledger`");
            return Err(Failure::new(FailureCode::EConflict, detail));
        }
        self.overlay.put(Table::Closings, key(LOSS, number), []);
        self.books.changed(true);
        self.release_closed();
        Ok(())
    }

    /// Works those batches out again of which something was lost: all of it may be here now.
    pub(super) fn make_whole(&mut self) {
        let lost = self.overlay.scan_prefix(Table::Closings, LOSS);
        let lost: Vec<u64> =
            self.guard(lost).unwrap_or_default().iter().filter_map(|(key, _)| number_of(key)).collect();
        self.books.lossy = !lost.is_empty();
        for number in lost {
            let Some(closed) = self.closed_batch(number) else { continue };
            let closings = self.ledger_entries(Kind::CLOSING);
            let closings = self.guard(closings).unwrap_or_default();
            let Some(held) = closings.into_iter().find(|held| held.hash.to_string() == closed.closing) else {
                continue;
            };
            let Ok(closing) = self.read_closing(held) else { continue };
            let Ok((_, result)) = self.recompute_closing(&closing, false) else { continue };
            let before: Vec<Row> = self
                .closed_batches()
                .into_iter()
                .filter(|other| other.number < number)
                .flat_map(|other| other.rows)
                .collect();
            let whole = ClosedBatch { rows: batch(&result.rows, &before), ..closed };
            self.overlay.put(Table::Closings, key(BATCH, number), serde_json::to_vec(&whole).unwrap_or_default());
            self.overlay.delete(Table::Closings, key(LOSS, number));
            tracing::info!(number, "what was taken for lost of a batch is here");
        }
    }

    /// What is held of an interval, wherever gaps are.
    pub(super) fn left_of(&self, log: &LogName, interval: &Interval) -> Result<Vec<Held>, StoreError> {
        let mut left = Vec::new();
        for run in self.logs.get(log).into_iter().flat_map(|record| &record.runs) {
            let (from, to) = (run.from.max(interval.from), run.to.min(interval.to));
            if from <= to {
                left.extend(self.logs.entries(&self.overlay, log, run, from, to, usize::MAX)?);
            }
        }
        Ok(left)
    }
}
