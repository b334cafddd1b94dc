//! Step 2: each stall imports a product file of its own; every node holds all of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::DemoError;
use super::super::market::{FIRST_STALL, GATEWAY, Market, WAIT_SECONDS};

impl Market {
    pub(in super::super) async fn step_catalogs(&mut self) -> Result<(), DemoError> {
        self.board.begin(1);
        let mut expected = 0;
        let start = Instant::now();
        for index in self.stalls() {
            let products = &self.input.stalls[index - FIRST_STALL].products;
            let body = serde_json::to_value(products).map_err(DemoError::failed)?;
            expected += products.len() as u64;
            self.nodes[index].send("PUT", "/v1/catalog", &body).await?;
        }
        let mut waiting: BTreeSet<usize> = (GATEWAY..self.nodes.len()).collect();
        while !waiting.is_empty() {
            for index in waiting.clone() {
                let counts = self.nodes[index].get("/v1/catalog/counts").await?;
                let held: u64 = counts.as_array().into_iter().flatten().filter_map(|count| count[1].as_u64()).sum();
                if held == expected {
                    waiting.remove(&index);
                }
            }
            if start.elapsed() > Duration::from_secs(WAIT_SECONDS) {
                let count = waiting.len();
                return Err(DemoError::Failed(format!("{count} nodes lack products after {WAIT_SECONDS} s")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = start.elapsed().as_millis() as u64;
        self.figure("catalog_items", expected);
        self.figure("catalog_converged_ms", took);
        for index in self.stalls() {
            let name = self.nodes[index].name.clone();
            let till = self.make_till(index, index, &name).await?;
            self.tills.insert(index, till);
        }
        self.say(format!(
            "{expected} products of {} stalls; the last of {} nodes held all of them {took} ms after the first import began.",
            self.arguments.stalls,
            self.nodes.len() - GATEWAY
        ));
        self.publish_promotions().await
    }
}

/// How many products of a stall a node holds.
pub(super) fn count_of(counts: &Value, stall: &str) -> u64 {
    let counts = counts.as_array().into_iter().flatten();
    counts.filter(|count| count[0] == stall).filter_map(|count| count[1].as_u64()).sum()
}
