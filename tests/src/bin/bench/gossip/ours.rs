//! Whole nodes in this process: engine, store on the disk, mesh. Only the HTTP API is left out.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::future::join_all;
use stallmesh_node::config::Config;
use stallmesh_node::engine::{Answer, InviteOrder, Notice, ProductView, Request, StatusView};
use stallmesh_node::events::{Listener, Told};
use stallmesh_node::identity;
use stallmesh_node::runtime::{self, NodeHandle, RunningNode};
use stallmesh_protocol::payload;
use tokio::sync::mpsc;

use super::{Arrival, MESSAGE, Pass, Work, drive};
use crate::inside::letters;
use crate::nodes::{free_port, program};

const WITHIN: Duration = Duration::from_secs(300);
const DAY_MS: u64 = 24 * 3_600_000;

/// One pass in a market of its own.
pub(super) async fn pass(work: Work, directory: &Path) -> Pass {
    let folder = tempfile::Builder::new().prefix("stallmesh-bench-").tempdir_in(directory).expect("a folder");
    let nodes = market(work, folder.path()).await;
    let (sender, mut arrivals) = mpsc::unbounded_channel();
    // Each stall's calls one after another, in the order in which they are handed in.
    let mut orders = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        tokio::spawn(watch(work, number, node.handle.clone(), node.handle.events().listen(), sender.clone()));
        let (order, mut products) = mpsc::unbounded_channel();
        let handle = node.handle.clone();
        tokio::spawn(async move {
            while let Some(product) = products.recv().await {
                publish(&handle, product).await;
            }
        });
        orders.push(order);
    }
    let products: Vec<ProductView> = (0..work.messages).map(|message| product(message + work.nodes)).collect();
    let hand_in = |message: usize| {
        let _ = orders[work.publisher(message)].send(products[message].clone());
    };
    let pass = drive(work, hand_in, &mut arrivals).await;
    join_all(nodes.into_iter().map(RunningNode::stop)).await;
    pass
}

/// A hub and stalls that have joined, are linked as they should be, and hold a first product of each other.
async fn market(work: Work, folder: &Path) -> Vec<RunningNode> {
    let hub = folder.join("node-0");
    let create = ["market", "create", "Bench", "--currency", "EUR", "--tax", "standard=20"];
    let output = Command::new(program()).arg("--data-dir").arg(&hub).args(create).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ports: Vec<u16> = (0..work.nodes).map(|_| free_port()).collect();
    let mut nodes: Vec<RunningNode> = Vec::new();
    for number in 0..work.nodes {
        let mut config = Config::default();
        let address = |port: u16| format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
        config.mesh.mdns = false;
        config.mesh.listen = vec![address(ports[number])];
        // Each dials those that came before it.
        let before = work.neighbours(number).into_iter().filter(|other| *other < number);
        config.mesh.peers = before.map(|other| address(ports[other])).collect();
        let node = runtime::start(&folder.join(format!("node-{number}")), &config).expect("a node");
        if number > 0 {
            join(&nodes[0].handle, &node.handle, &format!("stall-{number}")).await;
        }
        nodes.push(node);
    }
    for (number, node) in nodes.iter().enumerate() {
        let links = work.neighbours(number).len();
        until("all links are up", || async { (status(&node.handle).await.peers.len() == links).then_some(()) }).await;
    }
    // A stall's log begins, and the tree along which its entries go takes shape.
    for (number, node) in nodes.iter().enumerate().skip(1) {
        publish(&node.handle, product(number)).await;
    }
    for node in &nodes {
        until("a first product of each", || async {
            let counts = counts(&node.handle).await;
            (counts.iter().filter(|(_, count)| *count == 1).count() == work.nodes - 1).then_some(())
        })
        .await;
    }
    nodes
}

async fn join(hub: &NodeHandle, node: &NodeHandle, stall: &str) {
    let order = InviteOrder {
        role: "stall".into(),
        stall: stall.into(),
        name: stall.into(),
        expires_ms: DAY_MS,
        valid_ms: DAY_MS,
    };
    let Answer::Invite(invite) = hub.ask(Request::CreateInvite(order)).await else { panic!("no invite") };
    let answer = node.ask(Request::Join { invite, name: stall.into() }).await;
    assert_eq!(answer, Answer::Done);
    until("joining", || async { (status(node).await.role == "stall").then_some(()) }).await;
}

/// Tells of what has come to a node, as soon as the node says that its catalog has changed: after the commit.
async fn watch(
    work: Work,
    node: usize,
    handle: NodeHandle,
    mut notices: Listener,
    arrivals: mpsc::UnboundedSender<Arrival>,
) {
    // Products of each stall that were seen; the first of each came before the measurement.
    let mut seen: HashMap<String, usize> = HashMap::new();
    loop {
        match notices.next().await {
            Some(Told::Notice(_, Notice::Catalog) | Told::Missed(_)) => {}
            Some(_) => continue,
            None => return,
        }
        while notices.try_next().is_some() {}
        let Answer::CatalogCounts(counts) = handle.ask(Request::CatalogCounts).await else { return };
        let at = Instant::now();
        for (stall, count) in counts {
            let before = seen.get(&stall).copied().unwrap_or(1);
            if count <= before {
                continue;
            }
            let number: usize = stall.trim_start_matches("stall-").parse().expect("a stall's number");
            for nth in before..count {
                // A log has no gaps: the stall's n-th product is its n-th message.
                let message = (nth - 1) * (work.nodes - 1) + number - 1;
                if arrivals.send(Arrival { message, node, at }).is_err() {
                    return;
                }
            }
            seen.insert(stall, count);
        }
    }
}

/// A product whose entry has as many bytes of payload as a message. Its name is random text, which hardly packs.
fn product(number: usize) -> ProductView {
    let noise = (0..MESSAGE / 64 + 1).flat_map(|_| identity::random().expect("random bytes"));
    let mut name = letters(noise);
    let (sku, price, taxes) = (format!("thing-{number:06}"), 1_000 + number as u64, vec!["standard".to_owned()]);
    let product =
        payload::Product { sku, name: name[..MESSAGE / 2].into(), price, taxes, ..payload::Product::default() };
    let message = payload::Products { products: vec![product.clone()], ..Default::default() };
    // All lengths have as many bytes with half a name as with a whole one.
    name.truncate(MESSAGE / 2 + MESSAGE - payload::encode(&message).len());
    ProductView { sku: product.sku, name, price, taxes: product.taxes, unit: "piece".into(), ..ProductView::default() }
}

async fn publish(node: &NodeHandle, product: ProductView) {
    let answer = node.ask(Request::PublishProducts(vec![product])).await;
    assert_eq!(answer, Answer::Done);
}

async fn status(node: &NodeHandle) -> StatusView {
    match node.ask(Request::Status).await {
        Answer::Status(status) => *status,
        other => panic!("no status: {other:?}"),
    }
}

async fn counts(node: &NodeHandle) -> Vec<(String, usize)> {
    match node.ask(Request::CatalogCounts).await {
        Answer::CatalogCounts(counts) => counts,
        other => panic!("no counts: {other:?}"),
    }
}

async fn until<T>(what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = holds().await {
            return found;
        }
        assert!(start.elapsed() < WITHIN, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
