//! A market's day with planted fraud, to see what the rules notice and what they cry wolf about.
//!
//! `traffic` draws who buys where, honest and not, from a seed; how bold a thief is is drawn too, and no rule sees it.
//! Here the day is lived through: each stall has an index of its own, hears the others' signals late or, while it is cut
//! off, not at all, and asks the rules before each sale. `tally` counts.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a day that can't be drawn ends the program")]

mod tally;
mod traffic;

use std::collections::BTreeMap;

use stallmesh_node::fraud::{Action, Answer, Attempt, Fact, Index, Reference, Rules, Signal, Stall, Subject, Voice};

pub use self::tally::{Counts, Tally};
pub use self::traffic::{Day, Event, HOUR, MINUTE, Trick};

/// A generator of numbers (splitmix64).
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from the first on, below the second.
    pub fn between(&mut self, from: u64, below: u64) -> u64 {
        from + self.number() % below.saturating_sub(from).max(1)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.between(0, 100) < percent
    }

    /// Sixteen bytes that nothing else has.
    pub fn name(&mut self) -> [u8; 16] {
        (u128::from(self.number()) << 64 | u128::from(self.number())).to_le_bytes()
    }
}

/// The seeds of an evaluation: drawn from the rules themselves, so that whoever changes a threshold gets other days.
pub fn seeds(rules: &str, count: usize) -> Vec<u64> {
    // FNV-1a.
    let hash = rules
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut dice = Dice::new(hash);
    (0..count).map(|_| dice.number()).collect()
}

/// How a vendor answers, of a hundred times.
struct Vendor {
    /// Lets an honest customer pass, and says that she knows them.
    knows: u64,
    /// Sends somebody away who isn't honest.
    refuses: u64,
}

const VENDOR: Vendor = Vendor { knows: 70, refuses: 80 };

/// A stall with what it has heard.
struct Till {
    index: Index,
    /// What is on its way: by when it comes, and a number that tells two apart.
    coming: BTreeMap<(u64, u64), Signal>,
    /// When it is cut off from all others.
    cut: std::ops::Range<u64>,
}

impl Till {
    fn hear(&mut self, now: u64) {
        while let Some(first) = self.coming.first_entry().filter(|first| first.key().0 <= now) {
            self.index.insert(first.remove());
        }
        self.index.expire(now);
    }
}

struct Market<'a> {
    rules: &'a Rules,
    tills: BTreeMap<Stall, Till>,
    dice: Dice,
    sent: u64,
}

/// Lives through a day, and counts.
pub fn live(rules: &Rules, day: &Day, seed: u64) -> Tally {
    let mut dice = Dice::new(seed ^ 0x5eed);
    let tills = day.stalls.iter().map(|stall| {
        let begins = dice.between(traffic::OPENS, traffic::CLOSES);
        // Some are cut off for a while.
        let lasts = if dice.percent(15) { dice.between(20, 90) * MINUTE } else { 0 };
        let till = Till { index: Index::default(), coming: BTreeMap::new(), cut: begins..begins + lasts };
        (*stall, till)
    });
    let mut market = Market { rules, tills: tills.collect(), dice, sent: 0 };
    for (at, signal) in &day.words {
        market.send(*signal, *at, None);
    }
    let mut tally = Tally::default();
    for event in &day.events {
        market.sell(event, day, &mut tally);
    }
    tally
}

impl Market<'_> {
    fn sell(&mut self, event: &Event, day: &Day, tally: &mut Tally) {
        let Some(till) = self.tills.get_mut(&event.attempt.stall) else { return };
        till.hear(event.at);
        let found = self.rules.assess(&till.index, &event.attempt, event.at);
        tally.count(event, &found);
        let mut goes_on = found.answer != Answer::Decline;
        // A stall whose clock is off dates its signals wrongly.
        let off = day.clocks.get(&event.attempt.stall).copied().unwrap_or(0);
        let dated = event.at.saturating_add_signed(off);
        if found.answer == Answer::Ask {
            match event.trick {
                None if self.dice.percent(VENDOR.knows) => {
                    for reason in found.reasons.iter().filter(|reason| reason.answer == Answer::Ask) {
                        let reference = Reference(self.dice.name());
                        if let Some(known) = self.rules.known(&reason.rule, &event.attempt, dated, reference) {
                            self.send(known, event.at, Some(event.attempt.stall));
                        }
                    }
                }
                None => {}
                Some(_) => goes_on = !self.dice.percent(VENDOR.refuses),
            }
        }
        if goes_on && let Some(signal) = self.rules.signal(&event.attempt, dated, Reference(self.dice.name())) {
            self.send(signal, event.at, Some(event.attempt.stall));
        }
    }

    /// To its own stall at once, to the others when they can be reached.
    fn send(&mut self, signal: Signal, now: u64, from: Option<Stall>) {
        let own_cut = from.and_then(|stall| self.tills.get(&stall)).map_or(0..0, |till| till.cut.clone());
        for (stall, till) in &mut self.tills {
            let mut at = now;
            if Some(*stall) != from {
                at += self.dice.between(200, 3_000);
                for cut in [&own_cut, &till.cut] {
                    if cut.contains(&at) {
                        at = cut.end + 1_000;
                    }
                }
            }
            self.sent += 1;
            till.coming.insert((at, self.sent), signal);
        }
    }
}

fn card(stall: Stall, device: Subject, fingerprint: Subject, amount: u64) -> Attempt {
    Attempt { stall, device, action: Action::Card { fingerprint, amount } }
}

fn of_market(fact: Fact, about: Subject, at_ms: u64, dice: &mut Dice) -> Signal {
    Signal {
        fact,
        subject: about,
        stall: Stall::default(),
        voice: Voice::Market,
        at_ms,
        expires_at_ms: at_ms + 24 * HOUR,
        reference: Reference(dice.name()),
    }
}
