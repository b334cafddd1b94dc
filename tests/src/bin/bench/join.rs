//! A new node joins a market in which much has been written.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stallmesh_protocol::entry::{sign_head, verify_head};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{Hash, Head, LogId};

use crate::feed::Entries;
use crate::figures::{Report, Row, Target};
use crate::machine::thread_time;
use crate::nodes::{Client, Market, until};
use crate::{Options, feed, machine};

/// Bytes of payload of those entries that aren't as short as they may be.
const BYTES: usize = 250;
/// Seconds in which so many of those are to be taken in.
const WITHIN: f64 = 2.0;
/// Bytes that are to be said beside each payload, before anything is packed.
const OVERHEAD_MAX: f64 = 15.0;

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let count = if options.quick { 1_000 } else { 100_000 };
    join(options, report, count, Entries::Short);
    join(options, report, count, Entries::Noise(BYTES));
}

fn join(options: &Options, report: &mut Report, count: usize, entries: Entries) {
    let mut market = Market::open(&options.directory);
    let (mut publisher, client) = market.joined("publisher", &[]);
    drop(client);
    let (mut holder, client) = market.joined("holder", &[publisher.address()]);
    drop(client);
    publisher.stop();
    holder.stop();
    let root = std::fs::read_to_string(market.hub.directory.join("market.pub")).expect("the market's key");
    let start = Instant::now();
    let fed = feed::fill(&root, &publisher.directory, &holder.directory, count, entries);
    let author = fed.author.to_string();
    let took = start.elapsed().as_secs_f64();
    let each = |bytes: usize| bytes as f64 / count as f64;
    let (payload, overhead) = (each(fed.payload), each(fed.pages - fed.payload));
    let aimed = entries == Entries::Noise(BYTES);
    let aim = |row: Row, most: f64| if aimed { row.target(Target::AtMost(most)) } else { row };
    report.row(Row::new(format!("{count} entries: payload of each"), payload, "B"));
    let row = Row::new("  beside it in pages, before they are packed", overhead, "B an entry");
    report.row(aim(row, OVERHEAD_MAX));
    report.row(Row::new(format!("taking in {count} entries, no network"), count as f64 / took, "entries/s"));

    let (start, _) = holder.spawn();
    let mut holder_client = holder.client();
    assert_eq!(held(&mut holder_client, &author), count as u64);
    report.row(Row::new(format!("a start with {count} entries, until it answers"), start.elapsed().as_secs_f64(), "s"));

    // Only the holder is known to the new node; the hub's word comes through it.
    let mut node = market.stall("newcomer", &[holder.address()]);
    let mut client = node.start();
    // The hub hands out control alone to those that it meets; it must not fetch what is measured at the same time.
    until("the holder and the hub have met", Duration::from_millis(20), || {
        let peers = holder_client.ask("GET", "/v1/status", &Value::Null)["peers"].as_array().map_or(0, Vec::len);
        (peers >= 1).then_some(())
    });
    let hub_client_deadline = Instant::now();
    let mut hub_client = market.hub.client();
    until("the hub has all entries, too", Duration::from_millis(50), || {
        (held(&mut hub_client, &author) == count as u64).then_some(())
    });
    report.row(Row::new(format!("the hub fetches {count} entries"), hub_client_deadline.elapsed().as_secs_f64(), "s"));

    let invite = market.invite("newcomer");
    let (cpu_node, cpu_holder) = (machine::cpu_time(node.pid()), machine::cpu_time(holder.pid()));
    let wire = machine::loopback_bytes();
    let start = Instant::now();
    client.ask("POST", "/v1/join", &json!({ "invite": invite }));
    let mut member = None;
    until("all entries are here", Duration::from_millis(20), || {
        let status = client.ask("GET", "/v1/status", &Value::Null);
        if status["role"] == "stall" {
            member.get_or_insert_with(|| start.elapsed());
        }
        (head_of(&status, &author) == count as u64).then_some(())
    });
    let took = start.elapsed().as_secs_f64();
    let wire = machine::loopback_bytes() - wire;
    let cpu_node = (machine::cpu_time(node.pid()) - cpu_node).as_secs_f64();
    let cpu_holder = (machine::cpu_time(holder.pid()) - cpu_holder).as_secs_f64();
    let frames = client.ask("GET", "/v1/status", &Value::Null)["traffic"]["received"].as_u64().unwrap_or(0);

    let mebibytes = |bytes: f64| bytes / 1024.0 / 1024.0;
    let name = format!("a cold join to {count} entries of {payload:.0} B");
    report.row(Row::new(&name, took, "s").beside("a signature each", signatures(count)));
    if aimed {
        report.row(Row::new("  so many seconds at most", took, "s").target(Target::AtMost(WITHIN)));
    }
    report.row(Row::new("  until it is a member", member.unwrap_or_default().as_secs_f64(), "s"));
    report.row(Row::new("  rate", count as f64 / took, "entries/s"));
    report.row(
        Row::new("  received by it, in frames", mebibytes(frames as f64), "MiB")
            .beside("the pages alone", mebibytes(fed.frames as f64)),
    );
    report.row(Row::new("  on the wire, all nodes and headers", mebibytes(wire as f64), "MiB"));
    report.row(Row::new("  CPU of the newcomer", cpu_node, "s"));
    report.row(Row::new("  CPU of who serves it", cpu_holder, "s"));
    report.row(Row::new(
        "  memory of the newcomer, at its highest",
        mebibytes(machine::memory(node.pid(), "VmHWM") as f64),
        "MiB",
    ));
}

fn held(client: &mut Client, author: &str) -> u64 {
    head_of(&client.ask("GET", "/v1/status", &Value::Null), author)
}

fn head_of(status: &Value, author: &str) -> u64 {
    let heads = status["heads"].as_array().into_iter().flatten();
    heads
        .filter(|head| head["author"] == author && head["lane"] == "catalog")
        .filter_map(|head| head["sequence"].as_u64())
        .max()
        .unwrap_or(0)
}

/// Seconds that so many signature checks would take here and now.
fn signatures(count: usize) -> f64 {
    let key = DeviceKey::from_seed(&[7; 32]);
    let log = LogId::from_bytes([5; 32]);
    let head = Head { sequence: 1, hash: Hash::from_bytes([9; 32]) };
    let signature = sign_head(&key, &log, &head);
    let few = 1_000;
    let start = thread_time();
    (0..few).for_each(|_| verify_head(&key.id(), &log, &head, &signature).expect("a signature that holds"));
    (thread_time() - start).as_secs_f64() / few as f64 * count as f64
}
