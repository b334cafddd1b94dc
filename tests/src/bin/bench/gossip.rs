//! Small messages to everybody: live replication between whole nodes, against gossipsub between bare swarms.
//!
//! Both have all their nodes in this process, the same graph of six links a node over real QUIC on loopback, the same
//! publishers at the same pace. Ours: each message is one catalog entry, signed by its stall, durable there before it
//! leaves, and at each node verified, stored durably and read into the catalog before it counts as delivered. Theirs:
//! unsigned, in memory.

mod ours;
mod theirs;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::figures::{Report, Row, Sample, Target};
use crate::{Options, machine};

/// Bytes of a message.
const MESSAGE: usize = 300;
/// Between two messages: 200 a second.
const EVERY: Duration = Duration::from_millis(5);
/// So long after the last new arrival, what is missing is lost.
const LOST_AFTER: Duration = Duration::from_secs(20);

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Work {
    nodes: usize,
    messages: usize,
}

impl Work {
    /// Who publishes a message: all in turn but the first, which in a market is the hub and offers nothing.
    fn publisher(&self, message: usize) -> usize {
        1 + message % (self.nodes - 1)
    }

    /// Who is linked to a node: the same number of steps to both sides around a ring, at three widths that keep the ways
    /// short.
    fn neighbours(&self, node: usize) -> BTreeSet<usize> {
        let widths = match self.nodes {
            50.. => [1, 8, 12],
            20.. => [1, 5, 8],
            _ => [1, 2, 3],
        };
        let around =
            |width: usize| [(node + width) % self.nodes, (node + self.nodes - width % self.nodes) % self.nodes];
        widths.into_iter().flat_map(around).filter(|other| *other != node).collect()
    }
}

/// A message is at a node.
struct Arrival {
    message: usize,
    node: usize,
    at: Instant,
}

/// What one pass gave.
#[derive(Default)]
struct Pass {
    /// Milliseconds from the publisher's call to each other node.
    each: Sample,
    /// The same to the last of them.
    last: Sample,
    /// Bytes on the wire with all headers, for each delivered byte.
    wire: f64,
    /// CPU of the whole process for each delivery, in microseconds.
    cpu: f64,
    /// Messages that did not come everywhere.
    lost: usize,
}

/// Publishes at its pace and waits for all arrivals.
async fn drive(work: Work, publish: impl Fn(usize), arrivals: &mut mpsc::UnboundedReceiver<Arrival>) -> Pass {
    let (bytes, cpu) = (machine::loopback_bytes(), machine::cpu_time(std::process::id()));
    let start = Instant::now();
    let mut published: Vec<Instant> = Vec::new();
    let mut arrived = vec![BTreeSet::new(); work.messages];
    let mut pass = Pass::default();
    let (mut missing, mut newest) = (work.messages * (work.nodes - 1), start);
    while missing > 0 {
        let next = start + EVERY * published.len() as u32;
        let wake = if published.len() < work.messages { next } else { newest + LOST_AFTER };
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(wake.into()) => {
                if published.len() == work.messages {
                    break;
                }
                published.push(Instant::now());
                newest = Instant::now();
                publish(published.len() - 1);
            }
            arrival = arrivals.recv() => {
                let Some(Arrival { message, node, at }) = arrival else { break };
                let of_this_pass = published.get(message).filter(|_| node != work.publisher(message));
                if let Some(from) = of_this_pass && arrived[message].insert(node) {
                    let took = at.saturating_duration_since(*from);
                    pass.each.add_millis(took);
                    if arrived[message].len() == work.nodes - 1 {
                        pass.last.add_millis(took);
                    }
                    missing -= 1;
                    newest = Instant::now();
                }
            }
        }
    }
    let deliveries = (work.messages * (work.nodes - 1) - missing) as f64;
    pass.wire = (machine::loopback_bytes() - bytes) as f64 / (deliveries * MESSAGE as f64);
    pass.cpu = (machine::cpu_time(std::process::id()) - cpu).as_secs_f64() * 1e6 / deliveries;
    pass.lost = arrived.iter().filter(|nodes| nodes.len() < work.nodes - 1).count();
    pass
}

/// Several passes of one sort.
#[derive(Default)]
struct Passes {
    each: Sample,
    last: Sample,
    wire: Sample,
    cpu: Sample,
    lost: usize,
}

impl Passes {
    fn add(&mut self, pass: Pass) {
        self.each.extend(pass.each);
        self.last.extend(pass.last);
        self.wire.add(pass.wire);
        self.cpu.add(pass.cpu);
        self.lost += pass.lost;
    }
}

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let (sizes, messages, turns): (&[usize], _, _) = if options.quick { (&[5], 20, 1) } else { (&[20, 50], 1_000, 3) };
    for nodes in sizes {
        let work = Work { nodes: *nodes, messages };
        let (mut ours, mut theirs) = (Passes::default(), Passes::default());
        for _ in 0..turns {
            ours.add(run(ours::pass(work, &options.directory)));
            theirs.add(run(theirs::pass(work)));
        }
        rows(work, turns, &ours, &theirs, report);
    }
}

/// Each pass has threads of its own: nothing of one is left in the next.
fn run(pass: impl Future<Output = Pass>) -> Pass {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(pass)
}

fn rows(work: Work, turns: usize, ours: &Passes, theirs: &Passes, report: &mut Report) {
    let beside = |row: Row, value: f64| row.beside("gossipsub", value);
    let (small, large) = (work.nodes == 20, work.nodes == 50);
    let aim = |row: Row, applies: bool, most: f64| if applies { row.target(Target::AtMost(most)) } else { row };
    let Work { nodes, messages } = work;

    // What the bytes should be is said in bytes, not as a ratio.
    let wire = Row::median(format!("{nodes} nodes, {messages} messages: wire a delivered byte"), &ours.wire, "B");
    report.row(aim(wire, small, 2.0));
    report.row(beside(Row::median("  bytes beside gossipsub's", &ours.wire, "B"), theirs.wire.median()));
    report.row(beside(Row::median("  to each node, p50", &ours.each, "ms"), theirs.each.median()));
    report.row(beside(Row::p99("  to each node, p99", &ours.each, "ms"), theirs.each.p99()));
    report.row(beside(Row::median("  to the last node, p50", &ours.last, "ms"), theirs.last.median()));
    let p99 = beside(Row::p99("  to the last node, p99", &ours.last, "ms"), theirs.last.p99());
    report.row(aim(p99, small || large, if large { 0.5 } else { 1.0 }));
    let cpu = beside(Row::median("  CPU a delivery", &ours.cpu, "µs"), theirs.cpu.median());
    report.row(aim(cpu, large, 1.0));
    report.row(Row::new(format!("  not everywhere, of {}", messages * turns), ours.lost as f64, "messages"));
    report.row(Row::new("  gossipsub: not everywhere", theirs.lost as f64, "messages"));
}
