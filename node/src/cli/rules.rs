//! `stallmesh rules` and `stallmesh card`: by what tills judge payments, and what is said of cards.
#![allow(clippy::print_stdout, reason = "this is where the program speaks")]

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::CliError;
use super::client::ask;
use super::commands::{done, list, show};
use super::condition::duration;
use super::view::{table, text};
use crate::date::utc_minute;

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// The rules that hold here, as JSON: the market's, and what this device narrows them by.
    Show,
    /// Hub: publish rules. What is left out stays as it is.
    #[command(after_help = "\
Example:
  stallmesh rules show > rules.json        its members `fraud` and `risk` are such files
  stallmesh rules publish --fraud fraud.json --risk risk.json --ask-hub-within 4s")]
    Publish(PublishArguments),
    /// Narrow what this stall's device takes by card without the hub.
    Narrow {
        /// A file with `limits`, in JSON.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PublishArguments {
    /// The fraud rules, in JSON.
    #[arg(long, value_name = "FILE")]
    fraud: Option<PathBuf>,
    /// What is taken by card without the hub, in JSON.
    #[arg(long, value_name = "FILE")]
    risk: Option<PathBuf>,
    /// How long a till waits for the hub's word on a card: 4s, say; 0s: it doesn't ask.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    ask_hub_within: Option<u64>,
    /// A new key for cards' fingerprints: payments before it are no longer counted with those after it.
    #[arg(long)]
    new_fingerprint_key: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CardCommand {
    /// Block a card: for the market on a hub, for the stall on its devices.
    Block {
        /// As a sale shows it: 32 hexadecimal digits.
        fingerprint: String,
    },
    /// Let a card go.
    Unblock {
        /// As a sale shows it.
        fingerprint: String,
    },
    /// What is said of cards, devices and people at tills now.
    Signals {
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
}

pub(super) async fn run(directory: &Path, command: RulesCommand, as_json: bool) -> Result<(), CliError> {
    match command {
        RulesCommand::Show => {
            let rules = ask(directory, "GET", "/v1/checkout-rules", None).await?;
            show(as_json, &rules, |rules| println!("{rules:#}"))
        }
        RulesCommand::Publish(arguments) => {
            let mut body = json!({ "rotate_fingerprint_key": arguments.new_fingerprint_key });
            for (name, file) in [("fraud", &arguments.fraud), ("risk", &arguments.risk)] {
                if let Some(file) = file {
                    body[name] = read(file)?;
                }
            }
            if let Some(within) = arguments.ask_hub_within {
                if body["risk"].is_null() {
                    body["risk"] = ask(directory, "GET", "/v1/checkout-rules", None).await?["risk"].clone();
                }
                body["risk"]["authorise_within_ms"] = json!(within);
            }
            if body == json!({ "rotate_fingerprint_key": false }) {
                let what = "nothing to publish: give --fraud, --risk, --ask-hub-within or --new-fingerprint-key";
                return Err(CliError::Failed(what.into()));
            }
            done(as_json, ask(directory, "PUT", "/v1/checkout-rules", Some(&body)).await?, "Published.")
        }
        RulesCommand::Narrow { file } => {
            let body = read(&file)?;
            done(
                as_json,
                ask(directory, "PUT", "/v1/checkout-rules/narrowed", Some(&body)).await?,
                "It holds from now on.",
            )
        }
    }
}

pub(super) async fn card(directory: &Path, command: CardCommand, as_json: bool) -> Result<(), CliError> {
    let block = async |fingerprint: String, blocked: bool, sentence: &str| {
        let body = json!({ "fingerprint": fingerprint, "blocked": blocked });
        done(as_json, ask(directory, "PUT", "/v1/cards/blocked", Some(&body)).await?, sentence)
    };
    match command {
        CardCommand::Block { fingerprint } => block(fingerprint, true, "Blocked.").await,
        CardCommand::Unblock { fingerprint } => block(fingerprint, false, "Let go.").await,
        CardCommand::Signals { limit } => {
            let signals = ask(directory, "GET", &format!("/v1/signals?limit={limit}"), None).await?;
            show(as_json, &signals, |signals| {
                let rows = list(signals, |signal| {
                    vec![
                        signal["fact"]
                            .as_object()
                            .and_then(|fact| fact.keys().next().cloned())
                            .unwrap_or_else(|| text(&signal["fact"])),
                        text(&signal["subject"]),
                        text(&signal["voice"]),
                        signal["until"].as_u64().map_or_else(String::new, utc_minute),
                    ]
                });
                table(&["fact", "about", "voice", "until"], &rows);
            })
        }
    }
}

/// A file of rules. What in it is no rule the node says, with its field.
fn read(file: &Path) -> Result<Value, CliError> {
    let failed = |detail: String| CliError::Failed(format!("{}: {detail}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}
