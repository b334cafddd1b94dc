//! `tests/soak`: market days with all faults on, from any seed on. See docs/reliability.md.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stallmesh_protocol::planted::Bug;
use stallmesh_tests::market_day::{Invariant, Kind, Outcome, Plan, Rare, run, run_with_bug, shrink};

const HELP: &str = "\
Runs market days with all faults on, from seeds.

  tests/soak --seeds N --from S [--jobs J] [--minutes M] [--once] [--no-shrink]
  tests/soak --from S --only STEPS       one day, with some of its steps alone: 3,17,40-44
  tests/soak --bugs all|NAMES [--seeds N] [--from S] [--jobs J]
                                         plants each of these bugs, and counts the seeds until it is caught

  --seeds N      how many seeds (10)
  --from S       the first one (1)
  --jobs J       so many at a time (as many as there are cores)
  --minutes M    no new seed after so many minutes
  --once         run each seed once, not twice: a difference between two runs isn't noticed
  --no-shrink    show a failing day as it is
  --story        print what happens, step by step
  --traffic      print which nodes sent most frames, and of which kind
  --log FILTER   print what nodes log, to standard error: debug, stallmesh_node=trace
  --bug NAME     plant this bug in every day (docs/planted-bugs.md)
  --record FILE  append what came out to a table
The last line is `N passed, M failed`; the exit status is 1 where one failed.";

/// From so many days on, a run that comes across less than all rare states has failed: it doesn't test what it says.
const COVERED_FROM: usize = 200;

struct Options {
    seeds: u64,
    from: u64,
    jobs: usize,
    minutes: Option<u64>,
    once: bool,
    shrink: bool,
    story: bool,
    traffic: bool,
    record: Option<String>,
    only: Option<BTreeSet<usize>>,
    bug: Option<Bug>,
    bugs: Vec<Bug>,
}

fn options() -> Result<Options, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options {
        seeds: 10,
        from: 1,
        jobs: cores,
        minutes: None,
        once: false,
        shrink: true,
        story: false,
        traffic: false,
        record: None,
        only: None,
        bug: None,
        bugs: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<u64, String> {
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
            value.parse().map_err(|_| format!("{argument}: `{value}` is no number"))
        };
        match argument.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--jobs" => options.jobs = usize::try_from(number()?.max(1)).unwrap_or(1),
            "--minutes" => options.minutes = Some(number()?),
            "--once" => options.once = true,
            "--no-shrink" => options.shrink = false,
            "--story" => options.story = true,
            "--traffic" => options.traffic = true,
            "--record" => options.record = Some(arguments.next().ok_or("--record needs a file")?),
            "--log" => {
                let filter = arguments.next().ok_or("--log needs a filter: debug")?;
                let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
                tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
            }
            "--bug" => options.bug = Some(bug(&arguments.next().ok_or("--bug needs a name")?)?),
            "--bugs" => {
                let names = arguments.next().ok_or("--bugs needs `all`, or names: wall-clock,later-fork")?;
                options.bugs = match names.as_str() {
                    "all" => Bug::ALL.to_vec(),
                    names => names.split(',').map(bug).collect::<Result<_, _>>()?,
                };
            }
            "--only" => {
                let text = arguments.next().ok_or("--only needs steps: 3,17,40-44")?;
                options.only = Some(steps(&text).ok_or_else(|| format!("--only: `{text}` names no steps"))?);
            }
            "--help" | "-h" => {
                println!("{HELP}");
                std::process::exit(0);
            }
            other => return Err(format!("unknown argument `{other}`\n\n{HELP}")),
        }
    }
    Ok(options)
}

fn bug(name: &str) -> Result<Bug, String> {
    let known = || Bug::ALL.iter().map(|bug| bug.word()).collect::<Vec<_>>().join(", ");
    let found = Bug::ALL.iter().find(|bug| bug.word() == name).copied();
    found.ok_or_else(|| format!("no bug is called `{name}`; there are: {}", known()))
}

fn steps(text: &str) -> Option<BTreeSet<usize>> {
    let mut steps = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        steps.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(steps)
}

fn ranges(steps: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for step in steps {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *step => *last = *step,
            _ => ranges.push((*step, *step)),
        }
    }
    let text = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    text.collect::<Vec<_>>().join(",")
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    // A store that can't be opened panics inside redb, and is an answer here; what panics elsewhere is told below.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(only) = &options.only {
        return one_day(&options, only);
    }
    if !options.bugs.is_empty() {
        return hunt(&options);
    }
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let began = Instant::now();
    let limit = options.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let done: Mutex<Vec<Outcome>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= end || limit.is_some_and(|limit| began.elapsed() >= limit) {
                        return;
                    }
                    let outcome = day(seed, &options);
                    if let Ok(mut done) = done.lock() {
                        tell(&outcome, &options);
                        done.push(outcome);
                    }
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_default();
    sum_up(&done);
    let failed = done.iter().filter(|outcome| outcome.failure.is_some()).count();
    let unreached: Vec<Rare> =
        Rare::ALL.into_iter().filter(|rare| !done.iter().any(|outcome| outcome.reached.contains(rare))).collect();
    let blind = done.len() >= COVERED_FROM && !unreached.is_empty();
    if !unreached.is_empty() {
        println!("  never reached: {unreached:?}");
    }
    println!("  to go on: --from {}", options.from + done.len() as u64);
    if let Some(file) = &options.record
        && let Err(error) = record(file, &options, &done, failed)
    {
        eprintln!("{file}: {error}");
    }
    println!("{} passed, {failed} failed", done.len() - failed);
    if failed == 0 && !blind { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Appends a row: commit, seeds, days, sales, faults that struck, result.
fn record(file: &str, options: &Options, done: &[Outcome], failed: usize) -> std::io::Result<()> {
    use std::io::Write;
    let days = done.iter().filter(|outcome| outcome.counts());
    let (days, sales) = days.fold((0, 0), |(days, sales), day| (days + 1, sales + day.sales));
    let faults: u64 = done.iter().flat_map(|outcome| outcome.fired.values()).sum();
    let commit = std::env::var("STALLMESH_COMMIT").unwrap_or_else(|_| "unknown".into());
    let last = options.from + (done.len() as u64).max(1) - 1;
    let mut table = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
    writeln!(
        table,
        "| {commit} | {} to {last} | {days} | {sales} | {faults} | {} passed, {failed} failed |",
        options.from,
        done.len() - failed
    )
}

/// One seed, twice, and smaller where it fails.
fn day(seed: u64, options: &Options) -> Outcome {
    let plan = Plan::draw(seed);
    let run = |plan: &Plan| match options.bug {
        Some(bug) => run_with_bug(plan, bug),
        None => run(plan),
    };
    let mut outcome = run(&plan);
    if outcome.failure.is_none() && !options.once {
        let again = run(&plan);
        if again.trace != outcome.trace {
            outcome.failure = Some(stallmesh_tests::market_day::Failure {
                broken: stallmesh_tests::market_day::Broken::new(
                    stallmesh_tests::market_day::Invariant::Deterministic,
                    format!("two runs: {:016x} and {:016x}", outcome.trace, again.trace),
                ),
                at: outcome.span_ms,
                last: Vec::new(),
                nodes: String::new(),
            });
        }
    }
    if let Some(failure) = outcome.failure.clone().filter(|_| options.shrink && options.bug.is_none()) {
        let (steps, smaller) = shrink(&plan, failure.broken.invariant, 60);
        println!(
            "seed {seed}: {} of {} steps are enough:\n  tests/soak --from {seed} --only {}",
            steps.len(),
            plan.steps.len(),
            ranges(&steps)
        );
        outcome.failure = smaller.failure.or(Some(failure));
    }
    outcome
}

/// Plants one bug after another, and counts the seeds until each is caught.
fn hunt(options: &Options) -> ExitCode {
    let next = AtomicU64::new(0);
    let caught: Mutex<Vec<(Bug, Option<Caught>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while let Some(bug) = usize::try_from(next.fetch_add(1, Ordering::SeqCst))
                    .ok()
                    .and_then(|index| options.bugs.get(index).copied())
                {
                    let found = catch(bug, options);
                    println!("{}", row(bug, found.as_ref()));
                    if let Ok(mut caught) = caught.lock() {
                        caught.push((bug, found));
                    }
                }
            });
        }
    });
    let mut caught = caught.into_inner().unwrap_or_default();
    caught.sort_by_key(|(bug, _)| *bug);
    println!(
        "\n| bug | what is wrong | caught by | seeds until then | what was seen first |\n| --- | --- | --- | --- | --- |"
    );
    caught.iter().for_each(|(bug, found)| println!("{}", row(*bug, found.as_ref())));
    let found = caught.iter().filter(|(_, found)| found.is_some()).count();
    println!("{found} of {} planted bugs caught", caught.len());
    if found == caught.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How a planted bug was caught.
struct Caught {
    seeds: u64,
    invariant: Invariant,
    detail: String,
}

fn catch(bug: Bug, options: &Options) -> Option<Caught> {
    (options.from..options.from + options.seeds).find_map(|seed| {
        let failure = run_with_bug(&Plan::draw(seed), bug).failure?;
        let (seeds, broken) = (seed + 1 - options.from, failure.broken);
        Some(Caught { seeds, invariant: broken.invariant, detail: broken.detail })
    })
}

fn row(bug: Bug, caught: Option<&Caught>) -> String {
    let Some(caught) = caught else { return format!("| `{}` | {} | | not yet | |", bug.word(), bug.about()) };
    let detail: String = caught.detail.chars().filter(|letter| !"|\n".contains(*letter)).take(100).collect();
    format!("| `{}` | {} | {} | {} | {detail} |", bug.word(), bug.about(), caught.invariant, caught.seeds)
}

fn one_day(options: &Options, only: &BTreeSet<usize>) -> ExitCode {
    let plan = Plan::draw(options.from).with(only);
    if options.story {
        for step in &plan.steps {
            println!("{:>10} ms  {:?}", step.at, step.what);
        }
    }
    let outcome = match options.bug {
        Some(bug) => run_with_bug(&plan, bug),
        None => run(&plan),
    };
    tell(&outcome, options);
    let failed = usize::from(outcome.failure.is_some());
    println!("{} passed, {failed} failed", 1 - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(outcome: &Outcome, options: &Options) {
    let kinds: Vec<&str> = outcome.fired.keys().map(|kind| kind.word()).collect();
    let counts = if outcome.counts() { "" } else { " (no market day)" };
    println!(
        "seed {}: {} devices, {} sales, {} h, {} events, healed in {} % of the bound, trace {:016x}{counts}: {}",
        outcome.seed,
        outcome.devices,
        outcome.sales,
        outcome.span_ms / 3_600_000,
        outcome.events,
        outcome.healed_percent,
        outcome.trace,
        kinds.join(" ")
    );
    if options.traffic {
        let mut traffic: Vec<_> = outcome.traffic.iter().collect();
        traffic.sort_by_key(|(_, (frames, _))| std::cmp::Reverse(*frames));
        for ((node, kind), (frames, bytes)) in traffic.into_iter().take(30) {
            println!("    node {node} sent {frames} × {kind}, {bytes} bytes");
        }
    }
    if let Some(failure) = &outcome.failure {
        println!("seed {} FAILED at {} ms: {}", outcome.seed, failure.at, failure.broken);
        for line in &failure.last {
            println!("    {line}");
        }
        print!("{}", failure.nodes);
        println!("  again: tests/soak --seeds 1 --from {}", outcome.seed);
    }
}

fn sum_up(done: &[Outcome]) {
    let days: Vec<&Outcome> = done.iter().filter(|outcome| outcome.counts()).collect();
    let spread = |name: &str, of: &dyn Fn(&Outcome) -> u64| {
        let mut values: Vec<u64> = days.iter().map(|day| of(day)).collect();
        values.sort_unstable();
        if let (Some(least), Some(most)) = (values.first(), values.last()) {
            println!("  {name}: {least} to {most}, median {}", values[values.len() / 2]);
        }
    };
    println!("\n{} market days of {} seeds", days.len(), done.len());
    spread("devices", &|day| day.devices as u64);
    spread("sales", &|day| day.sales as u64);
    spread("simulated hours", &|day| day.span_ms / 3_600_000);
    spread("kinds of faults", &|day| day.fired.len() as u64);
    spread("healed in % of the bound", &|day| day.healed_percent);
    spread("most entries of a device beside its sales", &|day| day.most_words as u64);
    let total: usize = days.iter().map(|day| day.sales).sum();
    println!("  acknowledged sales: {total}");
    let mut fired: BTreeMap<Kind, (u64, u64)> = BTreeMap::new();
    let mut reached: BTreeMap<Rare, u64> = BTreeMap::new();
    for outcome in done {
        for (kind, times) in &outcome.fired {
            let (seeds, all) = fired.entry(*kind).or_default();
            (*seeds, *all) = (*seeds + 1, *all + times);
        }
        for rare in &outcome.reached {
            *reached.entry(*rare).or_default() += 1;
        }
    }
    for (kind, (seeds, times)) in fired {
        println!("  {}: {times} times in {seeds} seeds", kind.word());
    }
    for (rare, seeds) in reached {
        println!("  reached {rare:?} in {seeds} seeds");
    }
}
