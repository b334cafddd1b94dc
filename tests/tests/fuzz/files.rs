//! Files that people hand to a node: product files, baskets, configurations, exports.

use std::collections::BTreeSet;

use stallmesh_node::config::Config;
use stallmesh_node::engine::{ProductView, recompute};
use stallmesh_node::import::{Exporter, Format, Rules, products, read_baskets, shopify};

targets! {
    product_file(3_000, 4_096) product_file_check;
    baskets(3_000, 1_024) |bytes| {
        if let Ok(baskets) = read_baskets(bytes) {
            assert!(baskets.iter().all(|basket| !basket.is_empty()));
            assert!(baskets.iter().flatten().all(|item| !item.is_empty() && !item.contains(['\n', ','])));
        }
    };
    configuration(2_000, 2_048) configuration_check;
    configuration_by_environment(2_000, 256) environment_check;
    export(600, 8_192) |bytes| {
        if let Ok(one) = recompute(bytes, None, 0) {
            let other = recompute(bytes, None, 1).unwrap();
            assert_eq!(one.reconciliation.digest(), other.reconciliation.digest(), "in another order");
        }
    };
}

/// What is taken can be sold: a SKU that is there once, a name that can be printed, a price. And it can be written and read
/// again.
fn product_file_check(bytes: &[u8]) {
    for exponent in [0, 2, 3] {
        if let Ok(imported) = shopify(bytes, exponent, Some("standard")) {
            can_be_sold(&imported.products);
        }
        let rules = Rules { exponent, tax: Some("standard".into()), location: None };
        let read =
            |file: &[u8]| products(std::io::Cursor::new(file.to_vec()), &rules).and_then(|checked| checked.all());
        let Ok(imported) = read(bytes) else { continue };
        can_be_sold(&imported.products);
        for format in [Format::Shopify, Format::Square] {
            let mut exporter = Exporter::new(Vec::new(), format, exponent, "Stall").unwrap();
            imported.products.iter().for_each(|product| exporter.write(product).unwrap());
            let again = read(&exporter.finish().unwrap()).unwrap_or_else(|error| panic!("{format}: {error}"));
            assert_eq!(again.products, imported.products, "{format}");
        }
    }
}

fn can_be_sold(products: &[ProductView]) {
    let skus: BTreeSet<&str> = products.iter().map(|product| product.sku.as_str()).collect();
    assert_eq!(skus.len(), products.len(), "a SKU twice");
    let whole = |product: &ProductView| {
        !product.sku.is_empty() && !product.name.is_empty() && !product.name.contains(['\n', '\u{202e}', '\0'])
    };
    assert!(products.iter().all(whole), "{products:?}");
}

/// The same folder for all: what is tried differs by its content.
fn configuration_check(bytes: &[u8]) {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().unwrap();
    }
    FOLDER.with(|folder| {
        let file = folder.path().join("stallmesh.toml");
        std::fs::write(&file, bytes).unwrap();
        match Config::load(Some(&file), []) {
            Ok(config) => assert!(config.api.listen.ip().is_loopback() || config.api.allow_remote),
            Err(error) => assert!(error.to_string().contains("stallmesh.toml"), "{error}"),
        }
    });
}

/// `NAME=value`, a line each.
fn environment_check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let variables = text.lines().filter_map(|line| line.split_once('='));
    let variables: Vec<_> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if let Ok(config) = Config::load(None, variables) {
        assert!(config.api.listen.ip().is_loopback() || config.api.allow_remote);
    }
}
