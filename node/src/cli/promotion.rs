//! `stallmesh promotion`: what is given, and what is no longer.
#![allow(clippy::print_stdout, reason = "this is where the program speaks")]

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::CliError;
use super::client::ask;
use super::commands::{done, encode, list, show};
use super::quote::read_file;
use super::view::{table, text};
use crate::quote::Source;
use crate::quote::files::PromotionFile;

#[derive(Debug, Subcommand)]
pub(crate) enum PromotionCommand {
    /// Give the promotions of a file: the market's on a hub, the stall's on its devices. One that is given already
    /// under the same id is replaced.
    #[command(after_help = "\
Example of a file:
  [ { \"id\": \"RAIN\", \"name\": \"Rainy day\", \"effect\": { \"percentage\": \"10\" },
      \"requires\": { \"conditions\": [ { \"name\": \"rain_mm\", \"at_least\": \"1\" } ] } } ]")]
    Give {
        /// As the documentation of the quote has it: a list in JSON.
        file: PathBuf,
    },
    /// Give promotions no longer.
    Withdraw {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// The market's promotions and those of a stall.
    List {
        /// Whose; this device's where left out.
        #[arg(long)]
        stall: Option<String>,
    },
}

pub(super) async fn run(directory: &Path, command: PromotionCommand, json: bool) -> Result<(), CliError> {
    match command {
        PromotionCommand::Give { file } => {
            let promotions: Vec<PromotionFile> = read_file(&file, Source::Promotions, json)?;
            let count = promotions.len();
            let body = json!({ "give": promotions });
            let answer = ask(directory, "PUT", "/v1/promotions", Some(&body)).await?;
            done(json, answer, &format!("{count} promotions are given."))
        }
        PromotionCommand::Withdraw { ids } => {
            let body = json!({ "withdraw": ids });
            done(json, ask(directory, "PUT", "/v1/promotions", Some(&body)).await?, "Given no longer.")
        }
        PromotionCommand::List { stall } => {
            let stall = stall.map(|stall| format!("?stall={}", encode(&stall))).unwrap_or_default();
            let promotions = ask(directory, "GET", &format!("/v1/promotions{stall}"), None).await?;
            show(json, &promotions, |promotions| {
                let rows = list(promotions, |item| {
                    let promotion = &item["promotion"];
                    let giver = if item["stall"] == "" { "market".to_owned() } else { text(&item["stall"]) };
                    let codes: Vec<String> =
                        promotion["requires"]["codes"].as_array().into_iter().flatten().map(text).collect();
                    let borne = promotion["borne_by_market"].as_str().map(|percent| format!("{percent} %"));
                    vec![
                        giver,
                        text(&promotion["id"]),
                        text(&promotion["name"]),
                        codes.join(", "),
                        borne.unwrap_or_default(),
                        item.get("problem").map(text).unwrap_or_default(),
                    ]
                });
                table(&["given by", "id", "name", "codes", "market pays", "problem"], &rows);
            })
        }
    }
}
