//! Trusted time: the newest hub checkpoint plus own monotonic time since. It decides only what this node itself does.

use super::Now;
use stallmesh_protocol::planted::{self, Bug};

/// How far the wall clock may lead after a restart, in milliseconds: a week in a drawer.
const FORWARD_MAX: u64 = 7 * 24 * 3_600_000;
/// How far the time that is kept for the next start may lag, in milliseconds.
const KEEP_EVERY_MS: u64 = 60_000;

/// How far the device's clock may be off before its owner is told, in milliseconds.
const COMPLAIN_FROM: u64 = 5 * 60_000;

/// A clock that never runs back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrustedClock {
    /// A trusted time and the monotonic moment at which it was so.
    anchor: Option<(u64, u64)>,
    /// The same by checkpoints alone that came since the start: the anchor may be what a wrong wall clock said then.
    told: Option<(u64, u64)>,
    /// What was kept last for the next start.
    kept: u64,
}

impl TrustedClock {
    /// After a start: `floor` is the newest trusted time that was kept, 0 for none. The wall clock counts only
    /// forward from it, within a bound.
    pub(crate) fn start(floor: u64, now: Now) -> Self {
        let latest = floor.saturating_add(FORWARD_MAX);
        let anchor = (floor > 0).then(|| (now.wall_ms.clamp(floor, latest), now.monotonic_ms));
        TrustedClock { anchor, told: None, kept: floor }
    }

    /// A hub's checkpoint says that it is at least `time`.
    pub(crate) fn witness(&mut self, time: u64, now: Now) {
        if self.told.is_none_or(|told| time > since(told, now)) {
            self.told = Some((time, now.monotonic_ms));
        }
        if self.anchor.is_none() || time > self.time(now) {
            self.anchor = Some((time, now.monotonic_ms));
        }
    }

    /// Milliseconds since 1970. Before any checkpoint was ever seen: the wall clock.
    pub(crate) fn time(&self, now: Now) -> u64 {
        if planted::is_on(Bug::WallClock) {
            return now.wall_ms;
        }
        match self.anchor {
            Some(anchor) => since(anchor, now),
            None => now.wall_ms,
        }
    }

    /// The time that is to be kept now, so that a restart with a wrong clock can't turn it back; once a minute.
    pub(crate) fn due_to_keep(&mut self, now: Now) -> Option<u64> {
        let time = self.time(now);
        if self.anchor.is_none() || time <= self.kept.saturating_add(KEEP_EVERY_MS) {
            return None;
        }
        self.kept = time;
        Some(time)
    }

    /// What to tell the owner of a device whose own clock is off; nothing before a checkpoint was seen.
    pub(crate) fn complaint(&self, now: Now) -> Option<String> {
        self.anchor?;
        let time = self.time(now);
        let told = self.told.map_or(time, |told| since(told, now));
        let lead = time.saturating_sub(told);
        if lead >= COMPLAIN_FROM && now.wall_ms.abs_diff(told) < COMPLAIN_FROM {
            return Some(format!(
                "this device was started while its clock was {} ahead, and a device's time never runs back: for so long \
                 it may take certificates for expired, and grant and publish nothing. Its clock has been put right: leave it",
                rough(lead)
            ));
        }
        let off = now.wall_ms.abs_diff(time);
        (off >= COMPLAIN_FROM).then(|| {
            let side = if now.wall_ms > time { "ahead of" } else { "behind" };
            let off = rough(off);
            format!("this device's clock is {off} {side} the market's, which counts for its sales: set the clock")
        })
    }

    /// Whether a checkpoint stands behind it.
    pub(crate) fn is_anchored(&self) -> bool {
        self.anchor.is_some()
    }
}

/// The time that an anchor gives now. A hub may say anything; it must not be able to stop every node by a number.
fn since((time, at): (u64, u64), now: Now) -> u64 {
    time.saturating_add(now.monotonic_ms.saturating_sub(at))
}

/// A span in the largest unit of which it has two.
fn rough(milliseconds: u64) -> String {
    let minutes = milliseconds / 60_000;
    let units = [("years", 525_960), ("days", 1_440), ("hours", 60), ("minutes", 1)];
    let (unit, length) = units.into_iter().find(|(_, length)| minutes >= 2 * length).unwrap_or(("minutes", 1));
    format!("{} {unit}", minutes / length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_clock_that_is_off_is_complained_about_in_words_that_people_use() {
        let mut clock = TrustedClock::start(0, at(0, 0));
        assert_eq!(clock.complaint(at(0, 10 * 365 * 86_400_000)), None, "nobody has said what time it is");
        let market = 1_700_000_000_000;
        clock.witness(market, at(0, 0));
        assert_eq!(clock.complaint(at(0, market + 60_000)), None);
        for (wall, expected) in [
            (market + 10 * 365 * 86_400_000, "9 years ahead of"),
            (market - 400 * 86_400_000, "400 days behind"),
            (market + 7 * 60_000, "7 minutes ahead of"),
        ] {
            let complaint = clock.complaint(at(0, wall)).unwrap();
            assert!(complaint.contains(expected), "{complaint}");
        }
    }

    #[test]
    fn who_was_started_with_a_wrong_clock_and_has_put_it_right_isnt_told_to_set_it() {
        let market = 1_700_000_000_000;
        let days = 86_400_000;
        let mut clock = TrustedClock::start(market, at(0, market + 4 * days));
        clock.witness(market, at(1_000, 0));
        let complaint = clock.complaint(at(2_000, market + 1_000)).unwrap();
        assert!(complaint.contains("was 4 days ahead") && !complaint.contains("set the clock"), "{complaint}");
        // With a clock that is off still, it is.
        assert!(clock.complaint(at(2_000, market - days)).unwrap().contains("set the clock"));
        clock.witness(market + 5 * days, at(3_000, 0));
        assert_eq!(clock.complaint(at(3_000, market + 5 * days)), None);
    }

    fn at(monotonic_ms: u64, wall_ms: u64) -> Now {
        Now { monotonic_ms, wall_ms }
    }

    #[test]
    fn after_a_checkpoint_the_wall_clock_has_no_say() {
        let mut clock = TrustedClock::start(0, at(0, 999_999_999));
        assert_eq!(clock.time(at(5, 1_000_000_004)), 1_000_000_004);
        clock.witness(5_000, at(10, 0));
        assert_eq!(clock.time(at(110, 77)), 5_100);
        clock.witness(4_000, at(120, 0));
        assert_eq!(clock.time(at(120, 0)), 5_110, "an older checkpoint moves nothing");
    }

    #[test]
    fn adv_066_after_a_restart_a_wall_clock_ten_years_off_moves_it_by_a_week_at_most() {
        let floor = 1_700_000_000_000;
        let ten_years = 10 * 365 * 24 * 3_600_000;
        assert_eq!(TrustedClock::start(floor, at(0, floor + ten_years)).time(at(0, 0)), floor + FORWARD_MAX);
        assert_eq!(TrustedClock::start(floor, at(0, floor - ten_years)).time(at(0, 0)), floor);
        assert_eq!(TrustedClock::start(floor, at(0, floor + 5)).time(at(0, 0)), floor + 5);
    }

    #[test]
    fn adv_073_a_time_at_the_end_of_all_numbers_stops_no_clock() {
        for time in [u64::MAX, u64::MAX - 1] {
            let mut clock = TrustedClock::start(0, at(0, 5));
            clock.witness(time, at(0, 5));
            assert_eq!(clock.time(at(10_000, 5)), u64::MAX);
            assert!(clock.due_to_keep(at(20_000, 5)).is_some());
            assert!(clock.due_to_keep(at(200_000, 5)).is_none());
            assert!(TrustedClock::start(time, at(0, 5)).time(at(10_000, 5)) >= time);
        }
    }

    #[test]
    fn time_is_kept_once_a_minute_also_while_no_checkpoint_comes() {
        let mut clock = TrustedClock::start(0, at(0, 999_999_999));
        assert_eq!(clock.due_to_keep(at(120_000, 0)), None, "the device's own word is not worth keeping");
        clock.witness(500_000, at(120_000, 0));
        assert_eq!(clock.due_to_keep(at(120_000, 0)), Some(500_000));
        assert_eq!(clock.due_to_keep(at(180_000, 0)), None);
        assert_eq!(clock.due_to_keep(at(180_001, 0)), Some(560_001));
    }
}
