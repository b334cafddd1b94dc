#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Goods that own what they say.
#[derive(Clone, Debug, Default, PartialEq)]
struct Owned {
    stall: String,
    sku: String,
    name: String,
    barcodes: Vec<String>,
    categories: Vec<String>,
    tags: Vec<String>,
}

impl Owned {
    fn goods(&self) -> Goods<'_> {
        Goods {
            stall: &self.stall,
            sku: &self.sku,
            name: &self.name,
            barcodes: &self.barcodes,
            categories: &self.categories,
            tags: &self.tags,
        }
    }
}

fn product(stall: &str, sku: &str, name: &str) -> Owned {
    Owned { stall: stall.into(), sku: sku.into(), name: name.into(), ..Owned::default() }
}

fn index(products: &[Owned]) -> Index {
    let mut index = Index::default();
    products.iter().for_each(|product| index.insert(&product.goods()));
    index
}

fn skus(index: &Index, query: &str) -> Vec<String> {
    index.find(&Query::read(query).unwrap(), None, None, 100).into_iter().map(|found| found.sku).collect()
}

fn shelf() -> Vec<Owned> {
    vec![
        Owned {
            barcodes: vec!["036000291452".into()],
            categories: vec!["Töpferware".into()],
            tags: vec!["handmade".into()],
            ..product("river-ceramics", "MUG-L", "Große Tasse, blau")
        },
        product("river-ceramics", "MUG-S", "Kleine Tasse, blau"),
        product("tea-and-more", "TEA-7", "Thé à la menthe"),
        product("tea-and-more", "BLUE", "Øl, Łódź"),
        Owned { categories: vec!["Blau".into()], ..product("tea-and-more", "CUP", "Becher") },
    ]
}

#[test]
fn words_are_found_in_any_order_by_their_beginning_and_whatever_their_accents() {
    let index = index(&shelf());
    for (query, found) in [
        ("blau tasse", &["MUG-L", "MUG-S"] as &[&str]),
        ("TASSE GROSSE", &["MUG-L"]),
        ("große", &["MUG-L"]),
        ("the menthe", &["TEA-7"]),
        ("thé", &["TEA-7"]),
        ("lodz ol", &["BLUE"]),
        ("topfer", &["MUG-L"]),
        ("handmade river", &["MUG-L"]),
        ("tea more bech", &["CUP"]),
        ("asse", &[]),
        ("tasse tee", &[]),
    ] {
        assert_eq!(skus(&index, query), found, "{query}");
    }
}

#[test]
fn a_sku_and_a_barcode_go_before_everything_else() {
    let index = index(&shelf());
    assert_eq!(skus(&index, "mug"), ["MUG-L", "MUG-S"]);
    assert_eq!(skus(&index, "mug-s"), ["MUG-S"]);
    assert_eq!(skus(&index, "mugs"), ["MUG-S"], "however it is written");
    // A UPC is the EAN with a zero before it; the beginning of a code finds it, too.
    for code in ["036000291452", "0036000291452", "00036000291452", "0360002"] {
        assert_eq!(skus(&index, code), ["MUG-L"], "{code}");
    }
    // A name before a category, a whole word before the beginning of one.
    let kinds = [
        product("a", "1", "Blauer Topf"),
        product("a", "2", "Topf, blau"),
        Owned { tags: vec!["blau".into()], ..product("a", "3", "Aal") },
        product("a", "blau", "Zander"),
    ];
    assert_eq!(skus(&super::tests::index(&kinds), "blau"), ["blau", "2", "1", "3"]);
}

#[test]
fn equal_ones_are_ordered_by_name_stall_and_sku_and_pages_join() {
    let names = ["Anis", "anis", "Änis", "Anis tee", "Boris"];
    let products: Vec<Owned> = (0..60_usize)
        .map(|number| product(["b", "a"][number % 2], &format!("{number:02}"), &format!("{} x", names[number % 5])))
        .collect();
    let index = index(&products);
    let query = Query::read("x").unwrap();
    let whole = index.find(&query, None, None, 100);
    assert_eq!(whole.len(), 60);
    let key = |found: &Found| (found.name.clone(), found.stall.clone(), found.sku.clone());
    assert!(whole.is_sorted_by_key(key));
    for size in [1, 7, 59, 60] {
        let mut pages: Vec<Found> = Vec::new();
        loop {
            let page = index.find(&query, None, pages.last(), size);
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        assert_eq!(pages, whole, "pages of {size}");
    }
    assert_eq!(index.find(&query, Some("a"), None, 100).len(), 30);
}

#[test]
fn a_query_needs_a_word_and_has_an_end() {
    assert_eq!(Query::read(" -- "), Err(QueryError::Empty));
    assert_eq!(Query::read(&"a".repeat(201)), Err(QueryError::TooLong));
    assert_eq!(Query::read("a b c d e f g h i j k l m"), Err(QueryError::TooLong));
    assert!(Query::read("a a a a a a a a a a a a a a a a a").is_ok());
}

fn texts() -> impl Strategy<Value = Owned> {
    let word = "[a-cA-Cäöß]{1,3}";
    let text = prop::collection::vec(word, 0..4).prop_map(|words| words.join(" "));
    ("[ab]", "[a-c]{1,2}", text.clone(), prop::collection::vec(text, 0..2)).prop_map(|(stall, sku, name, tags)| Owned {
        stall,
        sku,
        name,
        tags,
        ..Owned::default()
    })
}

proptest! {
    /// Whatever came and went, it finds what an index finds that was made of what is there.
    #[test]
    fn it_follows_what_changes(
        changes in prop::collection::vec((texts(), any::<bool>()), 0..60),
        query in "[a-c]{1,2}( [a-c]{1,2})?",
    ) {
        let mut there: BTreeMap<(String, String), Owned> = BTreeMap::new();
        let mut changed = Index::default();
        for (product, stays) in changes {
            if let Some(before) = there.remove(&(product.stall.clone(), product.sku.clone())) {
                changed.remove(&before.goods());
            }
            if stays {
                changed.insert(&product.goods());
                there.insert((product.stall.clone(), product.sku.clone()), product);
            }
        }
        let fresh = index(&there.values().cloned().collect::<Vec<_>>());
        let query = Query::read(&query).unwrap();
        prop_assert_eq!(changed.find(&query, None, None, 100), fresh.find(&query, None, None, 100));
        prop_assert_eq!(changed.len(), there.len());
        // And that is what a look at each product finds.
        let by_hand = there.values().filter(|product| {
            let mut all = vec![product.stall.as_str(), &product.sku, &product.name];
            all.extend(product.tags.iter().map(String::as_str));
            let folded = fold(&all.join(" "));
            let found = |word: &String| words(&folded).any(|known| known.starts_with(word.as_str()));
            query.words.iter().all(found) || squash(&fold(&product.sku)) == query.whole
        });
        prop_assert_eq!(by_hand.count(), fresh.find(&query, None, None, 100).len());
    }
}
