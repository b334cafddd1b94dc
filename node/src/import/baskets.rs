//! Baskets as a file: one a line, item names separated by commas.

use std::io::{BufRead, BufReader, Read};

use stallmesh_protocol::hash::{Domain, Hasher};

/// The longest line, in bytes.
const LINE_MAX: u64 = 64 * 1024;
/// The most baskets.
const BASKETS_MAX: usize = 1_000_000;

/// Why a file of baskets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BasketsError {
    /// It can't be read.
    #[error("the baskets can't be read: {0}")]
    Io(#[from] std::io::Error),
    /// A line is wrong.
    #[error("line {line}: {detail}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        detail: String,
    },
}

/// Reads baskets; empty lines are passed over.
///
/// # Errors
/// Not UTF-8, a line that is too long, or too many of them.
pub fn read_baskets(reader: impl Read) -> Result<Vec<Vec<String>>, BasketsError> {
    let mut reader = BufReader::new(reader);
    let mut baskets = Vec::new();
    for line in 1.. {
        let mut bytes = Vec::new();
        (&mut reader).take(LINE_MAX + 1).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            break;
        }
        let error = |detail: String| BasketsError::Line { line, detail };
        if bytes.len() as u64 > LINE_MAX {
            return Err(error(format!("longer than {LINE_MAX} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| error("not UTF-8".into()))?;
        let items: Vec<String> =
            text.trim().split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
        if !items.is_empty() {
            baskets.push(items);
        }
        if baskets.len() > BASKETS_MAX {
            return Err(error(format!("more than {BASKETS_MAX} baskets")));
        }
    }
    Ok(baskets)
}

/// A price for a product that only a basket names, drawn from the seed: 0.49 to 24.99 in steps of ten.
pub fn price_for(name: &str, seed: u64) -> u64 {
    let hash = Hasher::new(Domain::Part).u64(seed).bytes(name.as_bytes()).finish();
    let mut number = [0; 8];
    number.copy_from_slice(&hash.as_bytes()[..8]);
    49 + u64::from_be_bytes(number) % 246 * 10
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn items_are_trimmed_and_prices_are_drawn_from_the_seed() {
        let baskets = read_baskets("pip fruit,yogurt,cream cheese \r\n\nwhole milk\n".as_bytes()).unwrap();
        assert_eq!(baskets, [vec!["pip fruit", "yogurt", "cream cheese"], vec!["whole milk"]]);
        assert_eq!(price_for("yogurt", 1), price_for("yogurt", 1));
        assert!((0..1000).all(|seed| (49..=2499).contains(&price_for("yogurt", seed))));
        assert!(read_baskets([0xff, b'\n'].as_slice()).is_err());
        assert!(read_baskets(vec![b'a'; 70_000].as_slice()).is_err());
    }
}
