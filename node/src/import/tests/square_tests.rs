use super::super::*;

/// The columns of a file that Square's dashboard wrote in 2025, and some of those of older ones.
const HEAD: &str = "Reference Handle,Token,Item Name,Variation Name,SKU,Description,Categories,Reporting Category,SEO Title,Permalink,GTIN,Square Online Item Visibility,Item Type,Weight (kg),Price,Online Sale Price,Archived,Sellable,Contains Alcohol,Stockable,Option Name 1,Option Value 1,Default Unit Cost,Default Vendor Name,Current Quantity Old Town,New Quantity Old Town,Stock Alert Enabled Old Town,Price Old Town,Enabled Old Town,Tax - Sales Tax (8.5%),Tax - Food (2%),Unit and Precision\n";

fn row(cells: &[(&str, &str)]) -> String {
    let columns: Vec<&str> = HEAD.trim().split(',').collect();
    for (name, _) in cells {
        assert!(columns.contains(name), "{name}");
    }
    let cell = |column: &&str| cells.iter().find(|(name, _)| name == column).map_or("", |(_, value)| *value);
    let fields: Vec<String> = columns.iter().map(|column| format!("\"{}\"", cell(column))).collect();
    format!("{}\n", fields.join(","))
}

fn import(file: &str, location: Option<&str>) -> Result<Imported, ImportError> {
    let rules = Rules { exponent: 2, tax: Some("standard".into()), location: location.map(str::to_owned) };
    let checked = products(Cursor::new(file.as_bytes()), &rules)?;
    assert_eq!(checked.summary().format, Format::Square);
    checked.all()
}

#[test]
fn an_item_with_variations_is_read_with_all_that_a_catalog_has() {
    let file = format!(
        "{HEAD}{}{}",
        row(&[
            ("Token", "T1"),
            ("Item Name", "Coffee beans"),
            ("Variation Name", "Dark"),
            ("SKU", "C-D"),
            ("Categories", "Drinks (T2B3ROTJ3HFGVBO22QLOOJDE), Beans (A2B3ROTJ3HFGVBO22QLOOJDE)"),
            ("Reporting Category", "Beans (A2B3ROTJ3HFGVBO22QLOOJDE)"),
            ("GTIN", "036000291452"),
            ("Price", "18.00"),
            ("Default Unit Cost", "7.77"),
            ("Default Vendor Name", "Secret Supplier"),
            ("Current Quantity Old Town", "-1.25"),
            ("Tax - Sales Tax (8.5%)", "Y"),
            ("Tax - Food (2%)", "N"),
            ("Unit and Precision", "Kilogram (kg) - .00"),
        ]),
        row(&[
            ("Token", "T2"),
            ("Item Name", "Bag"),
            ("Variation Name", "Regular"),
            ("Price", "0.30"),
            ("Tax - Food (2%)", "N")
        ]),
    );
    let imported = import(&file, None).unwrap();
    let beans = ProductView {
        sku: "C-D".into(),
        name: "Coffee beans, Dark".into(),
        price: 1800,
        taxes: vec!["standard".into()],
        categories: vec!["Beans".into(), "Drinks".into()],
        barcodes: vec!["036000291452".into()],
        unit: "kg".into(),
        stock: "-1.25".into(),
        variant_of: "Coffee beans".into(),
        ..Default::default()
    };
    let bag =
        ProductView { sku: "BAG".into(), name: "Bag".into(), price: 30, unit: "piece".into(), ..Default::default() };
    assert_eq!(imported.products, [beans, bag]);
    assert_eq!(imported.warnings, []);
    let published = serde_json::to_string(&imported.products).unwrap();
    assert!(!published.contains("7.77") && !published.contains("Supplier"), "{published}");
}

#[test]
fn what_has_no_price_of_its_own_is_left_out_and_said() {
    let file = format!(
        "{HEAD}{}{}{}",
        row(&[("Item Name", "Donation"), ("Price", "variable")]),
        row(&[("Item Name", "Old lamp"), ("Price", "")]),
        row(&[("Item Name", "Mug"), ("Price", "$8.00")]),
    );
    let imported = import(&file, None).unwrap();
    assert_eq!((imported.products.len(), imported.skipped), (1, 2));
    assert_eq!(imported.warnings.iter().map(|warning| warning.row).collect::<Vec<_>>(), [2, 3]);
    assert!(imported.warnings[0].to_string().contains("left out"));
}

#[test]
fn archived_unsellable_and_disabled_items_are_left_out() {
    let file = format!(
        "{HEAD}{}{}{}{}",
        row(&[("Item Name", "A"), ("Price", "1"), ("Archived", "Y")]),
        row(&[("Item Name", "B"), ("Price", "1"), ("Sellable", "N")]),
        row(&[("Item Name", "C"), ("Price", "1"), ("Enabled Old Town", "N")]),
        row(&[("Item Name", "D"), ("Price", "1"), ("Enabled Old Town", "Y")]),
    );
    let imported = import(&file, None).unwrap();
    assert_eq!((imported.products[0].name.as_str(), imported.skipped), ("D", 3));
}

#[test]
fn wrong_rows_are_named_and_nothing_is_imported() {
    let file = format!(
        "{HEAD}{}{}{}",
        row(&[("Item Name", ""), ("SKU", "S"), ("Price", "1")]),
        row(&[("Item Name", "B"), ("Price", "-1")]),
        row(&[("Item Name", "C"), ("Price", "1"), ("Current Quantity Old Town", "few")]),
    );
    let ImportError::Rows(errors) = import(&file, None).unwrap_err() else { panic!() };
    let told: Vec<(u64, &str)> = errors.iter().map(|error| (error.line, error.column)).collect();
    assert_eq!(told, [(2, "Item Name"), (3, "Price"), (4, "Current Quantity")]);
}

#[test]
fn stock_and_price_are_those_of_the_location_that_the_stall_is() {
    let file = "Item Name,SKU,Price,Current Quantity North,Current Quantity South,Price South,Enabled North,Enabled South\n\
                Mug,M,5,10,2,6.50,Y,Y\nJug,J,5,1,,,Y,N\n";
    let south = import(file, Some("south")).unwrap();
    assert_eq!((south.products.len(), south.skipped), (1, 1));
    assert_eq!((south.products[0].stock.as_str(), south.products[0].price), ("2", 650));
    let north = import(file, Some("North")).unwrap();
    assert_eq!((north.products[0].stock.as_str(), north.products[0].price, north.products.len()), ("10", 500, 2));
    // None is chosen: what is elsewhere can't be sold here.
    let nowhere = import(file, None).unwrap();
    assert!(nowhere.products.iter().all(|product| product.stock.is_empty()));
    assert!(nowhere.warnings[0].to_string().contains("North, South"), "{:?}", nowhere.warnings);
    let error = import(file, Some("West")).unwrap_err().to_string();
    assert_eq!(error, "the file has no location `West`; it has North, South");
}

#[test]
fn older_files_have_fewer_columns_and_other_units_are_said() {
    let file = "Token,Item Name,Description,Category,SKU,Variation Name,Price,Current Quantity,Unit and Precision\r\n\
                ,Rope,,Tools,R,Red,2.50,12,lb - .00\r\n";
    let imported = import(file, None).unwrap();
    let rope = &imported.products[0];
    assert_eq!((rope.stock.as_str(), rope.unit.as_str(), rope.name.as_str()), ("12", "piece", "Rope, Red"));
    assert_eq!(rope.taxes, ["standard"], "without tax columns everything is taxed");
    assert!(imported.warnings[0].to_string().contains("`lb - .00` is no unit"), "{:?}", imported.warnings);
}

#[test]
fn items_of_one_name_are_told_apart_by_their_tokens() {
    let file = "Token,Item Name,Variation Name,SKU,Price\nT1,Soap,Regular,,3\nT2,Soap,Regular,,4\n";
    let imported = import(file, None).unwrap();
    let skus: Vec<&str> = imported.products.iter().map(|product| product.sku.as_str()).collect();
    assert!(skus[0] != skus[1] && skus.iter().all(|sku| sku.starts_with("SOAP-")), "{skus:?}");
    let twice = "Token,Item Name,Variation Name,SKU,Price\nT1,Soap,Regular,,3\nT1,Soap,Regular,,3\n";
    assert!(matches!(import(twice, None), Err(ImportError::Rows(_))));
}

#[test]
fn a_header_of_neither_says_what_each_needs() {
    let rules = Rules { exponent: 2, tax: None, location: None };
    let error = products(Cursor::new(b"Handle,Title,Cost\na,A,1\n"), &rules).unwrap_err().to_string();
    assert!(error.contains("`Handle`, `Title`, `Variant Price` (missing)"), "{error}");
    assert!(
        error.contains("`Item Name` (missing), `Price` (missing)") && error.contains("Handle,Title,Cost"),
        "{error}"
    );
    // What a spreadsheet makes of a comma where commas are decimal points.
    let error = products(Cursor::new(b"Handle;Title;Variant Price\na;A;1\n"), &rules).unwrap_err().to_string();
    assert!(error.contains("`;`"), "{error}");
}
