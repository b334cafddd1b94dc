//! What Stallmesh costs, measured on real processes: a table, and with `--report FILE` the same as JSON.
//!
//! Every figure that depends on the machine stands beside a baseline that was measured in the same run, in turns with
//! it: read the ratios. `tests/bench` builds this program and the node for release and runs it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that can't be made ends the program with its reason"
)]

mod clock;
mod feed;
mod figures;
mod fraud;
mod gossip;
mod growth;
mod idle;
mod import;
mod inside;
mod join;
mod later;
mod machine;
mod memory;
mod nodes;
mod pages;
mod quote;
mod resume;
mod sales;
mod search;
mod start;
mod urgent;

use std::path::PathBuf;
use std::process::ExitCode;

use figures::Report;

/// How a measurement runs.
pub(crate) struct Options {
    /// A small version, to see that it still works: its figures mean nothing.
    pub(crate) quick: bool,
    /// Where data directories are made: the file system that is measured.
    pub(crate) directory: PathBuf,
}

type Measurement = fn(&Options, &mut Report);

const MEASUREMENTS: &[(&str, &str, Measurement)] = &[
    ("sales", "recording a sale through the API, against append and fsync", sales::measure),
    ("quote", "what a basket costs, against a naive evaluation", quote::measure),
    ("fraud", "what the fraud rules say, against a look at every signal", fraud::measure),
    ("search", "products of a whole market by words, against a look at each", search::measure),
    ("import", "product files of a million rows: rows a second, and memory", import::measure),
    ("pages", "verifying entries as pages, against a signature each", pages::measure),
    ("clock", "what two nodes say to find out what differs", clock::measure),
    ("join", "a node that joins a market of many entries", join::measure),
    ("later", "a hundred new entries between two nodes that have copied all before", later::measure),
    ("urgent", "a revocation on a link on which a catalog is being copied, against an idle one", urgent::measure),
    ("start", "from power-on to member and synced", start::measure),
    ("resume", "from the end of a cut to the hub's word on a sale, resumed against a fresh handshake", resume::measure),
    ("idle", "bytes and CPU of nodes that have nothing to do", idle::measure),
    ("gossip", "small messages to everybody, against gossipsub", gossip::measure),
    ("growth", "what a market of more and more devices costs, in the simulator", growth::measure),
    ("memory", "a stall with many products, members and links: resident memory, idle CPU", memory::measure),
];

const USAGE: &str = "\
Measures what Stallmesh costs, on real processes on this machine.

Usage: tests/bench [NAME...] [--quick] [--report FILE] [--dir DIR]

  NAME           one measurement or several; all where none is named
  --quick        small versions, to see that they work: their figures mean nothing
  --report FILE  the figures as JSON
  --dir DIR      where data directories are made and removed again (default: the temporary directory)
";

struct Arguments {
    names: Vec<String>,
    quick: bool,
    report: Option<PathBuf>,
    directory: PathBuf,
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments { names: Vec::new(), quick: false, report: None, directory: std::env::temp_dir() };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        let mut file = || rest.next().map(PathBuf::from).ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--quick" => parsed.quick = true,
            "--report" => parsed.report = Some(file()?),
            "--dir" => parsed.directory = file()?,
            "--help" | "-h" => return Err(String::new()),
            name if MEASUREMENTS.iter().any(|(known, ..)| *known == name) => parsed.names.push(name.to_owned()),
            other => return Err(format!("`{other}` is none of the measurements")),
        }
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    let parsed = match arguments() {
        Ok(parsed) => parsed,
        Err(problem) => {
            if !problem.is_empty() {
                eprintln!("error: {problem}\n");
            }
            eprint!("{USAGE}\nMeasurements:\n");
            for (name, what, _) in MEASUREMENTS {
                eprintln!("  {name:<8} {what}");
            }
            return if problem.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    if let Some(status) = machine::in_own_namespace() {
        return status;
    }
    let options = Options { quick: parsed.quick, directory: parsed.directory };
    let mut report = Report::new(machine::describe(&options.directory), parsed.quick);
    println!("{}", report.machine());
    for (name, what, measure) in MEASUREMENTS {
        if parsed.names.is_empty() || parsed.names.iter().any(|wanted| wanted == name) {
            println!("\n{name}: {what}");
            report.begin(name);
            measure(&options, &mut report);
            report.print();
        }
    }
    if let Some(path) = parsed.report {
        let text = serde_json::to_string_pretty(&report.json()).expect("figures are JSON");
        if let Err(error) = std::fs::write(&path, format!("{text}\n")) {
            eprintln!("error: {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
