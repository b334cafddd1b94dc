//! From the start of a process to a member that holds what the others hold, and where the time goes.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant, SystemTime};

use crate::Options;
use crate::figures::{Report, Row, Sample, Target};
use crate::nodes::{Client, Market, Node, catalog_size, products, publish, until};

/// Milliseconds from power-on to member and synced.
const TARGET: f64 = 100.0;
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What a node's log says of its start, in the order in which it happens.
const PHASES: &[(&str, &str)] = &[
    ("process", "the program runs"),
    ("keys", "keys are read or made"),
    ("store", "the store is open"),
    ("engine", "logs and views are loaded"),
    ("shells", "mesh and uplink are made"),
    ("api", "the API answers"),
    ("listening", "the mesh listens"),
    ("dial", "the known address is dialled"),
    ("link", "the handshake is done"),
    ("greeted", "the gate is passed, both have greeted"),
    ("member", "it is a member"),
];

/// Starts of one sort.
#[derive(Default)]
struct Starts {
    total: Sample,
    answers: Sample,
    phases: BTreeMap<&'static str, Sample>,
}

impl Starts {
    fn add(&mut self, node: &Node, started: (Instant, SystemTime), answers: Duration, synced: Duration) {
        self.total.add_millis(synced);
        self.answers.add_millis(answers);
        let lines = node.log_since(started.1);
        for (phase, _) in PHASES {
            let found = lines.iter().find(|(_, line)| line.ends_with(&format!("stallmesh::start: {phase}")));
            if let Some((at, _)) = found {
                self.phases.entry(phase).or_default().add(*at);
            }
        }
    }

    fn report(&self, name: &str, report: &mut Report) {
        let row = Row::median(format!("{name}: member and synced"), &self.total, "ms");
        report.row(row.target(Target::AtMost(TARGET)));
        for (phase, words) in PHASES {
            if let Some(sample) = self.phases.get(phase) {
                report.row(Row::median(format!("  {words}"), sample, "ms"));
            }
        }
        report.row(Row::median("  its API answered us", &self.answers, "ms"));
    }
}

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let (starts, joins, catalog) = if options.quick { (2, 1, 50) } else { (21, 11, 300) };
    let mut market = Market::open(&options.directory);
    let (neighbour, mut others) = market.joined("neighbour", &[]);
    publish(&mut others, &products("neighbour", catalog));
    let mut expected = catalog;

    let (mut node, mut client) = market.joined("restarted", &[neighbour.address()]);
    until("the catalog is there", Duration::from_millis(5), || (catalog_size(&mut client) == expected).then_some(()));
    drop(client);
    let mut cold = Starts::default();
    for round in 0..starts {
        node.stop();
        // Something happens while it is off.
        publish(&mut others, &products(&format!("round-{round}"), 5));
        expected += 5;
        let started = node.spawn();
        let (answers, synced, _) = wait(&mut node, started.0, expected);
        cold.add(&node, started, answers, synced);
    }
    cold.report("a member starts", report);

    let mut first = Starts::default();
    for round in 0..joins {
        let name = format!("new-{round}");
        let mut new = market.stall(&name, &[neighbour.address()]);
        std::fs::DirBuilder::new().mode(0o700).create(&new.directory).expect("a data directory");
        std::fs::write(new.directory.join("invite"), market.invite(&name)).expect("its invite");
        let started = new.spawn();
        let (answers, synced, _) = wait(&mut new, started.0, expected);
        first.add(&new, started, answers, synced);
        new.stop();
    }
    first.report("a first start with an invite", report);
}

/// Looks until a node holds so many products: when it first answered, and when it did.
fn wait(node: &mut Node, start: Instant, expected: usize) -> (Duration, Duration, Client) {
    let mut client = until("the node's API", LOOK_EVERY, || node.try_client());
    let answers = start.elapsed();
    // A catalog can only be read with the certificates of those who wrote it: whoever has it all is a member.
    until("the node is synced", LOOK_EVERY, || (catalog_size(&mut client) == expected).then_some(()));
    (answers, start.elapsed(), client)
}
