//! Everything that the user gives, read and checked before anything runs: a typing error costs a second, not a market.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stallmesh_protocol::certificate::is_unprintable;
use stallmesh_protocol::hash::{Domain, Hasher};

use super::{DemoArguments, DemoError};
use crate::engine::ProductView;
use crate::import::{ImportError, price_for, read_baskets, shopify};

/// The demo's own product files: (stall, file).
const CATALOGS: &[(&str, &str)] = &[
    ("river-ceramics", include_str!("../../../configs/demo/catalogs/river-ceramics.csv")),
    ("oak-and-rye-bakery", include_str!("../../../configs/demo/catalogs/oak-and-rye-bakery.csv")),
    ("second-groove", include_str!("../../../configs/demo/catalogs/second-groove.csv")),
    ("hillside-dairy", include_str!("../../../configs/demo/catalogs/hillside-dairy.csv")),
    ("smoke-and-corn", include_str!("../../../configs/demo/catalogs/smoke-and-corn.csv")),
    ("paper-heron", include_str!("../../../configs/demo/catalogs/paper-heron.csv")),
    ("green-corner", include_str!("../../../configs/demo/catalogs/green-corner.csv")),
    ("copper-finch", include_str!("../../../configs/demo/catalogs/copper-finch.csv")),
    ("lather-and-lye", include_str!("../../../configs/demo/catalogs/lather-and-lye.csv")),
    ("meadow-honey", include_str!("../../../configs/demo/catalogs/meadow-honey.csv")),
    ("the-book-barrow", include_str!("../../../configs/demo/catalogs/the-book-barrow.csv")),
    ("wool-works", include_str!("../../../configs/demo/catalogs/wool-works.csv")),
    ("night-owl-coffee", include_str!("../../../configs/demo/catalogs/night-owl-coffee.csv")),
    ("tumbledown-toys", include_str!("../../../configs/demo/catalogs/tumbledown-toys.csv")),
    ("ember-spice", include_str!("../../../configs/demo/catalogs/ember-spice.csv")),
    ("lantern-tea", include_str!("../../../configs/demo/catalogs/lantern-tea.csv")),
    ("pickle-parlour", include_str!("../../../configs/demo/catalogs/pickle-parlour.csv")),
];

/// The demo's currency and its decimals.
pub(super) const CURRENCY: &str = "EUR";
const EXPONENT: u32 = 2;
/// The tax rate's name for taxable products.
const TAX: &str = "standard";
/// A Unix socket's path holds 107 bytes, and the nodes' lie in their data directories.
const DIRECTORY_MAX: usize = 107 - "/stall-30/api.sock".len();

/// One stall's product file, read.
#[derive(Clone, Debug)]
pub(super) struct StallInput {
    /// Its slug.
    pub(super) slug: String,
    /// What it offers.
    pub(super) products: Vec<ProductView>,
    /// The SKU of each item that the baskets name.
    pub(super) items: BTreeMap<String, String>,
}

/// All that the user gave.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// One for each stall.
    pub(super) stalls: Vec<StallInput>,
    /// Names of items; empty where no baskets were given.
    pub(super) baskets: Arc<Vec<Vec<String>>>,
    /// What the user should know of it, in sentences.
    pub(super) remarks: Vec<String>,
}

impl Input {
    /// Reads and checks the product files, the baskets, and whether the report can be written.
    pub(super) fn read(arguments: &DemoArguments) -> Result<Self, DemoError> {
        if let Some(report) = &arguments.report {
            check_writable(report)?;
        }
        let mut remarks = Vec::new();
        let files = match &arguments.catalogs {
            None => own_catalogs()?,
            Some(folder) => read_folder(folder, &mut remarks)?,
        };
        let baskets = match &arguments.baskets {
            None => Vec::new(),
            Some(path) => {
                let file = std::fs::File::open(path).map_err(DemoError::io(format!("--baskets {}", path.display())))?;
                let baskets = read_baskets(file)
                    .map_err(|error| DemoError::Failed(format!("--baskets {}: {error}", path.display())))?;
                if baskets.is_empty() {
                    return Err(DemoError::Failed(format!("--baskets {}: there is no basket in it", path.display())));
                }
                baskets
            }
        };
        let names: BTreeSet<&str> = baskets.iter().flatten().map(String::as_str).collect();
        if !names.is_empty() {
            remarks.push(format!("{} baskets of {} different items will be sold from.", baskets.len(), names.len()));
        }
        let stalls = (0..usize::from(arguments.stalls))
            .map(|number| {
                let (slug, products) = &files[number % files.len()];
                let round = number / files.len();
                let slug = if round == 0 { slug.clone() } else { format!("{slug}-{}", round + 1) };
                let mut products = products.clone();
                let items = offer(&names, &mut products, arguments.seed);
                let items = items.into_iter().map(|(name, sku)| (name.to_owned(), sku)).collect();
                StallInput { slug, products, items }
            })
            .collect();
        Ok(Input { stalls, baskets: Arc::new(baskets), remarks })
    }
}

fn own_catalogs() -> Result<Vec<(String, Vec<ProductView>)>, DemoError> {
    CATALOGS
        .iter()
        .map(|(slug, text)| {
            let imported = shopify(text.as_bytes(), EXPONENT, Some(TAX))
                .map_err(|error| DemoError::Failed(format!("{slug}: {error}")))?;
            Ok(((*slug).to_owned(), imported.products))
        })
        .collect()
}

/// Each Shopify product file of a folder, in the order of their names.
fn read_folder(folder: &Path, remarks: &mut Vec<String>) -> Result<Vec<(String, Vec<ProductView>)>, DemoError> {
    let shown = format!("--catalogs {}", folder.display());
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(DemoError::io(&shown))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(DemoError::io(&shown))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")));
    paths.sort();
    if paths.is_empty() {
        return Err(DemoError::Failed(format!("{shown}: there is no file named *.csv in it")));
    }
    let mut files: Vec<(String, Vec<ProductView>)> = Vec::new();
    let mut other = Vec::new();
    for path in &paths {
        let file = std::fs::File::open(path).map_err(DemoError::io(path.display()))?;
        match shopify(file, EXPONENT, Some(TAX)) {
            Ok(imported) if imported.products.is_empty() => {
                return Err(DemoError::Failed(format!("{}: no product of it is on offer", path.display())));
            }
            Ok(imported) => {
                let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
                let mut slug = slug(&stem);
                if files.iter().any(|(taken, _)| *taken == slug) {
                    slug =
                        format!("{}-{}", slug.chars().take(40).collect::<String>(), short_hash(&stem).to_lowercase());
                }
                files.push((slug, imported.products));
            }
            // Other CSV files in the folder are other things.
            Err(ImportError::Column(column)) => {
                other.push(format!("{} is no Shopify product file (no column `{column}`)", path.display()));
            }
            Err(error) => return Err(DemoError::Failed(format!("{}: {error}", path.display()))),
        }
    }
    if files.is_empty() {
        return Err(DemoError::Failed(format!("{shown}: there is no Shopify product CSV in it: {}", other.join("; "))));
    }
    remarks.extend(other.into_iter().map(|reason| format!("{reason}: left out.")));
    Ok(files)
}

/// Lower-case letters, digits and hyphens, as a stall's slug must be.
fn slug(stem: &str) -> String {
    let mut slug = String::new();
    for character in stem.chars().flat_map(char::to_lowercase).take(48) {
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { format!("stall-{}", short_hash(stem).to_lowercase()) } else { slug.to_owned() }
}

fn short_hash(text: &str) -> String {
    let hash = Hasher::new(Domain::Part).bytes(text.as_bytes()).finish();
    hex::encode_upper(&hash.as_bytes()[..3])
}

/// Makes a product of each basket item that the stall doesn't have, at a price drawn from the seed: the same on every
/// device. The SKU of each item.
fn offer<'a>(names: &BTreeSet<&'a str>, products: &mut Vec<ProductView>, seed: u64) -> BTreeMap<&'a str, String> {
    let mut by_name: BTreeMap<String, String> =
        products.iter().rev().map(|product| (product.name.to_lowercase(), product.sku.clone())).collect();
    let mut taken: BTreeSet<String> = products.iter().map(|product| product.sku.clone()).collect();
    let mut skus = BTreeMap::new();
    for name in names {
        let sku = match by_name.get(&name.to_lowercase()) {
            Some(sku) => sku.clone(),
            None => {
                let plain: String = name
                    .to_uppercase()
                    .chars()
                    .map(|character| if character.is_ascii_alphanumeric() { character } else { '-' })
                    .take(80)
                    .collect();
                let free = plain.chars().any(char::is_alphanumeric) && !taken.contains(&plain);
                let sku = if free { plain } else { format!("{plain}-{}", short_hash(name)) };
                let shown: String = name.chars().filter(|letter| !is_unprintable(*letter)).take(200).collect();
                products.push(ProductView {
                    sku: sku.clone(),
                    name: if shown.is_empty() { sku.clone() } else { shown },
                    price: price_for(name, seed),
                    taxes: vec![TAX.into()],
                    unit: "piece".into(),
                    ..Default::default()
                });
                by_name.insert(name.to_lowercase(), sku.clone());
                taken.insert(sku.clone());
                sku
            }
        };
        skus.insert(*name, sku);
    }
    skus
}

/// The report's file, without touching what it may hold: a market that ran in vain is a pity.
fn check_writable(report: &Path) -> Result<(), DemoError> {
    let shown = format!("--report {}", report.display());
    if report.is_dir() {
        return Err(DemoError::Failed(format!("{shown}: this is a directory; name a file")));
    }
    let was_there = report.exists();
    std::fs::OpenOptions::new().create(true).append(true).open(report).map_err(DemoError::io(&shown))?;
    if !was_there {
        let _ = std::fs::remove_file(report);
    }
    Ok(())
}

/// Where the nodes' data goes: the user's empty directory, or a temporary one.
pub(super) fn directory(arguments: &DemoArguments) -> Result<PathBuf, DemoError> {
    let directory = match &arguments.dir {
        Some(directory) => directory.clone(),
        None => std::env::temp_dir().join(format!("stallmesh-demo-{}", std::process::id())),
    };
    let shown = format!("--dir {}", directory.display());
    std::fs::create_dir_all(&directory).map_err(DemoError::io(&shown))?;
    if std::fs::read_dir(&directory).map_err(DemoError::io(&shown))?.next().is_some() {
        return Err(DemoError::Failed(format!("{shown}: it is not empty; name another directory")));
    }
    let directory = directory.canonicalize().map_err(DemoError::io(&shown))?;
    if directory.as_os_str().len() > DIRECTORY_MAX {
        return Err(DemoError::Failed(format!(
            "{shown}: its path is longer than {DIRECTORY_MAX} bytes, too long for the sockets in it"
        )));
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HEAD: &str = "Handle,Title,Variant SKU,Variant Price\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_gives_its_product_files_and_says_what_it_leaves_out() {
        let good = format!("{HEAD}mug,Mug,,12.50\n");
        let folder = folder(&[("B stall.csv", good.as_str()), ("a.csv", "milk,bread\n"), ("notes.txt", "x")]);
        let mut remarks = Vec::new();
        let files = read_folder(folder.path(), &mut remarks).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!((files[0].0.as_str(), files[0].1[0].sku.as_str()), ("b-stall", "MUG"));
        assert!(remarks.len() == 1 && remarks[0].contains("a.csv"), "{remarks:?}");
    }

    #[test]
    fn damaged_rows_name_file_row_and_column_and_an_empty_folder_says_so() {
        let bad = format!("{HEAD}mug,Mug,,12.50\ncup,Cup,,cheap\n");
        let damaged = folder(&[("stall.csv", bad.as_str())]);
        let error = read_folder(damaged.path(), &mut Vec::new()).unwrap_err().to_string();
        for part in ["stall.csv", "line 3", "Variant Price", "cheap"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let nothing = folder(&[("notes.txt", "x")]);
        assert!(read_folder(nothing.path(), &mut Vec::new()).unwrap_err().to_string().contains("no file named *.csv"));
        let other = folder(&[("baskets.csv", "milk,bread\n")]);
        let error = read_folder(other.path(), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("baskets.csv") && error.contains("no Shopify product CSV"), "{error}");
        let missing = damaged.path().join("nowhere");
        assert!(read_folder(&missing, &mut Vec::new()).unwrap_err().to_string().contains("nowhere"));
    }

    #[test]
    fn unknown_basket_items_become_products_and_known_ones_are_found_by_name() {
        let mut products = vec![ProductView { sku: "M1".into(), name: "Whole Milk".into(), ..Default::default() }];
        let names = BTreeSet::from(["whole milk", "a b", "a/b", "牛乳", "\u{202e}"]);
        let skus = offer(&names, &mut products, 7);
        assert_eq!(skus["whole milk"], "M1");
        assert_eq!(products.len(), 5);
        let distinct: BTreeSet<&String> = skus.values().collect();
        assert_eq!(distinct.len(), 5, "{skus:?}");
        let mut again = vec![products[0].clone()];
        assert_eq!(offer(&names, &mut again, 7), skus);
        assert_eq!(again, products);
        let mut other = vec![products[0].clone()];
        offer(&names, &mut other, 8);
        assert_ne!(other, products, "another seed draws other prices");
    }
}
