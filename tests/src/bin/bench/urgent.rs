//! A revocation on a link on which a large catalog is being copied, against the same link while nothing else goes over it.
//!
//! The link has a rate, and a queue before it: what is sent faster than it carries waits there, and whatever is urgent waits
//! behind it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use stallmesh_node::engine::{Answer, DelegateOrder, Request};
use stallmesh_node::identity;
use stallmesh_protocol::DeviceId;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_tests::proxy::{Direction, Faults, UdpProxy};

use crate::Options;
use crate::feed::{self, Entries};
use crate::figures::{Report, Row, Sample, Target};
use crate::inside::{self, Inside, catalog_head, multiaddr, status, until};

const MEGABYTE: u64 = 1_000_000;
/// An entry of the catalog: so many products of so many bytes.
const ENTRY: (usize, usize) = (100, 500);
/// Between two revocations.
const EVERY: Duration = Duration::from_millis(20);
/// How much longer than twice an idle link's a revocation may take, in milliseconds.
const MORE_MS: f64 = 20.0;
const HOUR_MS: u64 = 3_600_000;

/// What is measured at one rate.
struct Way {
    /// Megabytes a second.
    rate: u64,
    /// How much waits before it, in milliseconds at that rate.
    queue_ms: u64,
    /// Revocations while the catalog is copied, and as many while it isn't.
    samples: usize,
}

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(ways(options, report));
}

async fn ways(options: &Options, report: &mut Report) {
    let (megabytes, samples) = if options.quick { (2, 3) } else { (100, 200) };
    let entries = megabytes * MEGABYTE as usize / (ENTRY.0 * ENTRY.1);
    let folder = tempfile::Builder::new().prefix("stallmesh-bench-").tempdir_in(&options.directory).expect("a folder");
    let place = |name: &str| folder.path().join(name);
    let root = inside::market(folder.path(), &["author", "holder", "reader"]).await;
    let fed = feed::fill(&root, &place("author"), &place("holder"), entries, Entries::Many(ENTRY.0, ENTRY.1));
    let author = fed.author.to_string();

    // The holder's owner revokes her helpers' devices, one after another.
    let holder = Inside::start(&place("holder"), &[]);
    let port = holder.address.split('/').nth(4).and_then(|port| port.parse().ok()).expect("a port");
    let ways = [(100, 250), (1, 250), (1, 25)].map(|(rate, queue_ms)| Way { rate, queue_ms, samples });
    for way in ways {
        let mut helpers = helpers(&holder, 2 * way.samples).await;
        let faults = Faults {
            rate: way.rate * MEGABYTE,
            queue_max: way.rate * MEGABYTE * way.queue_ms / 1_000,
            ..Faults::default()
        };
        let proxy = UdpProxy::start(SocketAddr::from(([127, 0, 0, 1], port)), 1);
        proxy.set_both(faults);
        let (mut busy, mut idle) = (Sample::default(), Sample::default());
        let (mut copied, mut seconds, mut passes) = (0.0, 0.0, 0);
        while busy.len() < way.samples {
            // A reader that has nothing of the catalog: a copy of one that has just joined.
            passes += 1;
            let fresh = place(&format!("reader-{}-{}-{passes}", way.rate, way.queue_ms));
            copy(&place("reader"), &fresh);
            let reader = Inside::start(&fresh, &[multiaddr(proxy.address().port())]);
            let head = async || catalog_head(reader.handle(), &author).await;
            until("the copy begins", async || (head().await > 0).then_some(())).await;
            let (begun, at) = (Instant::now(), head().await);
            let mut now = at;
            while now < entries as u64 && busy.len() < way.samples {
                let took = revoke(&holder, &reader, helpers.pop().expect("a helper")).await;
                now = head().await;
                if now < entries as u64 {
                    busy.add_millis(took);
                }
                if helpers.len() < way.samples {
                    helpers.extend(self::helpers(&holder, way.samples).await);
                }
                tokio::time::sleep(EVERY).await;
            }
            copied += (now - at) as f64 * (ENTRY.0 * ENTRY.1) as f64 / MEGABYTE as f64;
            seconds += begun.elapsed().as_secs_f64();
            if busy.len() >= way.samples {
                // The same link, as soon as nothing else goes over it.
                proxy.set_both(Faults::default());
                until("the copy is done", async || (head().await == entries as u64).then_some(())).await;
                proxy.set_both(faults);
                tokio::time::sleep(Duration::from_secs(1)).await;
                while idle.len() < way.samples {
                    idle.add_millis(revoke(&holder, &reader, helpers.pop().expect("a helper")).await);
                    tokio::time::sleep(EVERY).await;
                }
            }
            reader.stop().await;
            let _ = std::fs::remove_dir_all(&fresh);
        }
        let most = 2.0 * idle.p99() + MORE_MS;
        let Way { rate, queue_ms, .. } = way;
        let name = format!("{rate} MB/s, a queue of {queue_ms} ms, idle: a revocation, p99");
        report.row(Row::p99(name, &idle, "ms"));
        report.row(Row::p99("  while a catalog is copied, p99", &busy, "ms").target(Target::AtMost(most)));
        let medians = Row::median("  while a catalog is copied, median", &busy, "ms");
        report.row(medians.beside("idle", idle.median()));
        report.row(Row::new(format!("  the copy, of {megabytes} MB, goes at"), copied / seconds, "MB/s"));
        report.row(Row::new("  copies that were begun for it", f64::from(passes), "copies"));
        let lost = proxy.counts(Direction::Down).lost as f64;
        report.row(Row::new("  datagrams of it lost to the full queue", lost, ""));
    }
    holder.stop().await;
}

/// Devices to which the holder's owner has given a certificate.
async fn helpers(holder: &Inside, count: usize) -> Vec<DeviceId> {
    let mut helpers = Vec::new();
    for _ in 0..count {
        let device = DeviceKey::from_seed(&identity::random().expect("random bytes")).id();
        let order = DelegateOrder {
            device,
            seal_key: hex::encode(identity::random().expect("random bytes")),
            name: "a helper".into(),
            scopes: vec!["sell".into()],
            valid_ms: HOUR_MS,
        };
        assert_eq!(holder.handle().ask(Request::Delegate(order)).await, Answer::Done);
        helpers.push(device);
    }
    helpers
}

/// From the owner's word to the moment at which the reader holds it, durably, and acts upon it.
async fn revoke(holder: &Inside, reader: &Inside, device: DeviceId) -> Duration {
    let start = Instant::now();
    let answer = holder.handle().ask(Request::Revoke { device, reason: "lost".into() }).await;
    assert_eq!(answer, Answer::Done);
    let newest = control_heads(holder).await;
    until("it has arrived", async || (control_heads(reader).await == newest).then_some(())).await;
    start.elapsed()
}

/// How much a node has of what says who belongs: entries.
async fn control_heads(node: &Inside) -> u64 {
    let heads = status(node.handle()).await.heads;
    heads.iter().filter(|head| head.lane == "control").map(|head| head.sequence).sum()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in std::fs::read_dir(from).expect("the reader's folder").flatten() {
        if file.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
        }
    }
}
