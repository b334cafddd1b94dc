//! A hundred new entries between two nodes that have copied everything before: how long, and how many bytes.

use std::time::{Duration, Instant};

use futures::future::join_all;
use stallmesh_node::engine::{Answer, Request};

use crate::feed::{self, Entries};
use crate::figures::{Report, Row, Sample, Target};
use crate::inside::{self, Inside, Text, catalog_head, product, status, until};
use crate::{Options, machine};

/// Bytes of payload of each entry.
const BYTES: usize = 250;
/// New entries of a round.
const NEW: usize = 100;
/// Within so many milliseconds they are to be there.
const WITHIN_MS: f64 = 20.0;
/// Bytes on the wire for each byte of payload, where nothing can be packed.
const WIRE_MAX: f64 = 1.15;
/// Bytes on the wire for a round's text.
const WORDS_MAX: f64 = 12_000.0;
/// After the last entry is there, what is still said about it is waited for so long.
const AFTERWORDS: Duration = Duration::from_millis(300);

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(rounds(options, report));
}

async fn rounds(options: &Options, report: &mut Report) {
    let (held, rounds) = if options.quick { (1_000, 2) } else { (100_000, 20) };
    let folder = tempfile::Builder::new().prefix("stallmesh-bench-").tempdir_in(&options.directory).expect("a folder");
    let place = |name: &str| folder.path().join(name);
    let root = inside::market(folder.path(), &["author", "writer", "reader"]).await;
    // What was copied before isn't read: the writer's view of all products is made anew for each that is published, and
    // would be what is measured.
    let fed = feed::fill(&root, &place("author"), &place("writer"), held, Entries::Unread(BYTES));

    let writer = Inside::start(&place("writer"), &[]);
    let reader = Inside::start(&place("reader"), std::slice::from_ref(&writer.address));
    let author = fed.author.to_string();
    until("the first copy", async || (catalog_head(reader.handle(), &author).await == held as u64).then_some(())).await;
    // The log's first entry goes round before, and the tree along which it goes takes shape.
    let own = status(writer.handle()).await.device;
    publish(&writer, &[product(held, BYTES, Text::Words)]).await;
    until("a first entry", async || (catalog_head(reader.handle(), &own).await > 0).then_some(())).await;
    tokio::time::sleep(AFTERWORDS).await;

    let mut next = held + 1;
    for text in [Text::Noise, Text::Words] {
        let (mut took, mut written, mut bytes) = (Sample::default(), Sample::default(), Sample::default());
        for _ in 0..rounds {
            let products: Vec<_> = (next..next + NEW).map(|number| product(number, BYTES, text)).collect();
            next += NEW;
            let before = catalog_head(reader.handle(), &own).await;
            let (wire, start) = (machine::loopback_bytes(), Instant::now());
            let durable = async {
                publish(&writer, &products).await;
                start.elapsed()
            };
            let there = async {
                let all = before + NEW as u64;
                until("all are there", async || (catalog_head(reader.handle(), &own).await == all).then_some(())).await;
                start.elapsed()
            };
            let (durable, there) = tokio::join!(durable, there);
            written.add_millis(durable);
            took.add_millis(there);
            tokio::time::sleep(AFTERWORDS).await;
            bytes.add((machine::loopback_bytes() - wire) as f64);
        }
        let what = if text == Text::Noise { "that hardly pack" } else { "of text" };
        let payload = (NEW * BYTES) as f64;
        let row = Row::median(format!("{NEW} new entries of {BYTES} B {what}: durable there"), &took, "ms");
        report.row(row.target(Target::AtMost(WITHIN_MS)));
        report.row(Row::median("  of which until durable where they are written", &written, "ms"));
        let row = Row::median("  on the wire, all headers, both ways", &bytes, "B");
        match text {
            Text::Noise => report.row(row.beside("payload", payload).target(Target::AtMost(WIRE_MAX))),
            Text::Words => report.row(row.target(Target::AtMost(WORDS_MAX))),
        }
    }
    reader.stop().await;
    writer.stop().await;
}

/// An entry each, from as many callers at one time.
async fn publish(node: &Inside, products: &[stallmesh_node::engine::ProductView]) {
    let asked = products.iter().map(|product| node.handle().ask(Request::PublishProducts(vec![product.clone()])));
    for answer in join_all(asked).await {
        assert_eq!(answer, Answer::Done);
    }
}
