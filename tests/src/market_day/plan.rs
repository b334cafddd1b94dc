//! What happens on a market day: drawn from a seed before it begins, so that any part of it can be left out.

use std::collections::BTreeSet;

use super::dice::Dice;
use super::fault::{Fault, Kind};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// So many cards pay on a day: few, so that each is seen at many stalls.
pub(super) const CARDS: u64 = 12;

/// What people do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A device joins by an invite; an empty stall makes it a gateway.
    Join {
        /// Which.
        device: usize,
        /// Its stall.
        stall: String,
    },
    /// A stall's owner gives a helper's device a narrower certificate.
    Delegate {
        /// Whose stall.
        owner: usize,
        /// To whom.
        helper: usize,
        /// For how long, in milliseconds.
        valid_ms: u64,
        /// Whether it may change the stall's prices, too.
        publishes: bool,
    },
    /// A sale, of some units.
    Sell {
        /// Where.
        device: usize,
        /// How many.
        quantity: u64,
        /// The caller gets no answer in time, and asks again.
        again: bool,
    },
    /// A stall changes its prices.
    Publish {
        /// Where.
        device: usize,
        /// What its prices end in.
        cents: u64,
    },
    /// A stall counts what it has of its second product, or says that some came.
    Stock {
        /// Where.
        device: usize,
        /// How many.
        pieces: u64,
        /// Whether they came, beside what was there.
        came: bool,
    },
    /// The organiser, or a stall, gives a promotion: `MARKET` or `OWN`.
    Promote {
        /// Where: 0 is the organiser's.
        device: usize,
        /// Percent; 0: it is given no longer.
        percent: u64,
        /// Percent of it that the market pays.
        borne: u64,
    },
    /// The organiser blocks a card that has paid, or lets it go.
    Block {
        /// Which of the day's cards.
        card: u64,
        /// Whether it is blocked.
        blocked: bool,
    },
    /// The organiser changes the market's fee.
    SetFee {
        /// Percent.
        percent: u64,
    },
    /// Somebody's certificate ends, by the hub's word.
    Revoke {
        /// Whose.
        device: usize,
    },
    /// What it wrote counts after all.
    Raise {
        /// Whose.
        device: usize,
    },
    /// The organiser changes the hub's opening key.
    Rotate,
    /// The hub closes a batch.
    Settle,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// People do something.
    Deed(Deed),
    /// Something goes wrong.
    Fault(Fault),
    /// A fault ends.
    End(Fault),
}

/// A step of the day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Milliseconds since the beginning.
    pub at: u64,
    /// What happens.
    pub what: Happening,
}

/// A whole day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// Nodes: 0 is the hub, 1 the gateway.
    pub devices: usize,
    /// How many bytes of others' sales each node has room for, where it is short of it.
    pub rooms: Vec<Option<u64>>,
    /// Milliseconds from eight in the morning until the day begins: some go on past midnight.
    pub opens_ms: u64,
    /// Milliseconds until faults end.
    pub span_ms: u64,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Draws a day.
    pub fn draw(seed: u64) -> Plan {
        let mut dice = Dice::new(seed, 1);
        let devices = match dice.between(0, 9) {
            0..=2 => dice.between(5, 11),
            3..=7 => dice.between(12, 20),
            _ => dice.between(21, 40),
        };
        let devices = usize::try_from(devices).unwrap_or(5);
        let mut size = Dice::new(seed, 6);
        let short = |dice: &mut Dice| dice.chance(30).then(|| dice.magnitude(2_000, 200_000));
        let rooms = (0..devices).map(|_| short(&mut size)).collect();
        let opens_ms = if size.chance(30) { size.between(8 * HOUR, 15 * HOUR) } else { 0 };
        let span_ms = dice.between(6 * HOUR, 9 * HOUR);
        let mut plan = Plan { seed, devices, rooms, opens_ms, span_ms, steps: Vec::new() };
        plan.people(&mut dice);
        let mut keys = Dice::new(seed, 7);
        for _ in 0..if keys.chance(30) { keys.between(1, 3) } else { 0 } {
            let at = keys.between(30 * MINUTE, span_ms);
            plan.deed(at, Deed::Rotate);
        }
        plan.promotions(&mut Dice::new(seed, 8));
        plan.blocks(&mut Dice::new(seed, 9));
        plan.stocks(&mut Dice::new(seed, 10));
        plan.faults(&mut Dice::new(seed, 2));
        // What happens at one time keeps the order in which it was drawn.
        plan.steps.sort_by_key(|step| step.at);
        plan
    }

    /// The same day, with the steps that `keep` names alone.
    pub fn with(&self, keep: &BTreeSet<usize>) -> Plan {
        let steps = self.steps.iter().enumerate().filter(|(index, _)| keep.contains(index));
        Plan { steps: steps.map(|(_, step)| step.clone()).collect(), ..self.clone() }
    }

    fn step(&mut self, at: u64, what: Happening) {
        self.steps.push(Step { at, what });
    }

    fn deed(&mut self, at: u64, deed: Deed) {
        self.step(at, Happening::Deed(deed));
    }

    fn people(&mut self, dice: &mut Dice) {
        self.deed(0, Deed::Join { device: 1, stall: String::new() });
        let mut owners: Vec<usize> = Vec::new();
        let mut sellers: Vec<(usize, u64)> = Vec::new();
        for device in 2..self.devices {
            // Most are there when the market opens.
            let at = if dice.chance(80) { dice.between(0, 10 * MINUTE) } else { dice.between(0, self.span_ms / 2) };
            if device > 3 && dice.chance(20) {
                if let Some(owner) = dice.pick(&owners).copied() {
                    let valid_ms = dice.between(HOUR, 12 * HOUR);
                    let publishes = dice.chance(40);
                    self.deed(at + 10 * MINUTE, Deed::Delegate { owner, helper: device, valid_ms, publishes });
                    sellers.push((device, at + 12 * MINUTE));
                    for _ in 0..if publishes { dice.between(1, 3) } else { 0 } {
                        let at = dice.between((at + 15 * MINUTE).min(self.span_ms), self.span_ms);
                        self.deed(at, Deed::Publish { device, cents: dice.between(0, 99) });
                    }
                }
                continue;
            }
            let gateway = device > 4 && dice.chance(10);
            let stall = if gateway { String::new() } else { format!("stall-{device}") };
            self.deed(at, Deed::Join { device, stall });
            if !gateway {
                owners.push(device);
                sellers.push((device, at + MINUTE));
                let opening = at + MINUTE;
                self.deed(opening, Deed::Publish { device, cents: dice.between(0, 99) });
                for _ in 0..dice.between(0, 2) {
                    let at = dice.between(opening, self.span_ms);
                    self.deed(at, Deed::Publish { device, cents: dice.between(0, 99) });
                }
            }
        }
        let mut left = dice.between(220, 500);
        while left > 0 {
            let Some((device, from)) = dice.pick(&sellers).copied() else { break };
            let mut at = dice.between((from + 2 * MINUTE).min(self.span_ms), self.span_ms);
            let gap = dice.magnitude(50, 2 * MINUTE);
            for _ in 0..dice.between(1, 20).min(left) {
                left -= 1;
                let again = dice.chance(5);
                self.deed(at, Deed::Sell { device, quantity: dice.between(1, 5), again });
                at = (at + dice.between(1, gap)).min(self.span_ms);
            }
        }
        for _ in 0..dice.between(0, 3) {
            let at = dice.between(30 * MINUTE, self.span_ms);
            self.deed(at, Deed::SetFee { percent: dice.between(0, 12) });
        }
        for _ in 0..dice.between(0, 3) {
            let at = dice.between(HOUR, self.span_ms);
            self.deed(at, Deed::Settle);
        }
        if dice.chance(30)
            && let Some((device, _)) = dice.pick(&sellers).copied()
        {
            let at = dice.between(HOUR, self.span_ms);
            self.deed(at, Deed::Revoke { device });
            if dice.chance(60) {
                let later = dice.between(at, self.span_ms);
                self.deed(later, Deed::Raise { device });
            }
        }
    }

    fn promotions(&mut self, dice: &mut Dice) {
        let joins = self.steps.iter().filter_map(|step| match &step.what {
            Happening::Deed(Deed::Join { device, stall }) if !stall.is_empty() => Some((*device, step.at)),
            _ => None,
        });
        let mut givers: Vec<(usize, u64)> = joins.filter(|_| dice.chance(30)).collect();
        givers.push((0, 10 * MINUTE));
        for (device, from) in givers {
            for _ in 0..dice.between(1, 4) {
                let at = dice.between((from + 5 * MINUTE).min(self.span_ms), self.span_ms);
                let percent = if dice.chance(25) { 0 } else { dice.between(1, 100) };
                let borne = if device == 0 { dice.between(0, 100) } else { 0 };
                self.deed(at, Deed::Promote { device, percent, borne });
            }
        }
    }

    fn blocks(&mut self, dice: &mut Dice) {
        for _ in 0..dice.between(0, 6) {
            let at = dice.between(HOUR, self.span_ms);
            self.deed(at, Deed::Block { card: dice.between(0, CARDS - 1), blocked: dice.chance(70) });
        }
    }

    fn stocks(&mut self, dice: &mut Dice) {
        let opened = self.steps.iter().filter_map(|step| match &step.what {
            Happening::Deed(Deed::Publish { device, .. }) => Some((*device, step.at)),
            _ => None,
        });
        let counting: Vec<(usize, u64)> = opened.filter(|_| dice.chance(40)).collect();
        for (device, from) in counting {
            let first = from + 2 * MINUTE;
            self.deed(first, Deed::Stock { device, pieces: dice.between(0, 40), came: false });
            for _ in 0..dice.between(0, 3) {
                let at = dice.between(first.min(self.span_ms), self.span_ms);
                self.deed(at, Deed::Stock { device, pieces: dice.between(1, 30), came: dice.chance(50) });
            }
        }
    }

    fn faults(&mut self, dice: &mut Dice) {
        let mut kinds = Kind::ALL.to_vec();
        dice.shuffle(&mut kinds);
        let on = usize::try_from(dice.between(6, 13)).unwrap_or(6);
        for kind in kinds.into_iter().take(on) {
            for _ in 0..dice.between(1, kind.most_often()) {
                let fault = kind.draw(dice, self.devices);
                let from = dice.between(5 * MINUTE, self.span_ms);
                let until = (from + dice.magnitude(10_000, 90 * MINUTE)).min(self.span_ms);
                self.step(from, Happening::Fault(fault.clone()));
                if fault.ends() {
                    self.step(until, Happening::End(fault.clone()));
                }
                // What comes and goes does so many times.
                let mut at = from;
                for _ in 0..if kind.flaps() { dice.between(3, 20) } else { 0 } {
                    at += dice.magnitude(1_000, 5 * MINUTE);
                    if at < self.span_ms {
                        self.step(at, Happening::End(fault.clone()));
                        let again = (at + dice.magnitude(1_000, 2 * MINUTE)).min(self.span_ms);
                        self.step(again, Happening::Fault(fault.clone()));
                    }
                }
            }
        }
    }
}
