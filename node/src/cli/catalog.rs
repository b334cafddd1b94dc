//! `stallmesh import` and `stallmesh export`: product files.
#![allow(clippy::print_stdout, reason = "this is where the program speaks")]

use std::path::Path;

use serde_json::json;
use stallmesh_protocol::money;

use super::CliError;
use super::client::{ask, send, value};
use super::commands::{done, encode, failed, show};
use super::view::text;
use crate::engine::ProductView;
use crate::import::{Exporter, Format};

/// The most products that are asked for at once.
const PRODUCTS_MAX: usize = 100_000;

pub(super) async fn import(
    directory: &Path,
    file: &Path,
    tax: &str,
    location: Option<&str>,
    json: bool,
) -> Result<(), CliError> {
    let name = file.display();
    let bytes = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map_err(failed)?;
        bytes
    } else {
        std::fs::read(file).map_err(|error| CliError::Failed(format!("{name}: {error}")))?
    };
    let location = location.map(|location| format!("&location={}", encode(location))).unwrap_or_default();
    let path = format!("/v1/catalog/import?tax={}{location}", encode(tax));
    let reply = send(directory, "POST", &path, &bytes).await?;
    let answer = value(reply).map_err(|error| match error {
        CliError::Refused { code, detail } => CliError::Refused { code, detail: format!("{name}: {detail}") },
        other => other,
    })?;
    show(json, &answer, |answer| {
        println!("{} products published, {} left out.", text(&answer["products"]), text(&answer["skipped"]));
        if answer["pictures"] != 0 {
            println!("{} pictures stand at outside addresses; none was loaded.", text(&answer["pictures"]));
        }
        for warning in answer["warnings"].as_array().into_iter().flatten() {
            println!("Look at {}", text(warning));
        }
    })
}

/// Writes what this device's stall offers, as another system reads it.
pub(super) async fn export(directory: &Path, file: &Path, format: &str, json: bool) -> Result<(), CliError> {
    let status = ask(directory, "GET", "/v1/status", None).await?;
    let exponent = money::exponent(&text(&status["currency"])).map_err(failed)?;
    let path = format!("/v1/catalog?limit={PRODUCTS_MAX}&stall={}", encode(&text(&status["stall"])));
    let products: Vec<ProductView> =
        serde_json::from_value(ask(directory, "GET", &path, None).await?).map_err(failed)?;
    let format = if format == "square" { Format::Square } else { Format::Shopify };
    let named = |error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", file.display()));
    // Whoever reads it finds the whole file, or none.
    let partial = file.with_extension("partial");
    let to = std::fs::File::create(&partial).map_err(|error| named(&error))?;
    let mut exporter = Exporter::new(std::io::BufWriter::new(to), format, exponent, &text(&status["name"]))
        .map_err(|error| named(&error))?;
    products.iter().try_for_each(|product| exporter.write(product)).map_err(|error| named(&error))?;
    let to = exporter.finish().map_err(|error| named(&error))?;
    to.into_inner().map_err(|error| named(&error))?.sync_all().map_err(|error| named(&error))?;
    std::fs::rename(&partial, file).map_err(|error| named(&error))?;
    let count = products.len();
    done(json, json!({ "products": count, "file": file }), &format!("{count} products in {}.", file.display()))
}
