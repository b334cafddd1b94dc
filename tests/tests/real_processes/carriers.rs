//! What a carrier's disk and memory hold of the sales that it carries.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::json;
use stallmesh_tests::processes::{Market, Node, until};

/// Which of some markers stand anywhere in a file.
fn found_in(mut reader: impl Read, markers: &[&str], found: &mut Vec<String>) {
    const CHUNK: usize = 1024 * 1024;
    let overlap = markers.iter().map(|marker| marker.len()).max().unwrap_or_default();
    let (mut buffer, mut kept) = (vec![0; overlap + CHUNK], 0);
    while let Ok(read) = reader.read(&mut buffer[kept..]) {
        if read == 0 {
            return;
        }
        let filled = &buffer[..kept + read];
        for marker in markers {
            if filled.windows(marker.len()).any(|window| window == marker.as_bytes()) {
                found.push((*marker).to_owned());
            }
        }
        let tail = filled.len().saturating_sub(overlap);
        let length = filled.len() - tail;
        buffer.copy_within(tail..tail + length, 0);
        kept = length;
    }
}

fn on_disk(folder: &Path, markers: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if let Ok(file) = File::open(&path) {
            found_in(file, markers, &mut found);
        }
    }
    found
}

/// In all memory of a process that it may write to.
fn in_memory(node: &Node, markers: &[&str]) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", node.pid())).unwrap();
    let mut memory = File::open(format!("/proc/{}/mem", node.pid())).unwrap();
    let mut found = Vec::new();
    let mut searched = 0;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        memory.seek(SeekFrom::Start(from)).unwrap();
        found_in((&mut memory).take(to - from), markers, &mut found);
        searched += to - from;
    }
    assert!(searched > 1_000_000, "only {searched} bytes could be searched");
    found
}

#[test]
fn a_carriers_disk_and_memory_hold_no_clear_byte_of_a_sale_that_it_carries() {
    const NOTE: &str = "note-7Qm3xHhV2kPz-for-hub-and-stall";
    const TOKEN: &str = "tok_R9wZk1pLq8vXy4Tn";
    const OPERATOR: &str = "operator-Wn5uGd0sJc";
    const KEY: &str = "key-c8Fh2Lr6Mb1Ye";
    const PUBLIC: &str = "SKU-everybody-may-read-4Gt7";
    let secrets = [NOTE, TOKEN, OPERATOR, KEY];
    let mut market = Market::make();
    let carrier = market.stall("carrier");
    let mut seller = market.stall_beside("seller", &carrier);
    // With no way to the hub, what it takes stays with it.
    market.hub.kill();
    carrier.until("has no uplink", |status| status["uplink"]["up"] == false);
    stallmesh_tests::processes::product(&seller, PUBLIC, 4321);
    let sale = json!({
        "idempotency_key": KEY, "lines": [{ "sku": PUBLIC }], "note": NOTE, "operator": OPERATOR,
        "tenders": [{ "kind": "card", "token": TOKEN }],
    });
    let recorded = seller.send("POST", "/v1/sales", &sale);
    let path = format!("/v1/sales/{}", recorded["sale"].as_str().unwrap());
    until("it is copied", || {
        let sale = seller.get(&path);
        if sale["copies"] == 1 { Ok(()) } else { Err(sale.to_string()) }
    });
    assert!(carrier.status()["custody"]["held_entries"].as_u64().unwrap() > 0);

    // The search finds what is there: the catalog is for everybody, and the seller has just read the sale.
    until("the catalog is here", || {
        let found = on_disk(&carrier.directory, &[PUBLIC]);
        if found.is_empty() { Err(carrier.get("/v1/catalog/counts").to_string()) } else { Ok(()) }
    });
    assert!(!in_memory(&carrier, &[PUBLIC]).is_empty(), "the search of memory finds nothing");
    assert!(!in_memory(&seller, &secrets).is_empty(), "the search of memory finds nothing in the seller");

    assert_eq!(on_disk(&carrier.directory, &secrets), Vec::<String>::new());
    assert_eq!(in_memory(&carrier, &secrets), Vec::<String>::new());

    // The seller never comes back. Its sale does, and the hub reads it.
    seller.kill();
    market.hub.start();
    market.until_received(1);
    let settlement = market.settle();
    assert_eq!((&settlement["posted"], &settlement["suspense"]), (&json!(1), &json!([])), "{settlement}");
    assert!(!in_memory(&market.hub, &secrets).is_empty(), "the hub has opened it");
    assert_eq!(in_memory(&carrier, &secrets), Vec::<String>::new());
    assert_eq!(on_disk(&carrier.directory, &secrets), Vec::<String>::new());
}
