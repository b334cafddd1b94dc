//! Step 4: one node gets an uplink, and everybody's sales flow through it. It tries to read what it carries.

use std::path::Path;

use serde_json::Value;

use super::super::DemoError;
use super::super::market::{GATEWAY, HUB, Market};
use super::super::shop::TOKEN;
use crate::cli::export;

impl Market {
    pub(in super::super) async fn step_relay(&mut self) -> Result<(), DemoError> {
        self.board.begin(3);
        self.set_uplink(GATEWAY, true).await?;
        let took = self.all_received().await?;
        let received = self.hub_received().await?;
        self.say(format!(
            "{received} sales are at the hub {} ms after the gateway's uplink came up, and their stalls know it.",
            took.as_millis()
        ));
        let links = self.hub_links().await?;
        self.say(format!("Who has a link to the hub, by its own word: {}.", links.join(", ")));
        self.carrier_reads().await?;
        self.blocked_card().await
    }

    /// Who has a link to the hub, by the hub's own word.
    pub(super) async fn hub_links(&self) -> Result<Vec<String>, DemoError> {
        let status = self.nodes[HUB].status().await?;
        let mut names = std::collections::BTreeSet::new();
        for peer in status["peers"].as_array().into_iter().flatten() {
            let mut name = peer["device"].as_str().unwrap_or_default().chars().take(8).collect::<String>();
            for node in self.nodes.iter().filter(|node| node.runs() && node.index != HUB) {
                if node.status().await?["device"] == peer["device"] {
                    name.clone_from(&node.name);
                    break;
                }
            }
            names.insert(name);
        }
        Ok(names.into_iter().collect())
    }

    /// The carrier tries to read what it carries: with its keys, and on its disk.
    async fn carrier_reads(&self) -> Result<(), DemoError> {
        let gateway = &self.nodes[GATEWAY];
        let out = self.directory.join("gateway.export");
        export(&gateway.directory, &out).await.map_err(DemoError::failed)?;
        let file = std::fs::File::open(&out).map_err(DemoError::io("the gateway's export"))?;
        let read = crate::engine::recompute(std::io::BufReader::new(file), None, 1).map_err(DemoError::failed)?;
        let (carried, opened) = (read.reconciliation.outcomes.len(), read.sales.len());
        let status: Value = gateway.status().await?;
        let tokens = search(&gateway.directory, TOKEN.as_bytes())?;
        self.say(format!(
            "The gateway holds {carried} sealed sales ({} kB) and tried to open each: {opened} opened. Its disk was searched for card tokens: {} found in {} kB.",
            status["custody"]["held_bytes"].as_u64().unwrap_or(0) / 1024,
            tokens.found,
            tokens.bytes / 1024
        ));
        if opened > 0 || tokens.found > 0 {
            return Err(DemoError::Failed("the carrier could read sales".into()));
        }
        if carried == 0 {
            return Err(DemoError::Failed("the gateway has carried nothing".into()));
        }
        Ok(())
    }
}

struct Found {
    found: usize,
    bytes: u64,
}

/// How often some bytes stand in the files of a directory.
fn search(directory: &Path, what: &[u8]) -> Result<Found, DemoError> {
    let mut result = Found { found: 0, bytes: 0 };
    for entry in std::fs::read_dir(directory).map_err(DemoError::io("a data directory"))? {
        let path = entry.map_err(DemoError::io("a data directory"))?.path();
        if path.is_file() {
            let bytes = std::fs::read(&path).map_err(DemoError::io(path.display()))?;
            result.bytes += bytes.len() as u64;
            result.found += bytes.windows(what.len()).filter(|window| *window == what).count();
        }
    }
    Ok(result)
}
