//! Whole nodes in this process, asked without HTTP: engine, store on the disk, mesh. What goes over loopback then is theirs
//! alone.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use stallmesh_node::config::Config;
use stallmesh_node::engine::{Answer, InviteOrder, ProductView, Request, StatusView};
use stallmesh_node::identity;
use stallmesh_node::runtime::{self, NodeHandle, RunningNode};
use stallmesh_protocol::payload;

use crate::nodes::{free_port, program};

const WITHIN: Duration = Duration::from_secs(600);
const DAY_MS: u64 = 24 * 3_600_000;
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A node, and where its mesh listens.
pub(crate) struct Inside {
    pub(crate) node: RunningNode,
    pub(crate) address: String,
}

impl Inside {
    /// Starts the node of a directory; it dials these addresses.
    pub(crate) fn start(directory: &Path, peers: &[String]) -> Self {
        let address = multiaddr(free_port());
        let mut config = Config::default();
        config.mesh.mdns = false;
        config.mesh.listen = vec![address.clone()];
        config.mesh.peers = peers.to_vec();
        let node = runtime::start(directory, &config).expect("a node");
        Inside { node, address }
    }

    pub(crate) fn handle(&self) -> &NodeHandle {
        &self.node.handle
    }

    pub(crate) async fn stop(self) {
        self.node.stop().await;
    }
}

pub(crate) fn multiaddr(port: u16) -> String {
    format!("/ip4/127.0.0.1/udp/{port}/quic-v1")
}

/// A market whose hub and members have folders of these names; they know each other, and none of them runs. Gives the
/// market's key, as a file has it.
pub(crate) async fn market(folder: &Path, members: &[&str]) -> String {
    let directory = folder.join("hub");
    let create = ["market", "create", "Bench", "--currency", "EUR", "--tax", "standard=20"];
    let output = Command::new(program()).arg("--data-dir").arg(&directory).args(create).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let hub = Inside::start(&directory, &[]);
    let mut nodes = Vec::new();
    for name in members {
        let node = Inside::start(&folder.join(name), std::slice::from_ref(&hub.address));
        join(hub.handle(), node.handle(), name).await;
        nodes.push(node);
    }
    for node in &nodes {
        let all = members.len() + 1;
        until("all know each other", async || (members_known(node).await == all).then_some(())).await;
    }
    for node in nodes {
        node.stop().await;
    }
    hub.stop().await;
    std::fs::read_to_string(directory.join("market.pub")).expect("the market's key")
}

async fn members_known(node: &Inside) -> usize {
    match node.handle().ask(Request::Members).await {
        Answer::Members(members) => members.len(),
        other => panic!("no members: {other:?}"),
    }
}

/// Lets a node in that is linked to the hub.
async fn join(hub: &NodeHandle, node: &NodeHandle, stall: &str) {
    let order = InviteOrder {
        role: "stall".into(),
        stall: stall.into(),
        name: stall.into(),
        expires_ms: DAY_MS,
        valid_ms: DAY_MS,
    };
    let Answer::Invite(invite) = hub.ask(Request::CreateInvite(order)).await else { panic!("no invite") };
    assert_eq!(node.ask(Request::Join { invite, name: stall.into() }).await, Answer::Done);
    until("joining", async || (status(node).await.role == "stall").then_some(())).await;
}

pub(crate) async fn status(node: &NodeHandle) -> StatusView {
    match node.ask(Request::Status).await {
        Answer::Status(status) => *status,
        other => panic!("no status: {other:?}"),
    }
}

/// How far a node has an author's catalog: entries.
pub(crate) async fn catalog_head(node: &NodeHandle, author: &str) -> u64 {
    let heads = status(node).await.heads;
    let of_author = heads.iter().filter(|head| head.author == author && head.lane == "catalog");
    of_author.map(|head| head.sequence).max().unwrap_or(0)
}

pub(crate) async fn until<T>(what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = holds().await {
            return found;
        }
        assert!(start.elapsed() < WITHIN, "{what} did not happen");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Random bytes as letters, two of them for each. In a long row of digits a card's number stands sooner or later, and is
/// refused.
pub(crate) fn letters(noise: impl Iterator<Item = u8>) -> String {
    let letter = |half: u8| char::from(b'a' + half);
    noise.flat_map(|byte| [letter(byte >> 4), letter(byte & 15)]).collect()
}

/// What names are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// Words, as people write them: packs.
    Words,
    /// Random letters: hardly packs.
    Noise,
}

/// A product whose entry, with nothing else in it, has so many bytes of payload.
pub(crate) fn product(number: usize, bytes: usize, text: Text) -> ProductView {
    const WORDS: &str = "hand-made by us from local wool, washed in cold water, dyed with walnut and madder; every piece is \
                         its own. Ask at the stall for other sizes. ";
    let mut name = match text {
        Text::Words => WORDS.repeat(bytes / WORDS.len() + 1),
        Text::Noise => {
            let noise = (0..bytes / 64 + 1).flat_map(|_| identity::random().expect("random bytes"));
            letters(noise)
        }
    };
    let (sku, price, taxes) = (format!("thing-{number:06}"), 1_000 + number as u64, vec!["standard".to_owned()]);
    let length = |name: &str| {
        let (sku, name, taxes) = (sku.clone(), name.to_owned(), taxes.clone());
        let product = payload::Product { sku, name, price, taxes, ..payload::Product::default() };
        payload::encode(&payload::Products { products: vec![product], ..Default::default() }).len()
    };
    // Lengths have one byte or two: what half a name lacks is a byte or two off at most.
    let half = bytes / 2;
    let mut wanted = half + bytes - length(&name[..half]);
    while length(&name[..wanted]) > bytes {
        wanted -= 1;
    }
    name.truncate(wanted);
    ProductView { sku, name, price, taxes, unit: "piece".into(), ..ProductView::default() }
}
