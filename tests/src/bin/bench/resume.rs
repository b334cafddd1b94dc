//! From the moment at which the way to the hub is there again to the hub's word on a sale that was made meanwhile: resumed
//! with the sale in the first packet, against a fresh handshake, in turns.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stallmesh_tests::proxy::{Faults, UdpProxy};

use crate::Options;
use crate::figures::{Report, Row, Sample, Target};
use crate::nodes::{Client, Market, Node, free_port, products, publish, until};

const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Round trips of the way to the hub, in milliseconds.
const ROUND_TRIPS_MS: &[u64] = &[0, 200];

struct Stall {
    _node: Node,
    client: Client,
    sold: usize,
}

impl Stall {
    fn join(market: &mut Market, name: &str, resume: bool) -> Self {
        let mut node = market.stall(name, &[]);
        node.set("STALLMESH_MESH_LISTEN", "");
        node.set("STALLMESH_UPLINK_ENABLED", "true");
        node.set("STALLMESH_UPLINK_RESUME", if resume { "true" } else { "false" });
        let mut client = node.start();
        market.admit(name, &mut client);
        publish(&mut client, &products(name, 1));
        Stall { _node: node, client, sold: 0 }
    }

    fn switch(&mut self, up: bool) {
        self.client.ask("PUT", "/v1/uplink", &json!({ "up": up }));
    }

    fn at_the_hub(&mut self) -> usize {
        let sales = &self.client.ask("GET", "/v1/status", &Value::Null)["sales"];
        (sales["at_the_hub"].as_u64().unwrap_or(0) + sales["settled"].as_u64().unwrap_or(0)) as usize
    }

    /// One cut, with a sale in it: from its end to the hub's word.
    fn cut(&mut self, name: &str, sales: usize) -> Duration {
        self.switch(false);
        let is_up = |client: &mut Client| client.ask("GET", "/v1/status", &Value::Null)["uplink"]["up"] == true;
        until("the link is down", LOOK_EVERY, || (!is_up(&mut self.client)).then_some(()));
        for _ in 0..sales {
            let lines = json!([{ "sku": format!("{name}-000000") }]);
            let sale = json!({
                "idempotency_key": self.sold.to_string(), "lines": lines, "tenders": [{ "kind": "cash" }],
            });
            self.client.ask("POST", "/v1/sales", &sale);
            self.sold += 1;
        }
        let begun = Instant::now();
        self.switch(true);
        let sold = self.sold;
        until("the hub has it", LOOK_EVERY, || (self.at_the_hub() == sold).then_some(()));
        let took = begun.elapsed();
        // Its session, and new tickets, are there before the next one.
        until("the link is up", LOOK_EVERY, || is_up(&mut self.client).then_some(()));
        took
    }
}

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let rounds = if options.quick { 2 } else { 50 };
    let port = free_port();
    let proxy = UdpProxy::start(SocketAddr::from(([127, 0, 0, 1], port)), 1);
    let mut market = Market::open_with(&options.directory, |hub| {
        hub.set("STALLMESH_UPLINK_LISTEN", &format!("0.0.0.0:{port}"));
        hub.set("STALLMESH_UPLINK_ADDRESSES", &proxy.address().to_string());
        hub.set("STALLMESH_MESH_LISTEN", "");
    });
    let mut resumed = Stall::join(&mut market, "resumed", true);
    let mut fresh = Stall::join(&mut market, "fresh", false);
    for round_trip in ROUND_TRIPS_MS {
        proxy.set_both(Faults::one_way(Duration::from_micros(round_trip * 500)));
        for sales in [1, 10] {
            let (mut with, mut without) = (Sample::default(), Sample::default());
            for _ in 0..rounds {
                with.add_millis(resumed.cut("resumed", sales));
                without.add_millis(fresh.cut("fresh", sales));
            }
            let name = format!("{round_trip} ms round trip, {sales} sales: resumed");
            let row = Row::median(name, &with, "ms").beside("a fresh handshake", without.median());
            // A handshake is one round trip of two.
            report.row(if *round_trip > 0 { row.target(Target::AtMost(0.55)) } else { row });
        }
    }
}
