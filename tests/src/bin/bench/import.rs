//! Product files of a million rows: how fast they are checked and handed on, and what they take of memory meanwhile.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use stallmesh_node::engine::ProductView;
use stallmesh_node::import::{Exporter, Format, Rules, products};

use crate::figures::{Report, Row, Target};
use crate::{Options, machine};

const MEGABYTE: f64 = 1e6;
/// What a file of a million rows may take of memory, in megabytes.
const PEAK_MAX: f64 = 64.0;

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let rows = if options.quick { 2_000 } else { 1_000_000 };
    for format in [Format::Shopify, Format::Square] {
        let path = options.directory.join(format!("stallmesh-bench-{}.csv", std::process::id()));
        let wrote = per_second(rows, || write(&path, format, rows));
        report.row(Row::new(format!("{format}, {rows} products: exported"), wrote, "rows/s"));
        let lines = per_second(rows, || {
            let file = BufReader::new(File::open(&path).expect("it was written"));
            let commas =
                file.split(b'\n').map(|line| line.expect("a line").iter().filter(|byte| **byte == b',').count());
            std::hint::black_box(commas.sum::<usize>());
        });
        let before = reset_peak();
        let mut handed_on = 0;
        let read = per_second(rows, || {
            let rules = Rules { exponent: 2, tax: Some("standard".into()), location: None };
            let checked = products(File::open(&path).expect("it was written"), &rules).expect("it is right");
            handed_on = checked.map(|batch| batch.expect("it stays so").len()).sum();
        });
        let peak = machine::memory(std::process::id(), "VmHWM").saturating_sub(before) as f64 / MEGABYTE;
        let _ = std::fs::remove_file(&path);
        assert_eq!(handed_on, rows, "each row is a product");
        let name = format!("{format}, {rows} products: checked and handed on");
        report.row(Row::new(name, read, "rows/s").beside("its lines read once", lines));
        report.row(Row::new("  memory at its highest, over before", peak, "MB").target(Target::AtMost(PEAK_MAX)));
    }
}

fn per_second(rows: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    rows as f64 / start.elapsed().as_secs_f64()
}

fn write(path: &Path, format: Format, rows: usize) {
    let file = BufWriter::new(File::create(path).expect("the directory can be written"));
    let mut exporter = Exporter::new(file, format, 2, "Stall").expect("it can be written");
    for row in 0..rows {
        let product = ProductView {
            sku: format!("SKU-{row}"),
            name: format!("Product number {row}, in a size"),
            price: 100 + row as u64 % 10_000,
            taxes: vec!["standard".into()],
            categories: vec![format!("Category {}", row % 50)],
            tags: vec!["fresh".into(), format!("row {}", row % 1000)],
            barcodes: vec![format!("own-{row}")],
            unit: "piece".into(),
            stock: (row % 100).to_string(),
            variant_of: if row % 3 == 0 { format!("parent-{}", row / 3) } else { String::new() },
            ..Default::default()
        };
        exporter.write(&product).expect("it can be written");
    }
    exporter.finish().expect("it can be written").flush().expect("it can be written");
}

/// What is resident now; from here on the kernel's highest mark begins anew.
fn reset_peak() -> u64 {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    machine::memory(std::process::id(), "VmRSS")
}
