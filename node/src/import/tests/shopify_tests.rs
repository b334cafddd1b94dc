use proptest::prelude::*;

use super::super::*;

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
fn columns_of_files_since_2025_have_other_names() {
    let head = "Title,URL handle,Product category,Type,Tags,Published on online store,Status,SKU,Barcode,Option1 name,Option1 value,Price,Cost per item,Charge tax,Inventory tracker,Inventory quantity,Product image URL\n";
    let rows = "Mug,mug,Home > Mugs,Cups,\"blue, large\",TRUE,Active,M-1,036000291452,Size,Large,12.50,4.20,TRUE,shopify,-3,https://example.com/a.jpg\n,mug,,,,,,,,,,,,,,,https://example.com/b.jpg\n";
    let imported = shopify(format!("\u{feff}{head}{rows}").as_bytes(), 2, Some("standard")).unwrap();
    let expected = ProductView {
        sku: "M-1".into(),
        name: "Mug, Large".into(),
        price: 1250,
        taxes: vec!["standard".into()],
        categories: vec!["Cups".into(), "Home > Mugs".into()],
        tags: vec!["blue".into(), "large".into()],
        barcodes: vec!["036000291452".into()],
        unit: "piece".into(),
        stock: "-3".into(),
        variant_of: "mug".into(),
        ..Default::default()
    };
    assert_eq!((imported.products, imported.pictures), (vec![expected], 2));
}

#[test]
fn what_a_supplier_asks_and_where_pictures_are_stays_out_of_products() {
    let head = "Handle,Title,Variant Price,Cost per item,Image Src,Vendor,Body (HTML)\n";
    let file = format!("{head}mug,Mug,9.00,4.2042,https://pictures.example/4711.jpg,Secret Supplier,<p>hello</p>\n");
    let imported = shopify(file.as_bytes(), 2, None).unwrap();
    let published = serde_json::to_string(&imported.products).unwrap();
    for word in ["4.2042", "42042", "4711", "pictures.example", "Supplier", "hello"] {
        assert!(!published.contains(word), "{word}: {published}");
    }
    assert_eq!(imported.pictures, 1);
}

#[test]
fn barcodes_are_kept_and_those_that_went_wrong_are_named() {
    let imported = import(
        "a,A,,true,,,,1,true,4006381333931\nb,B,,true,,,,1,true,4006381333934\nc,C,,true,,,,1,true,TEA-7\nd,D,,true,,,,1,true,4.00638E+12\ne,E,,true,,,,1,true,36000291452\n",
    )
    .unwrap();
    let codes: Vec<&str> = imported.products.iter().map(|product| product.barcodes[0].as_str()).collect();
    assert_eq!(codes, ["4006381333931", "4006381333934", "TEA-7", "4.00638E+12", "36000291452"]);
    let told: Vec<(u64, String)> = imported.warnings.iter().map(|warning| (warning.row, warning.to_string())).collect();
    assert_eq!(told.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [3, 5, 6]);
    assert!(told[0].1.contains("line 3") && told[0].1.contains("check digit is 4, should be 1"), "{told:?}");
    assert!(told[1].1.contains("spreadsheet") && told[2].1.contains("zero before it"), "{told:?}");
}

#[test]
fn prices_with_signs_and_thousands_are_read_where_they_are_clear() {
    let price =
        |text: &str| import(&format!("a,A,,true,,,,\"{text}\",true,\n")).map(|imported| imported.products[0].price);
    assert_eq!(price("$1,234.50").unwrap(), 123_450);
    assert_eq!(price("€ 7").unwrap(), 700);
    for unclear in
        ["1,234", "12,50", "1,23.4", "1.234,50", "1,234.5.0", "$", "1e3", "+3", "NaN", "92233720368547758.08"]
    {
        assert!(price(unclear).is_err(), "{unclear}");
    }
}

#[test]
fn stock_may_be_below_zero_and_must_be_a_number() {
    let file = |stock: &str| {
        format!(
            "Handle,Title,Variant Price,Variant Inventory Tracker,Variant Inventory Qty\na,A,1,shopify,{stock}\nb,B,1,,7\n"
        )
    };
    let imported = shopify(file("-2.5").as_bytes(), 2, None).unwrap();
    assert_eq!((imported.products[0].stock.as_str(), imported.products[1].stock.as_str()), ("-2.5", ""));
    let error = shopify(file("many").as_bytes(), 2, None).unwrap_err().to_string();
    assert!(error.contains("line 2, column `Variant Inventory Qty`: `many` is no quantity"), "{error}");
}

#[test]
fn a_sku_that_several_products_have_is_said_and_the_same_product_twice_is_an_error() {
    let imported = import("a,A,,true,,,X,1,true,\nb,B,,true,,,X,2,true,\nc,C,,true,,,Y,3,true,\n").unwrap();
    assert!(imported.products[0].sku.starts_with("X-") && imported.products[1].sku.starts_with("X-"));
    assert_eq!(imported.products[2].sku, "Y");
    assert!(
        imported.warnings[0].to_string().contains("line 3, column `Variant SKU`: 2 products"),
        "{:?}",
        imported.warnings
    );
    let error =
        import("a,A,,true,,,X,1,true,\nb,B,,true,,,Z,2,true,\na,A,,true,,,X,1,true,\n").unwrap_err().to_string();
    assert!(error.contains("line 4, column `Handle`: the same product and options stand in line 2"), "{error}");
    // A SKU that is made for one product may be another's own.
    let made = &imported.products[0].sku;
    let error =
        import(&format!("a,A,,true,,,X,1,true,\nb,B,,true,,,X,2,true,\nc,C,,true,,,{made},3,true,\n")).unwrap_err();
    assert!(error.to_string().contains("the product in line 2 has this SKU"), "{error}");
}

#[test]
fn only_the_first_twenty_errors_are_told_and_that_there_may_be_more_is_said() {
    let rows: String = (0..50).map(|index| format!("h{index},T,,true,,,,free,true,\n")).collect();
    let error = import(&rows).unwrap_err();
    let ImportError::Rows(errors) = &error else { panic!("{error}") };
    assert_eq!((errors.len(), errors[19].line), (20, 21));
    assert!(error.to_string().contains("the first 20"), "{error}");
}

#[test]
fn a_row_that_has_slipped_sideways_is_an_error() {
    let error = import("a,Tea, black,,true,,,,1.00,true,,x\n").unwrap_err().to_string();
    assert!(error.contains("more fields than the header"), "{error}");
}

/// A folder of files as people have them; it isn't part of this repository.
fn shared_files() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")
}

#[test]
fn real_files_import() {
    for (name, count) in [("shopify-apparel.csv", 22), ("shopify-home-and-garden.csv", 21)] {
        let Ok(file) = std::fs::File::open(shared_files().join(name)) else {
            eprintln!("{name} is not here: skipped");
            continue;
        };
        let rules = Rules { exponent: 2, tax: Some("standard".into()), location: None };
        let checked = products(file, &rules).unwrap();
        assert_eq!(checked.summary().format, Format::Shopify);
        assert_eq!((checked.summary().products, checked.summary().warned), (count, 0), "{name}");
        assert!(checked.summary().pictures > 0);
        let imported = checked.all().unwrap();
        assert_eq!((imported.products.len() as u64, imported.skipped), (count, 0), "{name}");
        assert!(imported.products.iter().all(|product| !product.sku.is_empty() && product.price > 0));
    }
    // What isn't a product file says so.
    let Ok(file) = std::fs::File::open(shared_files().join("groceries-baskets.csv")) else { return };
    let rules = Rules { exponent: 2, tax: None, location: None };
    assert!(matches!(products(file, &rules), Err(ImportError::Unknown { .. })));
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
