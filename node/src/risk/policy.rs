//! The policy, and what it comes to.

use stallmesh_protocol::money::{self, AMOUNT_MAX};

use super::files::{Bearer, LimitFile, LimitsFile, PolicyFile, StallFile};
use super::{Attempt, Exposure, Limit, Reason, Verdict};
use crate::fraud::problem::{FileProblem, read};
use crate::fraud::{Answer, words};

const MARKET: &str = "risk policy";
const STALL: &str = "risk limits";
const MINUTE_MS: u64 = 60_000;
/// A year: what waits longer is no longer a matter of limits.
const MINUTES_MAX: u64 = 366 * 24 * 60;
/// Longer than a customer waits.
const AUTHORISE_WITHIN_MAX_MS: u64 = 20_000;

/// The market's policy, narrowed by a stall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    currency: String,
    market: LimitsFile,
    limits: LimitsFile,
    borne_by: Bearer,
    asked_borne_by: Bearer,
}

impl Policy {
    /// Reads the market's policy from JSON, and what the stall narrows it by.
    ///
    /// # Errors
    /// One of them isn't JSON of its shape, or says what can't be: with the field and the line.
    pub fn read(market: &str, stall: Option<&str>, currency: &str) -> Result<Self, FileProblem> {
        let market_file: PolicyFile = read(MARKET, market)?;
        let stall_file: StallFile = stall.map(|text| read(STALL, text)).transpose()?.unwrap_or_default();
        Policy::new(&market_file, &stall_file, currency).map_err(|problem| {
            let text = if problem.file == STALL { stall.unwrap_or_default() } else { market };
            problem.in_text(text)
        })
    }

    /// The narrower of the market's policy and the stall's limits.
    ///
    /// # Errors
    /// One of them says what can't be: with the field.
    pub fn new(market: &PolicyFile, stall: &StallFile, currency: &str) -> Result<Self, FileProblem> {
        if money::exponent(currency).is_err() {
            return Err(FileProblem::new(MARKET, "", format!("`{currency}` is no currency in use")));
        }
        check(MARKET, &market.limits)?;
        if market.authorise_within_ms > AUTHORISE_WITHIN_MAX_MS {
            let detail = format!("at most {AUTHORISE_WITHIN_MAX_MS}: nobody waits longer for a card");
            return Err(FileProblem::new(MARKET, "authorise_within_ms", detail));
        }
        check(STALL, &stall.limits)?;
        Ok(Policy {
            currency: currency.to_owned(),
            market: market.limits,
            limits: market.limits.narrowed(&stall.limits),
            borne_by: market.borne_by,
            asked_borne_by: market.asked_borne_by.unwrap_or(market.borne_by),
        })
    }

    /// The policy that holds as long as a hub has published none.
    ///
    /// # Errors
    /// No currency in use.
    pub fn default_for(currency: &str) -> Result<Self, FileProblem> {
        Policy::read(super::DEFAULT_POLICY, None, currency)
    }

    /// The limits that hold.
    pub fn limits(&self) -> &LimitsFile {
        &self.limits
    }

    #[cfg(test)]
    pub(super) fn set_limits(&mut self, limits: LimitsFile) {
        self.limits = limits;
    }

    /// What becomes of a card payment while the hub is out of reach. `now_ms` is market time.
    pub fn judge(&self, exposure: &Exposure, attempt: &Attempt, now_ms: u64) -> Verdict {
        let found = Found::new(exposure, attempt, now_ms);
        let reasons: Vec<Reason> = found
            .each(&self.limits)
            .into_iter()
            .filter_map(|(limit, file, found)| self.reason(limit, file, found))
            .collect();
        let is_above = |(_, file, found): (Limit, LimitFile, Option<u64>)| {
            let (answer, _) = passed(&file, found?)?;
            Some(answer)
        };
        let by_market = found.each(&self.market).into_iter().filter_map(is_above).max().unwrap_or(Answer::Approve);
        let answer = reasons.iter().map(|reason| reason.answer).max().unwrap_or(Answer::Approve);
        let borne_by = if by_market == Answer::Approve { self.borne_by } else { self.asked_borne_by };
        Verdict { answer, reasons, borne_by }
    }

    fn reason(&self, limit: Limit, file: LimitFile, found: Option<u64>) -> Option<Reason> {
        let found = found?;
        let (answer, up_to) = passed(&file, found)?;
        let amount = |minor| words::amount(minor, &self.currency);
        let (is, up_to_said) = match limit {
            Limit::Payment => (format!("this payment is {}", amount(found)), amount(up_to)),
            Limit::CardSum => (format!("{} of this card would not be captured yet", amount(found)), amount(up_to)),
            Limit::StallSum => (format!("{} of this stall would not be captured yet", amount(found)), amount(up_to)),
            Limit::StallCount => (format!("{found} card payments would wait"), up_to.to_string()),
            Limit::Oldest => {
                let up_to = words::duration(up_to);
                (format!("the oldest card payment has waited for more than {up_to}"), up_to)
            }
        };
        let sentence = match answer {
            Answer::Decline => format!("{is}; without the hub, up to {up_to_said} is taken"),
            _ => format!("{is}; without the hub, up to {up_to_said} is taken unasked"),
        };
        Some(Reason { limit, answer, sentence, found, up_to })
    }
}

/// What each limit is compared with; `None` where it says nothing.
struct Found {
    payment: u64,
    card_sum: Option<u64>,
    stall_sum: u64,
    stall_count: u64,
    oldest_ms: Option<u64>,
}

impl Found {
    fn new(exposure: &Exposure, attempt: &Attempt, now_ms: u64) -> Self {
        let stall = exposure.status(&attempt.stall, now_ms);
        let card = attempt.fingerprint.map(|card| exposure.card_sum(&card).saturating_add(attempt.amount));
        Found {
            payment: attempt.amount,
            card_sum: card,
            stall_sum: stall.sum.saturating_add(attempt.amount),
            stall_count: stall.payments.saturating_add(1),
            oldest_ms: stall.oldest_ms,
        }
    }

    fn each(&self, limits: &LimitsFile) -> [(Limit, LimitFile, Option<u64>); 5] {
        let ms = |minutes: Option<u64>| minutes.map(|minutes| minutes.saturating_mul(MINUTE_MS));
        let oldest = LimitFile {
            ask_above: ms(limits.oldest_minutes.ask_above),
            decline_above: ms(limits.oldest_minutes.decline_above),
        };
        [
            (Limit::Payment, limits.payment, Some(self.payment)),
            (Limit::CardSum, limits.card_sum, self.card_sum),
            (Limit::StallSum, limits.stall_sum, Some(self.stall_sum)),
            (Limit::StallCount, limits.stall_count, Some(self.stall_count)),
            (Limit::Oldest, oldest, self.oldest_ms),
        ]
    }
}

/// What passing it comes to, and up to where it would not have been passed.
fn passed(file: &LimitFile, found: u64) -> Option<(Answer, u64)> {
    match (file.decline_above, file.ask_above) {
        (Some(above), _) if found > above => Some((Answer::Decline, above)),
        (_, Some(above)) if found > above => Some((Answer::Ask, above)),
        _ => None,
    }
}

fn check(file: &'static str, limits: &LimitsFile) -> Result<(), FileProblem> {
    let all = [
        ("payment", limits.payment, AMOUNT_MAX),
        ("card_sum", limits.card_sum, AMOUNT_MAX),
        ("stall_sum", limits.stall_sum, AMOUNT_MAX),
        ("stall_count", limits.stall_count, u64::from(u32::MAX)),
        ("oldest_minutes", limits.oldest_minutes, MINUTES_MAX),
    ];
    for (name, limit, most) in all {
        for (step, number) in [("ask_above", limit.ask_above), ("decline_above", limit.decline_above)] {
            if number.is_some_and(|number| number > most) {
                return Err(FileProblem::new(file, format!("limits.{name}.{step}"), format!("more than {most}")));
            }
        }
        if limit.ask_above.zip(limit.decline_above).is_some_and(|(ask, decline)| ask >= decline) {
            let detail = "not below `decline_above`: nobody would ever be asked";
            return Err(FileProblem::new(file, format!("limits.{name}.ask_above"), detail));
        }
    }
    Ok(())
}
