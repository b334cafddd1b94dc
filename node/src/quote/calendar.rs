//! Moments, and the market's wall clock.

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone as Zone;

use super::files::HoursFile;
use super::{Problem, Source};

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// The names of days in files, from Monday on.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A moment, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    text: String,
    instant: Timestamp,
}

impl Moment {
    /// Reads a time of RFC 3339 with an offset.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &str) -> Result<Self, Problem> {
        let wrong = || {
            let detail = format!("`{text}` is no time of RFC 3339 with an offset, like 2026-06-06T10:00:00+02:00");
            Problem::invalid(Source::At, "", detail)
        };
        // The library reads more than RFC 3339 knows.
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"-+:.TtZz".contains(&byte)) && text.len() >= 20;
        let instant = plain.then(|| text.parse().ok()).flatten().ok_or_else(wrong)?;
        Ok(Moment { text: text.to_owned(), instant })
    }

    /// A moment that a clock gave, in milliseconds since 1970, as the market's clocks show it.
    pub fn of_clock(milliseconds: u64, zone: &TimeZone) -> Self {
        let milliseconds = i64::try_from(milliseconds).unwrap_or(i64::MAX);
        let instant = Timestamp::from_millisecond(milliseconds / 1_000 * 1_000).unwrap_or(Timestamp::MAX);
        let text = instant.display_with_offset(zone.0.to_offset(instant)).to_string();
        Moment { text, instant }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn instant(&self) -> Timestamp {
        self.instant
    }
}

/// A day by the clocks of a time zone (IANA), as milliseconds since 1970: its first, and the first of the day after it.
/// `None` where either isn't one. Without a date it is the day of a moment.
pub fn day(zone: &str, date: Option<&str>, now: u64) -> Option<(String, u64, u64)> {
    let zone = TimeZone::read(zone).ok()?.0;
    let date: Date = match date {
        Some(date) => date.parse().ok().filter(|_| date.len() == 10)?,
        None => Timestamp::from_millisecond(i64::try_from(now).ok()?).ok()?.to_zoned(zone.clone()).date(),
    };
    let begins = |date: Date| {
        let midnight = date.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond();
        u64::try_from(midnight).ok()
    };
    Some((date.to_string(), begins(date)?, begins(date.tomorrow().ok()?)?))
}

/// Where a market is, for hours and days.
#[derive(Clone, Debug)]
pub struct TimeZone(Zone);

impl TimeZone {
    pub(super) fn read(name: &str) -> Result<Self, Problem> {
        let found = match name {
            "UTC" => Ok(Zone::UTC),
            name => Zone::get(name),
        };
        found.map(TimeZone).map_err(|_| {
            Problem::invalid(
                Source::Catalog,
                "time_zone",
                format!("no time zone is called `{name}` (IANA: Europe/Paris)"),
            )
        })
    }

    /// What the market's clocks show.
    pub(super) fn clock(&self, at: Timestamp) -> WallClock {
        let local = at.to_zoned(self.0.clone()).datetime();
        let time = local.time();
        let minute = time.hour().unsigned_abs() as u16 * 60 + time.minute().unsigned_abs() as u16;
        WallClock { day: day_of(local.weekday()), minute }
    }
}

fn day_of(weekday: Weekday) -> u8 {
    weekday.to_monday_zero_offset().unsigned_abs()
}

/// A day of the week, 0: Monday, and the minute of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WallClock {
    day: u8,
    minute: u16,
}

/// A span of some days. Past midnight it belongs to the day on which it began.
#[derive(Clone, Debug)]
pub(super) struct Hours {
    /// A bit for each day, from Monday on.
    days: u8,
    from: u16,
    to: u16,
}

impl Hours {
    pub(super) fn read(file: &HoursFile, field: &str) -> Result<Self, Problem> {
        let mut days = 0;
        for (index, name) in file.days.iter().enumerate() {
            let day = DAYS.iter().position(|day| day == name).ok_or_else(|| {
                let detail = format!("`{name}` is no day: mon, tue, wed, thu, fri, sat or sun");
                Problem::invalid(Source::Promotions, format!("{field}.days[{index}]"), detail)
            })?;
            days |= 1 << day;
        }
        let time = |text: &str, name: &str| {
            let wrong = || {
                Problem::invalid(
                    Source::Promotions,
                    format!("{field}.{name}"),
                    format!("`{text}` is no time like 16:00"),
                )
            };
            let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
            let part = |part: &str, below: u16| {
                let plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
                plain.then(|| part.parse::<u16>().ok()).flatten().filter(|part| *part < below).ok_or_else(wrong)
            };
            Ok(part(hour, 24)? * 60 + part(minute, 60)?)
        };
        let (from, to) = (time(&file.from, "from")?, time(&file.to, "to")?);
        if from == to {
            let detail = "`from` and `to` are the same: leave hours out for the whole day";
            return Err(Problem::invalid(Source::Promotions, field, detail));
        }
        Ok(Hours { days: if days == 0 { 0x7f } else { days }, from, to: if to == 0 { DAY } else { to } })
    }

    pub(super) fn contains(&self, clock: WallClock) -> bool {
        let on = |day: u8| self.days & (1 << day) != 0;
        if self.from < self.to {
            return on(clock.day) && (self.from..self.to).contains(&clock.minute);
        }
        (on(clock.day) && clock.minute >= self.from) || (on((clock.day + 6) % 7) && clock.minute < self.to)
    }
}
