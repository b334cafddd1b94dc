//! `stallmesh catalog`: what the market offers, what is left of it, and whether all of it is here.
#![allow(clippy::print_stdout, reason = "this is where the program speaks")]

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};

use super::CliError;
use super::client::ask;
use super::commands::{done, encode, failed, list, show};
use super::view::{money, table, text};
use crate::date::utc_minute;

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogCommand {
    /// Search what all stalls of the market offer now: by name, SKU, barcode, category, tag or stall.
    #[command(after_help = "\
Words may stand in any order; case and accents don't matter, and a word finds those that begin with it.

Example:
  stallmesh catalog search blue mug")]
    Search {
        /// Words that must all be found in a product.
        #[arg(required = true)]
        words: Vec<String>,
        /// Only what this stall offers.
        #[arg(long)]
        stall: Option<String>,
        /// At most so many, 200 at most.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// List what stalls offer, by stall and SKU.
    List {
        /// Words that must stand in the name or SKU.
        words: Vec<String>,
        /// Only what this stall offers.
        #[arg(long)]
        stall: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Whether all that a market day needs is here: each stall's catalog, and since when; the terms; the keys.
    Status {
        /// The day by the market's clocks, as 2026-06-06; today where left out.
        #[arg(long)]
        day: Option<String>,
    },
    /// What is left of products whose stock is counted, the least first; or say what was counted, came or went.
    #[command(after_help = "\
Examples:
  stallmesh catalog stock                   what is left; below zero: more was sold than counted
  stallmesh catalog stock MUG-L=12          twelve were counted just now
  stallmesh catalog stock MUG-L+24 TEA-1    24 came, one went
  stallmesh catalog stock MUG-L=            they are counted no longer")]
    Stock {
        /// SKU=COUNT, SKU+MORE or SKU-LESS.
        said: Vec<String>,
        /// Of another stall: what it has published.
        #[arg(long, conflicts_with = "said")]
        stall: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
}

pub(super) async fn run(directory: &Path, command: CatalogCommand, json: bool) -> Result<(), CliError> {
    match command {
        CatalogCommand::Search { words, stall, limit } => {
            let path = format!("/v1/catalog/search?limit={limit}&q={}{}", encode(&words.join(" ")), of(stall));
            products(directory, &path, json).await
        }
        CatalogCommand::List { words, stall, limit } => {
            let path = format!("/v1/catalog?limit={limit}&q={}{}", encode(&words.join(" ")), of(stall));
            products(directory, &path, json).await
        }
        CatalogCommand::Status { day } => {
            let day = day.map(|day| format!("?day={}", encode(&day))).unwrap_or_default();
            let status = ask(directory, "GET", &format!("/v1/catalog/status{day}"), None).await?;
            show(json, &status, show_status)
        }
        CatalogCommand::Stock { said, stall, limit } if said.is_empty() => {
            let stock = ask(directory, "GET", &format!("/v1/catalog/stock?limit={limit}{}", of(stall)), None).await?;
            show(json, &stock, |stock| {
                let rows = list(stock, |item| {
                    vec![
                        text(&item["sku"]),
                        text(&item["name"]),
                        text(&item["left"]["amount"]),
                        text(&item["counted"]),
                        item["counted_at"].as_u64().map(utc_minute).unwrap_or_default(),
                        text(&item["changed"]),
                        text(&item["sold"]),
                    ]
                });
                table(&["sku", "name", "left", "counted", "at", "changed", "sold"], &rows);
            })
        }
        CatalogCommand::Stock { said, .. } => {
            let (mut counts, mut changes) = (Vec::new(), Vec::new());
            for said in &said {
                match read_said(said).ok_or_else(|| {
                    failed(format!("`{said}`: expected SKU=COUNT, SKU+MORE or SKU-LESS, like MUG-L=12 or MUG-L+24"))
                })? {
                    (sku, '=', "") => counts.push(json!({ "sku": sku })),
                    (sku, '=', count) => counts.push(json!({ "sku": sku, "count": count })),
                    (sku, '-', less) => changes.push(json!({ "sku": sku, "change": format!("-{less}") })),
                    (sku, _, more) => changes.push(json!({ "sku": sku, "change": more })),
                }
            }
            let body = json!({ "counts": counts, "changes": changes });
            let answer = ask(directory, "POST", "/v1/catalog/stock", Some(&body)).await?;
            done(json, answer, "It is published.")
        }
    }
}

/// SKU, sign and number. A SKU may have signs in it, so the last one counts that a number follows.
fn read_said(said: &str) -> Option<(&str, char, &str)> {
    let (sku, rest) = said.split_at(said.rfind(['=', '+', '-'])?);
    let sign = rest.chars().next()?;
    let number = &rest[1..];
    // `MUG=-2`: a count below zero.
    if let (Some(sku), '-') = (sku.strip_suffix('='), sign) {
        return (!sku.is_empty()).then_some((sku, '=', rest));
    }
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let fits = !sku.is_empty() && is_number && (sign == '=' || !number.is_empty());
    fits.then_some((sku, sign, number))
}

fn of(stall: Option<String>) -> String {
    stall.map(|stall| format!("&stall={}", encode(&stall))).unwrap_or_default()
}

async fn products(directory: &Path, path: &str, json: bool) -> Result<(), CliError> {
    let products = ask(directory, "GET", path, None).await?;
    let currency =
        if json { String::new() } else { text(&ask(directory, "GET", "/v1/status", None).await?["currency"]) };
    show(json, &products, |products| {
        let rows = list(products, |item| {
            vec![
                text(&item["stall"]),
                text(&item["sku"]),
                text(&item["name"]),
                money(&item["price"], &currency),
                text(&item["left"]["amount"]),
            ]
        });
        table(&["stall", "sku", "name", "price", "left"], &rows);
    })
}

fn show_status(status: &Value) {
    let ready = if status["ready"] == true { "all is here" } else { "something is missing" };
    println!("{}: {ready}, as of checkpoint {}.", text(&status["day"]), text(&status["checkpoint"]));
    let rows = list(&status["stalls"], |stall| {
        let missing = stall["missing"].as_u64().unwrap_or(0);
        let unheard = stall["unheard"].as_array().map_or(0, Vec::len);
        let state = match (stall["complete"] == true, missing) {
            (true, _) => match stall["complete_since"].as_u64() {
                Some(since) => format!("complete since {}", utc_minute(since)),
                None => "complete".to_owned(),
            },
            (false, 0) => "nothing published".to_owned(),
            (false, missing) => format!("{missing} entries missing"),
        };
        vec![
            text(&stall["stall"]),
            state,
            format!("{} of {}", text(&stall["sellable"]), text(&stall["products"])),
            if stall["in_time"] == true { "yes".into() } else { "no".into() },
            if unheard == 0 { String::new() } else { format!("{unheard} devices have published nothing") },
        ]
    });
    table(&["stall", "catalog", "can be sold", "24 h ahead", ""], &rows);
    let terms = &status["terms"];
    let lacks = [
        ("policy", "the market's policy isn't here"),
        ("hub_key", "the hub's key isn't here: sales can't be sealed to it"),
        ("read_key", "this device has no key for its stall's sales"),
        ("valid", "this device's certificate isn't valid when the day begins"),
    ];
    if terms["missing"] != 0 {
        println!("{} entries of the market's terms and members are missing.", text(&terms["missing"]));
    }
    for (_, sentence) in lacks.iter().filter(|(field, _)| terms[*field] == false) {
        println!("Missing: {sentence}.");
    }
    for sentence in status["unknown"].as_array().into_iter().flatten() {
        println!("{}", text(sentence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_stock_is_read_from_behind() {
        for (said, read) in [
            ("MUG-L=12", Some(("MUG-L", '=', "12"))),
            ("MUG-L+2.5", Some(("MUG-L", '+', "2.5"))),
            ("TEA-1", Some(("TEA", '-', "1"))),
            ("TEA-1-1", Some(("TEA-1", '-', "1"))),
            ("A=B=", Some(("A=B", '=', ""))),
            ("MUG=-2", Some(("MUG", '=', "-2"))),
            ("MUG", None),
            ("MUG-L", None),
            ("=3", None),
            ("MUG+", None),
        ] {
            assert_eq!(read_said(said), read, "{said}");
        }
    }
}
