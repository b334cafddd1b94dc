//! Products by words, by looking at each of them: what the index is measured against, and held to.

use stallmesh_node::search::{Goods, fold, words};

/// How many products have a word that begins with each word of a query.
pub fn count(products: &[Goods<'_>], query: &str) -> usize {
    let query = fold(query);
    let wanted: Vec<&str> = words(&query).collect();
    products.iter().filter(|product| matches(product, &wanted)).count()
}

fn matches(product: &Goods<'_>, wanted: &[&str]) -> bool {
    let mut text = format!("{} {} {}", product.name, product.sku, product.stall);
    for more in product.categories.iter().chain(product.tags).chain(product.barcodes) {
        text.push(' ');
        text.push_str(more);
    }
    let text = fold(&text);
    wanted.iter().all(|wanted| words(&text).any(|word| word.starts_with(wanted)))
}
