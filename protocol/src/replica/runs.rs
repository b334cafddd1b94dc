//! Runs of a clock as they travel: its logs in order, cut into runs, of each run a fingerprint or what is in it.
//!
//! ```text
//! runs  = p u8 ‖ bound ‖ (bound ‖ mode u8 ‖ content) …       a run ends before its bound; the first bound is where
//!                                                              the first begins
//! bound = length u8 ‖ bytes                                   compared with author ‖ incarnation ‖ lane u32;
//!                                                              empty at the end: there is no bound
//! name  = shared u8 ‖ the rest of author ‖ incarnation ‖ lane varint      `shared` bytes are as in the name before
//!
//! mode 0  as both have it: nothing
//!      1  fingerprint 6 ‖ of names 4
//!      2  all of it, to be answered: of names 4 ‖ count ‖ (sequence ‖ p bytes of its hash) each, in order of names
//!      3  the same, not to be answered
//!      4  all of it, to be answered: count ‖ (name ‖ sequence ‖ p bytes of its hash) each
//!      5  the same, not to be answered
//!      6  answer to 2, what the sender has more of: of names 4 ‖ count ‖ (names passed over ‖ entries more
//!         ‖ [8 bytes of its hash, where none are more and it is another entry]) each
//!      7  answer to 4, what the sender has more of: as 4
//! ```

use crate::codec::{CodecError, Reader, put_varint};
use crate::id::{DeviceId, Head, Incarnation, Lane, LogName};

/// Bytes of a bound, at most: a whole key.
const KEY_BYTES: usize = 52;
/// Bytes of a hash that are told, at most.
pub(super) const HASH_BYTES: usize = 8;
/// Bytes of a name's part that names may share.
const SHARED_BYTES: usize = 48;

/// A log's place in the order.
pub(super) fn key(log: &LogName) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..32].copy_from_slice(log.author.as_bytes());
    key[32..48].copy_from_slice(log.incarnation.as_bytes());
    key[48..].copy_from_slice(&log.lane.0.to_be_bytes());
    key
}

/// Where a run begins or ends: the first bytes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound(Vec<u8>);

impl Bound {
    /// Before all, or, as an end, after all.
    pub(super) fn none() -> Bound {
        Bound(Vec::new())
    }

    /// The shortest one that lies after one log and not after the next.
    pub(super) fn between(before: &LogName, next: &LogName) -> Bound {
        let (before, next) = (key(before), key(next));
        let shared = before.iter().zip(&next).take_while(|(one, other)| one == other).count();
        Bound(next[..(shared + 1).min(KEY_BYTES)].to_vec())
    }

    /// The first name that isn't before it.
    pub(super) fn first(&self) -> LogName {
        let mut key = [0; KEY_BYTES];
        key[..self.0.len()].copy_from_slice(&self.0);
        let (mut author, mut incarnation, mut lane) = ([0; 32], [0; 16], [0; 4]);
        author.copy_from_slice(&key[..32]);
        incarnation.copy_from_slice(&key[32..48]);
        lane.copy_from_slice(&key[48..]);
        LogName {
            author: DeviceId::from_bytes(author),
            incarnation: Incarnation::from_bytes(incarnation),
            lane: Lane(u32::from_be_bytes(lane)),
        }
    }

    /// The same as the end of a run.
    pub(super) fn end(&self) -> Option<LogName> {
        if self.0.is_empty() { None } else { Some(self.first()) }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.0.len() as u8);
        out.extend_from_slice(&self.0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Bound, CodecError> {
        let length = reader.length(KEY_BYTES, "a bound")?;
        Ok(Bound(reader.take(length, "a bound")?.to_vec()))
    }
}

/// What somebody says of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) sequence: u64,
    /// The first bytes of the hash there, as many as the message has; zeros follow.
    pub(super) hash: [u8; HASH_BYTES],
}

/// What is said of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Run {
    Same,
    Fingerprint { heads: [u8; 6], names: [u8; 4] },
    InOrder { ask: bool, names: [u8; 4], logs: Vec<Told> },
    ByName { ask: bool, logs: Vec<(LogName, Told)> },
    MoreInOrder { names: [u8; 4], logs: Vec<More> },
    MoreByName { logs: Vec<(LogName, Told)> },
}

/// One log of a run that the other side told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct More {
    /// Its place in the run.
    pub(super) place: usize,
    /// How many entries more.
    pub(super) entries: u64,
    /// Where none: what the sender has there.
    pub(super) hash: [u8; HASH_BYTES],
}

impl Run {
    /// Whether its receiver must answer.
    pub(super) fn asks(&self) -> bool {
        matches!(self, Run::Fingerprint { .. } | Run::InOrder { ask: true, .. } | Run::ByName { ask: true, .. })
    }

    /// About how many bytes it takes.
    pub(super) fn length(&self, prefix: usize) -> usize {
        match self {
            Run::Same => 4,
            Run::Fingerprint { .. } => 16,
            Run::InOrder { logs, .. } => 8 + logs.len() * (2 + prefix),
            Run::ByName { logs, .. } | Run::MoreByName { logs } => 8 + logs.len() * (24 + prefix),
            Run::MoreInOrder { logs, .. } => 8 + logs.len() * 3,
        }
    }

    /// Logs that it says of, each with a hash.
    pub(super) fn listed(&self) -> usize {
        match self {
            Run::Same | Run::Fingerprint { .. } | Run::MoreInOrder { .. } => 0,
            Run::InOrder { logs, .. } => logs.len(),
            Run::ByName { logs, .. } | Run::MoreByName { logs } => logs.len(),
        }
    }

    fn put(&self, out: &mut Vec<u8>, prefix: usize) {
        match self {
            Run::Same => out.push(0),
            Run::Fingerprint { heads, names } => {
                out.push(1);
                out.extend_from_slice(heads);
                out.extend_from_slice(names);
            }
            Run::InOrder { ask, names, logs } => {
                out.push(if *ask { 2 } else { 3 });
                out.extend_from_slice(names);
                put_varint(out, logs.len() as u64);
                logs.iter().for_each(|told| put_told(out, told, prefix));
            }
            Run::ByName { ask, logs } => {
                out.push(if *ask { 4 } else { 5 });
                put_named(out, logs, prefix);
            }
            Run::MoreInOrder { names, logs } => {
                out.push(6);
                out.extend_from_slice(names);
                put_varint(out, logs.len() as u64);
                let mut next = 0;
                for more in logs {
                    put_varint(out, (more.place - next) as u64);
                    put_varint(out, more.entries);
                    if more.entries == 0 {
                        out.extend_from_slice(&more.hash);
                    }
                    next = more.place + 1;
                }
            }
            Run::MoreByName { logs } => {
                out.push(7);
                put_named(out, logs, prefix);
            }
        }
    }

    fn read(reader: &mut Reader<'_>, prefix: usize) -> Result<Run, CodecError> {
        let mode = reader.u8("a run")?;
        Ok(match mode {
            0 => Run::Same,
            1 => Run::Fingerprint { heads: reader.array("a fingerprint")?, names: reader.array("a fingerprint")? },
            2 | 3 => {
                let names = reader.array("a fingerprint")?;
                let count = reader.length(reader.remaining(), "a run")?;
                // Each takes a byte at least: memory grows with what has arrived.
                let logs = (0..count).map(|_| read_told(reader, prefix)).collect::<Result<_, _>>()?;
                Run::InOrder { ask: mode == 2, names, logs }
            }
            4 | 5 => Run::ByName { ask: mode == 4, logs: read_named(reader, prefix)? },
            6 => {
                let names = reader.array("a fingerprint")?;
                let count = reader.length(reader.remaining(), "a run")?;
                let (mut logs, mut next) = (Vec::new(), 0_usize);
                for _ in 0..count {
                    let place = next.saturating_add(reader.length(u32::MAX as usize, "a place in a run")?);
                    let entries = reader.varint("entries")?;
                    let hash = if entries == 0 { reader.array("a hash")? } else { [0; 8] };
                    logs.push(More { place, entries, hash });
                    next = place.saturating_add(1);
                }
                Run::MoreInOrder { names, logs }
            }
            7 => Run::MoreByName { logs: read_named(reader, prefix)? },
            _ => return Err(CodecError::Invalid("a run of a kind that isn't known")),
        })
    }
}

pub(super) fn put_told(out: &mut Vec<u8>, told: &Told, prefix: usize) {
    put_varint(out, told.sequence);
    out.extend_from_slice(&told.hash[..prefix.min(HASH_BYTES)]);
}

/// Reads what [`put_told`] writes, with a hash of at most [`HASH_BYTES`].
///
/// # Errors
/// The bytes end too early.
pub(super) fn read_told(reader: &mut Reader<'_>, prefix: usize) -> Result<Told, CodecError> {
    let sequence = reader.varint("a sequence")?;
    let mut hash = [0; HASH_BYTES];
    let prefix = prefix.min(HASH_BYTES);
    hash[..prefix].copy_from_slice(reader.take(prefix, "a hash")?);
    Ok(Told { sequence, hash })
}

/// Writes names, each as far as it differs from the one before.
pub(super) fn put_named(out: &mut Vec<u8>, logs: &[(LogName, Told)], prefix: usize) {
    put_varint(out, logs.len() as u64);
    let mut before: Option<[u8; KEY_BYTES]> = None;
    for (log, told) in logs {
        let key = key(log);
        let shared = before.map_or(0, |before| before.iter().zip(&key).take_while(|(one, other)| one == other).count());
        let shared = shared.min(SHARED_BYTES);
        out.push(shared as u8);
        out.extend_from_slice(&key[shared..SHARED_BYTES]);
        put_varint(out, u64::from(log.lane.0));
        put_told(out, told, prefix);
        before = Some(key);
    }
}

/// Reads what [`put_named`] writes.
///
/// # Errors
/// Anything else.
pub(super) fn read_named(reader: &mut Reader<'_>, prefix: usize) -> Result<Vec<(LogName, Told)>, CodecError> {
    let count = reader.length(reader.remaining(), "a run")?;
    let (mut logs, mut key) = (Vec::new(), [0; SHARED_BYTES]);
    for index in 0..count {
        let shared = usize::from(reader.u8("a name")?);
        if shared > SHARED_BYTES || (index == 0 && shared > 0) {
            return Err(CodecError::Invalid("a name that shares more than there is"));
        }
        key[shared..].copy_from_slice(reader.take(SHARED_BYTES - shared, "a name")?);
        let lane = u32::try_from(reader.varint("a lane")?).map_err(|_| CodecError::TooLarge("a lane"))?;
        let (mut author, mut incarnation) = ([0; 32], [0; 16]);
        author.copy_from_slice(&key[..32]);
        incarnation.copy_from_slice(&key[32..]);
        let log = LogName {
            author: DeviceId::from_bytes(author),
            incarnation: Incarnation::from_bytes(incarnation),
            lane: Lane(lane),
        };
        logs.push((log, read_told(reader, prefix)?));
    }
    Ok(logs)
}

/// What is said of one's own log.
pub(super) fn told(head: &Head) -> Told {
    Told { sequence: head.sequence, hash: head.hash.prefix() }
}

/// A whole message: where the first run begins, and each with its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) prefix: usize,
    pub(super) from: Bound,
    pub(super) runs: Vec<(Bound, Run)>,
}

impl Runs {
    pub(super) fn asks(&self) -> bool {
        self.runs.iter().any(|(_, run)| run.asks())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.prefix as u8];
        self.from.put(&mut out);
        for (end, run) in &self.runs {
            end.put(&mut out);
            run.put(&mut out, self.prefix);
        }
        out
    }

    /// Reads a message. It may take some times its length in memory, and no more.
    ///
    /// # Errors
    /// Not what [`Runs::encode`] writes, or runs that don't ascend.
    pub(super) fn decode(bytes: &[u8]) -> Result<Runs, CodecError> {
        let mut reader = Reader::new(bytes);
        let prefix = usize::from(reader.u8("runs")?);
        if prefix > HASH_BYTES {
            return Err(CodecError::TooLarge("a hash"));
        }
        let from = Bound::read(&mut reader)?;
        let (mut runs, mut at): (Vec<(Bound, Run)>, Bound) = (Vec::new(), from.clone());
        while reader.remaining() > 0 {
            let end = Bound::read(&mut reader)?;
            let ended = runs.last().is_some_and(|(end, _)| *end == Bound::none());
            if ended || (end != Bound::none() && end.first() <= at.first()) {
                return Err(CodecError::Invalid("runs that don't ascend"));
            }
            runs.push((end.clone(), Run::read(&mut reader, prefix)?));
            at = end;
        }
        Ok(Runs { prefix, from, runs })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn any_log() -> impl Strategy<Value = LogName> {
        (0..4_u8, 0..3_u8, 1..7_u32, any::<bool>()).prop_map(|(author, incarnation, lane, far)| LogName {
            author: DeviceId::from_bytes([if far { author.reverse_bits() } else { author }; 32]),
            incarnation: Incarnation::from_bytes([incarnation; 16]),
            lane: Lane(lane),
        })
    }

    fn any_told() -> impl Strategy<Value = Told> {
        (any::<u64>(), any::<[u8; 2]>())
            .prop_map(|(sequence, [one, two])| Told { sequence, hash: [one, two, 0, 0, 0, 0, 0, 0] })
    }

    fn any_run() -> impl Strategy<Value = Run> {
        let named =
            || prop::collection::btree_map(any_log(), any_told(), 0..6).prop_map(|logs| logs.into_iter().collect());
        prop_oneof![
            Just(Run::Same),
            (any::<[u8; 6]>(), any::<[u8; 4]>()).prop_map(|(heads, names)| Run::Fingerprint { heads, names }),
            (any::<bool>(), any::<[u8; 4]>(), prop::collection::vec(any_told(), 0..6))
                .prop_map(|(ask, names, logs)| Run::InOrder { ask, names, logs }),
            (any::<bool>(), named()).prop_map(|(ask, logs)| Run::ByName { ask, logs }),
            named().prop_map(|logs| Run::MoreByName { logs }),
            (any::<[u8; 4]>(), prop::collection::btree_map(0..50_usize, (0..3_u64, any::<[u8; 8]>()), 0..6)).prop_map(
                |(names, logs)| {
                    let logs = logs.into_iter().map(|(place, (entries, hash))| More {
                        place,
                        entries,
                        hash: if entries == 0 { hash } else { [0; 8] },
                    });
                    Run::MoreInOrder { names, logs: logs.collect() }
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(runs in prop::collection::vec(any_run(), 1..5), logs in prop::collection::btree_set(any_log(), 8)) {
            let logs: Vec<LogName> = logs.into_iter().collect();
            let count = runs.len();
            let runs = runs.into_iter().enumerate().map(|(index, run)| {
                (if index + 1 == count { Bound::none() } else { Bound::between(&logs[index], &logs[index + 1]) }, run)
            });
            let runs = Runs { prefix: 2, from: Bound::none(), runs: runs.collect() };
            let bytes = runs.encode();
            prop_assert_eq!(Runs::decode(&bytes).unwrap(), runs);
            for cut in 0..bytes.len() {
                let _ = Runs::decode(&bytes[..cut]);
            }
        }

        #[test]
        fn a_bound_parts_two_logs(logs in prop::collection::btree_set(any_log(), 2)) {
            let logs: Vec<LogName> = logs.into_iter().collect();
            let bound = Bound::between(&logs[0], &logs[1]);
            prop_assert!(logs[0] < bound.first() && bound.first() <= logs[1]);
        }
    }
}
