//! Step 6: the hub closes a batch; processes apart count, and recompute it from the exported logs in another order.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::super::DemoError;
use super::super::falsify::{falsify_export, falsify_journal};
use super::super::market::{HUB, Market, until};
use super::super::process;
use super::tills::amount;
use crate::cli::export;

impl Market {
    pub(in super::super) async fn step_settle(&mut self) -> Result<(), DemoError> {
        self.board.begin(5);
        // What tills have said of cards is a part of what anybody can count later.
        self.signals_reach(&self.in_the_market(), &[HUB].into()).await?;
        let settlement = self.nodes[HUB].send("POST", "/v1/settle", &json!({ "dry_run": false })).await?;
        let digest = settlement["digest"].as_str().unwrap_or_default().to_owned();
        let mut with_statement = 0;
        for index in self.stalls() {
            let node = &self.nodes[index];
            if !node.runs() {
                continue;
            }
            until(&format!("{} has its statement", node.name), async || {
                let statements = node.get("/v1/statements").await?;
                Ok(statements.as_array().into_iter().flatten().any(|statement| statement["body"]["digest"] == digest))
            })
            .await?;
            with_statement += 1;
        }
        let suspended = settlement["suspense"].as_array().map_or(0, Vec::len);
        self.say(format!(
            "The hub closed batch {}: {} sales posted, {suspended} rows in suspense. {with_statement} stalls opened their sealed statements of it.",
            settlement["number"], settlement["posted"]
        ));
        self.read_costs().await?;
        let out = self.directory.join("hub.export");
        export(&self.nodes[HUB].directory, &out).await.map_err(DemoError::failed)?;
        let market = self.directory.join("market.pub");
        if let Some(falsify) = self.arguments.falsify {
            falsify_export(falsify, &out, &market, self.arguments.seed)?;
        }
        self.journal.finish()?;
        if let Some(falsify) = self.arguments.falsify {
            falsify_journal(falsify, &self.directory.join("journal.jsonl"), self.arguments.seed)?;
        }
        let counted = self.count_apart(&out, &market).await?;
        for (key, value) in counted.as_object().into_iter().flatten() {
            self.figures.insert(key.clone(), value.clone());
        }
        let same_bytes = self.recompute_apart(&out, &market, &counted).await?;
        self.figure("digest", digest.clone());
        self.figure("links", json!({ "dashboard": self.board.snapshot().dashboard }));
        let wrong = wrongs(&counted, &digest, same_bytes, self.journal.tally().declined);
        if !wrong.is_empty() {
            return Err(DemoError::Failed(format!("the market does not add up: {}", wrong.join("; "))));
        }
        self.write_report()?;
        self.board.remark("\nNothing lost, nothing doubled, everything sums to zero, and the digests are the same.");
        Ok(())
    }

    /// What the nodes have sent and held, also those that are gone.
    async fn read_costs(&mut self) -> Result<(), DemoError> {
        for node in self.nodes.iter().filter(|node| node.runs()) {
            node.sample().await?;
        }
        let sent: u64 = self.nodes.iter().map(process::Node::sent).sum();
        let resident = self.nodes.iter().map(process::Node::resident).max().unwrap_or(0);
        self.figure("bytes_sent", sent);
        self.figure("rss_mb_max", (resident as f64 / 1_048_576.0 * 10.0).round() / 10.0);
        let members = self.nodes[HUB].get("/v1/members").await?;
        self.figure("devices", members.as_array().map_or(0, Vec::len));
        Ok(())
    }

    async fn count_apart(&self, export: &Path, market: &Path) -> Result<Value, DemoError> {
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("demo-count").arg("--journal").arg(self.directory.join("journal.jsonl"));
        command.arg("--export").arg(export).arg("--market-key").arg(market);
        command.arg("--hub-log").arg(self.nodes[HUB].log_file());
        command.arg("--rows").arg(self.directory.join("settlement.rows"));
        let counted = run_apart(command).await?;
        let sales = &counted["sales"];
        self.say(format!(
            "A process of its own counted {} sales that the shops were told are recorded: {} at the hub, {} settled, {} lost, {} doubled, {} with another amount.",
            sales["recorded"], sales["received"], sales["settled"], sales["lost"], sales["duplicated"], sales["wrong_amount"]
        ));
        let sum = |field: &str| sums_in_words(&counted[field]);
        self.say(format!(
            "They brought {}, of which {} are tips, after reductions of {}; codes acted in {}, bills split: {}. The entries say the same.",
            sum("takings_minor"), sum("tips_minor"), sum("reductions_minor"), counted["codes"], counted["split_bills"]
        ));
        self.say(format!(
            "Fraud signals told: {}; alarms at tills: {}, answered with \"known\": {}; payments declined: {}, none of which was sold.",
            counted["signals"], counted["asked"], counted["known"], counted["declined"]
        ));
        self.say(format!(
            "{} were relayed: by the cables and by the hub's own log their sellers had no way to it until it had them. Their sellers sent the other {} themselves.",
            sales["relayed"], sales["own_way"]
        ));
        Ok(counted)
    }

    /// Whether a third process gets the same digest and bytes from the same records in another order.
    async fn recompute_apart(&self, export: &Path, market: &Path, counted: &Value) -> Result<bool, DemoError> {
        let (rows, again) = (self.directory.join("settlement.rows"), self.directory.join("settlement-again.rows"));
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("demo-recompute").arg("--export").arg(export).arg("--market-key").arg(market);
        command.arg("--rows").arg(&again).arg("--order").arg((self.arguments.seed ^ 0x5eed).to_string());
        let recomputed = run_apart(command).await?;
        let rows = std::fs::read(&rows).map_err(DemoError::io("the rows"))?;
        let again = std::fs::read(&again).map_err(DemoError::io("the rows"))?;
        let same = rows == again && recomputed["digest"] == counted["digest_recomputed"];
        self.say(format!(
            "Another recomputed the settlement from the same {} exported entries in another order: {} bytes of rows, {}.",
            recomputed["entries"],
            again.len(),
            if same { "the same, byte by byte" } else { "and others" }
        ));
        self.say(format!("Digest {}", counted["digest_recomputed"].as_str().unwrap_or_default()));
        Ok(same)
    }

    /// Whole or not at all.
    pub(in super::super) fn write_report(&self) -> Result<(), DemoError> {
        let Some(report) = &self.arguments.report else { return Ok(()) };
        let failed = || DemoError::io(format!("--report {}", report.display()));
        let text = serde_json::to_string_pretty(&self.figures).map_err(DemoError::failed)?;
        let is_file = std::fs::metadata(report).map_or(true, |metadata| metadata.is_file());
        if !is_file {
            return std::fs::write(report, format!("{text}\n")).map_err(failed());
        }
        let mut partial = report.clone().into_os_string();
        partial.push(".partial");
        std::fs::write(&partial, format!("{text}\n")).map_err(failed())?;
        std::fs::rename(&partial, report).map_err(failed())
    }
}

/// Sums of minor units as people write them.
fn sums_in_words(sums: &Value) -> String {
    let sums = sums.as_object().into_iter().flatten();
    let words = sums.map(|(currency, sum)| format!("{} {currency}", amount(sum.as_u64().unwrap_or(0))));
    words.collect::<Vec<_>>().join(", ")
}

/// Anything lost, doubled, unbalanced or different is a failure.
fn wrongs(counted: &Value, digest: &str, same_bytes: bool, declined: u64) -> Vec<String> {
    let sales = &counted["sales"];
    let mut wrong = Vec::new();
    for (what, found) in [
        ("lost", &sales["lost"]),
        ("doubled", &sales["duplicated"]),
        ("in suspense", &sales["suspense"]),
        ("with another amount than the shop was told", &sales["wrong_amount"]),
    ] {
        if found.as_u64() != Some(0) {
            wrong.push(format!("{found} sales {what}"));
        }
    }
    if sales["recorded"] != sales["settled"] || sales["recorded"].as_u64() == Some(0) {
        wrong.push(format!("{} sales recorded, {} settled", sales["recorded"], sales["settled"]));
    }
    if counted["digest_recomputed"] != digest {
        wrong.push("the recomputed digest differs from the hub's".into());
    }
    if !same_bytes {
        wrong.push("another order gives other rows".into());
    }
    let sums = counted["ledger_sum_minor"].as_object();
    if sums.is_none_or(|sums| sums.is_empty() || sums.values().any(|sum| sum.as_i64() != Some(0))) {
        wrong.push(format!("the ledger doesn't sum to zero: {}", counted["ledger_sum_minor"]));
    }
    if counted["takings_minor"] != counted["settled_minor"] {
        wrong.push(format!("takings of {}, settled {}", counted["takings_minor"], counted["settled_minor"]));
    }
    for (what, field) in [("reductions", "reductions_minor"), ("tips", "tips_minor"), ("acting codes", "codes")] {
        let (told, entries) = (&counted[field], &counted["by_entries"][field]);
        if told != entries {
            wrong.push(format!("{what}: the shops were told {told}, the entries say {entries}"));
        }
    }
    if counted["signals"] != counted["signals_told"] {
        let (entries, told) = (&counted["signals"], &counted["signals_told"]);
        wrong.push(format!("signals: the entries say {entries}, what was sold and blocked makes {told}"));
    }
    if counted["declined"] != declined || counted["declined_but_sold"] != 0 {
        let (written, sold) = (&counted["declined"], &counted["declined_but_sold"]);
        wrong.push(format!("{declined} payments were declined, {written} are written down, {sold} of them were sold"));
    }
    for story in ["reductions_minor", "tips_minor"] {
        if counted[story].as_object().is_none_or(|sums| sums.values().all(|sum| *sum == 0)) {
            wrong.push(format!("{story}: none"));
        }
    }
    for story in ["codes", "idle_codes", "split_bills", "asked", "known", "declined", "signals"] {
        if counted[story].as_u64().unwrap_or(0) == 0 {
            wrong.push(format!("{story}: none"));
        }
    }
    wrong
}

/// Runs a process to its end; the JSON that it prints.
async fn run_apart(mut command: tokio::process::Command) -> Result<Value, DemoError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = process::spawn(command)?.wait_with_output().await.map_err(DemoError::io("a process that counts"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.trim().trim_start_matches("error: ");
        return Err(DemoError::Failed(format!("the counting process: {words}")));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| DemoError::Failed(format!("the counting process: {error}")))
}
