//! What a market costs while nothing happens in it: keep-alives, comparisons, timers.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::figures::{Report, Row, Sample, Target};
use crate::nodes::{Client, Market, Node, catalog_size, products, publish, until};
use crate::{Options, machine};

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let (count, quiet) = if options.quick { (3, 1) } else { (20, 60) };
    let mut market = Market::open(&options.directory);
    let mut stalls: Vec<(Node, Client)> = Vec::new();
    // The hub is one of them.
    for number in 1..count {
        // Each knows the hub and the two that came before it: some six links a node, as in a market with mDNS.
        let known: Vec<String> = stalls.iter().rev().take(2).map(|(node, _)| node.address()).collect();
        stalls.push(market.joined(&format!("stall-{number}"), &known));
    }
    for (number, (_, client)) in (1..).zip(&mut stalls) {
        publish(client, &products(&format!("stall-{number}"), 30));
    }
    let all = 30 * stalls.len();
    for (_, client) in &mut stalls {
        until("all catalogs are everywhere", Duration::from_millis(20), || (catalog_size(client) == all).then_some(()));
    }
    // Links settle, and the hub's last checkpoint is written and spread.
    let mut before = Vec::new();
    until("the market is quiet", Duration::from_secs(2), || {
        let now: Vec<(u64, usize)> = stalls.iter_mut().map(|(_, client)| settled(client)).collect();
        let quiet = now == before;
        before = now;
        quiet.then_some(())
    });
    let links = before.iter().map(|(_, links)| links).sum::<usize>() as f64 / before.len() as f64;

    let processes: Vec<u32> = stalls.iter().map(|(node, _)| node.pid()).chain([market.hub.pid()]).collect();
    let cpu = |processes: &[u32]| processes.iter().map(|process| machine::cpu_time(*process)).collect::<Vec<_>>();
    let traffic = |stalls: &mut [(Node, Client)]| stalls.iter_mut().map(|(_, client)| sent(client)).sum::<u64>();
    let (sent_before, cpu_before, bytes_before) = (traffic(&mut stalls), cpu(&processes), machine::loopback_bytes());
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(quiet));
    let seconds = start.elapsed().as_secs_f64();
    let (bytes_after, cpu_after) = (machine::loopback_bytes(), cpu(&processes));
    // A caller that was quiet for so long begins anew: the node has let go of its connection.
    for (node, client) in &mut stalls {
        *client = until("the node's API", Duration::from_millis(20), || node.try_client());
    }
    let sent_after = traffic(&mut stalls);

    let mut share = Sample::default();
    for (before, after) in cpu_before.iter().zip(&cpu_after) {
        share.add((*after - *before).as_secs_f64() / seconds * 100.0);
    }
    let nodes = processes.len() as f64;
    let wire = (bytes_after - bytes_before) as f64 / seconds / nodes;
    let frames = (sent_after - sent_before) as f64 / seconds / stalls.len() as f64;
    report.row(Row::new(format!("{count} nodes, {quiet} s: links a node"), links, "links"));
    report.row(Row::new("  bytes on the wire a node, all headers", wire, "B/s").target(Target::AtMost(60.0)));
    report.row(Row::new("  of which frames of the market", frames, "B/s"));
    report.row(Row::median("  CPU a node", &share, "% of a core"));
}

/// What stands still in a quiet market: the newest checkpoint, and how many links there are.
fn settled(client: &mut Client) -> (u64, usize) {
    let status = client.ask("GET", "/v1/status", &Value::Null);
    (status["checkpoint"].as_u64().unwrap_or(0), status["peers"].as_array().map_or(0, Vec::len))
}

fn sent(client: &mut Client) -> u64 {
    client.ask("GET", "/v1/status", &Value::Null)["traffic"]["sent"].as_u64().unwrap_or(0)
}
