//! Test only: falsifies the real thing, so that it can be seen that the count notices. Also reads an export's records
//! without believing them.

use std::path::Path;

use stallmesh_protocol::codec::Reader;
use stallmesh_protocol::page::Page;
use stallmesh_protocol::{DeviceId, Incarnation, Kind, Lane, LogId, LogName};

use super::DemoError;
use super::journal::Line;
use super::shop::Draw;
use crate::cli::market_key;
use crate::engine::recompute;

/// What is falsified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Falsify {
    /// The hub's export loses an acknowledged sale: its log ends before it.
    Drop,
    /// A till sends one of its orders twice, under another key.
    Double,
    /// One byte of the hub's export is altered.
    Alter,
    /// The hub's export loses fraud signals: a log of them ends early.
    Signal,
    /// A till is told of a greater reduction.
    Reduction,
    /// A till is told that a code didn't act.
    Code,
    /// A till forgets that a payment was declined.
    Decline,
}

/// A record of an export, with all its bytes.
pub(super) enum Record<'a> {
    /// A page of a log.
    Page { name: LogName, page: &'a [u8], whole: &'a [u8] },
    /// Something else.
    Other(&'a [u8]),
}

impl Record<'_> {
    fn whole(&self) -> &[u8] {
        match self {
            Record::Page { whole, .. } | Record::Other(whole) => whole,
        }
    }
}

/// What an export begins with.
const MAGIC: &[u8] = b"STALLMESH-EXPORT/1\n";

/// An export's records in its own order.
pub(super) fn records(export: &[u8]) -> Result<Vec<Record<'_>>, DemoError> {
    let damaged = || DemoError::Failed("the export ends in the middle of a record".into());
    let mut rest = export.strip_prefix(MAGIC).ok_or_else(|| DemoError::Failed("this is no export".into()))?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let mut reader = Reader::new(rest);
        let kind = reader.u8("type").map_err(DemoError::failed)?;
        let length = u32::from_be_bytes(reader.array("length").map_err(DemoError::failed)?) as usize;
        let body = reader.take(length, "record").map_err(|_| damaged())?;
        let (whole, after) = rest.split_at_checked(5 + length).ok_or_else(damaged)?;
        rest = after;
        records.push(if kind == 2 { page_record(body, whole)? } else { Record::Other(whole) });
    }
    Ok(records)
}

fn page_record<'a>(body: &'a [u8], whole: &'a [u8]) -> Result<Record<'a>, DemoError> {
    let mut reader = Reader::new(body);
    let mut read = || -> Result<_, stallmesh_protocol::codec::CodecError> {
        let name = LogName {
            author: DeviceId::from_bytes(reader.array("author")?),
            incarnation: Incarnation::from_bytes(reader.array("incarnation")?),
            lane: Lane(u32::from_be_bytes(reader.array("lane")?)),
        };
        Ok((name, reader.take(reader.remaining(), "page")?))
    };
    let (name, page) = read().map_err(DemoError::failed)?;
    Ok(Record::Page { name, page, whole })
}

/// The same records in an order drawn from a seed; the market's stays first, and the end at the end.
pub(super) fn shuffled(export: &[u8], seed: u64) -> Result<Vec<u8>, DemoError> {
    let mut records = records(export)?;
    let mut draw = Draw::new(seed, 3);
    for index in (2..records.len().saturating_sub(1)).rev() {
        records.swap(index, 1 + draw.below(index));
    }
    let mut bytes = MAGIC.to_vec();
    records.iter().for_each(|record| bytes.extend_from_slice(record.whole()));
    Ok(bytes)
}

/// One bit of one byte, drawn from the seed.
pub(super) fn alter(export: &mut [u8], seed: u64) {
    let mut draw = Draw::new(seed, 4);
    let at = draw.below(export.len());
    if let Some(byte) = export.get_mut(at) {
        *byte ^= 1 << draw.below(8);
    }
}

/// Ends the log of an acknowledged sale, drawn from the seed, with the page before it; what is left is well formed.
fn drop_sale(export: &[u8], root: DeviceId, seed: u64) -> Result<Vec<u8>, DemoError> {
    let recomputed = recompute(export, Some(root), 0).map_err(DemoError::failed)?;
    let chosen = recomputed.sales.get(Draw::new(seed, 5).below(recomputed.sales.len())).map(|sale| sale.at);
    let chosen = chosen.ok_or_else(|| DemoError::Failed("there is no sale to drop".into()))?;
    let log = chosen.log.id(&recomputed.market);
    let records = records(export)?;
    let mut first_gone = u64::MAX;
    for record in &records {
        if let Record::Page { name, page, .. } = record
            && *name == chosen.log
        {
            let page = Page::decode(page).map_err(DemoError::failed)?;
            if page.last() >= chosen.sequence {
                first_gone = first_gone.min(page.first);
            }
        }
    }
    let mut bytes = MAGIC.to_vec();
    for record in &records {
        let gone = match record {
            Record::Page { name, page, .. } => {
                *name == chosen.log && Page::decode(page).map_err(DemoError::failed)?.first >= first_gone
            }
            Record::Other(whole) => opens_from(whole, &log, first_gone),
        };
        if !gone {
            bytes.extend_from_slice(record.whole());
        }
    }
    Ok(bytes)
}

/// Ends a log of fraud signals before its last page that has some, or leaves it out; what is left is well formed.
fn drop_signals(export: &[u8]) -> Result<Vec<u8>, DemoError> {
    let records = records(export)?;
    let mut last: Option<(LogName, u64)> = None;
    for record in &records {
        if let Record::Page { name, page, .. } = record
            && name.lane == Lane::SIGNAL
        {
            let page = Page::decode(page).map_err(DemoError::failed)?;
            // Proofs against devices stand on this lane, too.
            if page.entries.iter().any(|entry| entry.kind == Kind::SIGNALS) {
                last = last.filter(|(_, known)| *known > page.first).or(Some((*name, page.first)));
            }
        }
    }
    let (log, gone) = last.ok_or_else(|| DemoError::Failed("there is no signal to drop".into()))?;
    let mut bytes = MAGIC.to_vec();
    for record in &records {
        let is_gone = match record {
            Record::Page { name, page, .. } => {
                *name == log && Page::decode(page).map_err(DemoError::failed)?.first >= gone
            }
            Record::Other(_) => false,
        };
        if !is_gone {
            bytes.extend_from_slice(record.whole());
        }
    }
    Ok(bytes)
}

/// Whether a record discloses a secret of a log's entry from some sequence on.
fn opens_from(whole: &[u8], log: &LogId, from: u64) -> bool {
    let mut reader = Reader::new(whole);
    let mut read = || -> Result<bool, stallmesh_protocol::codec::CodecError> {
        let disclosure = reader.u8("type")? == 3;
        reader.take(4, "length")?;
        let of_log = LogId::from_bytes(reader.array("log")?) == *log;
        Ok(disclosure && of_log && u64::from_be_bytes(reader.array("sequence")?) >= from)
    };
    read().unwrap_or(false)
}

/// Falsifies an export's file.
pub(super) fn falsify_export(falsify: Falsify, export: &Path, market: &Path, seed: u64) -> Result<(), DemoError> {
    let mut bytes = std::fs::read(export).map_err(DemoError::io(export.display()))?;
    match falsify {
        Falsify::Double | Falsify::Reduction | Falsify::Code | Falsify::Decline => return Ok(()),
        Falsify::Alter => alter(&mut bytes, seed),
        Falsify::Drop => {
            let root = market_key(&market.to_string_lossy()).map_err(DemoError::failed)?;
            bytes = drop_sale(&bytes, root, seed)?;
        }
        Falsify::Signal => bytes = drop_signals(&bytes)?,
    }
    std::fs::write(export, bytes).map_err(DemoError::io(export.display()))
}

/// Falsifies what the shops were told: one line of the journal, drawn from the seed.
pub(super) fn falsify_journal(falsify: Falsify, journal: &Path, seed: u64) -> Result<(), DemoError> {
    let fits = |line: &Line| match (falsify, line) {
        (Falsify::Reduction, Line::Recorded { reduction, again: false, .. }) => *reduction > 0,
        (Falsify::Code, Line::Recorded { codes, again: false, .. }) => *codes > 0,
        (Falsify::Decline, Line::Declined { .. }) => true,
        _ => false,
    };
    if let Falsify::Drop | Falsify::Double | Falsify::Alter | Falsify::Signal = falsify {
        return Ok(());
    }
    let text = std::fs::read_to_string(journal).map_err(DemoError::io(journal.display()))?;
    let lines: Result<Vec<Line>, _> = text.lines().map(serde_json::from_str).collect();
    let mut lines = lines.map_err(DemoError::failed)?;
    let places: Vec<usize> = (0..lines.len()).filter(|place| fits(&lines[*place])).collect();
    let chosen = places.get(Draw::new(seed, 6).below(places.len())).copied();
    let chosen = chosen.ok_or_else(|| DemoError::Failed("there is nothing to falsify".into()))?;
    match &mut lines[chosen] {
        Line::Recorded { reduction, .. } if falsify == Falsify::Reduction => *reduction += 1,
        Line::Recorded { codes, .. } => *codes = 0,
        _ => _ = lines.remove(chosen),
    }
    let written: Result<Vec<String>, _> = lines.iter().map(serde_json::to_string).collect();
    let text = written.map_err(DemoError::failed)?.join("\n") + "\n";
    std::fs::write(journal, text).map_err(DemoError::io(journal.display()))
}
