//! `stallmesh condition`: what is so now, for promotions that ask for it.
#![allow(clippy::print_stdout, reason = "this is where the program speaks")]

use std::path::Path;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::CliError;
use super::client::ask;
use super::commands::{done, list, show};
use super::view::{table, text};
use crate::date::utc_minute;

#[derive(Debug, Subcommand)]
pub(crate) enum ConditionCommand {
    /// Say what is so now: for the market on a hub, for the stall on its devices.
    #[command(after_help = "Example:\n  stallmesh condition set rain_mm=3.2 queue=14 --for 30m")]
    Set {
        /// Each as name=value; a value is a decimal or a word.
        #[arg(required = true, value_name = "NAME=VALUE")]
        conditions: Vec<String>,
        /// How long it holds: 90s, 30m, 2h; a day at most.
        #[arg(long = "for", value_name = "TIME", default_value = "30m", value_parser = duration)]
        hold: u64,
    },
    /// What is so now, here.
    List,
}

/// Milliseconds of a time like 90s, 30m or 2h.
pub(super) fn duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no time like 90s, 30m or 2h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let milliseconds = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        _ => return Err(wrong()),
    };
    let number = text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok()).ok_or_else(wrong)?;
    number.checked_mul(milliseconds).ok_or_else(wrong)
}

pub(super) async fn run(directory: &Path, command: ConditionCommand, json: bool) -> Result<(), CliError> {
    match command {
        ConditionCommand::Set { conditions, hold } => {
            let said = conditions.iter().map(|condition| {
                condition
                    .split_once('=')
                    .map(|(name, value)| (name.to_owned(), Value::from(value)))
                    .ok_or_else(|| CliError::Failed(format!("{condition}: write it as NAME=VALUE, as in rain_mm=3.2")))
            });
            let body = json!({ "conditions": said.collect::<Result<Map<String, Value>, CliError>>()?, "for_ms": hold });
            done(json, ask(directory, "PUT", "/v1/conditions", Some(&body)).await?, "Said.")
        }
        ConditionCommand::List => {
            let conditions = ask(directory, "GET", "/v1/conditions", None).await?;
            show(json, &conditions, |conditions| {
                let rows = list(conditions, |item| {
                    let until = item["until"].as_u64().filter(|until| *until > 0);
                    vec![
                        text(&item["name"]),
                        text(&item["value"]),
                        until.map_or_else(|| "over: counts as absent".to_owned(), utc_minute),
                    ]
                });
                table(&["condition", "value", "until"], &rows);
            })
        }
    }
}
