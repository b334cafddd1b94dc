//! Reading a file: its shape, or the place at which it has none.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Problem, Source};

/// Reads one of the shapes of [`super::files`] from JSON.
///
/// # Errors
/// It isn't JSON, or not of this shape: with the field and the line.
pub fn read<T: DeserializeOwned>(source: Source, text: &str) -> Result<T, Problem> {
    // A mark that some editors put first.
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut reader);
    let failed = |field: String, error: &serde_json::Error| {
        let detail = error.to_string();
        // The place is said apart.
        let detail = detail.rsplit_once(" at line ").map_or(detail.as_str(), |(detail, _)| detail);
        let mut problem = match out_of_range(error) {
            true => Problem::range(source, field, detail),
            false => Problem::invalid(source, field, detail),
        };
        problem.line = (error.line() > 0).then(|| error.line());
        problem
    };
    let value = read.map_err(|error| {
        let field = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        failed(field, error.inner())
    })?;
    reader.end().map_err(|error| failed(String::new(), &error))?;
    Ok(value)
}

/// The one form of a shape as a text, for what is signed: members by their names, ascending; no white space; no member
/// that is null or an empty list, but under `x`.
pub fn canonical<T: Serialize>(value: &T) -> String {
    fn lean(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|name, value| {
                    let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
                    name == "x" || !is_empty
                });
                members.sort_keys();
                members.iter_mut().filter(|(name, _)| *name != "x").for_each(|(_, value)| lean(value));
            }
            Value::Array(items) => items.iter_mut().for_each(lean),
            _ => {}
        }
    }
    // Nothing of these shapes can't be written: their maps have texts for keys.
    let mut value = serde_json::to_value(value).unwrap_or_default();
    lean(&mut value);
    value.to_string()
}

/// Whether it is about a number that is too large: beyond 64 bits the reader takes it for a floating one, and says so.
fn out_of_range(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    let quoted = text.split('`').nth(1).and_then(|number| number.parse::<f64>().ok());
    text.contains("number out of range")
        || (text.contains("floating point") && quoted.is_some_and(|number| number >= i64::MAX as f64))
}

impl Problem {
    /// Says on which line of the text its field stands.
    #[must_use]
    pub fn in_text(mut self, text: &str) -> Problem {
        if self.line.is_none() && !self.field.is_empty() {
            self.line = line_of(text.trim_start_matches('\u{feff}'), &self.field);
        }
        self
    }
}

/// The line on which the value at a path begins, or the nearest object around it that is there.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let mut here: &RawValue = serde_json::from_str(text).ok()?;
    for segment in path.replace('[', ".[").split('.').filter(|segment| !segment.is_empty()) {
        let next = match segment.strip_prefix('[').and_then(|index| index.strip_suffix(']')) {
            Some(index) => {
                let list: Vec<&RawValue> = serde_json::from_str(here.get()).ok()?;
                index.parse::<usize>().ok().and_then(|index| list.get(index).copied())
            }
            None => {
                let fields: BTreeMap<String, &RawValue> = serde_json::from_str(here.get()).ok()?;
                fields.get(segment).copied()
            }
        };
        let Some(next) = next else { break };
        here = next;
    }
    // Both are parts of one text.
    let offset = (here.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    Some(text.get(..offset)?.bytes().filter(|byte| *byte == b'\n').count() + 1)
}
