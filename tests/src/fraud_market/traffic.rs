//! Who buys where on a day, honest and not.

use std::collections::BTreeMap;

use stallmesh_node::fraud::{Action, Attempt, Fact, Signal, Stall, Subject};

use super::{Dice, card, of_market};

/// In milliseconds.
pub const MINUTE: u64 = 60_000;
/// In milliseconds.
pub const HOUR: u64 = 60 * MINUTE;
const MIDNIGHT: u64 = 1_780_012_800_000;
/// From then on there are sales.
pub(super) const OPENS: u64 = MIDNIGHT + 9 * HOUR;
/// Until then.
pub(super) const CLOSES: u64 = MIDNIGHT + 18 * HOUR;
const STALLS: u64 = 40;

/// What somebody is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trick {
    /// A stolen card is carried from stall to stall.
    StolenCard,
    /// A card that the hub has blocked comes back.
    BlockedCard,
    /// An operator voids what was paid in cash, and keeps it.
    VoidAfterCash,
    /// An operator sells to a friend far below the price.
    FriendsPrice,
    /// Somebody sells with a copy of a stall's device.
    Clone,
    /// No trick, but trouble: the device's clock is off.
    WrongClock,
}

impl Trick {
    /// All of them.
    pub const ALL: [Trick; 6] = [
        Trick::StolenCard,
        Trick::BlockedCard,
        Trick::VoidAfterCash,
        Trick::FriendsPrice,
        Trick::Clone,
        Trick::WrongClock,
    ];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Trick::StolenCard => "stolen card, from stall to stall",
            Trick::BlockedCard => "blocked card comes back",
            Trick::VoidAfterCash => "voided after cash",
            Trick::FriendsPrice => "a friend's price",
            Trick::Clone => "a copy of a device sells",
            Trick::WrongClock => "a clock that is off",
        }
    }
}

/// Something at a till.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, in milliseconds.
    pub at: u64,
    /// What.
    pub attempt: Attempt,
    /// Whether it is a trick, and which.
    pub trick: Option<Trick>,
    /// Which one of its kind: all events of one thief have one number.
    pub incident: u64,
}

/// A day.
#[derive(Clone, Debug, Default)]
pub struct Day {
    /// Who sells.
    pub stalls: Vec<Stall>,
    /// What happens, by time.
    pub events: Vec<Event>,
    /// What the market says, and when.
    pub words: Vec<(u64, Signal)>,
    /// How far the clocks of some stalls are off, in milliseconds.
    pub clocks: BTreeMap<Stall, i64>,
}

struct Drawing {
    dice: Dice,
    day: Day,
    incidents: u64,
}

impl Day {
    /// The day that a seed draws.
    pub fn draw(seed: u64) -> Day {
        let mut dice = Dice::new(seed);
        let stalls = (0..STALLS).map(|_| Stall(dice.name())).collect();
        let mut drawing = Drawing { dice, day: Day { stalls, ..Day::default() }, incidents: 0 };
        drawing.honest();
        drawing.stolen_cards();
        drawing.blocked_cards();
        drawing.voids();
        drawing.friends();
        drawing.clones();
        drawing.clocks();
        let mut day = drawing.day;
        day.events.retain(|event| (OPENS..CLOSES).contains(&event.at));
        day.events.sort_by_key(|event| event.at);
        day
    }
}

fn device(stall: Stall) -> Subject {
    Subject(stall.0)
}

/// One of three who sell at a stall.
fn operator(stall: Stall, number: u64) -> Subject {
    Subject::of_operator(&stall.to_string(), &number.to_string())
}

impl Drawing {
    fn stall(&mut self) -> Stall {
        let place = self.dice.between(0, STALLS);
        self.day.stalls[usize::try_from(place).unwrap()]
    }

    fn event(&mut self, at: u64, attempt: Attempt, trick: Option<Trick>) {
        let incident = self.incidents;
        self.day.events.push(Event { at, attempt, trick, incident });
    }

    /// What most things cost: little, sometimes more.
    fn amount(&mut self) -> u64 {
        match self.dice.between(0, 10) {
            0 => self.dice.between(2_000, 6_000),
            1..=3 => self.dice.between(1_000, 2_500),
            _ => self.dice.between(250, 1_200),
        }
    }

    fn pay(&mut self, at: u64, stall: Stall, fingerprint: Subject, amount: u64, trick: Option<Trick>) {
        self.event(at, card(stall, device(stall), fingerprint, amount), trick);
    }

    /// Somebody who pays so often, so long after each other.
    fn stroll(&mut self, begins: u64, payments: u64, minutes: std::ops::Range<u64>) {
        let fingerprint = Subject(self.dice.name());
        let mut at = begins;
        for _ in 0..payments {
            let (stall, amount) = (self.stall(), self.amount());
            self.pay(at, stall, fingerprint, amount, None);
            at += self.dice.between(minutes.start * MINUTE, minutes.end * MINUTE);
        }
    }

    fn honest(&mut self) {
        let visitors = self.dice.between(800, 1_800);
        for _ in 0..visitors {
            let at = self.dice.between(OPENS, CLOSES);
            let payments = self.dice.between(1, 4);
            self.stroll(at, payments, 5..45);
        }
        // Lunch: food, something to drink and something sweet, soon after each other.
        for _ in 0..self.dice.between(300, 700) {
            let at = self.dice.between(MIDNIGHT + 12 * HOUR, MIDNIGHT + 14 * HOUR);
            let payments = self.dice.between(2, 5);
            self.stroll(at, payments, 2..15);
        }
        // Families: several at one time with one card.
        for _ in 0..self.dice.between(20, 60) {
            let (fingerprint, begins) = (Subject(self.dice.name()), self.dice.between(OPENS, CLOSES));
            for _ in 0..self.dice.between(3, 9) {
                let at = begins + self.dice.between(0, 75 * MINUTE);
                let (stall, amount) = (self.stall(), self.amount());
                self.pay(at, stall, fingerprint, amount, None);
            }
        }
        // Regulars: the same stall again and again.
        for _ in 0..self.dice.between(20, 60) {
            let (fingerprint, stall) = (Subject(self.dice.name()), self.stall());
            let mut at = self.dice.between(OPENS, OPENS + 3 * HOUR);
            for _ in 0..self.dice.between(2, 7) {
                let amount = self.dice.between(250, 800);
                self.pay(at, stall, fingerprint, amount, None);
                at += self.dice.between(10 * MINUTE, 2 * HOUR);
            }
        }
        // A cook who buys for a restaurant.
        for _ in 0..self.dice.between(2, 8) {
            let fingerprint = Subject(self.dice.name());
            let mut at = self.dice.between(OPENS, OPENS + 2 * HOUR);
            for _ in 0..self.dice.between(3, 9) {
                let (stall, amount) = (self.stall(), self.dice.between(2_000, 12_000));
                self.pay(at, stall, fingerprint, amount, None);
                at += self.dice.between(4 * MINUTE, 20 * MINUTE);
            }
        }
        self.honest_operators();
    }

    fn honest_operators(&mut self) {
        for stall in self.day.stalls.clone() {
            // Bruised goods now and then, and at some stalls everything for half before they close.
            let sells_out = self.dice.percent(20);
            let lows = self.dice.between(0, 3) + if sells_out { self.dice.between(3, 12) } else { 0 };
            for index in 0..lows {
                let from = if sells_out && index > 2 { CLOSES - HOUR } else { OPENS };
                let at = self.dice.between(from, CLOSES);
                let who = operator(stall, self.dice.between(0, 3));
                let (catalog_price, share) = (self.dice.between(300, 3_000), self.dice.between(50, 95));
                let price = catalog_price * share / 100;
                let action = Action::Override { operator: who, price, catalog_price };
                self.event(at, Attempt { stall, device: device(stall), action }, None);
            }
            // Mistakes.
            for _ in 0..self.dice.between(0, 3) {
                let at = self.dice.between(OPENS, CLOSES);
                let who = operator(stall, self.dice.between(0, 3));
                let after_ms = self.dice.between(20_000, 15 * MINUTE);
                let action = Action::Void { operator: who, amount: self.amount(), after_ms };
                self.event(at, Attempt { stall, device: device(stall), action }, None);
            }
        }
    }

    fn stolen_cards(&mut self) {
        for _ in 0..self.dice.between(3, 9) {
            self.incidents += 1;
            let fingerprint = Subject(self.dice.name());
            // How bold: some run, some stroll; some take much.
            let (slowest, most) = (self.dice.between(2, 26), self.dice.between(1_500, 12_000));
            let mut at = self.dice.between(OPENS, CLOSES - HOUR);
            for _ in 0..self.dice.between(3, 13) {
                let (stall, amount) = (self.stall(), self.dice.between(500, most));
                self.pay(at, stall, fingerprint, amount, Some(Trick::StolenCard));
                at += self.dice.between(MINUTE / 2, slowest * MINUTE);
            }
        }
    }

    fn blocked_cards(&mut self) {
        for _ in 0..self.dice.between(3, 9) {
            self.incidents += 1;
            let fingerprint = Subject(self.dice.name());
            // Some are blocked before the market opens, some while they are used.
            let known_at = self.dice.between(OPENS - 4 * HOUR, CLOSES);
            let mut at = known_at.max(OPENS) + self.dice.between(0, 2 * HOUR);
            let word = of_market(Fact::Block { is_on: true }, fingerprint, known_at, &mut self.dice);
            self.day.words.push((known_at, word));
            for _ in 0..self.dice.between(1, 5) {
                let (stall, amount) = (self.stall(), self.amount());
                self.pay(at, stall, fingerprint, amount, Some(Trick::BlockedCard));
                at += self.dice.between(MINUTE, 90 * MINUTE);
            }
        }
    }

    fn voids(&mut self) {
        for _ in 0..self.dice.between(2, 5) {
            self.incidents += 1;
            let stall = self.stall();
            let who = operator(stall, self.dice.between(0, 3));
            let latest = self.dice.between(3, 40);
            for _ in 0..self.dice.between(2, 10) {
                let at = self.dice.between(OPENS, CLOSES);
                let after_ms = self.dice.between(30_000, latest * MINUTE);
                let action = Action::Void { operator: who, amount: self.amount(), after_ms };
                self.event(at, Attempt { stall, device: device(stall), action }, Some(Trick::VoidAfterCash));
            }
        }
    }

    fn friends(&mut self) {
        for _ in 0..self.dice.between(2, 5) {
            self.incidents += 1;
            let stall = self.stall();
            let who = operator(stall, self.dice.between(0, 3));
            let most = self.dice.between(30, 95);
            for _ in 0..self.dice.between(2, 10) {
                let at = self.dice.between(OPENS, CLOSES);
                let catalog_price = self.dice.between(800, 6_000);
                let price = catalog_price * (100 - self.dice.between(15, most)) / 100;
                let action = Action::Override { operator: who, price, catalog_price };
                self.event(at, Attempt { stall, device: device(stall), action }, Some(Trick::FriendsPrice));
            }
        }
    }

    fn clones(&mut self) {
        for _ in 0..self.dice.between(1, 3) {
            self.incidents += 1;
            let stall = self.stall();
            let begins = self.dice.between(OPENS, CLOSES - 2 * HOUR);
            // Until somebody has seen both.
            let known_at = begins + self.dice.between(MINUTE, HOUR);
            let word = of_market(Fact::Clone, device(stall), known_at, &mut self.dice);
            self.day.words.push((known_at, word));
            for _ in 0..self.dice.between(5, 25) {
                let at = self.dice.between(begins, begins + 2 * HOUR);
                let (fingerprint, amount) = (Subject(self.dice.name()), self.amount());
                self.pay(at, stall, fingerprint, amount, Some(Trick::Clone));
            }
        }
    }

    fn clocks(&mut self) {
        for _ in 0..self.dice.between(1, 4) {
            self.incidents += 1;
            let stall = self.stall();
            let far = i64::try_from(self.dice.between(3, 90) * MINUTE).unwrap();
            let off_ms = if self.dice.percent(50) { far } else { -far };
            self.day.clocks.insert(stall, off_ms);
            // The hub notices now and then.
            let mut at = OPENS + self.dice.between(0, HOUR);
            while at < CLOSES {
                let word = of_market(Fact::Clock { off_ms }, device(stall), at, &mut self.dice);
                self.day.words.push((at, word));
                at += self.dice.between(20 * MINUTE, 3 * HOUR);
            }
            for event in self.day.events.iter_mut().filter(|event| event.attempt.stall == stall) {
                if event.trick.is_none() {
                    (event.trick, event.incident) = (Some(Trick::WrongClock), self.incidents);
                }
            }
        }
    }
}
