#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use proptest::prelude::*;

use super::*;

const HEAD: &str = "Handle,Title,Tags,Published,Option1 Name,Option1 Value,Variant SKU,Variant Price,Variant Taxable,Variant Barcode\n";

fn import(rows: &str) -> Result<Imported, ImportError> {
    shopify(format!("{HEAD}{rows}").as_bytes(), 2, Some("standard"))
}

#[test]
fn variants_on_following_lines_belong_to_the_product_above() {
    let imported = import(
        "mug,Blue Mug,\"kitchen, blue\",true,Size,Small,,12.50,true,\nmug,,,,,Large,MUG-L,15,true,\nmug,,,,,,,,,\n",
    )
    .unwrap();
    let names: Vec<_> =
        imported.products.iter().map(|product| (product.sku.as_str(), product.name.as_str(), product.price)).collect();
    assert_eq!(names, [("MUG-SMALL", "Blue Mug, Small", 1250), ("MUG-L", "Blue Mug, Large", 1500)]);
    assert_eq!(imported.products[1].tags, ["kitchen", "blue"]);
    assert_eq!(imported.products[0].taxes, ["standard"]);
}

#[test]
fn errors_name_their_line_and_column_and_nothing_is_imported() {
    let error =
        import("a,A,,true,,,,1.00,true,\nb,B,,true,,,,-3,true,\nc,C,,true,,,,1.005,true,\nd,D,,true,,,,abc,true,\n")
            .unwrap_err();
    let ImportError::Rows(rows) = error else { panic!() };
    assert_eq!(
        rows.iter().map(|row| (row.line, row.column)).collect::<Vec<_>>(),
        [(3, "Variant Price"), (4, "Variant Price"), (5, "Variant Price")]
    );
}

#[test]
fn prices_follow_the_currencys_decimals() {
    let file = format!("{HEAD}a,A,,true,,,,1500,true,\n");
    assert_eq!(shopify(file.as_bytes(), 0, None).unwrap().products[0].price, 1500);
    let file = format!("{HEAD}a,A,,true,,,,1.234,true,\n");
    assert_eq!(shopify(file.as_bytes(), 3, None).unwrap().products[0].price, 1234);
    assert!(shopify(file.as_bytes(), 0, None).is_err());
}

#[test]
fn unpublished_products_and_their_variants_are_left_out_and_counted() {
    let imported = import("a,A,,false,Size,S,,1.00,true,\na,,,,,M,,1.00,true,\nb,B,,true,,,,2.00,false,\n").unwrap();
    assert_eq!((imported.products.len(), imported.skipped), (1, 2));
    assert!(imported.products[0].taxes.is_empty());
}

#[test]
fn names_lose_what_does_not_print_and_formulas_lose_their_fuse() {
    let imported = import("a,\"'=Tea\u{202e}\u{0}\",,true,,,,1.00,true,\n").unwrap();
    assert_eq!(imported.products[0].name, "=Tea");
}

#[test]
fn a_file_in_another_encoding_is_said_so() {
    let mut file = HEAD.as_bytes().to_vec();
    file.extend_from_slice(b"cafe,Caf\xe9,,true,,,,1.00,true,\n");
    let error = shopify(file.as_slice(), 2, None).unwrap_err().to_string();
    assert!(error.contains("UTF-8") && error.contains("line"), "{error}");
}

proptest! {
    #[test]
    fn skus_depend_on_the_products_not_on_their_order(order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let rows = ["tea,Tea,,true,,,,1.00,true,\n", "tea-,Tea,,true,,,,1.10,true,\n", "TEA,Tea,,true,,,,1.20,true,\n", "mug,Mug,,true,,,X,1.30,true,\n", "cup,Cup,,true,,,X,1.40,true,\n", "茶,茶,,true,,,,1.50,true,\n"];
        let named = |indexes: &[usize]| {
            let text: String = indexes.iter().map(|index| rows[*index]).collect();
            let mut products = import(&text).unwrap().products;
            products.sort_by_key(|product| product.price);
            products.into_iter().map(|product| product.sku).collect::<Vec<_>>()
        };
        let skus = named(&[0, 1, 2, 3, 4, 5]);
        prop_assert_eq!(&skus, &named(&order));
        let distinct: std::collections::BTreeSet<_> = skus.iter().collect();
        prop_assert_eq!(distinct.len(), 6);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = HEAD.as_bytes().to_vec();
        file.extend_from_slice(&bytes);
        let _ = shopify(file.as_slice(), 2, None);
        let _ = shopify(bytes.as_slice(), 2, None);
    }
}

#[test]
fn real_files_import() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    for (name, count) in [("shopify-apparel.csv", 22), ("shopify-home-and-garden.csv", 21)] {
        let Ok(file) = std::fs::File::open(folder.join(name)) else {
            eprintln!("{name} is not here: skipped");
            continue;
        };
        let imported = shopify(file, 2, Some("standard")).unwrap();
        assert_eq!((imported.products.len(), imported.skipped), (count, 0), "{name}");
        assert!(imported.products.iter().all(|product| !product.sku.is_empty() && product.price > 0));
    }
}

#[test]
fn the_demo_markets_files_import_without_an_error() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/demo/catalogs");
    let mut products = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let imported = shopify(std::fs::File::open(&path).unwrap(), 2, Some("standard"))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        products += imported.products.len();
    }
    assert!(products >= 300, "{products}");
}
