//! Pages as they travel: packed with LZ4, where that makes them smaller. A page is hashed and signed unpacked, so packing
//! is a matter between two neighbours.

use std::borrow::Cow;

use thiserror::Error;

use crate::id::LogName;
use crate::page::PAGE_MAX;
use crate::wire;

/// Shorter pages are hardly worth it.
const PACKED_FROM: usize = 128;

/// A page that can't be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PackError {
    /// It would be longer than any page. Nothing was unpacked.
    #[error("E_TOO_LARGE: a page of {0} bytes; the limit is {PAGE_MAX}")]
    TooLarge(u32),
    /// It isn't a block, or another length comes out of it.
    #[error("E_DECODE: a page that can't be unpacked")]
    Damaged,
}

/// A page as it travels. `request`: what it answers, 0 for nothing; `custody`: the receiver is asked to keep it.
pub fn pack(request: u64, log: &LogName, page: Vec<u8>, custody: bool) -> wire::Page {
    let log = Some(log.into());
    let packed = (page.len() >= PACKED_FROM).then(|| lz4_flex::block::compress(&page));
    match (packed, u32::try_from(page.len())) {
        // A few bytes aren't worth the work at the other end.
        (Some(packed), Ok(unpacked)) if packed.len() + page.len() / 32 < page.len() => {
            wire::Page { request, log, page: packed, custody, unpacked }
        }
        _ => wire::Page { request, log, page, custody, unpacked: 0 },
    }
}

/// The bytes of a page that has arrived. Room is made for what it says that comes out, at most [`PAGE_MAX`] bytes.
///
/// # Errors
/// It says more than that, or something else comes out.
pub fn unpack(page: &wire::Page) -> Result<Cow<'_, [u8]>, PackError> {
    if page.unpacked == 0 {
        return Ok(Cow::Borrowed(&page.page));
    }
    let length = usize::try_from(page.unpacked).ok().filter(|length| *length <= PAGE_MAX);
    let length = length.ok_or(PackError::TooLarge(page.unpacked))?;
    let mut bytes = vec![0; length];
    match lz4_flex::block::decompress_into(&page.page, &mut bytes) {
        Ok(written) if written == length => Ok(Cow::Owned(bytes)),
        _ => Err(PackError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::id::{DeviceId, Incarnation, Lane};

    const LOG: LogName =
        LogName { author: DeviceId::from_bytes([1; 32]), incarnation: Incarnation::from_bytes([2; 16]), lane: Lane(3) };

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(words in prop::collection::vec(0..40_u16, 0..3_000), noise in any::<[u8; 32]>()) {
            let mut page: Vec<u8> = words.iter().flat_map(|word| format!("word {word} ").into_bytes()).collect();
            page.extend(noise);
            let packed = pack(7, &LOG, page.clone(), true);
            prop_assert!(packed.page.len() <= page.len());
            prop_assert!(words.len() < 500 || packed.unpacked > 0);
            prop_assert_eq!(unpack(&packed).unwrap().into_owned(), page);
        }

        #[test]
        fn nothing_that_is_altered_comes_out_longer_than_it_says(at in 0..200_usize, flip in 1..=255_u8, says in any::<u32>()) {
            let mut packed = pack(0, &LOG, b"so it goes, and so it goes; ".repeat(40), false);
            let at = at % packed.page.len();
            packed.page[at] ^= flip;
            if let Ok(bytes) = unpack(&packed) {
                prop_assert_eq!(bytes.len(), 28 * 40);
            }
            packed.unpacked = says;
            let result = unpack(&packed);
            prop_assert!(says as usize <= PAGE_MAX || result == Err(PackError::TooLarge(says)));
        }
    }

    #[test]
    fn adv_005_a_page_that_grows_beyond_any_page_is_refused_before_there_is_room_for_it() {
        // 255 times as long: what a block can hold at most.
        let packed = lz4_flex::block::compress(&vec![0; 64 * PAGE_MAX]);
        let page = |unpacked: u32| wire::Page { page: packed.clone(), unpacked, ..wire::Page::default() };
        assert_eq!(unpack(&page(64 * PAGE_MAX as u32)), Err(PackError::TooLarge(64 * PAGE_MAX as u32)));
        assert_eq!(unpack(&page(u32::MAX)), Err(PackError::TooLarge(u32::MAX)));
        // It says less than comes out: the room that it says is all that it gets.
        assert_eq!(unpack(&page(PAGE_MAX as u32)), Err(PackError::Damaged));
        // It says more than comes out.
        let short = lz4_flex::block::compress(&[0; 100]);
        assert_eq!(
            unpack(&wire::Page { page: short, unpacked: 101, ..wire::Page::default() }),
            Err(PackError::Damaged)
        );
    }
}
