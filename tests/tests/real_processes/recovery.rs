//! Keys change and machines burn, with real processes: what an organiser types, and what comes of it.

use std::path::Path;
use std::process::Output;

use serde_json::json;
use stallmesh_tests::processes::{Market, address, order, until};

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_burned_hub_is_replaced_with_two_keys_from_a_stick_and_settles_what_stalls_still_hold() {
    let mut market = Market::make();
    let till = market.stall("river-ceramics");
    let other = market.stall_beside("oak-and-rye", &till);
    for number in 0..3 {
        till.send("POST", "/v1/sales", &order(&format!("first-{number}"), "MUG"));
        other.send("POST", "/v1/sales", &order(&format!("first-{number}"), "MUG"));
    }
    market.until_received(6);
    // A new opening key; the old one's file stays.
    let rotated = said(&market.hub.cli(&["hub", "rotate-key"]));
    assert!(rotated.contains("opening-2.key"), "{rotated}");
    let opening = ["opening.key", "opening-2.key"].map(|name| market.hub.directory.join(name));
    assert_eq!([mode(&opening[0]), mode(&opening[1])], [0o600; 2]);
    let refused = till.cli(&["hub", "rotate-key"]);
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(!till.directory.join("opening.key").exists(), "a stall keeps no opening key");
    let closed = market.settle();
    let digest = closed["digest"].as_str().unwrap().to_owned();
    until("the first settlement is released", || {
        let ledger = market.hub.get("/v1/ledger");
        if ledger["settlements"] == 1 { Ok(()) } else { Err(ledger.to_string()) }
    });
    other.until("has its statement", |status| status["sales"]["settled"] == 3);
    till.send("POST", "/v1/sales", &order("second", "MUG"));
    market.until_received(7);

    // The fire. A stick in the organiser's pocket has two files.
    let stick = market.folder().join("stick");
    std::fs::create_dir(&stick).unwrap();
    for key in ["root.key", "recovery.key"] {
        std::fs::rename(market.hub.directory.join(key), stick.join(key)).unwrap();
    }
    market.hub.kill();
    std::fs::remove_dir_all(&market.hub.directory).unwrap();
    other.send("POST", "/v1/sales", &order("while there is no hub", "MUG"));

    let mut hub = market.node("hub2");
    hub.set("STALLMESH_HUB_CHECKPOINT_EVERY_MS", "200");
    let nothing = hub.cli(&["market", "recover", "--keys", &market.folder().display().to_string()]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("root.key is not there"));
    let told = said(&hub.cli(&["market", "recover", "--keys", &stick.display().to_string()]));
    for needle in ["A new hub of market", "recovery.key out of", "revoke it here"] {
        assert!(told.contains(needle), "{told}");
    }
    let twice = hub.cli(&["market", "recover", "--keys", &stick.display().to_string()]);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("already holds a node"));
    hub.start();
    assert!(hub.notices().contains("has not yet met a member"), "{}", hub.notices());
    said(&hub.cli(&["peer", &address(&till)]));
    hub.until("has met the market", |status| {
        status["market_name"] == "Test market" && !status["notices"].to_string().contains("has not yet met")
    });
    until("it has all that stalls hold, and knows what was settled", || {
        let ledger = hub.get("/v1/ledger");
        let whole = ledger["posted"] == 8 && ledger["settlements"] == 1 && ledger["problem"] == "";
        if whole && ledger["missing"] == json!([]) { Ok(()) } else { Err(ledger.to_string()) }
    });
    // The keys go back into the safe, and it goes on without.
    assert!(hub.stop().success());
    for key in ["root.key", "recovery.key"] {
        assert_eq!(mode(&hub.directory.join(key)), 0o600);
        std::fs::remove_file(hub.directory.join(key)).unwrap();
    }
    hub.set("STALLMESH_MESH_PEERS", &address(&till)).start();
    other.send("POST", "/v1/sales", &order("for the new hub", "MUG"));
    until("it reads what is sealed to its own key", || {
        let ledger = hub.get("/v1/ledger");
        if ledger["posted"] == 9 { Ok(()) } else { Err(ledger.to_string()) }
    });
    let second = said(&hub.cli(&["settle"]));
    assert!(second.starts_with("Settlement 2 posted 3 sales, 9 with those before it."), "{second}");
    other.until("has both statements", |status| status["sales"]["settled"] == 5);
    let export = market.folder().join("market.export");
    said(&hub.cli(&["audit", "export", "--out", &export.display().to_string()]));
    let key = hub.directory.join("market.pub");
    let recomputed = ["audit", "digest", &export.display().to_string(), "--market-key", &key.display().to_string()];
    let recomputed = said(&hub.cli(&recomputed));
    assert!(recomputed.contains("Settlement 2 was published with the same."), "{recomputed}");
    let numbers: Vec<String> =
        other.get("/v1/statements").as_array().unwrap().iter().map(|one| one["body"]["digest"].to_string()).collect();
    assert_eq!((numbers.len(), numbers[0].trim_matches('"')), (2, digest.as_str()));
}
