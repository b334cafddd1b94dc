//! A disk as the hardware makes it: written in sectors, each of which reaches it on its own; a power supply; syncs that
//! fail, or lie; room that ends; bits that rot.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stallmesh_node::store::StorageBackend;

/// What a disk writes at once or not at all.
const SECTOR: u64 = 512;

/// One file on a disk. A clone is another handle of the same file.
#[derive(Clone, Debug, Default)]
pub struct Medium(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a power cut can't take.
    durable: Vec<u8>,
    /// Sectors that were written since the last sync.
    unsynced: BTreeMap<u64, [u8; SECTOR as usize]>,
    length: u64,
    /// Nothing is read or written any more: the process was killed, or the power is off.
    off: bool,
    /// Writes until the power goes.
    writes_left: Option<u64>,
    /// Syncs until one fails. As ext4 does, the error is said once, and what it was to write is gone.
    syncs_until_failure: Option<u64>,
    /// Syncs say yes and do nothing.
    lies: bool,
    /// The most bytes that have room.
    capacity: Option<u64>,
}

impl State {
    fn check(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn byte_ranges(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
        // (Sector, range of the caller's bytes, offset inside the sector)
        let end = offset + length as u64;
        let mut at = offset;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let sector = at / SECTOR;
            let inside = (at % SECTOR) as usize;
            let until = end.min((sector + 1) * SECTOR);
            let range = (at - offset) as usize..(until - offset) as usize;
            at = until;
            Some((sector, range, inside))
        })
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        out.fill(0);
        let start = (offset as usize).min(self.durable.len());
        let end = (offset as usize + out.len()).min(self.durable.len());
        out[..end - start].copy_from_slice(&self.durable[start..end]);
        for (sector, range, inside) in Self::byte_ranges(offset, out.len()) {
            if let Some(bytes) = self.unsynced.get(&sector) {
                let length = range.len();
                out[range].copy_from_slice(&bytes[inside..inside + length]);
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for (sector, range, inside) in Self::byte_ranges(offset, data.len()) {
            let durable = &self.durable;
            let bytes = self.unsynced.entry(sector).or_insert_with(|| {
                let mut bytes = [0; SECTOR as usize];
                let start = ((sector * SECTOR) as usize).min(durable.len());
                let end = (start + SECTOR as usize).min(durable.len());
                bytes[..end - start].copy_from_slice(&durable[start..end]);
                bytes
            });
            bytes[inside..inside + range.len()].copy_from_slice(&data[range]);
        }
    }

    /// Lets the sectors for which `keep` holds reach the disk, and forgets the others.
    fn settle(&mut self, mut keep: impl FnMut(u64) -> bool) {
        let length = self.length as usize;
        self.durable.resize(length, 0);
        for (sector, bytes) in std::mem::take(&mut self.unsynced) {
            let start = (sector * SECTOR) as usize;
            let end = (start + bytes.len()).min(length);
            if start < end && keep(sector) {
                self.durable[start..end].copy_from_slice(&bytes[..end - start]);
            }
        }
    }
}

impl Medium {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked while holding it has failed the run already.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk with all that is to be read on this one now.
    pub fn copy(&self) -> Medium {
        let state = self.state();
        let mut durable = vec![0; state.length as usize];
        state.read(0, &mut durable);
        let length = state.length;
        Medium(Arc::new(Mutex::new(State { durable, length, ..State::default() })))
    }

    /// From here on nothing more is written: the process that has it open is gone. What it wrote before is kept by the
    /// system, synced or not.
    pub fn kill(&self) {
        self.state().off = true;
    }

    /// The power goes after so many more writes.
    pub fn cut_after(&self, writes: u64) {
        self.state().writes_left = Some(writes);
    }

    /// The power went: of what wasn't synced, each sector has reached the disk, or not, as `random` draws.
    pub fn lose_unsynced(&self, mut random: impl FnMut() -> u64) {
        let mut state = self.state();
        state.off = true;
        state.settle(|_| random().is_multiple_of(2));
    }

    /// The next process may have it.
    pub fn power_on(&self) {
        let mut state = self.state();
        (state.off, state.writes_left) = (false, None);
    }

    /// The sync after so many more fails.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.state().syncs_until_failure = Some(syncs);
    }

    /// Whether syncs are true from here on.
    pub fn lie(&self, lies: bool) {
        self.state().lies = lies;
    }

    /// Leaves room for so many more bytes; `None`: for as many as anybody likes.
    pub fn set_room(&self, bytes: Option<u64>) {
        let mut state = self.state();
        state.capacity = bytes.map(|bytes| state.length + bytes);
    }

    /// Flips bits.
    pub fn rot(&self, bits: u32, mut random: impl FnMut() -> u64) {
        let mut state = self.state();
        let length = state.durable.len() as u64;
        for _ in 0..bits.min(u32::try_from(length).unwrap_or(u32::MAX)) {
            let at = random() % length;
            state.durable[at as usize] ^= 1 << (random() % 8);
        }
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.state().length
    }

    /// Whether the power has gone by [`Medium::cut_after`].
    pub fn is_off(&self) -> bool {
        self.state().off
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        let state = self.state();
        state.check()?;
        Ok(state.length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        state.check()?;
        state.read(offset, out);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        if length > state.length && state.capacity.is_some_and(|capacity| length > capacity) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        state.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        match &mut state.syncs_until_failure {
            Some(0) => {
                state.syncs_until_failure = None;
                state.unsynced.clear();
                return Err(io::Error::other("the disk said no"));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if !state.lies {
            state.settle(|_| true);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        match &mut state.writes_left {
            Some(0) => {
                state.off = true;
                return Err(io::Error::other("the power is off"));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if state.capacity.is_some_and(|capacity| offset + data.len() as u64 > capacity) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        state.write(offset, data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsynced_sectors_are_lost_one_by_one_and_synced_ones_never() -> io::Result<()> {
        let medium = Medium::default();
        medium.set_len(4 * SECTOR)?;
        medium.write(0, &[1; 4 * SECTOR as usize])?;
        medium.sync_data()?;
        medium.write(100, &[2; 3 * SECTOR as usize])?;
        let mut seen = [0; 8];
        medium.read(SECTOR - 4, &mut seen)?;
        assert_eq!(seen, [2; 8]);
        let mut keep = 0;
        medium.lose_unsynced(|| {
            keep += 1;
            keep
        });
        assert!(medium.read(0, &mut seen).is_err(), "the power is off");
        medium.power_on();
        let mut all = [0; 4 * SECTOR as usize];
        medium.read(0, &mut all)?;
        // The second and the fourth were drawn to be kept.
        let sectors: Vec<u8> = all.chunks(SECTOR as usize).map(|sector| sector[200]).collect();
        assert_eq!((sectors, all[3 * SECTOR as usize]), (vec![1, 2, 1, 1], 2));
        Ok(())
    }

    #[test]
    fn a_full_disk_a_failed_sync_and_a_lie_are_what_they_say() -> io::Result<()> {
        let medium = Medium::default();
        medium.set_len(SECTOR)?;
        medium.set_room(Some(10));
        assert_eq!(medium.set_len(SECTOR + 11).map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
        medium.set_room(None);
        medium.write(0, &[1])?;
        medium.fail_sync_after(0);
        assert!(medium.sync_data().is_err());
        assert!(medium.sync_data().is_ok(), "it is said once");
        let mut byte = [9];
        medium.read(0, &mut byte)?;
        assert_eq!(byte, [0], "and what it was to write is gone");
        medium.lie(true);
        medium.write(0, &[1])?;
        medium.sync_data()?;
        medium.lose_unsynced(|| 1);
        medium.power_on();
        medium.read(0, &mut byte)?;
        assert_eq!(byte, [0]);
        Ok(())
    }
}
