//! Samples and rows: what was measured, beside its baseline and its target.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// Repetitions of one thing, in one unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn add_micros(&mut self, took: Duration) {
        self.add(took.as_secs_f64() * 1e6);
    }

    pub(crate) fn add_millis(&mut self, took: Duration) {
        self.add(took.as_secs_f64() * 1e3);
    }

    pub(crate) fn extend(&mut self, other: Sample) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that this share of all is not above (nearest rank); 0 for no sample.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    fn range(&self) -> (f64, f64) {
        (self.quantile(0.0), self.quantile(1.0))
    }
}

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Not above; of the ratio where there is a baseline.
    AtMost(f64),
    /// Not below; of the value itself.
    AtLeast(f64),
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    range: Option<(f64, f64)>,
    baseline: Option<(String, f64)>,
    target: Option<Target>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Row { name: name.into(), value, unit, range: None, baseline: None, target: None }
    }

    /// The median of a sample, and from where to where it goes.
    pub(crate) fn median(name: impl Into<String>, sample: &Sample, unit: &'static str) -> Self {
        Row { range: Some(sample.range()), ..Row::new(name, sample.median(), unit) }
    }

    /// The 99th percentile of a sample.
    pub(crate) fn p99(name: impl Into<String>, sample: &Sample, unit: &'static str) -> Self {
        Row { range: Some(sample.range()), ..Row::new(name, sample.p99(), unit) }
    }

    /// What the same run measured of something that everybody knows, in the same unit.
    pub(crate) fn beside(mut self, what: impl Into<String>, value: f64) -> Self {
        self.baseline = Some((what.into(), value));
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline.as_ref().filter(|(_, value)| *value > 0.0).map(|(_, value)| self.value / value)
    }

    fn reached(&self) -> Option<bool> {
        match self.target? {
            Target::AtMost(most) => Some(self.ratio().unwrap_or(self.value) <= most),
            Target::AtLeast(least) => Some(self.value >= least),
        }
    }

    fn json(&self) -> Value {
        let mut row = Map::new();
        row.insert("name".into(), json!(self.name));
        row.insert("value".into(), json!(rounded(self.value)));
        row.insert("unit".into(), json!(self.unit));
        if let Some((min, max)) = self.range {
            row.insert("min".into(), json!(rounded(min)));
            row.insert("max".into(), json!(rounded(max)));
        }
        if let Some((what, value)) = &self.baseline {
            row.insert("baseline".into(), json!({ "name": what, "value": rounded(*value) }));
            row.insert("ratio".into(), json!(self.ratio().map(rounded)));
        }
        if let Some(target) = self.target {
            let (bound, value) = match target {
                Target::AtMost(most) => ("at_most", most),
                Target::AtLeast(least) => ("at_least", least),
            };
            row.insert("target".into(), json!({ bound: value, "of": if self.of_ratio() { "ratio" } else { "value" } }));
            row.insert("reached".into(), json!(self.reached()));
        }
        Value::Object(row)
    }

    fn of_ratio(&self) -> bool {
        matches!(self.target, Some(Target::AtMost(_))) && self.baseline.is_some()
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A number as people read it.
fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000_000.0 => format!("{:.2}M", value / 1e6),
        large if large >= 10_000.0 => format!("{:.0}k", value / 1e3),
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Everything that a run has measured.
pub(crate) struct Report {
    machine: Value,
    quick: bool,
    measurements: Vec<(String, Vec<Row>)>,
}

impl Report {
    pub(crate) fn new(machine: Value, quick: bool) -> Self {
        Report { machine, quick, measurements: Vec::new() }
    }

    pub(crate) fn begin(&mut self, name: &str) {
        self.measurements.push((name.to_owned(), Vec::new()));
    }

    pub(crate) fn row(&mut self, row: Row) {
        if let Some((_, rows)) = self.measurements.last_mut() {
            rows.push(row);
        }
    }

    /// The machine in one line.
    pub(crate) fn machine(&self) -> String {
        let parts: Vec<String> = self
            .machine
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        parts.join(" · ")
    }

    /// The newest measurement's table.
    pub(crate) fn print(&self) {
        let Some((_, rows)) = self.measurements.last() else { return };
        println!("{:<58} {:>9} {:<10} {:>17}  {:>26} {:>6}  target", "", "", "", "min..max", "beside", "ratio");
        for row in rows {
            let range = row.range.map_or_else(String::new, |(min, max)| format!("{}..{}", shown(min), shown(max)));
            let baseline =
                row.baseline.as_ref().map_or_else(String::new, |(what, value)| format!("{} {}", what, shown(*value)));
            let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let target = row.target.map_or_else(String::new, |target| {
                let bound = match target {
                    Target::AtMost(most) => format!("≤ {}", shown(most)),
                    Target::AtLeast(least) => format!("≥ {}", shown(least)),
                };
                format!("{bound}{}", if row.reached() == Some(true) { "" } else { "  MISSED" })
            });
            println!(
                "{:<58} {:>9} {:<10} {range:>17}  {baseline:>26} {ratio:>6}  {target}",
                row.name,
                shown(row.value),
                row.unit
            );
        }
    }

    pub(crate) fn json(&self) -> Value {
        let measurements: Map<String, Value> =
            self.measurements.iter().map(|(name, rows)| (name.clone(), rows.iter().map(Row::json).collect())).collect();
        json!({ "machine": self.machine, "quick": self.quick, "measurements": measurements })
    }
}
