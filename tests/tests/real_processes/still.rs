//! Nodes that stand still, and nodes that have little memory.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use stallmesh_tests::processes::{Market, Node, is_ci, order, until};

fn sell(node: &Node, key: &str) {
    assert_eq!(node.ask("POST", "/v1/sales", &order(key, "MUG")).unwrap().status, 201, "{key}");
}

/// Longer than whoever waits for it waits; or as long as `TEST_STILL_S` says, in seconds.
fn stand_still(node: &Node, noticed: impl FnOnce()) {
    node.signal("STOP");
    noticed();
    let longer = std::env::var("TEST_STILL_S").ok().and_then(|seconds| seconds.parse().ok());
    std::thread::sleep(Duration::from_secs(longer.unwrap_or(0)));
    node.signal("CONT");
}

#[test]
fn adv_137_a_hub_and_a_stall_that_stood_still_longer_than_any_patience_go_on() {
    let market = Market::make();
    let till = market.stall("till");
    sell(&till, "before");
    market.until_received(1);
    stand_still(&market.hub, || {
        till.until("gives it up", |status| status["uplink"]["up"] == false);
        sell(&till, "without a hub");
    });
    market.until_received(2);
    stand_still(&till, || {
        market.hub.until("gives it up", |status| status["peers"] == json!([]));
    });
    sell(&till, "awake again");
    market.until_received(3);
    // Both at once: nobody waits for anybody.
    market.hub.signal("STOP");
    stand_still(&till, || {});
    sell(&till, "first awake");
    market.hub.signal("CONT");
    market.until_received(4);
    let settlement = market.settle();
    assert_eq!((&settlement["posted"], &settlement["suspense"]), (&json!(4), &json!([])), "{settlement}");
}

/// A control group with a cap on memory, gone with this.
struct Cap(PathBuf);

impl Cap {
    /// `None` where the kernel lets no test make one.
    fn make(bytes: u64) -> Option<Self> {
        let name = format!("stallmesh-test-{}-{bytes}", std::process::id());
        let limit = bytes.to_string();
        // Version 1, and version 2.
        for (root, files) in [
            ("/sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]),
            ("/sys/fs/cgroup", ["memory.max", "memory.swap.max"]),
        ] {
            let folder = PathBuf::from(root).join(&name);
            if std::fs::create_dir(&folder).is_err() {
                continue;
            }
            let cap = Cap(folder);
            // A machine without swap has no second file.
            let swap = if files[1] == "memory.swap.max" { "0" } else { &limit };
            let _ = std::fs::write(cap.0.join(files[0]), &limit).map(|()| std::fs::write(cap.0.join(files[1]), swap));
            if std::fs::read_to_string(cap.0.join(files[0])).is_ok_and(|text| text.trim() == limit) {
                return Some(cap);
            }
        }
        eprintln!("no control group with a cap on memory can be made here: skipped");
        assert!(!is_ci() || forbidden(), "CI must be able to cap memory: a kernel with cgroups, and root");
        None
    }

    fn hold(&self, node: &Node) {
        std::fs::write(self.0.join("cgroup.procs"), node.pid().to_string()).unwrap();
    }

    fn peak(&self) -> u64 {
        let read = |file| std::fs::read_to_string(self.0.join(file)).ok()?.trim().parse().ok();
        read("memory.max_usage_in_bytes").or_else(|| read("memory.peak")).unwrap_or_default()
    }
}

/// Where even root may write nothing there, as in most containers, it is the kernel's word, and no mistake of the setup.
fn forbidden() -> bool {
    let probe = std::fs::create_dir("/sys/fs/cgroup/stallmesh-probe");
    let _ = std::fs::remove_dir("/sys/fs/cgroup/stallmesh-probe");
    matches!(probe, Err(error) if matches!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied))
}

impl Drop for Cap {
    fn drop(&mut self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        // Until its last process is gone.
        while std::fs::remove_dir(&self.0).is_err() && self.0.exists() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

#[test]
fn adv_134_with_little_memory_a_node_sells_and_with_too_little_it_dies_and_loses_nothing() {
    let Some(cap) = Cap::make(48 * 1024 * 1024) else { return };
    let market = Market::make();
    let mut till = market.stall("till");
    cap.hold(&till);
    for number in 0..200 {
        sell(&till, &number.to_string());
    }
    market.until_received(200);
    assert!(till.runs(), "{}", till.log());
    eprintln!("at most {} KiB of 48 MiB", cap.peak() / 1024);
    assert!(cap.peak() > 1024 * 1024, "the cap holds nothing");

    // So little that the kernel ends it while it sells.
    let Some(tight) = Cap::make(3 * 1024 * 1024) else { return };
    tight.hold(&till);
    let mut sold = 200;
    until("the kernel ends it", || {
        if till.ask("POST", "/v1/sales", &order(&format!("tight {sold}"), "MUG")).is_ok_and(|reply| reply.status == 201)
        {
            sold += 1;
        }
        // More than it has in memory at any time: products of long names.
        let name = "n".repeat(100);
        let products: Vec<_> =
            (0..200).map(|number| json!({ "sku": format!("{sold} {number}"), "name": name, "price": 1 })).collect();
        let _ = till.ask("PUT", "/v1/catalog", &json!(products));
        if till.runs() { Err(format!("{sold} sales, {} KiB", till.memory("VmRSS") / 1024)) } else { Ok(()) }
    });
    till.kill();
    till.start();
    // One more may stand whose answer was lost.
    let key = format!("tight {sold}");
    sell(&till, &key);
    market.until_received(sold + 1);
    let settlement = market.settle();
    assert_eq!((&settlement["posted"], &settlement["suspense"]), (&json!(sold + 1), &json!([])), "{settlement}");
}
