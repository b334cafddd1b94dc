//! Working a closing out again: F over what it read, judged as of the checkpoint that it names.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_protocol::entry::Part;
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::membership::Coverage;
use stallmesh_protocol::payload::{self, fixed};
use stallmesh_protocol::{Hash, Head, Kind, Lane, LogName};

use super::closings::Input;
use super::settlement::judge;
use crate::engine::Engine;
use crate::engine::logs::Held;
use crate::engine::views::Views;
use crate::hub::reconcile::{FUNCTION_VERSION, Fact, Reconciliation, reconcile};
use crate::store::{Store, StoreError};

/// A closing that is held, opened.
pub(super) struct ReadClosing {
    pub(super) held: Held,
    pub(super) message: payload::Closing,
    pub(super) digest: Hash,
    pub(super) input: Input,
}

impl<S: Store> Engine<S> {
    /// Opens a closing and the inputs before it.
    pub(super) fn read_closing(&mut self, held: Held) -> Result<ReadClosing, String> {
        let text = |error: payload::PayloadError| error.to_string();
        let bytes = self.open_part(&held, Part::Money)?;
        let message: payload::Closing = payload::decode("closing", &bytes).map_err(text)?;
        let digest = fixed("digest", &message.digest).map_err(text)?;
        let mut chunks = Vec::new();
        let mut next = Head { sequence: held.sequence - 1, hash: held.previous };
        while (chunks.len() as u64) < message.inputs {
            let entry = self.logs.entry(&self.overlay, &held.log, next).map_err(|error| error.to_string())?;
            let entry = entry.ok_or("not all of its inputs are here")?;
            next = Head { sequence: entry.sequence - 1, hash: entry.previous };
            // A new day's key entry may stand between them.
            if entry.entry.kind == Kind::CLOSING_INPUT {
                let bytes = self.open_part(&entry, Part::Money)?;
                let chunk: payload::ClosingInput = payload::decode("closing input", &bytes).map_err(text)?;
                chunks.push(chunk.logs);
            }
        }
        let mut input = Input::new();
        for log in chunks.iter().rev().flatten() {
            let name = LogName {
                author: fixed("author", &log.author).map_err(text)?,
                incarnation: fixed("incarnation", &log.incarnation).map_err(text)?,
                lane: Lane(log.lane),
            };
            for interval in &log.intervals {
                let hash = fixed("hash", &interval.hash).map_err(text)?;
                input.entry(name).or_default().push(Interval { from: interval.from, to: interval.to, hash });
            }
        }
        if self.input_messages(&input).1.as_bytes().as_slice() != message.inputs_hash {
            return Err("its inputs are not those that it names".into());
        }
        Ok(ReadClosing { held, message, digest, input })
    }

    /// F over what a closing read, as of the checkpoint that it names; with `loss` over what of that is here.
    pub(super) fn recompute_closing(
        &mut self,
        closing: &ReadClosing,
        loss: bool,
    ) -> Result<(Views, Reconciliation), String> {
        if closing.message.function != FUNCTION_VERSION {
            return Err(format!(
                "it is of version {} of the settlement, newer than this program",
                closing.message.function
            ));
        }
        let checkpoint = Hash::try_from(closing.message.checkpoint.as_slice()).ok();
        let ordinal = checkpoint.and_then(|checkpoint| self.views.coverage.ordinal(&checkpoint));
        let newest = self.views.coverage.newest().filter(|_| loss);
        let ordinal = ordinal.or(newest).ok_or("the checkpoint that it names is not here")?;
        let views = self.views_as_of(ordinal).map_err(|error| error.to_string())?;
        let facts = self.facts_of(&closing.input, &views, loss)?;
        let currency = views.market().map(|market| market.currency.clone()).unwrap_or_default();
        let result = reconcile(facts, &currency);
        if result.digest() != closing.digest && !loss {
            return Err(format!("what it read makes digest {} here, and it says {}", result.digest(), closing.digest));
        }
        Ok((views, result))
    }

    /// What the entries said that a checkpoint covers, or one before it, of what settlement may read.
    fn views_as_of(&self, ordinal: u64) -> Result<Views, StoreError> {
        let (root, id) = self.market.map(|market| (market.root, market.id)).unwrap_or_default();
        let mut views = Views::new(root, id);
        let coverage = &self.views.coverage;
        let read = [Lane::CONTROL, Lane::CHECKPOINT, Lane::SIGNAL];
        for (name, record) in self.logs.iter().filter(|(name, _)| read.contains(&name.lane)) {
            let of_checkpoints = name.lane == Lane::CHECKPOINT;
            let last = match of_checkpoints {
                true => u64::MAX,
                false => coverage.standing_at(ordinal, name).map_or(0, |head| head.sequence),
            };
            for run in &record.runs {
                for held in self.logs.entries(&self.overlay, name, run, run.from, run.to.min(last), usize::MAX)? {
                    if !of_checkpoints || coverage.ordinal(&held.hash).is_none_or(|at| at <= ordinal) {
                        views.insert(&held);
                    }
                }
            }
        }
        views.copy_leaves(&self.views);
        views.refresh();
        Ok(views)
    }

    /// The sales of an input, opened and judged by the given views; with `loss` those of them that are here.
    fn facts_of(&mut self, input: &Input, views: &Views, loss: bool) -> Result<Vec<Fact>, String> {
        let terms = views.settlement_terms();
        let mut facts = Vec::new();
        for (log, intervals) in input {
            let mut chain: BTreeMap<(u64, Hash), Held> = BTreeMap::new();
            for interval in intervals {
                let end = Head { sequence: interval.to, hash: interval.hash };
                let held = match loss {
                    false => self.logs.ancestors(&self.overlay, log, end, interval.from),
                    true => self.left_of(log, interval),
                };
                let held = held.map_err(|error| error.to_string())?;
                if !loss && held.last().is_none_or(|first| first.sequence != interval.from) {
                    return Err(format!("sales of device {} that it read are not here", log.author.short()));
                }
                chain.extend(held.into_iter().map(|held| ((held.sequence, held.hash), held)));
            }
            // What is connected is so by what was read: later entries may have closed gaps.
            let mut connected: BTreeSet<(u64, Hash)> = BTreeSet::new();
            for (place, held) in &chain {
                let is_connected = held.sequence == 1 || connected.contains(&(held.sequence - 1, held.previous));
                if is_connected {
                    connected.insert(*place);
                }
                if held.entry.kind == Kind::SALE {
                    let sale = self.open_sale(held);
                    facts.push(judge(views, &self.ancestry(), &terms, held, sale, is_connected));
                }
            }
        }
        Ok(facts)
    }
}
