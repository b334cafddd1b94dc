//! How logs and entries stand in the store.

use stallmesh_protocol::codec::Reader;
use stallmesh_protocol::entry::Entry;
use stallmesh_protocol::page::{ENTRY_OVERHEAD_MAX, put_entry, take_entry};
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Lane, LogId, LogName};

use super::{Held, Record, Run};
use crate::engine::overlay::Overlay;
use crate::store::{Store, Table};

pub(super) fn sequence_key(id: &LogId, sequence: u64) -> Vec<u8> {
    [id.as_bytes().as_slice(), &sequence.to_be_bytes()].concat()
}

pub(super) fn position_key(id: &LogId, head: Head) -> Vec<u8> {
    [id.as_bytes().as_slice(), &head.sequence.to_be_bytes(), &head.hash.prefix()].concat()
}

pub(super) fn sequence_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(32..40)?.try_into().ok()?))
}

pub(super) fn put_held<S: Store>(overlay: &mut Overlay<S>, id: &LogId, head: Head, previous: Hash, entry: &Entry) {
    let mut value = Vec::with_capacity(64 + ENTRY_OVERHEAD_MAX + entry.payload.length());
    value.extend_from_slice(head.hash.as_bytes());
    value.extend_from_slice(previous.as_bytes());
    put_entry(&mut value, entry, head.sequence, 0, [0; 8]);
    overlay.put(Table::Entries, position_key(id, head), value);
}

pub(super) fn decode_held(name: &LogName, sequence: u64, value: &[u8]) -> Option<Held> {
    let mut reader = Reader::new(value);
    let hash = Hash::from_bytes(reader.array("hash").ok()?);
    let previous = Hash::from_bytes(reader.array("previous").ok()?);
    let entry = take_entry(&mut reader, sequence, 0, [0; 8]).ok()?;
    Some(Held { log: *name, sequence, previous, hash, entry })
}

pub(super) fn encode_record(name: &LogName, record: &Record) -> Vec<u8> {
    let mut value = Vec::with_capacity(52 + record.runs.len() * 80);
    value.extend_from_slice(name.author.as_bytes());
    value.extend_from_slice(name.incarnation.as_bytes());
    value.extend_from_slice(&name.lane.0.to_be_bytes());
    for run in &record.runs {
        value.extend_from_slice(&run.from.to_be_bytes());
        value.extend_from_slice(run.previous.as_bytes());
        value.extend_from_slice(&run.to.to_be_bytes());
        value.extend_from_slice(run.hash.as_bytes());
    }
    value
}

pub(super) fn decode_record(value: &[u8]) -> Option<(LogName, Vec<Run>)> {
    let mut reader = Reader::new(value);
    let name = LogName {
        author: DeviceId::from_bytes(reader.array("author").ok()?),
        incarnation: Incarnation::from_bytes(reader.array("incarnation").ok()?),
        lane: Lane(u32::from_be_bytes(reader.array("lane").ok()?)),
    };
    let mut runs = Vec::new();
    while reader.remaining() > 0 {
        runs.push(Run {
            from: u64::from_be_bytes(reader.array("from").ok()?),
            previous: Hash::from_bytes(reader.array("previous").ok()?),
            to: u64::from_be_bytes(reader.array("to").ok()?),
            hash: Hash::from_bytes(reader.array("hash").ok()?),
        });
    }
    Some((name, runs))
}
