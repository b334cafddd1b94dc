//! The formats as a stranger reads them: `tests/reader`, in Python, written from `docs/protocol.md` alone, must read what
//! this program writes, and come to the same settlement.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod made;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use stallmesh_node::engine::{Answer, DelegateOrder, Recomputed, Request, recompute};
use stallmesh_protocol::DeviceId;
use stallmesh_tests::simulation::Simulation;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The reader's Python, which `tests/run` installs. Without it there is nothing to compare with: said, and in CI a
/// failure.
fn python() -> Option<PathBuf> {
    // The test is at TARGET/PROFILE/deps/NAME.
    let test = std::env::current_exe().unwrap();
    let python = test.ancestors().nth(3).unwrap().join("reader/bin/python");
    if python.exists() {
        return Some(python);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "no reader in {}: tests/run installs it", python.display());
    println!("not compared with the reader: {} is missing; tests/run installs it", python.display());
    None
}

fn read(python: &Path, arguments: &[&std::ffi::OsStr]) -> Output {
    Command::new(python).arg("-B").arg(repository().join("tests/reader")).args(arguments).output().unwrap()
}

/// What the reader says of each export.
fn read_exports(python: &Path, root: DeviceId, exports: &[Vec<u8>]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..exports.len()).map(|index| folder.path().join(index.to_string())).collect();
    paths.iter().zip(exports).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    let root = root.to_string();
    let mut arguments: Vec<&std::ffi::OsStr> = vec!["export".as_ref(), "--root".as_ref(), root.as_ref()];
    arguments.extend(paths.iter().map(|path| path.as_os_str()));
    let output = read(python, &arguments);
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(said.len(), exports.len(), "{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn agree(what: &str, said: &Value, ours: &Recomputed) {
    assert_eq!(said["digest"], ours.reconciliation.digest().to_string(), "{what}: {said}");
    assert_eq!(said["posted"], ours.reconciliation.posted(), "{what}: {said}");
    assert_eq!(said["entries"], ours.entries, "{what}: {said}");
    assert_eq!((&said["sum"], &said["problems"]), (&json!(0), &json!([])), "{what}: {said}");
}

/// Copies with one altered byte each, spread over the whole; which bit follows from where.
fn altered(export: &[u8], copies: usize) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..copies).map(move |number| {
        let index = number * export.len() / copies + number * 7919 % (export.len() / copies);
        let mut copy = export.to_vec();
        copy[index] ^= 1 << (number % 8);
        (index, copy)
    })
}

/// A market with trouble: a helper at its limit, a revoked stall that goes on selling, a clone, two settlements.
fn troubled() -> Simulation {
    let mut market = Simulation::market(80, 3);
    let helper = market.add();
    let Answer::Invite(link) = market.invite_text("") else { panic!("no invite") };
    let ask = Request::AskToJoin { market: link, name: "helper".into(), stall: "stall-1".into() };
    assert_eq!(market.ask(helper, ask), Answer::Done);
    let order = DelegateOrder {
        device: market.nodes[helper].id(),
        seal_key: market.status(helper).seal_key,
        name: "helper".into(),
        scopes: vec!["sell=1000".into()],
        valid_ms: 1_000_000,
    };
    assert_eq!(market.ask(2, Request::Delegate(order)), Answer::Done);
    market.until("the helper joins", 60_000, |market| market.status(helper).role == "stall");
    market.until("the helper sells", 20_000, |market| matches!(market.try_sell(helper, "h", 1), Answer::Sale(_)));
    for index in 2..5 {
        for number in 0..4 {
            market.sell(index, &format!("sale-{index}-{number}"));
        }
    }
    market.until("all is at the hub", 60_000, |market| market.settle(true).posted == 13);
    market.settle(false);
    // A second machine repeats a sale of the first, which it doesn't know of.
    let disk = market.nodes[3].disk.copy();
    market.sell(3, "after the copy");
    let clone = market.clone_device(3, disk);
    market.until("the clone is a member", 20_000, |market| market.status(clone).role == "stall");
    market.sell(clone, "after the copy");
    market.partition(&[&[1, 2, 3, helper, clone], &[4]]);
    market.sell(4, "before it is revoked, unheard");
    let revoked = market.nodes[4].id();
    let revoke = Request::Revoke { device: revoked, reason: "lost".into() };
    assert_eq!(market.ask(0, revoke), Answer::Done);
    market.sell(4, "after it was revoked, unheard");
    market.run_for(5_000);
    market.heal();
    market.until("what lies beyond the line is in suspense", 60_000, |market| {
        market.suspense().contains("revoked") && market.settle(true).posted >= 14
    });
    market.run_for(20_000);
    let closed = market.settle(false).number;
    market.until(
        "it is released",
        20_000,
        |market| matches!(market.ask(0, Request::Ledger), Answer::Ledger(ledger) if ledger.settlements == closed),
    );
    market
}

#[test]
fn a_reader_written_from_the_document_accepts_and_refuses_what_the_vectors_say() {
    let Some(python) = python() else { return };
    let vectors = repository().join("protocol/vectors");
    let output = read(&python, &["vectors".as_ref(), vectors.as_os_str()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = std::fs::read_dir(&vectors).unwrap().count();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), files, "one line for each file");
    // It can find something: a digit of the first hash that it meets.
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(vectors.join("names.json")).unwrap();
    let at = text.find("\"hash\": \"").unwrap() + 9;
    let digit = if &text[at..=at] == "0" { "1" } else { "0" };
    std::fs::write(folder.path().join("names.json"), [&text[..at], digit, &text[at + 1..]].concat()).unwrap();
    let output = read(&python, &["vectors".as_ref(), folder.path().as_os_str()]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("names.json: "), "{output:?}");
}

/// The lines of one export's settlement.
fn exports_named(made: &Value, name: &str) -> Vec<String> {
    let exports = made["exports"].as_array().unwrap().iter();
    let lines = exports.filter(|export| export["name"] == name).flat_map(|export| export["lines"].as_array().unwrap());
    lines.map(|line| line.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_settlements_of_the_vectors_are_what_this_program_recomputes() {
    let exports: Vec<Value> = made::exports()
        .into_iter()
        .map(|(name, root, export)| {
            let recomputed = recompute(export.as_slice(), Some(root), 0).unwrap();
            for seed in 1..4 {
                let again = recompute(export.as_slice(), Some(root), seed).unwrap();
                assert_eq!(again.reconciliation, recomputed.reconciliation, "{name}: in another order");
            }
            let text = String::from_utf8(recomputed.reconciliation.canonical_bytes()).unwrap();
            let count =
                |what: &str| text.lines().filter(|line| line.starts_with("state") && line.contains(what)).count();
            json!({
                "name": name,
                "root": root.to_string(),
                "export": hex::encode(&export),
                "digest": recomputed.reconciliation.digest().to_string(),
                "lines": text.lines().collect::<Vec<_>>(),
                "posted": recomputed.reconciliation.posted(),
                "suspense": count("\tsuspense\t"),
                "entries": recomputed.entries,
            })
        })
        .collect();
    let made = json!({ "about": "Whole exports, the settlement that they make, and the text that its digest is over.", "exports": exports });
    let text = format!("{}\n", serde_json::to_string_pretty(&made).unwrap());
    let path = repository().join("protocol/vectors/settlements.json");
    if std::env::var_os("STALLMESH_WRITE_VECTORS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).expect("the vectors are part of the repository");
    let differs = kept.lines().zip(text.lines()).find(|(kept, made)| kept != made);
    assert!(kept == text, "settlements.json is not what the code makes: {differs:?}");
    // The fee of each of its sales: whoever was told of the policy before it was taken out is charged as if it never was.
    let brought_back = exports_named(&made, "a policy that a raise brings back");
    let fees = brought_back.iter().filter(|line| line.contains("\tmarket-fee\t"));
    let fees: Vec<&str> = fees.filter_map(|line| line.rsplit('\t').next()).collect();
    assert_eq!(fees, ["-208", "-208", "-917"]);
    for outcome in [
        "posted",
        "repeats",
        "not_real",
        "unreadable",
        "not_member",
        "revoked",
        "quarantine",
        "orphan",
        "scope",
        "doesnt_add_up",
        "same_id_other_content",
    ] {
        assert!(text.contains(&format!("\\t{outcome}")), "no vector shows {outcome}");
    }
}

#[test]
fn a_reader_written_from_the_document_recomputes_a_hubs_settlement() {
    let Some(python) = python() else { return };
    let mut market = troubled();
    let (root, export) = (market.root, market.export(0));
    let ours = recompute(export.as_slice(), Some(root), 0).unwrap();
    let said = read_exports(&python, root, &[export]).remove(0);
    agree("the hub's export", &said, &ours);
    let (_, digest) = ours.published.last().unwrap();
    assert_eq!(said["published"].as_array().unwrap().last().unwrap(), digest);
    assert_eq!(said["digest"], *digest, "nothing came after the last settlement");
    assert!(said["suspense"].as_u64().unwrap() > 0 && said["checkpoints"].as_u64().unwrap() > 3, "{said}");
    // A carrier discloses nothing; what it holds still verifies, and all of it is unreadable.
    let carrier = market.export(1);
    let ours = recompute(carrier.as_slice(), Some(root), 0).unwrap();
    agree("a carrier's export", &read_exports(&python, root, &[carrier])[0], &ours);
    assert_eq!(ours.reconciliation.posted(), 0);
}

/// Every record of an export must hold, so every altered byte is found: in signatures, tags, paths and framing alike.
#[test]
fn every_altered_byte_of_an_export_is_refused_by_both_readers() {
    let mut market = troubled();
    let (root, export) = (market.root, market.export(0));
    let copies: Vec<(usize, Vec<u8>)> = altered(&export, 200).collect();
    for (index, copy) in &copies {
        assert!(recompute(copy.as_slice(), Some(root), 0).is_err(), "byte {index} of {}", export.len());
    }
    for end in [export.len() - 1, export.len() - 5, export.len() / 2] {
        assert!(recompute(&export[..end], Some(root), 0).is_err(), "cut at {end}");
    }
    let Some(python) = python() else { return };
    let (indices, mut exports): (Vec<usize>, Vec<Vec<u8>>) = copies.into_iter().unzip();
    exports.push(export[..export.len() - 5].to_vec());
    exports.push([export.as_slice(), &[0]].concat());
    let said = read_exports(&python, root, &exports);
    for (index, said) in indices.iter().chain(&[0, 1]).zip(&said) {
        assert!(said["refused"].is_string(), "byte {index} of {}: {said}", export.len());
    }
}
