//! Sentences with numbers in them.

use stallmesh_protocol::money;

/// What a template may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// How many there are, with this one.
    Count,
    /// What they come to, with this one.
    Sum,
    /// The threshold, as a number or an amount.
    Usual,
    /// In how long.
    Window,
    /// Who says so.
    Who,
    /// How far below the catalog's price this one is.
    Percent,
    /// How long after it was paid this one is voided.
    After,
    /// How far a clock is off.
    Off,
}

impl Slot {
    const ALL: [(&'static str, Slot); 8] = [
        ("count", Slot::Count),
        ("sum", Slot::Sum),
        ("usual", Slot::Usual),
        ("window", Slot::Window),
        ("who", Slot::Who),
        ("percent", Slot::Percent),
        ("after", Slot::After),
        ("off", Slot::Off),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, slot)| *slot == self).map_or("", |(word, _)| word)
    }
}

/// A sentence with places for numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    /// Text, and what follows it.
    parts: Vec<(String, Option<Slot>)>,
}

impl Template {
    /// Reads a template in which these may be named.
    pub(super) fn read(text: &str, allowed: &[Slot]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (word, behind) = after.split_once('}').ok_or("a `{` has no `}`")?;
            let slot = Slot::ALL.iter().find(|(known, _)| *known == word).map(|(_, slot)| *slot);
            let slot = slot.filter(|slot| allowed.contains(slot)).ok_or_else(|| {
                let words: Vec<String> = allowed.iter().map(|slot| format!("{{{}}}", slot.word())).collect();
                format!("`{{{word}}}` is nothing that this rule knows; it knows {}", words.join(", "))
            })?;
            parts.push((plain(before)?, Some(slot)));
            rest = behind;
        }
        parts.push((plain(rest)?, None));
        Ok(Template { parts })
    }

    pub(super) fn fill(&self, mut push: impl FnMut(&mut String, Slot)) -> String {
        let mut sentence = String::with_capacity(96);
        for (text, slot) in &self.parts {
            sentence.push_str(text);
            if let Some(slot) = slot {
                push(&mut sentence, *slot);
            }
        }
        sentence
    }
}

fn plain(text: &str) -> Result<String, String> {
    if text.contains('}') {
        return Err("a `}` has no `{`".to_owned());
    }
    Ok(text.to_owned())
}

/// An amount with its currency's decimals, and the currency: `35.98 EUR`.
pub(crate) fn amount(minor: u64, currency: &str) -> String {
    format!("{} {currency}", plain_amount(minor, currency))
}

/// The same without the currency.
pub(crate) fn plain_amount(minor: u64, currency: &str) -> String {
    let decimals = money::exponent(currency).unwrap_or(2);
    match decimals {
        0 => minor.to_string(),
        _ => {
            let one = 10_u64.pow(decimals);
            format!("{}.{:0width$}", minor / one, minor % one, width = decimals as usize)
        }
    }
}

/// A time as people say it, rounded down: `45 seconds`, `10 minutes`, `26 hours`, `3 days`.
pub(crate) fn duration(ms: u64) -> String {
    let minutes = ms / 60_000;
    let (number, unit) = match minutes {
        0 => (ms / 1_000, "second"),
        1..60 | 61..120 => (minutes, "minute"),
        60 | 120..=1_439 | 1_441..2_880 => (minutes / 60, "hour"),
        _ => (minutes / 1_440, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}
