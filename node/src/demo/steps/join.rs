//! Step 1: stalls start with nothing but an invite, and become members through each other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::DemoError;
use super::super::market::{FIRST_STALL, GATEWAY, HUB, Market, WAIT_SECONDS, until};

/// How often a node is asked whether it is a member, in case its own word was missed.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Market {
    pub(in super::super) async fn step_join(&mut self) -> Result<(), DemoError> {
        self.board.begin(0);
        self.start(HUB).await?;
        self.publish_rules().await?;
        for index in GATEWAY..self.nodes.len() {
            let role = if index == GATEWAY { "gateway" } else { "stall" };
            let order = json!({
                "role": role, "stall": self.slug(index), "name": self.nodes[index].name,
                "expires_ms": 86_400_000_u64, "valid_ms": 172_800_000_u64,
            });
            let invite = self.nodes[HUB].send("POST", "/v1/invites", &order).await?;
            self.invites.push(invite["invite"].as_str().unwrap_or_default().to_owned());
        }
        let others: Vec<usize> = (GATEWAY..self.nodes.len()).collect();
        self.start_all(&others).await?;
        self.set_uplink(GATEWAY, true).await?;
        self.nodes[GATEWAY].join(&self.invites[0]).await?;
        let gateway = &self.nodes[GATEWAY];
        until("the gateway joins", async || Ok(gateway.status().await?["role"] != "none")).await?;
        for index in self.stalls() {
            self.introduce(index).await?;
        }
        let mut begun = BTreeMap::new();
        for index in self.stalls() {
            begun.insert(index, Instant::now());
            self.nodes[index].join(&self.invites[index - GATEWAY]).await?;
        }
        let took = self.wait_for_members(begun).await?;
        let mut discovered = 0_u64;
        for index in self.stalls() {
            discovered += u64::from(self.nodes[index].status().await?["discovered"].as_u64().unwrap_or(0) > 0);
        }
        let (p50, max) = (took[took.len() / 2].round(), took[took.len() - 1].round());
        self.figure("network", self.network.name());
        self.figure("discovered_by_mdns", discovered);
        self.figure("configured_addresses", if self.network.has_multicast() { 0 } else { took.len() });
        self.figure("join_ms", json!({ "p50": p50, "max": max }));
        self.say(format!("{} stalls are members: half of them within {p50} ms, the last within {max} ms.", took.len()));
        self.say(if self.network.has_multicast() {
            format!("{discovered} of them found others by mDNS; no node was given an address of another.")
        } else {
            format!(
                "There is no multicast here: each of them was given one address, the gateway's ({discovered} by mDNS)."
            )
        });
        self.say("None has a way to the hub: their requests went there, and the answers back, through members that can't read them.");
        Ok(())
    }

    /// Milliseconds that each stall took from its request to membership, ascending.
    async fn wait_for_members(&self, begun: BTreeMap<usize, Instant>) -> Result<Vec<f64>, DemoError> {
        let mut took: BTreeMap<usize, Duration> = BTreeMap::new();
        let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS);
        let mut ask_at = Instant::now() + ASK_AGAIN;
        while took.len() < begun.len() {
            let ask = Instant::now() > ask_at;
            for (index, begun) in &begun {
                if took.contains_key(index) {
                    continue;
                }
                if let Some(at) = self.journal.joined_at(*index) {
                    took.insert(*index, at.duration_since(*begun));
                } else if ask && self.nodes[*index].status().await?["role"] != "none" {
                    took.insert(*index, begun.elapsed());
                }
            }
            if ask {
                ask_at = Instant::now() + ASK_AGAIN;
            }
            if Instant::now() > deadline {
                let mut why = String::new();
                for index in self.stalls().filter(|index| !took.contains_key(index)).take(1) {
                    let status = self.nodes[index].status().await?;
                    why = format!("; {} says: {}", self.nodes[index].name, status["notices"]);
                }
                return Err(DemoError::Failed(format!("only {} of {} stalls joined{why}", took.len(), begun.len())));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        debug_assert!(begun.keys().all(|index| *index >= FIRST_STALL));
        let mut times: Vec<f64> = took.into_values().map(|time| time.as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        Ok(times)
    }
}
