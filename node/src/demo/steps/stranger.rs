//! A stranger with a libp2p node of its own and no certificate tries every protocol at every door.

use serde_json::Value;

use super::super::DemoError;
use super::super::market::{FIRST_STALL, GATEWAY, Market};
use super::dishonest::run_outsider;

impl Market {
    pub(super) async fn stranger(&mut self) -> Result<(), DemoError> {
        let index = self.helper_index() + 2;
        // It has a way to the hub: that is no secret, and no right.
        self.network.set_uplink(index, true).map_err(DemoError::Failed)?;
        let mut command = self.network.command(&self.program, index);
        command.arg("demo-outsider").arg("stranger").arg("--market-key").arg(self.directory.join("market.pub"));
        for target in [GATEWAY, FIRST_STALL] {
            command.arg("--peer").arg(self.mesh_address(target).await?);
        }
        command.arg("--hub").arg(self.hub_address());
        let result = run_outsider(command).await?;
        self.network.set_uplink(index, false).map_err(DemoError::Failed)?;
        let doors: Vec<&Value> = result.as_object().into_iter().flatten().map(|(_, got)| got).collect();
        let sum = |field: &str, channel: &str| -> u64 {
            doors
                .iter()
                .map(|got| if channel.is_empty() { &got[field] } else { &got[field][channel] })
                .filter_map(Value::as_u64)
                .sum()
        };
        let opened = sum("opened", "live") + sum("opened", "bulk");
        self.say(format!(
            "A stranger without a certificate made {} connections, to the gateway, a stall and the hub's uplink port, and tried every protocol on each:",
            sum("connections", "")
        ));
        self.say(format!(
            "live and bulk opened {opened} times; join answered with {} frames ({} bytes) and {} entries. It got nothing.",
            sum("frames", "join"),
            sum("bytes", ""),
            sum("entries", "")
        ));
        let frames = sum("frames", "live") + sum("frames", "bulk");
        if opened > 0 || frames > 0 || sum("entries", "") > 0 {
            return Err(DemoError::Failed(format!("a stranger was let in: {result}")));
        }
        Ok(())
    }
}
