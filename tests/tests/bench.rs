//! The benchmark still runs: small versions of each measurement, whose figures mean nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use serde_json::Value;

fn quick(name: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args([name, "--quick", "--report", report.to_str().unwrap(), "--dir", folder.path().to_str().unwrap()])
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["quick"], true);
    for field in ["cpu", "cores", "kernel", "file_system", "build"] {
        assert!(!report["machine"][field].is_null(), "{field}: {report}");
    }
    let measurements = report["measurements"].as_object().unwrap();
    assert_eq!(measurements.keys().collect::<Vec<_>>(), [name]);
    let rows = measurements[name].as_array().unwrap().clone();
    for row in &rows {
        assert!(row["name"].is_string() && row["value"].is_number() && row["unit"].is_string(), "{row}");
        if !row["baseline"].is_null() {
            assert!(row["ratio"].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    rows
}

/// The row whose name ends so.
fn row<'a>(rows: &'a [Value], end: &str) -> &'a Value {
    rows.iter().find(|row| row["name"].as_str().unwrap().ends_with(end)).unwrap_or_else(|| panic!("{end}: {rows:?}"))
}

#[test]
fn the_search_is_measured_beside_a_look_at_each_product() {
    let rows = quick("search");
    assert!(row(&rows, "`blau tasse`: median")["ratio"].is_number());
}

#[test]
fn sales_are_measured_beside_appends_and_their_commits_are_counted() {
    let rows = quick("sales");
    for end in ["one caller, p50", "one caller, p99", "20 callers, p50", "20 callers, p99"] {
        assert!(row(&rows, end)["ratio"].is_number(), "{end}");
    }
    // Commits don't depend on the machine: alone, each sale has one of its own.
    let alone = &rows.iter().find(|row| row["unit"] == "commits").unwrap()["value"];
    assert_eq!(alone.as_f64(), Some(1.0), "{rows:?}");
    assert!(row(&rows, "a neighbour copies: 20 callers, commits a sale")["value"].as_f64().unwrap() > 0.0);
}

#[test]
fn pages_are_measured_beside_a_signature_each() {
    let rows = quick("pages");
    assert_eq!(row(&rows, "entries of 250 B as pages, a core")["baseline"]["name"], "a signature each");
}

#[test]
fn fraud_rules_are_measured_beside_a_look_at_every_signal() {
    let rows = quick("fraud");
    assert_eq!(row(&rows, "2000 live signals: median")["baseline"]["name"], "naive");
    row(&rows, "2000 live signals: p99");
    row(&rows, "a card that everybody speaks of: p99");
}

#[test]
fn what_two_say_of_their_clocks_is_counted() {
    let rows = quick("clock");
    // Bytes don't depend on the machine, and a small market needs no more than a large one.
    for row in &rows {
        assert_eq!(row["reached"], true, "{row}");
    }
    assert_eq!(rows.len(), 6);
}

#[test]
fn a_cold_join_is_measured_with_its_bytes_and_its_cpu() {
    let rows = quick("join");
    assert_eq!(row(&rows, "a cold join to 1000 entries of 250 B")["unit"], "s");
    // What pages say beside payloads depends on no machine.
    let beside: Vec<&Value> = rows.iter().filter(|row| row["unit"] == "B an entry").collect();
    assert!(beside.len() == 2 && beside[1]["reached"] == true, "{beside:?}");
    assert!(row(&rows, "received by it, in frames")["value"].as_f64().unwrap() > 0.01);
    row(&rows, "CPU of the newcomer");
}

#[test]
fn starts_are_measured_phase_by_phase() {
    let rows = quick("start");
    row(&rows, "a member starts: member and synced");
    row(&rows, "a first start with an invite: member and synced");
    // Each phase is told twice: for both sorts of start.
    for phase in ["the program runs", "the store is open", "the handshake is done", "it is a member"] {
        let found = rows.iter().filter(|row| row["name"].as_str().unwrap().ends_with(phase)).count();
        assert_eq!(found, 2, "{phase}: {rows:?}");
    }
}

#[test]
fn resumption_is_measured_beside_a_fresh_handshake() {
    let rows = quick("resume");
    for end in ["0 ms round trip, 1 sales: resumed", "200 ms round trip, 10 sales: resumed"] {
        assert_eq!(row(&rows, end)["baseline"]["name"], "a fresh handshake");
    }
}

#[test]
fn a_quiet_market_is_measured_in_bytes_and_cpu() {
    let rows = quick("idle");
    row(&rows, "bytes on the wire a node, all headers");
    row(&rows, "CPU a node");
}

#[test]
fn live_replication_is_measured_beside_gossipsub_and_comes_everywhere() {
    let rows = quick("gossip");
    for end in ["to each node, p50", "to each node, p99", "to the last node, p50", "to the last node, p99"] {
        assert_eq!(row(&rows, end)["baseline"]["name"], "gossipsub", "{end}");
    }
    // A delivered byte is on the wire at least once, whatever the machine.
    let wire = row(&rows, "wire a delivered byte");
    assert!(wire["value"].as_f64().unwrap() > 1.0, "{wire}");
    assert!(row(&rows, "bytes beside gossipsub's")["baseline"]["value"].as_f64().unwrap() > 1.0);
    // Whatever gossip loses, the logs bring.
    assert_eq!(row(&rows, "not everywhere, of 20")["value"], 0.0);
}

#[test]
fn a_hundred_new_entries_are_measured_in_time_and_bytes() {
    let rows = quick("later");
    assert!(row(&rows, "that hardly pack: durable there")["value"].as_f64().unwrap() > 0.0);
    // Bytes depend on the machine only as far as packets do.
    let wires: Vec<&Value> = rows.iter().filter(|row| row["unit"] == "B").collect();
    assert!(wires.len() == 2 && wires[1]["value"].as_f64().unwrap() < 12_000.0, "{wires:?}");
}

#[test]
fn a_revocation_is_measured_beside_a_copy() {
    let rows = quick("urgent");
    for name in ["100 MB/s, a queue of 250 ms", "1 MB/s, a queue of 250 ms", "1 MB/s, a queue of 25 ms"] {
        row(&rows, &format!("{name}, idle: a revocation, p99"));
    }
    assert_eq!(rows.iter().filter(|row| row["baseline"]["name"] == "idle").count(), 3);
}

#[test]
fn growth_is_measured_in_the_simulator() {
    let rows = quick("growth");
    // Each sale of each market is at the hub.
    let posted: Vec<f64> = rows
        .iter()
        .filter(|row| row["name"].as_str().unwrap().ends_with("has posted, of all"))
        .map(|row| row["value"].as_f64().unwrap())
        .collect();
    assert_eq!(posted, [1.0, 1.0]);
}

#[test]
fn memory_is_measured_with_products() {
    let rows = quick("memory");
    assert!(row(&rows, "and 300 products, 3 links")["value"].as_f64().unwrap() > 1.0);
}

#[test]
fn product_files_are_measured_in_rows_and_memory() {
    let rows = quick("import");
    for format in ["Shopify", "Square"] {
        let read = row(&rows, &format!("{format}, 2000 products: checked and handed on"));
        assert!(read["ratio"].is_number(), "{read}");
    }
    assert_eq!(rows.iter().filter(|row| row["unit"] == "MB").count(), 2);
}
