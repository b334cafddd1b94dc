//! Reading what people have: product files of other systems, and baskets.

mod baskets;
mod shopify;

pub use self::baskets::{BasketsError, price_for, read_baskets};
pub use self::shopify::{ImportError, Imported, RowError, shopify};
