//! The ledger as it stands, and closing a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::membership::Ancestry;
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::{Hash, Kind, Lane, LogName};

use super::closings::{ClosedBatch, Input};
use crate::engine::author::{Parts, position_text};
use crate::engine::logs::{Held, Run};
use crate::engine::policies::SettlementTerms;
use crate::engine::views::{Views, position};
use crate::engine::{
    ClosedView, Engine, EngineError, Failure, FailureCode, LedgerView, SettlementView, StatementView, SuspenseView,
};
use crate::hub::ledger::{Row, balances, sums};
use crate::hub::reconcile::{FUNCTION_VERSION, Fact, Outcome, Reconciliation, batch, entry_name, reconcile};
use crate::hub::statement::{CoveredLog, Statement};
use crate::store::Store;

/// Bytes of closing inputs in one entry.
const INPUT_BYTES_MAX: usize = 48 * 1024;

impl<S: Store> Engine<S> {
    fn currency(&self) -> String {
        self.views.market().map(|market| market.currency.clone()).unwrap_or_default()
    }

    /// Every sale that is held, opened and judged.
    pub(crate) fn facts(&mut self) -> Vec<Fact> {
        let logs: Vec<(LogName, Vec<Run>)> =
            self.logs.on_lane(Lane::SALES).map(|(name, record)| (*name, record.runs.clone())).collect();
        let terms = self.views.settlement_terms();
        let mut facts = Vec::new();
        for (name, runs) in logs {
            for run in runs {
                let reach = self.logs.reach(&self.overlay, &name, &run);
                let connected = self.guard(reach) == Some(1);
                let chain = self.logs.entries(&self.overlay, &name, &run, run.from, run.to, usize::MAX);
                for held in self.guard(chain).unwrap_or_default() {
                    if held.entry.kind == Kind::SALE {
                        facts.push(self.fact(&held, connected, &terms));
                    }
                }
            }
        }
        facts
    }

    fn fact(&mut self, held: &Held, connected: bool, terms: &SettlementTerms) -> Fact {
        let sale = self.open_sale(held);
        judge(&self.views, &self.ancestry(), terms, held, sale, connected)
    }

    pub(super) fn open_sale(&mut self, held: &Held) -> Result<payload::Sale, String> {
        let at = position(held);
        let sale = match self.books.opened.get(&at) {
            Some(sale) => Ok(sale.clone()),
            None => self.open_part(held, Part::Money).and_then(|bytes| read_sale(&bytes)),
        };
        // What can't be opened yet may be later: its key entry is on its way.
        if let Ok(sale) = &sale {
            self.books.opened.entry(at).or_insert_with(|| sale.clone());
        }
        sale
    }

    /// F over all that is held now; computed once for each change.
    fn reconciled(&mut self) -> Arc<Reconciliation> {
        if let Some(known) = &self.books.reconciled {
            return known.clone();
        }
        let result = Arc::new(reconcile(self.facts(), &self.currency()));
        self.books.reconciled = Some(result.clone());
        result
    }

    fn suspense_views(result: &Reconciliation) -> Vec<SuspenseView> {
        result
            .outcomes
            .iter()
            .filter_map(|(at, (stall, outcome))| match outcome {
                Outcome::Suspense { reason, detail, amount } => Some(SuspenseView {
                    reason: reason.clone(),
                    stall: stall.clone().unwrap_or_default(),
                    amount: *amount,
                    entry: entry_name(at),
                    detail: detail.clone(),
                }),
                _ => None,
            })
            .collect()
    }

    /// The ledger as it would stand now.
    pub(crate) fn ledger(&mut self) -> Result<LedgerView, Failure> {
        self.hub_certificate()?;
        self.take_in_closings();
        let result = self.reconciled();
        let received = result.outcomes.len();
        let (number, _, _) = self.closed_rows();
        let unreleased = self.unreleased();
        Ok(LedgerView {
            balances: balances(&result.rows)
                .into_iter()
                .map(|((account, currency), sum)| (account, currency, clamp(sum)))
                .collect(),
            sums: sums(&result.rows).into_iter().map(|(currency, sum)| (currency, clamp(sum))).collect(),
            received,
            posted: result.posted(),
            suspense: Self::suspense_views(&result),
            settlements: number - unreleased.len() as u64,
            unreleased: unreleased.into_iter().map(|(number, because)| ClosedView { number, because }).collect(),
            problem: self.closing_problem().unwrap_or_default(),
            missing: self.missing(),
        })
    }

    /// Closes a batch, or says what it would be.
    pub(crate) fn settle(&mut self, dry_run: bool) -> Result<SettlementView, Failure> {
        self.hub_certificate()?;
        self.take_in_closings();
        if !dry_run {
            if let Some(problem) = self.closing_problem() {
                return Err(Failure::new(FailureCode::EUnavailable, problem));
            }
            // The closing names a checkpoint that covers everything that it reads.
            self.checkpoint();
        }
        let result = self.reconciled();
        let input = self.input();
        let (last, previous, published) = self.closed_rows();
        let rows = batch(&result.rows, &published);
        let number = last + 1;
        let digest = result.digest();
        let currency = self.currency();
        let statements = self.statements(&self.views, &currency, number, &result, &rows, &input);
        let mut view = SettlementView {
            number,
            digest: digest.to_string(),
            dry_run,
            posted: result.posted(),
            newly_posted: newly_posted(&result, &published),
            statements: statements
                .iter()
                .map(|statement| StatementView {
                    stall: statement.stall.clone(),
                    settlement: number,
                    body: serde_json::to_value(statement).unwrap_or_default(),
                })
                .collect(),
            suspense: Self::suspense_views(&result),
            sums: sums(&rows).into_iter().map(|(currency, sum)| (currency, clamp(sum))).collect(),
            released: false,
            because: String::new(),
        };
        if dry_run {
            return Ok(view);
        }
        let closing = self.write_closing(number, &previous, digest, &input)?;
        let closed = ClosedBatch {
            number,
            digest: digest.to_string(),
            closing: closing.hash.to_string(),
            rows,
            previous,
            at: position_text(&closing.log, closing.sequence),
            timestamp: closing.entry.timestamp,
        };
        self.keep_closed(&closed, &statements);
        self.release_closed();
        match self.unreleased().into_iter().find(|(unreleased, _)| *unreleased == number) {
            Some((_, because)) => view.because = because,
            None => {
                view.released = true;
                view.because = "no other device of the market could carry its closing: it is released at once, and a \
                                copy of this hub's disk is all that keeps it"
                    .into();
            }
        }
        Ok(view)
    }

    /// One statement for each stall that an outcome names.
    pub(super) fn statements(
        &self,
        views: &Views,
        currency: &str,
        number: u64,
        result: &Reconciliation,
        rows: &[Row],
        input: &Input,
    ) -> Vec<Statement> {
        let market = self.market.map(|market| market.id.to_string()).unwrap_or_default();
        let stalls: BTreeSet<&String> = result.outcomes.values().filter_map(|(stall, _)| stall.as_ref()).collect();
        let digest = result.digest().to_string();
        stalls
            .into_iter()
            .map(|stall| {
                let of_stall = input.iter().filter(|(log, _)| views.membership.stall(&log.author) == Some(stall));
                let covered = of_stall.map(|(log, intervals)| CoveredLog {
                    author: log.author.to_string(),
                    incarnation: log.incarnation.to_string(),
                    intervals: intervals.iter().map(|interval| (interval.from, interval.to)).collect(),
                });
                Statement::new(&market, number, &digest, stall, currency, result, rows, covered.collect())
            })
            .collect()
    }

    /// What a closing reads now: everything that is held.
    fn input(&self) -> Input {
        let logs = self.logs.on_lane(Lane::SALES);
        logs.map(|(name, record)| (*name, record.runs.iter().map(Run::interval).collect())).collect()
    }

    fn write_closing(&mut self, number: u64, previous: &str, digest: Hash, input: &Input) -> Result<Held, EngineError> {
        use prost::Message;
        let (inputs, inputs_hash) = self.input_messages(input);
        let mut chunks: Vec<Vec<payload::InputLog>> = Vec::new();
        let mut bytes = usize::MAX;
        for input in inputs {
            let length = input.encoded_len() + 8;
            if bytes.saturating_add(length) > INPUT_BYTES_MAX {
                chunks.push(Vec::new());
                bytes = 0;
            }
            bytes += length;
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(input);
            }
        }
        let count = chunks.len() as u64;
        self.write_standing()?;
        for logs in chunks {
            let message = payload::ClosingInput { number, logs };
            let parts = Parts { money: Some(encode(&message)), personal: None };
            self.append_sealed(Lane::LEDGER, Kind::CLOSING_INPUT, &parts)?;
        }
        let checkpoint = self.views.coverage.latest().map(|(_, hash)| hash).unwrap_or(Hash::ZERO);
        let message = payload::Closing {
            number,
            checkpoint: checkpoint.as_bytes().to_vec(),
            function: FUNCTION_VERSION,
            inputs: count,
            inputs_hash: inputs_hash.as_bytes().to_vec(),
            previous: hex::decode(previous).unwrap_or_default(),
            digest: digest.as_bytes().to_vec(),
        };
        let parts = Parts { money: Some(encode(&message)), personal: None };
        self.append_sealed(Lane::LEDGER, Kind::CLOSING, &parts)
    }

    /// A closing's input as its entries say it, by log id, and the hash over it.
    pub(super) fn input_messages(&self, input: &Input) -> (Vec<payload::InputLog>, Hash) {
        use prost::Message;
        let mut inputs: BTreeMap<[u8; 32], payload::InputLog> = BTreeMap::new();
        for (name, intervals) in input {
            let intervals = intervals
                .iter()
                .map(|interval| payload::InputInterval {
                    from: interval.from,
                    to: interval.to,
                    hash: interval.hash.as_bytes().to_vec(),
                })
                .collect();
            let message = payload::InputLog {
                author: name.author.as_bytes().to_vec(),
                incarnation: name.incarnation.as_bytes().to_vec(),
                lane: name.lane.0,
                intervals,
            };
            inputs.insert(*self.logs.id(name).as_bytes(), message);
        }
        let inputs: Vec<payload::InputLog> = inputs.into_values().collect();
        let hasher =
            inputs.iter().fold(Hasher::new(Domain::ClosingInput), |hasher, input| hasher.sized(&input.encode_to_vec()));
        let hash = hasher.finish();
        (inputs, hash)
    }
}

/// How many sales are posted that no published row is about, unless as suspense.
fn newly_posted(result: &Reconciliation, published: &[Row]) -> usize {
    let known: BTreeSet<&str> =
        published.iter().filter(|row| !row.account.starts_with("suspense:")).map(|row| row.entry.as_str()).collect();
    let posted = result.outcomes.iter().filter(|(_, (_, outcome))| *outcome == Outcome::Posted);
    posted.filter(|(at, _)| !known.contains(entry_name(at).as_str())).count()
}

/// Reads a sale's money part.
pub(crate) fn read_sale(bytes: &[u8]) -> Result<payload::Sale, String> {
    payload::decode("sale", bytes).map_err(|error| error.to_string())
}

/// What settlement may know of one sale entry: the same function at the hub and at whoever recomputes.
pub(crate) fn judge(
    views: &Views,
    ancestry: &dyn Ancestry,
    terms: &SettlementTerms,
    held: &Held,
    sale: Result<payload::Sale, String>,
    connected: bool,
) -> Fact {
    let at = position(held);
    let certificate = views.membership.certificate(&held.log.author);
    let suspended = match (views.membership.stands(&at, &views.coverage, ancestry), &sale, certificate) {
        (Err(reason), _, _) => Some(reason.to_string()),
        _ if !connected => Some("E_ORPHAN: entries before it have not arrived".into()),
        (_, Ok(sale), Some(certificate)) if !certificate.scopes.allows_amount(Scope::SELL, sale.total) => {
            Some("E_SCOPE: its author may not sell for that much".into())
        }
        _ => None,
    };
    let stall = certificate.map(|certificate| certificate.stall.clone()).filter(|stall| !stall.is_empty());
    let seen = &held.entry.seen;
    let fee_rate = terms.fee.known_to(seen, &views.coverage);
    let borne = sale.as_ref().map(|sale| terms.borne(sale, seen, &views.coverage)).unwrap_or_default();
    Fact { at, stall, sale, suspended, fee_rate, borne }
}

fn clamp(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}
