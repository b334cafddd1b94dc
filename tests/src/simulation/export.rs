//! Reading exports: the pages of all logs that a node holds.

use stallmesh_protocol::page::Page;
use stallmesh_protocol::{DeviceId, Incarnation, Lane, LogName, MarketId};

/// Type of a record that holds a page.
const PAGE: u8 = 2;

/// The pages in an export.
///
/// # Panics
/// It is damaged.
pub fn exported_pages(export: &[u8]) -> Vec<(LogName, Page)> {
    let mut rest = export.strip_prefix(b"STALLMESH-EXPORT/1\n").unwrap_or_default();
    let mut pages = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(5) {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (record, after) = after.split_at(length);
        if head[0] == PAGE {
            let log = LogName {
                author: DeviceId::try_from(&record[..32]).unwrap_or_default(),
                incarnation: Incarnation::try_from(&record[32..48]).unwrap_or_default(),
                lane: Lane(u32::from_be_bytes([record[48], record[49], record[50], record[51]])),
            };
            match Page::decode(&record[52..]) {
                Ok(page) => pages.push((log, page)),
                Err(error) => panic!("{error}"),
            }
        }
        rest = after;
    }
    assert!(rest.is_empty(), "an export ends with a whole record");
    pages
}

/// Entries of a page from a sequence on, up to another, as a page of their own: both must be signed there. `None` where
/// it has none of them.
///
/// # Panics
/// The page doesn't hold.
pub fn part_of(page: Page, from: u64, to: u64, log: &LogName, market: &MarketId) -> Option<Page> {
    let verified = match page.verify(&log.id(market), &log.author) {
        Ok(verified) => verified,
        Err(error) => panic!("{error}"),
    };
    let first = from.max(verified.page().first);
    let to = to.min(verified.page().last());
    if first > to {
        return None;
    }
    let skipped = (first - verified.page().first) as usize;
    let previous = match skipped {
        0 => verified.page().previous,
        _ => verified.hashes()[skipped - 1],
    };
    let page = verified.into_page();
    let entries = page.entries[skipped..=(to - page.first) as usize].to_vec();
    let signatures = page.signatures.into_iter().filter(|(at, _)| first <= *at && *at <= to).collect();
    Some(Page { first, previous, entries, signatures })
}
