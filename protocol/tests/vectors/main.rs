//! The test vectors in `protocol/vectors/`: written by this program, checked here against what the code makes, and read
//! by whoever writes another implementation. They are part of the format: a vector that changes is a break.
//!
//! `STALLMESH_WRITE_VECTORS=1 cargo test --workspace --test vectors` writes them anew.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod checkpoints;
mod forks;
mod joining;
mod members;
mod names;
mod pages;
mod payloads;
mod sealing;

use std::path::PathBuf;

use serde_json::Value;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{Incarnation, Lane, LogId, LogName, MarketId};

/// Whose keys the vectors use, by the byte that their seeds repeat.
const ROOT: u8 = 1;
const HUB: u8 = 2;
const OWNER: u8 = 3;
const HELPER: u8 = 4;
const GATEWAY: u8 = 5;
const STRANGER: u8 = 6;
/// 2026-06-06 08:00 UTC.
const MORNING: u64 = 1_780_732_800_000;
const HOUR: u64 = 3_600_000;

fn key(who: u8) -> DeviceKey {
    DeviceKey::from_seed(&[who; 32])
}

fn market() -> MarketId {
    MarketId::new(&key(ROOT).id(), 1)
}

fn log(who: u8, lane: Lane) -> LogName {
    LogName { author: key(who).id(), incarnation: Incarnation::from_bytes([0xa0 + who; 16]), lane }
}

fn log_id(who: u8, lane: Lane) -> LogId {
    log(who, lane).id(&market())
}

/// The stable word before an error's sentence.
fn code(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    let word = text.split(':').next().unwrap_or_default();
    if word.starts_with("E_") { word.to_owned() } else { "refused".to_owned() }
}

fn compare(name: &str, made: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(format!("{name}.json"));
    let text = format!("{}\n", serde_json::to_string_pretty(made).unwrap());
    if std::env::var_os("STALLMESH_WRITE_VECTORS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).expect("the vectors are part of the repository");
    let differs = kept.lines().zip(text.lines()).position(|(kept, made)| kept != made);
    assert!(kept == text, "{name}.json is not what the code makes, from line {:?} on", differs.map(|line| line + 1));
}

macro_rules! vectors {
    ($($test:ident => $module:ident;)*) => {
        $(#[test]
        fn $test() {
            compare(stringify!($module), &$module::make());
        })*
    };
}

vectors! {
    names_hashes_and_signatures_are_what_their_vectors_say => names;
    entries_and_pages_are_what_their_vectors_say => pages;
    certificates_lines_and_membership_are_what_their_vectors_say => members;
    fork_proofs_are_what_their_vectors_say => forks;
    checkpoints_trees_and_acknowledgements_are_what_their_vectors_say => checkpoints;
    sealed_parts_and_wrapped_keys_are_what_their_vectors_say => sealing;
    invites_and_join_requests_are_what_their_vectors_say => joining;
    payloads_of_every_kind_are_what_their_vectors_say => payloads;
}
