//! The corpora: each target has one, the vectors are in it, and together they stay small.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::examples::folder;

/// All corpora together, in bytes; `tests/tests/fuzz` has as many again.
const BYTES_MAX: u64 = 150_000;

/// Where cases stand: file, list, field.
type Cases = (&'static str, &'static str, &'static str);

/// Targets whose seeds are vectors.
const FROM_VECTORS: &[(&str, &[Cases])] = &[
    ("varint", &[("names", "integers", "bytes"), ("names", "refused_integers", "bytes")]),
    ("page", &[("pages", "accepted", "page"), ("pages", "refused", "page")]),
    ("certificate", &[("members", "certificates", "payload"), ("members", "refused_certificates", "payload")]),
    ("revocation", &[("members", "judgements", "payload"), ("members", "refused_judgements", "payload")]),
    ("raise", &[("members", "judgements", "payload"), ("members", "refused_judgements", "payload")]),
    ("readmission", &[("members", "judgements", "payload")]),
    ("checkpoint", &[("checkpoints", "checkpoints", "payload"), ("checkpoints", "refused_checkpoints", "payload")]),
    ("leaf", &[("checkpoints", "leaves", "bytes"), ("checkpoints", "refused_leaves", "bytes")]),
    ("fork_proof", &[("forks", "accepted", "payload"), ("forks", "refused", "payload")]),
    ("invite", &[("joining", "refused_invites", "bytes")]),
    ("join_request", &[("joining", "requests", "payload"), ("joining", "refused_requests", "payload")]),
];

/// The longest vector that is a seed; longer ones slow a fuzzer down.
const SEED_MAX: usize = 3_000;

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Writes the seeds where they are asked for (`STALLMESH_WRITE_SEEDS=1`); else a vector that is no seed fails.
#[test]
fn each_vector_is_a_seed_of_its_decoder() {
    let mut seeds: Vec<(&str, String, Vec<u8>)> = Vec::new();
    for (target, lists) in FROM_VECTORS {
        for (file, list, field) in *lists {
            for (number, case) in vectors(file)[list].as_array().unwrap().iter().enumerate() {
                let Some(text) = case[field].as_str() else { continue };
                let bytes = hex::decode(text).unwrap();
                if bytes.len() <= SEED_MAX {
                    seeds.push((target, format!("{list}-{number:02}"), bytes));
                }
            }
        }
    }
    let joining = vectors("joining");
    seeds.push(("invite", "whole".into(), hex::decode(joining["invite"]["bytes"].as_str().unwrap()).unwrap()));
    seeds.push(("invite_text", "whole".into(), joining["invite"]["text"].as_str().unwrap().into()));
    let kinds = ["Opening", "LowMark", "DayKey", "Market", "Policy", "OpeningKey", "StallKey", "JoinChallenge"];
    let more = [
        "JoinRefusal",
        "Settlement",
        "Erasure",
        "Products",
        "Sale",
        "SalePersonal",
        "ClosingInput",
        "Closing",
        "Succession",
        "Standing",
        "Promotions",
        "Conditions",
        "Restoration",
        "Signals",
        "CheckoutRules",
        "PaymentIntent",
        "PaymentVoid",
        "PaymentOutcome",
        "PaymentAnswer",
    ];
    for (list, name) in [("accepted", "payload"), ("refused", "refused")] {
        for (number, case) in vectors("payloads")[list].as_array().into_iter().flatten().enumerate() {
            let Some(kind) = kinds.iter().chain(&more).position(|kind| case["message"] == *kind) else { continue };
            let Some(text) = case["payload"].as_str() else { continue };
            let bytes = hex::decode(text).unwrap();
            seeds.push(("payloads", format!("{name}-{number:02}"), [&[kind as u8], bytes.as_slice()].concat()));
        }
    }
    for (target, name, bytes) in seeds {
        let path = folder().join(target).join("corpus").join(name);
        if std::env::var_os("STALLMESH_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap_or_default(), bytes, "{}: STALLMESH_WRITE_SEEDS=1", path.display());
    }
}

#[test]
fn the_corpora_are_small_and_nothing_in_them_crashes_a_target_that_is_gone() {
    let sources = [include_str!("decoders.rs"), include_str!("replica.rs"), include_str!("sealing.rs")];
    let mut bytes = 0;
    for target in std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()) {
        let name = target.file_name().unwrap().to_string_lossy().into_owned();
        let head = format!("    {name}(");
        assert!(sources.iter().any(|source| source.contains(&head)), "{name}: no target has this corpus");
        bytes += files(&target).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum::<u64>();
    }
    assert!(bytes <= BYTES_MAX, "{bytes} bytes of corpora; tests/fuzz --shrink");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
