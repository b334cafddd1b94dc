//! `stallmesh policy`: the market's terms.
#![allow(clippy::print_stdout, reason = "this is where the program speaks")]

use std::path::Path;

use serde_json::{Value, json};

use super::CliError;
use super::arguments::PolicyArguments;
use super::client::ask;
use super::commands::show;
use super::view::text;
use crate::quote::files::{Number, TaxRateFile, Unique};

/// Reads `name=percent`, or `name=percent:other+another` for one that is also taken on others.
pub(super) fn tax_rates(taxes: &[String]) -> Result<Unique<TaxRateFile>, CliError> {
    let rates = taxes.iter().map(|tax| {
        let wrong = || {
            CliError::Failed(format!(
                "--tax {tax}: write it as NAME=PERCENT, as in standard=20, or NAME=PERCENT:OTHER where it is also taken \
                 on another tax"
            ))
        };
        let (name, rate) = tax.split_once('=').ok_or_else(wrong)?;
        let (percent, on) = rate.split_once(':').unwrap_or((rate, ""));
        let rate = Number::parse(percent).ok_or_else(wrong)?;
        let on = on.split('+').filter(|other| !other.is_empty()).map(str::to_owned).collect();
        Ok((name.to_owned(), TaxRateFile { rate, on }))
    });
    rates.collect()
}

pub(super) async fn run(directory: &Path, arguments: &PolicyArguments, json: bool) -> Result<(), CliError> {
    let mut policy = ask(directory, "GET", "/v1/policy", None).await?;
    let mut changes: Vec<(&str, Value)> = Vec::new();
    changes.extend(arguments.fee.as_ref().map(|fee| ("fee_rate", json!(fee))));
    if !arguments.taxes.is_empty() {
        changes.push(("tax_rates", json!(tax_rates(&arguments.taxes)?)));
    }
    changes.extend(arguments.tax_included.map(|included| ("prices_include_tax", json!(included))));
    changes.extend(arguments.tax_rounding.as_ref().map(|rounding| ("tax_rounding", json!(rounding))));
    changes.extend(arguments.cash_rounding.map(|step| ("cash_rounding", json!(step))));
    changes.extend(arguments.time_zone.as_ref().map(|zone| ("time_zone", json!(zone))));
    changes.extend(arguments.carriers.map(|carriers| ("carriers", json!(carriers))));
    changes.extend(arguments.card_floor_limit.map(|limit| ("card_floor_limit", json!(limit))));
    let changed = !changes.is_empty();
    for (name, value) in changes {
        policy[name] = value;
    }
    if changed {
        ask(directory, "PUT", "/v1/policy", Some(&policy)).await?;
    }
    show(json, &policy, |policy| {
        let rate = |(name, tax): (&String, &Value)| {
            let on: Vec<String> = tax["on"].as_array().into_iter().flatten().map(text).collect();
            let on = if on.is_empty() { String::new() } else { format!(" (also on {})", on.join(", ")) };
            format!("{name} {} %{on}", text(&tax["rate"]))
        };
        let taxes = policy["tax_rates"].as_object().into_iter().flatten().map(rate).collect::<Vec<_>>().join(", ");
        let limit = match policy["card_floor_limit"].as_u64() {
            None | Some(0) => "none".to_owned(),
            Some(limit) => limit.to_string(),
        };
        let fee = text(&policy["fee_rate"]);
        println!("{}", if changed { "The market's terms are now:" } else { "The market's terms:" });
        println!("  fee                {} % of a sale's net", if fee.is_empty() { "0" } else { &fee });
        println!("  taxes              {}", if taxes.is_empty() { "none" } else { &taxes });
        println!("  prices include tax {}", policy["prices_include_tax"]);
        println!(
            "  taxes are rounded  {}",
            if policy["tax_rounding"] == "total" { "once for each rate" } else { "on each line" }
        );
        println!("  cash is rounded to {}, in minor units", policy["cash_rounding"]);
        println!("  time zone          {}", text(&policy["time_zone"]));
        println!("  copies of a sale   {}", policy["carriers"]);
        println!("  card payment limit without an uplink, in minor units: {limit}");
    })
}
