//! What is known of the run, for whoever watches: the steps, the proofs in sentences, and which processes there are.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The six steps.
pub(super) const STEPS: [(&str, &str); 6] = [
    ("Join", "Join: stalls start with nothing but an invite"),
    ("Catalogs", "Catalogs spread: each stall imports a product file of its own"),
    ("Sell", "Sell with no uplink at all"),
    ("Relay", "One node gets an uplink: everybody's sales flow through it"),
    ("Trouble", "Trouble"),
    ("Settle", "Settle"),
];

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Waiting,
    Running(Instant),
    Done(Duration),
    Failed,
}

/// A node's place in the picture.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) name: String,
    pub(super) stall: String,
    pub(super) directory: PathBuf,
    pub(super) runs: bool,
    /// Why it doesn't run.
    pub(super) gone: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) steps: [Step; 6],
    /// Printed as they are.
    pub(super) lines: Vec<String>,
    pub(super) seats: Vec<Seat>,
    pub(super) started: Instant,
    pub(super) network: &'static str,
    pub(super) dashboard: String,
}

/// The board, shared.
#[derive(Clone)]
pub(super) struct Board {
    state: Arc<Mutex<State>>,
    /// Lines are printed as they come.
    prints: bool,
}

impl Board {
    pub(super) fn new(prints: bool) -> Self {
        let state = State {
            steps: [Step::Waiting; 6],
            lines: Vec::new(),
            seats: Vec::new(),
            started: Instant::now(),
            network: "",
            dashboard: String::new(),
        };
        Board { state: Arc::new(Mutex::new(state)), prints }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> State {
        self.state().clone()
    }

    fn line(&self, line: String) {
        if self.prints {
            print(&line);
        }
        self.state().lines.push(line);
    }

    /// A sentence before or after the steps.
    pub(super) fn remark(&self, line: &str) {
        self.line(line.to_owned());
    }

    /// A step begins; the one before it is done.
    pub(super) fn begin(&self, number: usize) {
        self.done();
        self.state().steps[number] = Step::Running(Instant::now());
        self.line(String::new());
        self.line(format!("{}. {}", number + 1, STEPS[number].1));
    }

    /// The running step is done.
    pub(super) fn done(&self) {
        for step in &mut self.state().steps {
            if let Step::Running(since) = *step {
                *step = Step::Done(since.elapsed());
            }
        }
    }

    /// The running step has failed.
    pub(super) fn failed(&self) {
        for step in &mut self.state().steps {
            if matches!(step, Step::Running(_)) {
                *step = Step::Failed;
            }
        }
    }

    /// A proof, under its step.
    pub(super) fn say(&self, line: impl AsRef<str>) {
        self.line(format!("   {}", line.as_ref()));
    }

    pub(super) fn set_network(&self, name: &'static str) {
        self.state().network = name;
    }

    pub(super) fn set_dashboard(&self, address: &str) {
        address.clone_into(&mut self.state().dashboard);
    }

    /// A node has come.
    pub(super) fn seat(&self, name: &str, stall: &str, directory: PathBuf) {
        let seat =
            Seat { name: name.to_owned(), stall: stall.to_owned(), directory, runs: false, gone: "not started yet" };
        self.state().seats.push(seat);
    }

    /// Node `index` runs, or doesn't, and why.
    pub(super) fn set_running(&self, index: usize, runs: bool, gone: &'static str) {
        if let Some(seat) = self.state().seats.get_mut(index) {
            (seat.runs, seat.gone) = (runs, gone);
        }
    }

    /// Prints everything that was said, for a board that was shown and not printed.
    pub(super) fn print_all(&self) {
        for line in &self.snapshot().lines {
            print(line);
        }
    }
}

/// A reader that has gone away is no reason to stop.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
