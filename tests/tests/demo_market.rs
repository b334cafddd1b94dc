//! The demo as its user runs it: real processes, real QUIC, real mDNS in namespaces of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};

use serde_json::Value;
use stallmesh_tests::processes::{is_ci, stallmesh};

/// One market at a time: the machine may have two cores.
static ONE_MARKET: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn demo(name: &str, more: &[&str]) -> (bool, String, Option<Value>) {
    let _turn = ONE_MARKET.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let (report, directory) = (folder.path().join("report.json"), folder.path().join(name));
    let mut arguments =
        vec!["demo", "--headless", "--report", report.to_str().unwrap(), "--dir", directory.to_str().unwrap()];
    arguments.extend(more);
    let output = stallmesh(&arguments);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report = std::fs::read(report).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    (output.status.success(), text, report)
}

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("{} is not here: skipped", path.display());
    None
}

#[test]
fn a_market_joins_sells_relays_breaks_and_settles_to_the_cent() {
    let (ok, text, report) = demo("market", &["--stalls", "3", "--seconds", "1", "--seed", "7"]);
    assert!(ok, "{text}");
    let report = report.expect("a report");
    let sales = &report["sales"];
    assert!(sales["recorded"].as_u64().unwrap() > 30, "{report}");
    for field in ["received", "settled"] {
        assert_eq!(sales[field], sales["recorded"], "{field}: {report}");
    }
    for field in ["lost", "duplicated", "suspense"] {
        assert_eq!(sales[field], 0, "{field}: {report}");
    }
    assert!(sales["relayed"].as_u64().unwrap() > 0);
    assert_eq!(report["digest"], report["digest_recomputed"]);
    assert_eq!(report["ledger_sum_minor"]["EUR"], 0);
    assert!(report["takings_minor"]["EUR"].as_u64().unwrap() > 0);
    for field in [
        "devices",
        "join_ms",
        "catalog_items",
        "catalog_converged_ms",
        "record_ms",
        "received_ms",
        "bytes_sent",
        "rss_mb_max",
        "links",
    ] {
        assert!(!report[field].is_null(), "{field}: {report}");
    }
    if text.contains("No network namespaces here") {
        assert!(!is_ci(), "CI must be able to make network namespaces: {text}");
        eprintln!("no network namespaces here: mDNS was not tested");
    } else {
        assert!(report["discovered_by_mdns"].as_u64().unwrap() >= 3, "{report}");
    }
}

#[test]
fn a_market_that_is_falsified_does_not_pass() {
    for (falsify, word) in [("drop", "lost"), ("double", "doubled"), ("alter", "damaged")] {
        let (ok, text, _) = demo(falsify, &["--stalls", "2", "--seconds", "1", "--falsify", falsify]);
        assert!(!ok, "{falsify} was not noticed: {text}");
        assert!(text.contains(word) || falsify == "alter", "{falsify}: {text}");
    }
}

#[test]
fn the_market_runs_on_real_product_files_and_baskets() {
    let Some(baskets) = shared("groceries-baskets.csv") else { return };
    let catalogs = baskets.parent().unwrap().to_str().unwrap().to_owned();
    let (ok, text, report) = demo(
        "real",
        &["--stalls", "2", "--seconds", "1", "--catalogs", &catalogs, "--baskets", baskets.to_str().unwrap()],
    );
    assert!(ok, "{text}");
    let report = report.expect("a report");
    assert_eq!(report["sales"]["settled"], report["sales"]["recorded"], "{report}");
}
