//! `tests/fraud`: market days with planted fraud, and what the rules make of them. See docs/fraud.md.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use stallmesh_node::fraud::{DEFAULT_RULES, Rules};
use stallmesh_tests::fraud_market::{Day, Tally, live, seeds};

const HELP: &str = "\
Lives through market days with planted fraud, and says what the rules noticed.

  tests/fraud [--days N] [--seed S] [--rules FILE]

  --days N      how many days (50)
  --seed S      the first one's seed; as a rule seeds are drawn from the rules' own text, so that thresholds stand before
                the days that they are tried on
  --rules FILE  other rules than those that a hub begins with

events     what was planted: payments, voids, sales
recall     of which a rule meant for it asked or declined
incidents  thieves of whom at least one event was noticed
precision  alarms of the rules meant for it that were about something planted
wolf       honest events that they asked about or declined, per 1,000 honest events";

fn main() -> ExitCode {
    match run() {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<String, String> {
    let (mut days, mut first, mut text) = (50, None, DEFAULT_RULES.to_owned());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        let number = |value: String| value.parse::<u64>().map_err(|_| format!("`{value}` is no number"));
        match argument.as_str() {
            "--days" => days = number(value()?)?,
            "--seed" => first = Some(number(value()?)?),
            "--rules" => {
                let path = value()?;
                text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
            }
            "--help" | "-h" => return Ok(HELP.to_owned()),
            other => return Err(format!("unknown argument `{other}`\n\n{HELP}")),
        }
    }
    let rules = Rules::read(&text, "EUR").map_err(|problem| problem.to_string())?;
    let count = usize::try_from(days).unwrap_or(usize::MAX);
    let seeds = match first {
        Some(first) => (first..).take(count).collect(),
        None => seeds(&text, count),
    };
    let mut all = Tally::default();
    for (day, seed) in (0..).zip(seeds) {
        all.add(&live(&rules, &Day::draw(seed), seed), day);
    }
    Ok(all.table())
}
