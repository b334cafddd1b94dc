//! What the rules noticed, and what they cried wolf about.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_node::fraud::{Answer, Assessment};

use super::traffic::{Event, Trick};

/// What was counted of one kind of trick.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Events of such a trick.
    pub planted: u64,
    /// Of which a rule for it asked or declined.
    pub noticed: u64,
    /// Thieves, each with all its events.
    pub incidents: BTreeSet<(u64, u64)>,
    /// Of which one event at least was noticed.
    pub caught: BTreeSet<(u64, u64)>,
    /// Honest events about which a rule for this trick asked.
    pub wolf: u64,
}

/// What was counted on days.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// All events.
    pub events: u64,
    /// Of which no trick; those where only the clock is off are among them.
    pub honest: u64,
    /// Honest events that were asked about or declined.
    pub wolf: u64,
    /// Of which declined.
    pub wolf_declined: u64,
    /// By kind.
    pub kinds: BTreeMap<Trick, Counts>,
    day: u64,
}

/// For which trick a rule is.
fn trick_of(rule: &str) -> Option<Trick> {
    Some(match rule {
        "card-blocked" => Trick::BlockedCard,
        "void-after-cash" => Trick::VoidAfterCash,
        "price-override" => Trick::FriendsPrice,
        "clone" => Trick::Clone,
        "clock-off" => Trick::WrongClock,
        rule if rule.starts_with("card-") => Trick::StolenCard,
        _ => return None,
    })
}

impl Tally {
    pub(super) fn count(&mut self, event: &Event, found: &Assessment) {
        let alarms = found.reasons.iter().filter(|reason| reason.answer != Answer::Approve);
        let alarms: BTreeSet<Trick> = alarms.filter_map(|reason| trick_of(&reason.rule)).collect();
        self.events += 1;
        // Who buys where the clock is off is honest: to ask about anything but the clock is to cry wolf.
        if matches!(event.trick, None | Some(Trick::WrongClock)) {
            let wrong: Vec<Trick> = alarms.iter().filter(|alarm| event.trick != Some(**alarm)).copied().collect();
            self.honest += 1;
            self.wolf += u64::from(!wrong.is_empty());
            self.wolf_declined += u64::from(!wrong.is_empty() && found.answer == Answer::Decline);
            for trick in wrong {
                self.kinds.entry(trick).or_default().wolf += 1;
            }
        }
        let Some(trick) = event.trick else { return };
        let counts = self.kinds.entry(trick).or_default();
        let incident = (self.day, event.incident);
        counts.planted += 1;
        counts.incidents.insert(incident);
        // Only a rule that is meant for it has understood it.
        if alarms.contains(&trick) {
            counts.noticed += 1;
            counts.caught.insert(incident);
        }
    }

    /// Adds another day.
    pub fn add(&mut self, other: &Tally, day: u64) {
        self.events += other.events;
        self.honest += other.honest;
        self.wolf += other.wolf;
        self.wolf_declined += other.wolf_declined;
        for (trick, counts) in &other.kinds {
            let own = self.kinds.entry(*trick).or_default();
            own.planted += counts.planted;
            own.noticed += counts.noticed;
            own.wolf += counts.wolf;
            own.incidents.extend(counts.incidents.iter().map(|(_, incident)| (day, *incident)));
            own.caught.extend(counts.caught.iter().map(|(_, incident)| (day, *incident)));
        }
    }

    /// So many of so many, as a share of a hundred with one decimal.
    pub fn share(part: u64, of: u64) -> String {
        match of {
            0 => "-".to_owned(),
            _ => format!("{:.1} %", part as f64 * 100.0 / of as f64),
        }
    }

    /// False alarms per 1,000 honest events.
    pub fn per_thousand(&self, wolf: u64) -> f64 {
        wolf as f64 * 1_000.0 / self.honest.max(1) as f64
    }

    /// All as a table.
    pub fn table(&self) -> String {
        let mut lines = vec![format!(
            "{:<34} {:>8} {:>9} {:>9} {:>9} {:>12}",
            "", "events", "recall", "incidents", "precision", "wolf/1,000"
        )];
        for trick in Trick::ALL {
            let counts = self.kinds.get(&trick).cloned().unwrap_or_default();
            lines.push(format!(
                "{:<34} {:>8} {:>9} {:>9} {:>9} {:>12.2}",
                trick.words(),
                counts.planted,
                Tally::share(counts.noticed, counts.planted),
                Tally::share(counts.caught.len() as u64, counts.incidents.len() as u64),
                Tally::share(counts.noticed, counts.noticed + counts.wolf),
                self.per_thousand(counts.wolf),
            ));
        }
        let sum = |of: fn(&Counts) -> u64| self.kinds.values().map(of).sum::<u64>();
        let (planted, noticed) = (sum(|counts| counts.planted), sum(|counts| counts.noticed));
        let caught = sum(|counts| counts.caught.len() as u64);
        let incidents = sum(|counts| counts.incidents.len() as u64);
        lines.push(format!(
            "{:<34} {:>8} {:>9} {:>9} {:>9} {:>12.2}",
            "all",
            planted,
            Tally::share(noticed, planted),
            Tally::share(caught, incidents),
            Tally::share(noticed, noticed + self.wolf),
            self.per_thousand(self.wolf),
        ));
        lines.push(format!(
            "{} events, {} honest; honest and asked: {}, honest and declined: {}",
            self.events,
            self.honest,
            self.wolf - self.wolf_declined,
            self.wolf_declined
        ));
        lines.join("\n")
    }
}
