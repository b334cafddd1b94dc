//! What a stall's node with many products takes of the machine's memory.

use std::time::Duration;

use crate::figures::{Report, Row};
use crate::nodes::{Market, catalog_size, products, publish, until};
use crate::{Options, machine};

const MEBIBYTE: f64 = 1024.0 * 1024.0;

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let count = if options.quick { 300 } else { 10_000 };
    let mut market = Market::open(&options.directory);
    let (mut publisher, mut client) = market.joined("publisher", &[]);
    let resident = |process: u32, name: &str| machine::memory(process, name) as f64 / MEBIBYTE;
    report.row(Row::new("a new member: resident", resident(publisher.pid(), "VmRSS"), "MiB"));
    publish(&mut client, &products("publisher", count));
    report.row(Row::new(format!("after publishing {count} products"), resident(publisher.pid(), "VmRSS"), "MiB"));
    report.row(Row::new("  at its highest", resident(publisher.pid(), "VmHWM"), "MiB"));

    let (mut reader, mut other) = market.joined("reader", &[publisher.address()]);
    until("the catalog has arrived", Duration::from_millis(20), || (catalog_size(&mut other) == count).then_some(()));
    report.row(Row::new(format!("after fetching {count} products"), resident(reader.pid(), "VmRSS"), "MiB"));
    report.row(Row::new("  at its highest", resident(reader.pid(), "VmHWM"), "MiB"));

    reader.stop();
    let mut other = reader.start();
    assert_eq!(catalog_size(&mut other), count);
    report.row(Row::new("after a restart with them", resident(reader.pid(), "VmRSS"), "MiB"));
    report.row(Row::new("  at its highest", resident(reader.pid(), "VmHWM"), "MiB"));
    let store = std::fs::metadata(reader.directory.join("node.redb")).map_or(0, |file| file.len());
    report.row(Row::new("  its store on disk", store as f64 / MEBIBYTE, "MiB"));
    publisher.stop();
}
