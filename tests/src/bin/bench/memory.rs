//! What a stall's node takes of the machine's memory, and of its processor while nothing happens: with many products, many
//! members that it knows, and some links.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::figures::{Report, Row, Target};
use crate::nodes::{Client, Market, Node, catalog_size, is_member, products, publish, until};
use crate::{Options, machine};

const MEGABYTE: f64 = 1e6;
/// What a stall's node may have resident, in megabytes.
const RESIDENT_MAX: f64 = 25.0;
/// What it may take of a core while nothing happens, in percent.
const IDLE_MAX: f64 = 0.02;

/// How large it all is.
struct Size {
    products: usize,
    /// Members that the stall has met, without the hub and itself.
    members: usize,
    /// Links that stay up; the hub has one of them.
    links: usize,
    /// Seconds in which nothing happens.
    quiet: u64,
}

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let size = if options.quick {
        Size { products: 300, members: 6, links: 3, quiet: 1 }
    } else {
        Size { products: 10_000, members: 500, links: 8, quiet: 60 }
    };
    let mut market = Market::open(&options.directory);
    let (mut stall, mut client) = market.joined("stall", &[]);
    let resident = |node: &Node, name: &str| machine::memory(node.pid(), name) as f64 / MEGABYTE;
    report.row(Row::new("a new member: resident", resident(&stall, "VmRSS"), "MB"));

    let mut neighbours = Vec::new();
    for number in 0..size.members {
        let stays = number + 1 < size.links;
        // Those that stay know the stall alone: no link of it is somebody's that looks for others. They come first, for a
        // member carries only so many requests of strangers in an hour; the others ask the hub.
        let mut peers = vec![stall.address()];
        peers.extend((!stays).then(|| market.hub.address()));
        let mut node = market.stall(&format!("other-{number}"), &peers);
        let mut other = node.start();
        let invite = market.invite(&format!("other-{number}"));
        other.ask("POST", "/v1/join", &json!({ "invite": invite }));
        until("joining", Duration::from_millis(5), || is_member(&mut other).then_some(()));
        if stays {
            neighbours.push((node, other));
        } else {
            node.stop();
            let _ = std::fs::remove_dir_all(&node.directory);
        }
    }
    linked(&mut client, size.links);
    report.row(Row::new(format!("{} other members known", size.members + 1), resident(&stall, "VmRSS"), "MB"));

    publish(&mut client, &products("stall", size.products));
    for (_, other) in &mut neighbours {
        until("the catalog has arrived", Duration::from_millis(20), || {
            (catalog_size(other) == size.products).then_some(())
        });
    }
    let what = format!("and {} products, {} links", size.products, size.links);
    let row = Row::new(what, resident(&stall, "VmRSS"), "MB");
    report.row(row.target(Target::AtMost(RESIDENT_MAX)));
    report.row(Row::new("  at its highest", resident(&stall, "VmHWM"), "MB"));
    let others: Vec<f64> = neighbours.iter().map(|(node, _)| resident(node, "VmRSS")).collect();
    let most = others.iter().copied().fold(0.0, f64::max);
    report.row(Row::new("a neighbour that has fetched all", most, "MB").target(Target::AtMost(RESIDENT_MAX)));
    idle(&stall, &mut client, &size, report);

    drop(client);
    stall.stop();
    let mut client = stall.start();
    assert_eq!(catalog_size(&mut client), size.products);
    linked(&mut client, size.links);
    let row = Row::new("after a restart, with its links", resident(&stall, "VmRSS"), "MB");
    report.row(row.target(Target::AtMost(RESIDENT_MAX)));
    report.row(Row::new("  at its highest", resident(&stall, "VmHWM"), "MB"));
    let store = std::fs::metadata(stall.directory.join("node.redb")).map_or(0, |file| file.len());
    report.row(Row::new("  its store on disk", store as f64 / MEGABYTE, "MB"));
}

fn linked(client: &mut Client, links: usize) {
    until("the links are up", Duration::from_millis(20), || {
        let status = client.ask("GET", "/v1/status", &Value::Null);
        (status["peers"].as_array().map_or(0, Vec::len) == links).then_some(())
    });
}

/// What the stall's process takes of a core while nothing happens.
fn idle(stall: &Node, client: &mut Client, size: &Size, report: &mut Report) {
    // The hub's last checkpoint is written and spread.
    let mut before = Value::Null;
    until("the market is quiet", Duration::from_secs(3), || {
        let now = client.ask("GET", "/v1/status", &Value::Null)["checkpoint"].clone();
        let quiet = now == before;
        before = now;
        quiet.then_some(())
    });
    let (start, cpu) = (Instant::now(), machine::cpu_time_of_threads(stall.pid()));
    std::thread::sleep(Duration::from_secs(size.quiet));
    let cpu = machine::cpu_time_of_threads(stall.pid()).saturating_sub(cpu);
    let share = cpu.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
    let row = Row::new(format!("CPU in {} s in which nothing happens", size.quiet), share, "% of a core");
    report.row(row.target(Target::AtMost(IDLE_MAX)));
}
