//! What tests with real processes share: nodes that run, asked as their users ask them, and networks of their own.

mod card_reader;
mod http;
mod market;
mod namespaces;
mod node;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

pub use self::card_reader::CardReader;
pub use self::http::{Reply, exchange, head, send_to};
pub use self::market::{HUB_EVERY_MS, Market, address, free_port, order, product};
pub use self::namespaces::Namespaces;
pub use self::node::{Ended, Node};

/// How long a condition may take to come true. Generous: machines that test are busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The `stallmesh` program beside this test.
///
/// # Panics
/// It was not built; `tests/run` builds it first.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let folder = test.parent().and_then(|deps| deps.parent()).map(PathBuf::from).unwrap_or_default();
    let program = folder.join("stallmesh");
    assert!(program.exists(), "{} is missing: run tests/run, or `cargo build --workspace` first", program.display());
    program
}

/// Runs the program to its end.
///
/// # Panics
/// It can't be started.
pub fn stallmesh(arguments: &[&str]) -> Output {
    match Command::new(program()).args(arguments).output() {
        Ok(output) => output,
        Err(error) => panic!("stallmesh {arguments:?}: {error}"),
    }
}

/// Whether a missing part of the machine is a failure.
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Waits until `look` finds something, and hands it over.
///
/// # Panics
/// It didn't within a minute; the last word of `look` says what there was instead.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if Instant::now() > deadline => {
                panic!("{what}: not within {} s; last: {last}", PATIENCE.as_secs())
            }
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// A generator for moments and choices, seeded by `TEST_SEED` or by the clock; says its seed, so that what
/// it found can be looked for again.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// A new one.
    #[allow(clippy::print_stderr, reason = "the seed of a failure is shown with it")]
    pub fn new(name: &str) -> Self {
        let given = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            now.as_nanos() as u64
        });
        eprintln!("{name}: TEST_SEED={seed}");
        Dice::seeded(seed)
    }

    /// One that always draws the same.
    pub fn seeded(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `below`.
    pub fn draw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}
