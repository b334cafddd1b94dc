//! Making pages and branches of what is held.

use stallmesh_protocol::entry::{Header, verify_head};
use stallmesh_protocol::fork::Branch;
use stallmesh_protocol::page::{CARRIED_EVERY, ENTRIES_MAX, ENTRY_OVERHEAD_MAX, PAGE_MAX, Page};
use stallmesh_protocol::sign::Signature;
use stallmesh_protocol::{Head, Kind, LogName};

use super::rows::position_key;
use super::{Logs, Run};
use crate::engine::overlay::Overlay;
use crate::store::{Store, StoreError, Table};

/// A page of at most so many entries carries every signature that is held.
const SHORT: usize = 128;
/// Bytes of entries between two signatures that a longer page carries though it need not.
const CUT_EVERY_BYTES: usize = 32 * 1024;

impl Logs {
    /// A page of a run that begins at `from` and ends at a signed entry not after `to`; on sealed lanes, where there is
    /// none, at the first one after it, for what the receiver has already does no harm. At most `bytes_max` bytes where
    /// one entry fits that. Without a run: of a log without branches.
    pub(crate) fn page<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        from: u64,
        to: u64,
        run: Option<&Run>,
        bytes_max: usize,
    ) -> Result<Option<Page>, StoreError> {
        match self.page_to(overlay, name, from, to, run, bytes_max)? {
            // No budget: the first signature ends it.
            None if name.lane.is_sealed() => {
                let end = run.map_or(u64::MAX - 1, |run| run.to);
                self.page_to(overlay, name, from, end, run, 0)
            }
            page => Ok(page),
        }
    }

    fn page_to<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        from: u64,
        to: u64,
        run: Option<&Run>,
        bytes_max: usize,
    ) -> Result<Option<Page>, StoreError> {
        let id = self.id(name);
        let chain = match run {
            Some(run) => self.entries(overlay, name, run, from, to, ENTRIES_MAX)?,
            None => self.chain(overlay, name, from, to, None, ENTRIES_MAX)?,
        };
        let Some(first) = chain.first() else { return Ok(None) };
        let start = first.previous;
        let budget = bytes_max.min(PAGE_MAX).saturating_sub(128);
        let mut bytes = 0;
        let mut entries = Vec::new();
        // With each, whether a long page carries it, too.
        let mut signatures: Vec<(u64, Signature, bool)> = Vec::new();
        let (mut whole, mut cut) = (0, 0);
        for held in chain {
            bytes += held.entry.payload.length() + ENTRY_OVERHEAD_MAX;
            let head = Head { sequence: held.sequence, hash: held.hash };
            // Past the budget only as far as the first signature, so that every page says something.
            if bytes > budget && (whole > 0 || bytes > PAGE_MAX - 128) {
                break;
            }
            let opens_others = held.entry.kind == Kind::KEY;
            entries.push(held.entry);
            if let Some(signature) = overlay.get(Table::Signatures, &position_key(&id, head))?
                && let Ok(signature) = Signature::try_from(signature.as_slice())
            {
                whole = entries.len();
                let must = held.sequence.is_multiple_of(CARRIED_EVERY) || opens_others;
                let carried = must || bytes - cut >= CUT_EVERY_BYTES;
                cut = if carried { bytes } else { cut };
                bytes += 66;
                signatures.push((held.sequence, signature, carried));
            }
        }
        if whole == 0 {
            return Ok(None);
        }
        entries.truncate(whole);
        // Receivers check all that a page carries: of a long one what it must, and what lets them cut it again.
        let last = signatures.last().map(|(at, _, _)| *at);
        signatures.retain(|(at, _, carried)| whole <= SHORT || *carried || Some(*at) == last);
        let signatures = signatures.into_iter().map(|(at, signature, _)| (at, signature)).collect();
        Ok(Some(Page { first: from, previous: start, entries, signatures }))
    }

    /// The branch that begins with the given entry, up to the next signature that holds.
    pub(crate) fn branch<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        first: Head,
    ) -> Result<Option<Branch>, StoreError> {
        let id = self.id(name);
        let Some(held) = self.entry(overlay, name, first)? else { return Ok(None) };
        let mut headers: Vec<Header> = Vec::new();
        for held in std::iter::once(held).chain(self.chain(
            overlay,
            name,
            first.sequence + 1,
            u64::MAX - 1,
            Some(first.hash),
            ENTRIES_MAX,
        )?) {
            headers.push(held.entry.header());
            let head = Head { sequence: held.sequence, hash: held.hash };
            if let Some(signature) = overlay.get(Table::Signatures, &position_key(&id, head))?
                && let Ok(signature) = Signature::try_from(signature.as_slice())
                && verify_head(&name.author, &id, &head, &signature).is_ok()
            {
                return Ok(Some(Branch { headers, signature }));
            }
        }
        Ok(None)
    }
}
