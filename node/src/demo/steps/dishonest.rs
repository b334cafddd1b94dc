//! A member that sends old pages again, and altered ones: a process with the helper's key, and no engine behind it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::super::DemoError;
use super::super::market::{FIRST_STALL, GATEWAY, Market, until};
use super::super::process;
use crate::cli::export;

/// Two looks that far apart see the same where nothing is under way.
const AT_REST: Duration = Duration::from_millis(300);

impl Market {
    pub(super) async fn dishonest_member(&mut self) -> Result<(), DemoError> {
        let helper = self.helper_index();
        let out = self.directory.join("helper.export");
        export(&self.nodes[helper].directory, &out).await.map_err(DemoError::failed)?;
        let device = self.nodes[helper].status().await?["device"].as_str().unwrap_or_default().to_owned();
        let held = self.heads_of(helper).await?;
        self.stop(helper, "its key is abused").await;
        let targets = [GATEWAY, FIRST_STALL];
        let mut addresses = Vec::new();
        for target in targets {
            addresses.push(self.mesh_address(target).await?);
        }
        // What is new to them is no replay: a lost stall's last word may be on its way to them yet.
        until("what the helper held is where it is sent again", async || {
            for target in targets {
                let there = self.heads_of(target).await?;
                if !held.iter().all(|head| there.iter().any(|other| is_as_far(other, head))) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await?;
        let before = self.still_state_of(&targets).await?;
        let mut command = self.network.command(&self.program, helper);
        command.arg("demo-outsider").arg("replayer").arg("--market-key").arg(self.directory.join("market.pub"));
        addresses.iter().for_each(|address| {
            command.arg("--peer").arg(address);
        });
        command.arg("--member").arg(&self.nodes[helper].directory).arg("--export").arg(&out);
        command.arg("--seed").arg(self.arguments.seed.to_string());
        let result = run_outsider(command).await?;
        let after = self.state_of(&targets).await?;
        let sum = |field: &str| -> u64 {
            result.as_object().into_iter().flatten().filter_map(|(_, got)| got[field].as_u64()).sum()
        };
        let mut refused = 0;
        let short: String = device.chars().take(8).collect();
        for target in targets {
            let log = std::fs::read_to_string(self.nodes[target].log_file()).unwrap_or_default();
            refused +=
                log.lines().filter(|line| line.contains("refused a page") && line.contains(&short)).count() as u64;
        }
        let names = targets.map(|target| self.nodes[target].name.clone()).join(" and ");
        self.say(format!(
            "A member replayed {} old pages at {names}: all were handled, and nothing there or at the hub changed ({} heads are the same).",
            sum("replayed"),
            before.0
        ));
        self.say(format!(
            "It sent {} pages with one byte altered: {} were refused, by the logs of {names}, which name it; {} of its links were closed for it.",
            sum("altered"),
            refused,
            sum("closed")
        ));
        if sum("answered") != sum("rounds") || before != after {
            let (answered, rounds) = (sum("answered"), sum("rounds"));
            let what = format!("{answered} of {rounds} rounds were answered, {before:?} before, {after:?} after");
            return Err(DemoError::Failed(format!("replayed pages changed something: {what}")));
        }
        if sum("altered") == 0 || sum("closed") != sum("altered") || refused != sum("altered") {
            return Err(DemoError::Failed("an altered page was not refused".into()));
        }
        self.start(helper).await?;
        self.introduce(helper).await
    }

    /// Their state, once it has stopped changing: what was under way has arrived.
    async fn still_state_of(&self, nodes: &[usize]) -> Result<(usize, Vec<Value>), DemoError> {
        let mut last = (0, Vec::new());
        until("the market comes to rest", async || {
            tokio::time::sleep(AT_REST).await;
            let now = self.state_of(nodes).await?;
            let still = now == last;
            last = now;
            Ok(still)
        })
        .await?;
        Ok(last)
    }

    /// A node's heads of the lanes that everyone keeps, but for the hub's checkpoints.
    async fn heads_of(&self, index: usize) -> Result<Vec<Value>, DemoError> {
        let status = self.nodes[index].status().await?;
        let list = status["heads"].as_array().cloned().unwrap_or_default();
        Ok(list.into_iter().filter(|head| kept_by_all(&head["lane"])).collect())
    }

    /// How many heads some nodes have of the lanes that everyone keeps, what they are, and what the hub has. The hub's
    /// checkpoints go on, and of sealed logs a peer may take what it hadn't carried before: neither is a replay's doing.
    async fn state_of(&self, nodes: &[usize]) -> Result<(usize, Vec<Value>), DemoError> {
        let (mut heads, mut states) = (0, Vec::new());
        for index in nodes {
            let list = self.heads_of(*index).await?;
            heads += list.len();
            states.push(Value::Array(list));
        }
        states.push(self.hub_received().await?.into());
        Ok((heads, states))
    }
}

/// Whether a head is of the same log as another, and as far.
fn is_as_far(head: &Value, other: &Value) -> bool {
    ["author", "incarnation", "lane"].iter().all(|field| head[field] == other[field])
        && head["sequence"].as_u64() >= other["sequence"].as_u64()
}

fn kept_by_all(lane: &Value) -> bool {
    lane.as_str().is_some_and(|lane| matches!(lane, "control" | "catalog" | "signal"))
}

/// Runs a process that means ill to its end; what it got.
pub(super) async fn run_outsider(mut command: tokio::process::Command) -> Result<Value, DemoError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process::spawn(command)?;
    // It ends when this is dropped.
    let input = child.stdin.take();
    let output = child.wait_with_output().await.map_err(DemoError::io("a process that means ill"))?;
    drop(input);
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.trim().trim_start_matches("error: ");
        return Err(DemoError::Failed(format!("a process that means ill: {words}")));
    }
    serde_json::from_slice(&output.stdout).map_err(DemoError::failed)
}
