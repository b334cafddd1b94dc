//! The ledger as it stands, and closing a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::membership::Ancestry;
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::{Hash, Kind, Lane, LogName};

use super::statements::{chunked, waiting_key};
use crate::engine::author::Parts;
use crate::engine::logs::{Held, Run};
use crate::engine::policies::FeeRates;
use crate::engine::views::{Views, position};
use crate::engine::{
    Engine, EngineError, Failure, FailureCode, LedgerView, Notice, SettlementView, StatementView, SuspenseView,
};
use crate::hub::ledger::{Row, balances, sums};
use crate::hub::reconcile::{FUNCTION_VERSION, Fact, Outcome, Reconciliation, batch, entry_name, reconcile};
use crate::hub::statement::{CoveredLog, Statement};
use crate::store::{Store, Table};

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
        let rates = self.views.fee_rates();
        let mut facts = Vec::new();
        for (name, runs) in logs {
            for run in runs {
                let reach = self.logs.reach(&self.overlay, &name, &run);
                let connected = self.guard(reach) == Some(1);
                let chain = self.logs.entries(&self.overlay, &name, &run, run.from, run.to, usize::MAX);
                for held in self.guard(chain).unwrap_or_default() {
                    if held.entry.kind == Kind::SALE {
                        facts.push(self.fact(&held, connected, &rates));
                    }
                }
            }
        }
        facts
    }

    fn fact(&mut self, held: &Held, connected: bool, rates: &FeeRates) -> Fact {
        let at = position(held);
        let sale = match self.books.opened.get(&at) {
            Some(sale) => Ok(sale.clone()),
            None => self.open_part(held, Part::Money).and_then(|bytes| read_sale(&bytes)),
        };
        // What can't be opened yet may be later: its key entry is on its way.
        if let Ok(sale) = &sale {
            self.books.opened.entry(at).or_insert_with(|| sale.clone());
        }
        judge(&self.views, &self.ancestry(), rates, held, sale, connected)
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

    fn published_rows(&mut self) -> (u64, String, Vec<Row>) {
        let kept = self.overlay.scan_prefix(Table::Closings, b"c");
        let mut rows = Vec::new();
        let (mut number, mut digest) = (0, String::new());
        for (_, value) in self.guard(kept).unwrap_or_default() {
            if let Ok(closed) = serde_json::from_slice::<ClosedBatch>(&value) {
                number = closed.number;
                digest = closed.digest;
                rows.extend(closed.rows);
            }
        }
        (number, digest, rows)
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
        let result = self.reconciled();
        let received = result.outcomes.len();
        let (number, _, _) = self.published_rows();
        Ok(LedgerView {
            balances: balances(&result.rows)
                .into_iter()
                .map(|((account, currency), sum)| (account, currency, clamp(sum)))
                .collect(),
            sums: sums(&result.rows).into_iter().map(|(currency, sum)| (currency, clamp(sum))).collect(),
            received,
            posted: result.posted(),
            suspense: Self::suspense_views(&result),
            settlements: number,
        })
    }

    /// Closes a batch, or says what it would be.
    pub(crate) fn settle(&mut self, dry_run: bool) -> Result<SettlementView, Failure> {
        self.hub_certificate()?;
        if !dry_run {
            // The closing names a checkpoint that covers everything that it reads.
            self.checkpoint();
        }
        let market = self.market.ok_or_else(|| Failure::new(FailureCode::ENotMember, "no market"))?;
        let currency = self.currency();
        let result = self.reconciled();
        let (last, previous, published) = self.published_rows();
        let rows = batch(&result.rows, &published);
        let number = last + 1;
        let digest = result.digest();
        let mut statements = Vec::new();
        let stalls: BTreeSet<String> = result.outcomes.values().filter_map(|(stall, _)| stall.clone()).collect();
        for stall in &stalls {
            let covered = self.covered_logs(stall);
            statements.push(Statement::new(
                &market.id.to_string(),
                number,
                &digest.to_string(),
                stall,
                &currency,
                &result,
                &rows,
                covered,
            ));
        }
        let view = SettlementView {
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
        };
        if dry_run {
            return Ok(view);
        }
        let closing = self.write_closing(number, &previous, digest)?;
        let mut blobs = Vec::new();
        for statement in &statements {
            match self.seal_statement(statement)? {
                Some(blob) => blobs.push(blob),
                // Its stall's read key has not come this far: sealed and published when it does.
                None => self.overlay.put(Table::Closings, waiting_key(number, &statement.stall), statement.to_bytes()),
            }
        }
        // Each entry names as many statements as a payload holds; a settlement without any is published, too.
        let chunks = if blobs.is_empty() { vec![Vec::new()] } else { chunked(blobs) };
        for statements in chunks {
            let message = payload::Settlement {
                number,
                closing: closing.as_bytes().to_vec(),
                digest: digest.as_bytes().to_vec(),
                statements,
            };
            self.append_public(Lane::CONTROL, Kind::SETTLEMENT, encode(&message))?;
        }
        let closed = ClosedBatch { number, digest: digest.to_string(), closing: closing.to_string(), rows };
        let value = serde_json::to_vec(&closed).unwrap_or_default();
        self.overlay.put(Table::Closings, [b"c".as_slice(), &number.to_be_bytes()].concat(), value);
        self.notice(Notice::Settled { number });
        Ok(view)
    }

    fn covered_logs(&self, stall: &str) -> Vec<CoveredLog> {
        self.logs
            .on_lane(Lane::SALES)
            .filter(|(name, _)| self.views.membership.stall(&name.author) == Some(stall))
            .map(|(name, record)| CoveredLog {
                author: name.author.to_string(),
                incarnation: name.incarnation.to_string(),
                intervals: record.runs.iter().map(|run| (run.from, run.to)).collect(),
            })
            .collect()
    }

    fn write_closing(&mut self, number: u64, previous: &str, digest: Hash) -> Result<Hash, EngineError> {
        use prost::Message;
        let mut inputs: BTreeMap<[u8; 32], payload::InputLog> = BTreeMap::new();
        for (name, record) in self.logs.on_lane(Lane::SALES) {
            let intervals = record
                .runs
                .iter()
                .map(|run| payload::InputInterval { from: run.from, to: run.to, hash: run.hash.as_bytes().to_vec() })
                .collect();
            let message = payload::InputLog {
                author: name.author.as_bytes().to_vec(),
                incarnation: name.incarnation.as_bytes().to_vec(),
                lane: name.lane.0,
                intervals,
            };
            inputs.insert(*record.id.as_bytes(), message);
        }
        let inputs: Vec<payload::InputLog> = inputs.into_values().collect();
        let hasher =
            inputs.iter().fold(Hasher::new(Domain::ClosingInput), |hasher, input| hasher.sized(&input.encode_to_vec()));
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
            inputs_hash: hasher.finish().as_bytes().to_vec(),
            previous: hex::decode(previous).unwrap_or_default(),
            digest: digest.as_bytes().to_vec(),
        };
        let parts = Parts { money: Some(encode(&message)), personal: None };
        Ok(self.append_sealed(Lane::LEDGER, Kind::CLOSING, &parts)?.hash)
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
    rates: &FeeRates,
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
    let fee_rate = rates.known_to(&held.entry.seen, &views.coverage);
    Fact { at, stall, sale, suspended, fee_rate }
}

/// A published batch, as it is kept.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct ClosedBatch {
    pub(super) number: u64,
    pub(super) digest: String,
    pub(super) closing: String,
    rows: Vec<Row>,
}

fn clamp(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}
