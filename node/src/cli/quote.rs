//! `stallmesh quote`: what a basket costs, from files.
#![allow(clippy::print_stdout, reason = "this is where the program speaks")]

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::CliError;
use super::view::{money, table};
use crate::card_data;
use crate::quote::files::{Answer, BasketFile, CatalogFile, CodeState, Conditions, PromotionFile};
use crate::quote::{Catalog, Moment, Problem, Promotions, Source, quote, read};

#[derive(Debug, Args)]
pub(crate) struct QuoteArguments {
    /// What is for sale, with its taxes.
    #[arg(long, value_name = "FILE")]
    catalog: PathBuf,
    /// Promotions and fees.
    #[arg(long, value_name = "FILE")]
    promotions: PathBuf,
    /// What somebody buys.
    #[arg(long, value_name = "FILE")]
    basket: PathBuf,
    /// Weather, demand and the like; none where left out.
    #[arg(long, value_name = "FILE")]
    conditions: Option<PathBuf>,
    /// When, by RFC 3339 with an offset; now where left out.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// A file that was read.
struct Text<'a> {
    path: &'a Path,
    text: String,
    json: bool,
}

impl<'a> Text<'a> {
    fn open(path: &'a Path, source: Source, json: bool) -> Result<Self, CliError> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string());
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it isn't UTF-8 text".to_owned()));
        match text {
            Ok(text) => Ok(Text { path, text, json }),
            Err(detail) => {
                let nothing = Text { path, text: String::new(), json };
                Err(nothing.wrong(Problem::unreadable(source, detail)))
            }
        }
    }

    fn read<T: DeserializeOwned>(&self, source: Source) -> Result<T, CliError> {
        read(source, &self.text).map_err(|problem| self.wrong(problem))
    }

    /// What is wrong with it, with the file's own name.
    fn wrong(&self, problem: Problem) -> CliError {
        failure(problem.in_text(&self.text), &self.path.display().to_string(), self.json)
    }
}

fn failure(problem: Problem, file: &str, json: bool) -> CliError {
    if !json {
        let place = match (problem.field.as_str(), problem.line) {
            ("", None) => String::new(),
            ("", Some(line)) => format!(":{line}"),
            (field, None) => format!(", {field}"),
            (field, Some(line)) => format!(":{line}, {field}"),
        };
        return CliError::Failed(format!("{file}{place}: {}", problem.detail));
    }
    let field = Some(&problem.field).filter(|field| !field.is_empty());
    let object = json!({
        "code": problem.code, "file": file, "field": field, "line": problem.line, "detail": problem.detail
    });
    CliError::Problem(object.to_string())
}

/// Reads one of the quote's files.
pub(super) fn read_file<T: DeserializeOwned>(path: &Path, source: Source, json: bool) -> Result<T, CliError> {
    Text::open(path, source, json)?.read(source)
}

pub(super) fn run(arguments: &QuoteArguments, json: bool) -> Result<(), CliError> {
    let open = |path, source| Text::open(path, source, json);
    let of_catalog = open(&arguments.catalog, Source::Catalog)?;
    let of_promotions = open(&arguments.promotions, Source::Promotions)?;
    let of_basket = open(&arguments.basket, Source::Basket)?;
    let file: CatalogFile = of_catalog.read(Source::Catalog)?;
    let catalog = Catalog::new(&file).map_err(|problem| of_catalog.wrong(problem))?;
    let files: Vec<PromotionFile> = of_promotions.read(Source::Promotions)?;
    let promotions = Promotions::new(&catalog, &files).map_err(|problem| of_promotions.wrong(problem))?;
    let basket: BasketFile = of_basket.read(Source::Basket)?;
    let conditions = match &arguments.conditions {
        None => Conditions::default(),
        Some(path) => open(path, Source::Conditions)?.read(Source::Conditions)?,
    };
    let at = match &arguments.at {
        Some(text) => Moment::read(text).map_err(|problem| failure(problem, "--at", json))?,
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            Moment::of_clock(u64::try_from(now).unwrap_or(u64::MAX), catalog.time_zone())
        }
    };
    let answer =
        quote(&catalog, &promotions, &basket, &conditions, &at).map_err(|problem| match problem.source_file {
            Source::Promotions => of_promotions.wrong(problem),
            _ => of_basket.wrong(problem),
        })?;
    let answer = masked(&answer)?;
    if json {
        let text = serde_json::to_string_pretty(&answer).map_err(|error| CliError::Failed(error.to_string()))?;
        println!("{text}");
    } else {
        show(&answer);
    }
    Ok(())
}

/// As a receipt.
fn show(answer: &Answer) {
    let amount = |minor: u64| money(&Value::from(minor), &answer.currency);
    let mut rows = Vec::new();
    for line in &answer.lines {
        rows.push(vec![line.quantity.clone(), line.sku.to_string(), amount(line.unit_price), amount(line.gross)]);
        for reduction in &line.reductions {
            let what = format!("  {} ({})", reduction.name, reduction.why);
            rows.push(vec![String::new(), what, String::new(), format!("-{}", amount(reduction.amount))]);
        }
    }
    for fee in &answer.fees {
        rows.push(vec![String::new(), fee.name.to_string(), String::new(), amount(fee.amount)]);
    }
    table(&["quantity", "item", "price", "amount"], &rows);
    println!();
    let signed = |minor: i64| money(&Value::from(minor), &answer.currency);
    let mut sums = vec![("Subtotal", amount(answer.subtotal))];
    if answer.reduction > 0 {
        sums.push(("Reductions", format!("-{}", amount(answer.reduction))));
    }
    if answer.fee > 0 {
        sums.push(("Fees", amount(answer.fee)));
    }
    sums.push(("Taxes", amount(answer.tax)));
    if answer.cash_rounding != 0 {
        sums.push(("Rounded for cash", signed(answer.cash_rounding)));
    }
    sums.push(("Total", amount(answer.total)));
    for (name, value) in sums {
        println!("{name:<18}{value:>16}");
    }
    for code in answer.codes.iter().filter(|code| code.state != CodeState::Applied) {
        println!("Code {}: {}", code.code, code.why.as_deref().unwrap_or_default());
    }
}

/// What the files say is shown again: card numbers in it are not.
fn masked(answer: &Answer) -> Result<Answer, CliError> {
    fn mask(value: &mut Value) {
        match value {
            Value::String(text) => *text = card_data::mask(text).into_owned(),
            Value::Array(values) => values.iter_mut().for_each(mask),
            Value::Object(fields) => fields.values_mut().for_each(mask),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let failed = |error: serde_json::Error| CliError::Failed(error.to_string());
    let mut value = serde_json::to_value(answer).map_err(failed)?;
    mask(&mut value);
    serde_json::from_value(value).map_err(failed)
}
