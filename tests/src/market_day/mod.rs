//! Market days with everything that can go wrong: drawn from a seed, run on whole nodes with the program's own store,
//! judged at every step, and again after the faults have ended.
//!
//! | file | what it has |
//! | --- | --- |
//! | `plan`, `fault` | what a seed draws: people's deeds, kinds of faults |
//! | `deeds`, `cards`, `strikes`, `liars` | how they are carried out |
//! | `truth` | what was promised to whom, kept beside the nodes |
//! | `invariants`, `money`, `honesty` | what must hold of every day, one function each |
//! | `heal` | the end: faults cease, and within a bound all is where it belongs |
//! | `shrink` | a smaller day that fails alike |

mod cards;
mod deeds;
mod dice;
mod fault;
mod heal;
mod honesty;
pub mod invariants;
mod liars;
mod money;
mod online;
mod plan;
mod shrink;
mod strikes;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use stallmesh_node::engine::{Engine, Input, Now, Settings};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::sign::shared;

pub use self::dice::Dice;
pub use self::fault::{Fault, Kind};
pub use self::invariants::{Broken, Invariant};
pub use self::plan::{Deed, Happening, Plan, Step};
pub use self::shrink::shrink;
pub use self::truth::{Device, Truth};
use crate::simulation::{Disk, OPENING_MS, Simulation, What};

/// How often what costs little is looked at, in simulated milliseconds.
const LOOK_EVERY_MS: u64 = 60_000;
/// How often what costs much is looked at.
const LOOK_HARD_EVERY_MS: u64 = 40 * 60_000;

/// Something that a day may come across, and that some days must.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rare {
    /// A process died of its disk.
    Died,
    /// A store could not be opened any more, and was replaced.
    Wiped,
    /// A link ended for silence.
    TimedOut,
    /// A fork was proved.
    ForkProved,
    /// A clone was noticed.
    CloneNoticed,
    /// A sale of a device that never came back was settled.
    Orphaned,
    /// A sale stands in suspense.
    Suspense,
    /// A batch adjusted what an earlier one had published.
    SecondBatch,
    /// A caller asked twice for one sale.
    AskedTwice,
    /// A sale was refused.
    Refused,
    /// A sale was lost with every disk that held it.
    LostWithAllCopies,
    /// A device got a sale back from others that its disk had lost.
    Recovered,
    /// Somebody's links were ended for what it sent.
    Punished,
    /// A member that was revoked, and hadn't heard of it, sold on.
    RevokedUnheard,
    /// Two checkpoints of one number were noticed.
    TwoStories,
    /// The hub's opening key was changed.
    KeyRotated,
    /// A promotion was given.
    Promotion,
    /// A till asked about a payment.
    AskedAbout,
    /// A till declined a card that was blocked.
    CardBlocked,
    /// A sale waited for the bank's word on its card.
    AskedTheBank,
    /// A hub that burned was replaced, and the new one met the market.
    TakenOver,
    /// More of a product was sold than was counted.
    SoldOut,
    /// Two tills of a stall worked out what is left.
    CountedTogether,
}

impl Rare {
    /// All of them.
    pub const ALL: [Rare; 23] = [
        Rare::Died,
        Rare::Wiped,
        Rare::TimedOut,
        Rare::ForkProved,
        Rare::CloneNoticed,
        Rare::Orphaned,
        Rare::Suspense,
        Rare::SecondBatch,
        Rare::AskedTwice,
        Rare::Refused,
        Rare::LostWithAllCopies,
        Rare::Recovered,
        Rare::Punished,
        Rare::RevokedUnheard,
        Rare::TwoStories,
        Rare::KeyRotated,
        Rare::Promotion,
        Rare::AskedAbout,
        Rare::CardBlocked,
        Rare::AskedTheBank,
        Rare::TakenOver,
        Rare::SoldOut,
        Rare::CountedTogether,
    ];
}

/// What became of a day.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it was drawn from.
    pub seed: u64,
    /// Nodes.
    pub devices: usize,
    /// Sales that were acknowledged to their callers.
    pub sales: usize,
    /// Simulated milliseconds.
    pub span_ms: u64,
    /// How often each kind of fault really struck.
    pub fired: BTreeMap<Kind, u64>,
    /// What was reached.
    pub reached: BTreeSet<Rare>,
    /// Hash of all that happened.
    pub trace: u64,
    /// Things that happened.
    pub events: u64,
    /// How long healing took of what it may, in percent.
    pub healed_percent: u64,
    /// The most entries that one honest device wrote beside sales, checkpoints and postings.
    pub most_words: usize,
    /// Frames and bytes that nodes sent, by kind of frame.
    pub traffic: BTreeMap<(usize, &'static str), (u64, u64)>,
    /// What did not hold.
    pub failure: Option<Failure>,
}

impl Outcome {
    /// Whether it counts as a market day: enough devices, sales, hours, and kinds of faults that struck.
    pub fn counts(&self) -> bool {
        self.devices >= 5 && self.sales >= 200 && self.span_ms >= 6 * 3_600_000 && self.fired.len() >= 5
    }
}

/// Something did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What.
    pub broken: Broken,
    /// When.
    pub at: u64,
    /// The last events before.
    pub last: Vec<String>,
    /// How all nodes are.
    pub nodes: String,
}

/// A day as it runs.
pub struct Day {
    /// The market.
    pub simulation: Simulation,
    /// What was promised.
    pub truth: Truth,
    plan: Plan,
    dice: Dice,
    fired: BTreeMap<Kind, u64>,
    reached: BTreeSet<Rare>,
    /// What happens of itself: a process starts again, a battery dies.
    later: BTreeMap<u64, Vec<Later>>,
    looked_at: u64,
    looked_hard_at: u64,
    closed_seen: usize,
    steps_seen: u64,
    healed_percent: u64,
    most_words: usize,
    /// Why a sale was refused last.
    refusal: String,
    /// Sales that wait for the bank.
    waiting: Vec<online::Waiting>,
}

#[derive(Clone, Copy, Debug)]
enum Later {
    Start(usize),
    Gone(usize),
    Sell(usize),
    ForkAnew(usize),
}

impl Day {
    fn new(plan: Plan) -> Self {
        let mut simulation = Simulation::on_media(plan.seed | 1 << 63, OPENING_MS + plan.opens_ms);
        let truth = Truth::new(plan.devices);
        for room in plan.rooms.iter().skip(1) {
            let usual = Settings::default();
            let custody_bytes_max = room.unwrap_or(usual.custody_bytes_max);
            simulation.add_idle(Settings { custody_bytes_max, ..usual });
        }
        let dice = Dice::new(plan.seed, 3);
        Day {
            simulation,
            truth,
            plan,
            dice,
            fired: BTreeMap::new(),
            reached: BTreeSet::new(),
            later: BTreeMap::new(),
            looked_at: 0,
            looked_hard_at: 0,
            closed_seen: 0,
            steps_seen: 0,
            healed_percent: 0,
            most_words: 0,
            refusal: String::new(),
            waiting: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<(), Broken> {
        self.go_online();
        let steps = self.plan.steps.clone();
        for step in steps {
            self.pass_until(step.at)?;
            let story = format!("{:?}", step.what);
            self.simulation.trace.note(self.simulation.now, 0, What::Story(story));
            match step.what {
                Happening::Deed(deed) => self.carry_out(&deed)?,
                Happening::Fault(fault) => self.strike(&fault),
                Happening::End(fault) => self.cease(&fault),
            }
            self.look()?;
        }
        self.pass_until(self.plan.span_ms)?;
        self.heal()
    }

    /// Lets time pass.
    fn pass_until(&mut self, at: u64) -> Result<(), Broken> {
        while self.simulation.now < at {
            let next = self.later.first_key_value().map_or(at, |(due, _)| *due).min(at);
            let next = next.min(self.simulation.now + LOOK_EVERY_MS).max(self.simulation.now);
            self.simulation.run_for(next - self.simulation.now);
            while let Some(entry) = self.later.first_entry().filter(|entry| *entry.key() <= self.simulation.now) {
                for later in entry.remove() {
                    match later {
                        Later::Start(device) => self.start(device)?,
                        Later::Gone(device) => self.lose(device),
                        Later::Sell(device) => self.sell(device, 1, false)?,
                        Later::ForkAnew(device) => self.fork_anew(device),
                    }
                }
            }
            self.bank_comes_and_goes();
            self.hear_answers()?;
            self.revive();
            self.look()?;
        }
        Ok(())
    }

    fn later(&mut self, milliseconds: u64, what: Later) {
        self.later.entry(self.simulation.now + milliseconds).or_default().push(what);
    }

    /// Whoever ended by itself is started again by its owner.
    fn revive(&mut self) {
        for device in 0..self.truth.devices.len() {
            let node = &self.simulation.nodes[device];
            if node.engine.is_none() && node.died.is_some() && self.truth.devices[device].is_down_for_now() {
                self.reached.insert(Rare::Died);
                self.truth.devices[device].starts = true;
                let after = self.dice.magnitude(500, 120_000);
                self.later(after, Later::Start(device));
            }
        }
    }

    /// Looks whether all is as it must be, as often as it is worth it.
    fn look(&mut self) -> Result<(), Broken> {
        self.always()?;
        if self.simulation.now >= self.looked_at + LOOK_EVERY_MS {
            self.looked_at = self.simulation.now;
            self.often()?;
        }
        if self.simulation.now >= self.looked_hard_at + LOOK_HARD_EVERY_MS {
            self.looked_hard_at = self.simulation.now;
            self.tell_how_far();
            self.now_and_then()?;
        }
        Ok(())
    }

    /// For whoever waits: how far the day is, and what most frames were so far.
    fn tell_how_far(&self) {
        let mut frames: BTreeMap<&str, u64> = BTreeMap::new();
        for ((_, kind), (count, _)) in &self.simulation.traffic {
            *frames.entry(kind).or_insert(0) += count;
        }
        let minutes = self.simulation.now / 60_000;
        tracing::info!(seed = self.plan.seed, minutes, events = self.simulation.steps(), ?frames, "the day goes on");
    }

    /// A second process on a copy of a node's disk, which nobody hears of.
    pub(crate) fn rebuilt(&mut self, device: usize) -> Option<(Engine<Disk>, Now)> {
        // Whatever its own clock says: what has expired is a question of the time that the running one trusts.
        let wall_ms = self.simulation.status(device).time;
        let node = &self.simulation.nodes[device];
        let disk = node.disk.copy().unwatched();
        disk.open().ok()?;
        let now = Now { monotonic_ms: self.simulation.now, wall_ms };
        let mut engine = Engine::open(disk, node.identity.clone(), node.settings.clone(), [77; 32], now).ok()?;
        engine.handle(Input::Tick, now);
        Some((engine, now))
    }
}

/// Runs a day with a bug planted in all nodes.
pub fn run_with_bug(plan: &Plan, bug: Bug) -> Outcome {
    planted::plant(Some(bug));
    let outcome = run(plan);
    planted::plant(None);
    outcome
}

/// Runs a day.
pub fn run(plan: &Plan) -> Outcome {
    shared::share_checks(true);
    let (seed, devices) = (plan.seed, plan.devices);
    let mut day = Day::new(plan.clone());
    let result = catch_unwind(AssertUnwindSafe(|| day.run()));
    let broken = match result {
        Ok(Ok(())) => None,
        Ok(Err(broken)) => Some(broken),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(Broken::new(Invariant::NoPanic, text.unwrap_or_else(|| "a panic without words".into())))
        }
    };
    day.simulation.witness.stand_down();
    let failure = broken.map(|broken| {
        let last = day.simulation.trace.last(60);
        let nodes = catch_unwind(AssertUnwindSafe(|| day.simulation.describe())).unwrap_or_default();
        Failure { broken, at: day.simulation.now, last, nodes }
    });
    Outcome {
        seed,
        devices,
        sales: day.truth.sales.len(),
        span_ms: day.simulation.now,
        fired: std::mem::take(&mut day.fired),
        reached: std::mem::take(&mut day.reached),
        trace: day.simulation.trace.hash(),
        events: day.simulation.steps(),
        healed_percent: day.healed_percent,
        most_words: day.most_words,
        traffic: std::mem::take(&mut day.simulation.traffic),
        failure,
    }
}
