//! A stall owner gives a helper's tablet a narrower certificate, with no hub anywhere.

use serde_json::json;

use super::super::DemoError;
use super::super::market::{FIRST_STALL, GATEWAY, Market, until};
use super::super::process::Node;
use super::catalogs::count_of;

/// The most that the helper may sell at once, in minor units.
const LIMIT: u64 = 10_000;

impl Market {
    /// The helper's place among the nodes.
    pub(in super::super) fn helper_index(&self) -> usize {
        self.stalls().end
    }

    pub(super) async fn helper(&mut self) -> Result<(), DemoError> {
        let (owner, index) = (FIRST_STALL, self.helper_index());
        let environment = self.environment(&[("STALLMESH_UPLINK_ENABLED", "false".into())]);
        let stall = self.slug(owner);
        self.add_node(Node::new(index, "helper", self.directory.join("helper"), environment), &stall);
        self.start(index).await?;
        // Which market it is, it learns from the owner's own invite, which gives it no right: that is used up.
        let body = json!({ "invite": self.invites[owner - GATEWAY], "name": "helper", "ask_for_stall": stall });
        self.nodes[index].send("POST", "/v1/join", &body).await?;
        if !self.network.has_multicast() {
            let address = self.mesh_address(owner).await?;
            self.nodes[index].send("POST", "/v1/peers", &json!({ "address": address })).await?;
        }
        let status = self.nodes[index].status().await?;
        let scopes = vec![format!("sell={LIMIT}"), "relay".to_owned()];
        let order = json!({
            "device": status["device"], "seal_key": status["seal_key"], "name": "helper",
            "scopes": scopes, "valid_ms": 43_200_000_u64,
        });
        self.nodes[owner].send("POST", "/v1/delegate", &order).await?;
        let helper = &self.nodes[index];
        let took = until("the helper's tablet joins", async || Ok(helper.status().await?["role"] == "stall")).await?;
        let products = self.input.stalls[owner - FIRST_STALL].products.len() as u64;
        until("the helper's tablet has the catalog", async || {
            Ok(count_of(&helper.get("/v1/catalog/counts").await?, &stall) == products)
        })
        .await?;
        let till = self.make_till(index, owner, "helper").await?;
        // Of all it may sell, the cheapest thing stays below its limit.
        let cheapest = till.products().iter().filter(|(_, price)| *price > 0).min_by_key(|(_, price)| *price).cloned();
        let Some((sku, price)) = cheapest.filter(|(_, price)| *price <= LIMIT) else {
            return Err(DemoError::Failed(format!("{stall} offers nothing that costs less than {LIMIT} minor units")));
        };
        let order = |quantity: u64, key: &str| {
            json!({
                "idempotency_key": key, "lines": [{ "sku": sku, "quantity": quantity.to_string() }],
                "tenders": [{ "kind": "cash" }],
            })
        };
        let journal = self.journal.clone();
        for key in ["helper-1", "helper-2", "helper-3"] {
            till.send(&journal, &order(1, key), false).await.map_err(|error| till.failed(&error))?;
        }
        // Twice as much, so that no promotion brings it below the limit.
        let too_much = till.send_unnoted(&order(2 * LIMIT / price + 1, "helper-too-much")).await;
        let products = json!([{ "sku": "X", "name": "X", "price": 1 }]);
        let publishing = self.nodes[index].send("PUT", "/v1/catalog", &products).await;
        let (Err(sale_refusal), Err(catalog_refusal)) = (too_much, publishing) else {
            return Err(DemoError::Failed("the helper's tablet did what its certificate doesn't allow".into()));
        };
        self.tills.insert(index, till);
        self.say(format!(
            "A helper's tablet became a member through its stall's owner in {} ms, with no hub anywhere, and made 3 sales.",
            took.as_millis()
        ));
        self.say(format!("It is refused what it may not do. To sell more: {sale_refusal}"));
        self.say(format!("To publish: {catalog_refusal}"));
        Ok(())
    }
}
