//! Step 5: a kill in the middle of selling, a stall that never comes back, an uplink that moves, a member that replays
//! and alters, a stranger, and a cloned disk.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::super::DemoError;
use super::super::journal::Journal;
use super::super::market::{FIRST_STALL, GATEWAY, HUB, Market, copy_directory, until};
use super::super::shop::{Acknowledged, Till, list_sales};
use crate::cli::CliError;

/// Tills that sell at the same time at the stall that is killed.
const CALLERS: usize = 4;
/// Sales at the stall that never comes back, after everybody else's are at the hub.
const LAST_SALES: usize = 5;

impl Market {
    pub(in super::super) async fn step_trouble(&mut self) -> Result<(), DemoError> {
        self.board.begin(4);
        self.killed_while_selling().await?;
        self.never_comes_back().await?;
        self.uplink_moves().await?;
        self.dishonest_member().await?;
        self.stranger().await?;
        self.cloned_disk().await
    }

    /// SIGKILL with requests under way; started again, and every request sent again.
    async fn killed_while_selling(&mut self) -> Result<(), DemoError> {
        let victim = FIRST_STALL;
        let answers_before = 8 + self.draw.below(16);
        let till = self.make_till(victim, victim, "killed").await?;
        self.nodes[victim].sample().await?;
        let shared = Arc::new(Mutex::new(till.clone()));
        let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel::<Acknowledged>();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| tokio::spawn(sell_until_it_breaks(shared.clone(), self.journal.clone(), answered.clone())))
            .collect();
        drop(answered);
        let mut acknowledged = Vec::new();
        while acknowledged.len() < answers_before {
            match answers.recv().await {
                Some(sale) => acknowledged.push(sale),
                None => return Err(self.nodes[victim].failed("it stopped answering before it was killed")),
            }
        }
        self.board.set_running(victim, false, "killed");
        self.nodes[victim].kill().await;
        let mut in_flight = Vec::new();
        for caller in callers {
            in_flight.extend(caller.await.map_err(DemoError::failed)?);
        }
        while let Some(sale) = answers.recv().await {
            acknowledged.push(sale);
        }
        let restart = Instant::now();
        self.start(victim).await?;
        let took = restart.elapsed().as_millis();
        self.introduce(victim).await?;
        let kept: BTreeSet<String> = ids(list_sales(&self.nodes[victim].directory).await?);
        let missing = acknowledged.iter().filter(|sale| !kept.contains(&sale.sale)).count();
        let mut other = 0;
        for sale in &acknowledged {
            let again = till.send(&self.journal, &sale.order, true).await.map_err(|error| till.failed(&error))?;
            other += usize::from(again.sale != sale.sale);
        }
        let mut reached = 0;
        for order in &in_flight {
            let sale = till.send(&self.journal, order, false).await.map_err(|error| till.failed(&error))?;
            reached += usize::from(kept.contains(&sale.sale));
        }
        let after = ids(list_sales(&self.nodes[victim].directory).await?);
        let new = after.difference(&kept).count();
        let answered = acknowledged.len();
        let has = match missing {
            0 => format!("all {answered} of the sales that it had answered for"),
            _ => format!("lost {missing} of the {answered} sales that it had answered for"),
        };
        self.say(format!(
            "{} was killed after {answered} answers, with {} requests under way; {took} ms later it answers again and has {has}.",
            self.nodes[victim].name,
            in_flight.len(),
        ));
        self.say(format!(
            "Every request was sent again: {other} made a second sale; of those under way {reached} had reached its disk and {new} were new."
        ));
        if in_flight.is_empty() {
            return Err(DemoError::Failed("nothing was under way when it was killed".into()));
        }
        if missing > 0 || other > 0 || reached + new != in_flight.len() {
            return Err(DemoError::Failed("a sale was lost or doubled by the kill".into()));
        }
        self.all_received().await.map(|_| ())
    }

    /// The last stall is killed right after its neighbours have signed for its last sales.
    async fn never_comes_back(&mut self) -> Result<(), DemoError> {
        self.set_uplink(GATEWAY, false).await?;
        let lost = self.stalls().end - 1;
        for _ in 0..LAST_SALES {
            self.sell(lost).await?;
        }
        let node = &self.nodes[lost];
        until("a neighbour holds the last sales", async || {
            let custody = node.status().await?["custody"].clone();
            Ok(custody["own_waiting"] == custody["own_copied"])
        })
        .await?;
        let waiting = node.status().await?["custody"]["own_waiting"].as_u64().unwrap_or(0);
        // Who gets them from others, late, would look as if a replay had changed something.
        self.signals_reach(&[lost].into(), &self.in_the_market()).await?;
        let received = self.hub_received().await?;
        self.kill(lost, "never came back").await?;
        self.say(format!(
            "{} is gone for good, with {waiting} entries of its last {LAST_SALES} sales at neighbours and none at the hub, which has {received} sales.",
            self.nodes[lost].name
        ));
        Ok(())
    }

    async fn uplink_moves(&mut self) -> Result<(), DemoError> {
        let lost = self.stalls().end - 1;
        let other = if lost == FIRST_STALL + 1 { FIRST_STALL } else { FIRST_STALL + 1 };
        let before = self.hub_received().await?;
        self.set_uplink(other, true).await?;
        let own = 3;
        for _ in 0..own {
            self.sell(other).await?;
        }
        self.all_received().await?;
        let wanted = before + (LAST_SALES + own) as u64;
        until("the lost stall's sales reach the hub", async || Ok(self.hub_received().await? >= wanted)).await?;
        let name = &self.nodes[other].name;
        self.say(format!(
            "The uplink moved to {name}, the only one. The hub has {} sales more: the lost stall's {LAST_SALES}, and {own} that {name} made and sent itself.",
            self.hub_received().await? - before,
        ));
        Ok(())
    }

    /// A data directory is copied, and both copies sell.
    async fn cloned_disk(&mut self) -> Result<(), DemoError> {
        let original = FIRST_STALL;
        self.stop(original, "stopped").await;
        let copy = self.directory.join("stall-1-copy");
        copy_directory(&self.nodes[original].directory, &copy)?;
        let index = self.helper_index() + 1;
        let clone = self.nodes[original].copy_of(index, copy);
        let stall = self.slug(original);
        self.add_node(clone, &stall);
        self.start(original).await?;
        self.start(index).await?;
        for node in [original, index] {
            self.introduce(node).await?;
        }
        let till = self.make_till(original, original, "original").await?;
        self.tills.insert(original, till);
        let till = self.make_till(index, original, "copy").await?.moved_to(&self.nodes[index]);
        self.tills.insert(index, till);
        let rounds = 3;
        for _ in 0..rounds {
            self.sell(original).await?;
            self.sell(index).await?;
        }
        self.all_received().await?;
        let hub = &self.nodes[HUB];
        until("the clone raises the alarm", async || {
            Ok(hub.status().await?["notices"].to_string().contains("two copies"))
        })
        .await?;
        let mut alarmed = 0;
        for node in self.nodes.iter().filter(|node| node.runs()) {
            alarmed += usize::from(node.status().await?["notices"].to_string().contains("two copies"));
        }
        let alarm = hub.status().await?["notices"].as_array().into_iter().flatten().find_map(|notice: &Value| {
            notice.as_str().filter(|notice| notice.contains("two copies")).map(str::to_owned)
        });
        self.say(format!(
            "A data directory was copied; both copies made {rounds} sales, and all {} are at the hub. {alarmed} of {} nodes raise the alarm:",
            2 * rounds,
            self.nodes.iter().filter(|node| node.runs()).count()
        ));
        self.say(format!("\"{}\"", alarm.unwrap_or_default()));
        Ok(())
    }
}

fn ids(sales: Vec<(String, String)>) -> BTreeSet<String> {
    sales.into_iter().map(|(sale, _)| sale).collect()
}

/// Sells until the node is gone; the order that was under way then.
async fn sell_until_it_breaks(
    till: Arc<Mutex<Till>>,
    journal: Journal,
    answered: tokio::sync::mpsc::UnboundedSender<Acknowledged>,
) -> Option<Value> {
    loop {
        // Nothing that holds the lock can panic half-way.
        let (order, caller) = {
            let mut till = till.lock().unwrap_or_else(PoisonError::into_inner);
            (till.order().at_once(), till.clone())
        };
        match caller.send(&journal, &order, false).await {
            Ok(sale) => {
                let _ = answered.send(sale);
            }
            // It was gone before the request was sent.
            Err(CliError::NoNode { .. }) => return None,
            Err(_) => return Some(order),
        }
    }
}
