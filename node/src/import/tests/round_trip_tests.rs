use proptest::prelude::*;

use super::super::*;

fn write(format: Format, products: &[ProductView], exponent: u32) -> Vec<u8> {
    let mut exporter = Exporter::new(Vec::new(), format, exponent, "Stall").unwrap();
    for product in products {
        exporter.write(product).unwrap();
    }
    exporter.finish().unwrap()
}

fn read(file: &[u8], exponent: u32) -> Result<Vec<ProductView>, ImportError> {
    // A tax that no product of the file has: what a file of ours says wins.
    let rules = Rules { exponent, tax: Some("other".into()), location: None };
    Ok(products(Cursor::new(file), &rules)?.all()?.products)
}

/// Texts as a catalog has them: printable, without space around them; many with what other programs take for something.
fn word() -> impl Strategy<Value = String> {
    let mark = prop::sample::select(vec![
        "=",
        "+",
        "-",
        "@",
        "'",
        "''=",
        "'=",
        "\"",
        ",",
        ", ",
        "\\",
        "\\,",
        ";",
        "=SUM(A1)",
        "-1",
        "Regular",
        "Default Title",
        "(ABCDEFGHIJKLMNOPQRSTUVWX)",
    ]);
    prop_oneof![
        "[a-zé茶 ]{1,8}",
        (mark.clone(), "[a-z, ]{0,6}").prop_map(|(mark, rest)| format!("{mark}{rest}")),
        ("[a-z ]{0,5}", mark, "[a-z]{0,5}").prop_map(|(before, mark, after)| format!("{before}{mark}{after}")),
    ]
    .prop_map(|text| text.trim().to_owned())
    .prop_filter("a text", |text| !text.is_empty())
}

fn list() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(word(), 0..4)
}

fn product() -> impl Strategy<Value = ProductView> {
    let price = prop_oneof![0..100_000_u64, Just(i64::MAX as u64)];
    let stock = prop_oneof![Just(String::new()), "-?[0-9]{1,5}(\\.[0-9]{1,3})?"];
    let barcode = prop_oneof![word(), Just("4006381333931".to_owned()), Just("036000291452".to_owned())];
    let unit = prop::sample::select(vec!["piece", "kg", "g", "l", "m"]);
    let variant_of = prop_oneof![Just(String::new()), word()];
    ((word(), word(), price, list(), list()), (list(), prop::collection::vec(barcode, 0..3), unit, stock, variant_of))
        .prop_map(|((sku, name, price, taxes, categories), (tags, barcodes, unit, stock, variant_of))| ProductView {
            stall: String::new(),
            sku,
            name,
            price,
            taxes,
            categories,
            tags,
            barcodes,
            unit: unit.to_owned(),
            stock,
            variant_of,
            ..Default::default()
        })
}

fn catalog() -> impl Strategy<Value = Vec<ProductView>> {
    prop::collection::vec(product(), 0..12).prop_map(|mut products| {
        let mut seen = std::collections::BTreeSet::new();
        products.retain(|product| seen.insert(product.sku.clone()));
        products
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_is_exported_imports_again_to_the_same(products in catalog(), exponent in 0..4_u32) {
        for format in [Format::Shopify, Format::Square] {
            let file = write(format, &products, exponent);
            match read(&file, exponent) {
                Ok(again) => prop_assert_eq!(&again, &products, "{}: {}", format, String::from_utf8_lossy(&file)),
                Err(error) => prop_assert!(false, "{}: {}: {}", format, error, String::from_utf8_lossy(&file)),
            }
        }
    }

    /// Whatever a product holds that never came through an import.
    #[test]
    fn adv_152_no_cell_of_an_export_begins_a_formula(
        texts in prop::collection::vec("[=+\\-@\t\r\u{0}'\n]{0,3}\\PC{0,4}", 8),
        price in any::<u64>(),
    ) {
        let [sku, name, tax, category, tag, barcode, stock, variant_of] = &texts[..] else { unreachable!() };
        let product = ProductView {
            sku: sku.clone(),
            name: name.clone(),
            price,
            taxes: vec![tax.clone()],
            categories: vec![category.clone(), tag.clone()],
            tags: vec![tag.clone()],
            barcodes: vec![barcode.clone(), sku.clone()],
            unit: "kg".into(),
            stock: stock.clone(),
            variant_of: variant_of.clone(),
            ..Default::default()
        };
        for format in [Format::Shopify, Format::Square] {
            let file = write(format, std::slice::from_ref(&product), 2);
            let mut csv = csv::Reader::from_reader(file.as_slice());
            for field in csv.records().next().unwrap().unwrap().iter() {
                let is_number = field.parse::<f64>().is_ok();
                prop_assert!(is_number || !field.starts_with(['=', '+', '-', '@', '\t', '\r', '\0']), "{format}: {field:?}");
            }
        }
    }

    #[test]
    fn no_bytes_of_a_square_file_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "[\\PC,\n\"]{0,200}") {
        let head = "Item Name,Price,SKU,GTIN,Categories,Current Quantity A,Enabled A,Unit and Precision,Stallmesh Unit,Stallmesh Taxes\n";
        let _ = read(&[head.as_bytes(), &bytes].concat(), 2);
        let _ = read(format!("{head}{text}").as_bytes(), 2);
        let _ = read(&bytes, 2);
    }
}

#[test]
fn adv_152_texts_are_defused_and_numbers_stay_numbers() {
    let product = |name: &str, sku: &str, stock: &str| ProductView {
        sku: sku.into(),
        name: name.into(),
        price: 150,
        unit: "piece".into(),
        stock: stock.into(),
        ..Default::default()
    };
    for format in [Format::Shopify, Format::Square] {
        let products =
            [product("=HYPERLINK(\"x\")", "-5", "-3"), product("@tea", "+1", "2.5"), product("'tis", "'=1", "")];
        let file = write(format, &products, 2);
        let text = String::from_utf8(file.clone()).unwrap();
        for cell in ["\"'=HYPERLINK(\"\"x\"\")\"", "'-5", ",-3,", "'@tea", "'+1", ",2.5,", ",1.50,", "''=1", ",'tis"] {
            assert!(text.contains(cell), "{format}: {cell} is not in {text}");
        }
        assert_eq!(read(&file, 2).unwrap(), products);
        // What doesn't print may stand in a product that came by another way: defused on the way out, gone on the way in.
        for start in ["\t", "\r", "\0"] {
            let file = write(format, &[product(&format!("{start}=1+1"), "S", "")], 2);
            assert!(String::from_utf8(file.clone()).unwrap().contains(&format!("'{start}=1+1")));
            assert_eq!(read(&file, 2).unwrap()[0].name, "=1+1");
        }
    }
}

#[test]
fn a_variant_is_a_product_with_an_option_in_the_other_system() {
    let variant = |size: &str| ProductView {
        sku: format!("MUG-{size}"),
        name: format!("Blue Mug, {size}"),
        price: 1250,
        unit: "piece".into(),
        variant_of: "mug".into(),
        ..Default::default()
    };
    let products = [variant("S"), variant("L")];
    let shopify = String::from_utf8(write(Format::Shopify, &products, 2)).unwrap();
    assert!(shopify.contains("mug,Blue Mug,,,TRUE,Option,S,MUG-S,"), "{shopify}");
    let square = String::from_utf8(write(Format::Square, &products, 2)).unwrap();
    assert!(square.contains(",Blue Mug,L,MUG-L,"), "{square}");
}
