//! A market of real processes: a hub that listens, and stalls that join and sell.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Namespaces, Node, stallmesh, until};
use crate::proxy::UdpProxy;

/// Milliseconds between the checkpoints of a test's hub.
pub const HUB_EVERY_MS: &str = "200";

/// A market in a folder that goes with it.
#[derive(Debug)]
pub struct Market {
    /// Its hub, running.
    pub hub: Node,
    folder: TempDir,
    /// Where stalls find the hub.
    pub hub_address: String,
}

impl Market {
    /// A market whose hub listens on loopback.
    ///
    /// # Panics
    /// It can't be made.
    pub fn make() -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        Self::with_hub(&address, &address, |_| {})
    }

    /// A market whose hub is in a namespace, on the wide network only.
    ///
    /// # Panics
    /// It can't be made.
    pub fn make_inside(namespaces: &Namespaces, index: usize) -> Self {
        let address = namespaces.wide_address(index);
        Self::with_hub("0.0.0.0:7801", &format!("{address}:7801"), |hub| {
            hub.inside(namespaces, index).set("STALLMESH_MESH_MDNS", "false").set("STALLMESH_MESH_LISTEN", "");
        })
    }

    /// A market whose hub is reached through a way that the test can make bad. The hub says much in its log.
    ///
    /// # Panics
    /// It can't be made.
    pub fn make_behind(seed: u64, configure: impl FnOnce(&mut Node)) -> (Self, UdpProxy) {
        let port = free_port();
        let proxy = UdpProxy::start(SocketAddr::from(([127, 0, 0, 1], port)), seed);
        // An address of its own would be told to everybody, and lead past the proxy.
        let market = Self::with_hub(&format!("0.0.0.0:{port}"), &proxy.address().to_string(), |hub| {
            hub.set("STALLMESH_LOG_FILTER", "stallmesh_node=debug");
            configure(hub);
        });
        (market, proxy)
    }

    fn with_hub(listen: &str, address: &str, configure: impl FnOnce(&mut Node)) -> Self {
        let folder = match TempDir::new() {
            Ok(mut folder) => {
                // For whoever wants to look at what a failed test has left.
                folder.disable_cleanup(std::env::var_os("TEST_KEEP").is_some());
                folder
            }
            Err(error) => panic!("a temporary folder: {error}"),
        };
        let mut hub = Node::new(folder.path(), "hub");
        hub.set("STALLMESH_UPLINK_LISTEN", listen)
            .set("STALLMESH_UPLINK_ADDRESSES", address)
            // Beyond the uplink: nobody in the market finds it by another road.
            .set("STALLMESH_MESH_LISTEN", "")
            .set("STALLMESH_HUB_CHECKPOINT_EVERY_MS", HUB_EVERY_MS);
        configure(&mut hub);
        let directory = hub.directory.display().to_string();
        let made = stallmesh(&["--data-dir", &directory, "market", "create", "Test market", "--fee", "5"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        hub.start();
        Market { hub, folder, hub_address: address.to_owned() }
    }

    /// Where the directories of its nodes are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An invite for a device of a stall; for a gateway where the slug is empty.
    ///
    /// # Panics
    /// The hub refuses.
    pub fn invite(&self, stall: &str) -> String {
        let role = if stall.is_empty() { "gateway" } else { "stall" };
        let name = if stall.is_empty() { "gateway" } else { stall };
        let order = json!({
            "role": role, "stall": stall, "name": name, "expires_ms": 86_400_000_u64, "valid_ms": 864_000_000_u64,
        });
        let answer = self.hub.send("POST", "/v1/invites", &order);
        answer["invite"].as_str().unwrap_or_default().to_owned()
    }

    /// A node of this market that doesn't run yet.
    pub fn node(&self, name: &str) -> Node {
        Node::new(self.folder(), name)
    }

    /// A stall's node with a way to the hub: running, a member, with one product.
    ///
    /// # Panics
    /// It doesn't become one.
    pub fn stall(&self, slug: &str) -> Node {
        let mut node = self.node(slug);
        node.set("STALLMESH_UPLINK_ENABLED", "true").start();
        self.admit(&node, slug);
        product(&node, "MUG", 1250);
        node
    }

    /// A stall's node without a way to the hub, linked to a neighbour; otherwise as [`Market::stall`].
    ///
    /// # Panics
    /// It doesn't become one.
    pub fn stall_beside(&self, slug: &str, neighbour: &Node) -> Node {
        let mut node = self.node(slug);
        node.set("STALLMESH_MESH_PEERS", &address(neighbour)).start();
        self.admit(&node, slug);
        product(&node, "MUG", 1250);
        node
    }

    /// Lets a running node in with an invite, and waits until it is.
    ///
    /// # Panics
    /// It isn't.
    pub fn admit(&self, node: &Node, stall: &str) {
        node.send("POST", "/v1/join", &json!({ "invite": self.invite(stall) }));
        node.until("is a member", |status| status["role"] != "none");
    }

    /// Waits until the hub would post so many sales, or has.
    ///
    /// # Panics
    /// It never would.
    pub fn until_received(&self, sales: usize) {
        until(&format!("{sales} sales at the hub"), || {
            let ledger = self.hub.get("/v1/ledger");
            let suspense = ledger["suspense"].as_array().map(Vec::len).unwrap_or_default();
            let last = || format!("{}, of which {suspense} in suspense: {}", ledger["received"], ledger["suspense"][0]);
            if ledger["received"] == sales { Ok(()) } else { Err(last()) }
        });
    }

    /// Closes a settlement.
    ///
    /// # Panics
    /// The hub refuses.
    pub fn settle(&self) -> Value {
        self.hub.send("POST", "/v1/settle", &json!({}))
    }
}

/// A UDP port that is free now.
///
/// # Panics
/// There is none.
pub fn free_port() -> u16 {
    match UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()) {
        Ok(address) => address.port(),
        Err(error) => panic!("no free port: {error}"),
    }
}

/// Where a running node's mesh answers.
///
/// # Panics
/// It doesn't say.
pub fn address(node: &Node) -> String {
    let status = node.until("listens", |status| status["listen"][0].is_string());
    status["listen"][0].as_str().unwrap_or_default().to_owned()
}

/// Publishes one product of a node's stall.
///
/// # Panics
/// The node refuses.
pub fn product(node: &Node, sku: &str, price: u64) {
    node.send("PUT", "/v1/catalog", &json!([{ "sku": sku, "name": sku, "price": price }]));
}

/// A cash sale of one piece.
pub fn order(key: &str, sku: &str) -> Value {
    json!({ "idempotency_key": key, "lines": [{ "sku": sku }], "tenders": [{ "kind": "cash" }] })
}
