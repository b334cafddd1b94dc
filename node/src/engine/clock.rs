//! Trusted time: the newest hub checkpoint plus own monotonic time since. It decides only what this node itself does.

use super::Now;

/// How far the wall clock may lead after a restart, in milliseconds: a week in a drawer.
const FORWARD_MAX: u64 = 7 * 24 * 3_600_000;
/// How far the time that is kept for the next start may lag, in milliseconds.
const KEEP_EVERY_MS: u64 = 60_000;

/// A clock that never runs back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrustedClock {
    /// A trusted time and the monotonic moment at which it was so.
    anchor: Option<(u64, u64)>,
    /// What was kept last for the next start.
    kept: u64,
}

impl TrustedClock {
    /// After a start: `floor` is the newest trusted time that was kept, 0 for none. The wall clock counts only
    /// forward from it, within a bound.
    pub(crate) fn start(floor: u64, now: Now) -> Self {
        let anchor = (floor > 0).then(|| (now.wall_ms.clamp(floor, floor + FORWARD_MAX), now.monotonic_ms));
        TrustedClock { anchor, kept: floor }
    }

    /// A hub's checkpoint says that it is at least `time`.
    pub(crate) fn witness(&mut self, time: u64, now: Now) {
        if self.anchor.is_none() || time > self.time(now) {
            self.anchor = Some((time, now.monotonic_ms));
        }
    }

    /// Milliseconds since 1970. Before any checkpoint was ever seen: the wall clock.
    pub(crate) fn time(&self, now: Now) -> u64 {
        match self.anchor {
            Some((time, at)) => time + now.monotonic_ms.saturating_sub(at),
            None => now.wall_ms,
        }
    }

    /// The time that is to be kept now, so that a restart with a wrong clock can't turn it back; once a minute.
    pub(crate) fn due_to_keep(&mut self, now: Now) -> Option<u64> {
        let time = self.time(now);
        if self.anchor.is_none() || time <= self.kept + KEEP_EVERY_MS {
            return None;
        }
        self.kept = time;
        Some(time)
    }

    /// Whether a checkpoint stands behind it.
    pub(crate) fn is_anchored(&self) -> bool {
        self.anchor.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn after_a_restart_a_wall_clock_ten_years_off_moves_it_by_a_week_at_most() {
        let floor = 1_700_000_000_000;
        let ten_years = 10 * 365 * 24 * 3_600_000;
        assert_eq!(TrustedClock::start(floor, at(0, floor + ten_years)).time(at(0, 0)), floor + FORWARD_MAX);
        assert_eq!(TrustedClock::start(floor, at(0, floor - ten_years)).time(at(0, 0)), floor);
        assert_eq!(TrustedClock::start(floor, at(0, floor + 5)).time(at(0, 0)), floor + 5);
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
