//! Step 3: every uplink is cut, and all stalls sell at the same time.

use std::time::{Duration, Instant};

use super::super::DemoError;
use super::super::falsify::Falsify;
use super::super::journal::Journal;
use super::super::market::{GATEWAY, Market};
use super::super::shop::{Draw, Till};

impl Market {
    pub(in super::super) async fn step_sell(&mut self) -> Result<(), DemoError> {
        self.board.begin(2);
        self.set_uplink(GATEWAY, false).await?;
        let end = Instant::now() + Duration::from_secs(self.arguments.seconds);
        // Test only: one of the tills sends one of its orders twice, under another key and behind the journal's back.
        let twice = match self.arguments.falsify {
            Some(Falsify::Double) => {
                let till = self.draw.below(self.tills.len());
                self.tills.keys().nth(till).copied().map(|till| (till, 1 + self.draw.below(8)))
            }
            _ => None,
        };
        let journal = self.journal.clone();
        let selling = std::mem::take(&mut self.tills).into_values().map(|till| {
            let twice = twice.filter(|(index, _)| *index == till.node).map(|(_, number)| number);
            sell_until(till, &journal, end, twice)
        });
        let sold = futures::future::try_join_all(selling).await?;
        let (mut sales, mut most) = (0, 0);
        for (till, count) in sold {
            (sales, most) = (sales + count, most.max(count));
            self.tills.insert(till.node, till);
        }
        let (copied, held) = self.all_copied().await?;
        let received = self.hub_received().await?;
        if received != 0 {
            return Err(DemoError::Failed(format!("the hub has {received} sales, with every uplink cut")));
        }
        self.say(format!(
            "{sales} sales, by cash, card or both, are recorded at {} stalls, {most} of them at the busiest; the hub has {received}.",
            self.arguments.stalls
        ));
        self.say(format!(
            "Neighbours have signed for all {copied} sealed entries of these sales, and hold {held} copies."
        ));
        self.helper().await?;
        self.codes_and_split_bills().await?;
        self.regular().await?;
        self.stolen_card().await
    }
}

/// Sells until the time is up, and at least once. The till, and how much it sold.
async fn sell_until(
    mut till: Till,
    journal: &Journal,
    end: Instant,
    mut twice: Option<usize>,
) -> Result<(Till, usize), DemoError> {
    let mut sold = 0;
    loop {
        let sale = till.sell(journal).await?;
        sold += 1;
        let last = Instant::now() >= end;
        if twice.is_some_and(|number| number == sold || last) {
            twice = None;
            let mut again = sale.order;
            let key = again["idempotency_key"].as_str().unwrap_or_default();
            again["idempotency_key"] = format!("{key}-{:x}", Draw::new(sold as u64, 1).below(usize::MAX)).into();
            till.send_unnoted(&again).await.map_err(|error| till.failed(&error))?;
        }
        if last {
            return Ok((till, sold));
        }
    }
}
