//! A data directory that something is wrong with: a clear error, and never a new identity or a lost sale.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use stallmesh_node::identity::{DEVICE_KEY, SEAL_KEY};
use stallmesh_node::store::{Batch, CACHE_BYTES, RedbStore, STORE_FILE, Store, Table};
use stallmesh_tests::processes::{Market, Node, address, is_ci, order, product, until};

/// A node that doesn't start, and why: what it said last.
fn refusal(node: &mut Node) -> String {
    let Err(ended) = node.try_start() else { panic!("it must not run: {}", node.log()) };
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    assert!(!ended.log.contains("panicked"), "{}", ended.log);
    let last = ended.log.lines().rev().find(|line| line.starts_with("error: ")).unwrap_or_default();
    assert!(!last.is_empty(), "no error was said: {}", ended.log);
    last.to_owned()
}

/// A node that has run, is no member, and was stopped.
fn stopped_node(folder: &Path) -> (Node, String) {
    let mut node = Node::new(folder, "node");
    let device = node.start().device();
    assert!(node.stop().success());
    (node, device)
}

#[test]
fn adv_131_a_second_process_on_one_directory_ends_at_once_and_names_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Node::new(folder.path(), "node");
    first.start();
    let second = first.cli(&["run"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("already open in process {}", first.pid())), "{said}");
    assert!(first.runs() && !first.device().is_empty(), "the first one was disturbed");
    // A lock that a killed process left behind is none.
    first.kill();
    first.start();
}

#[test]
fn adv_060_a_key_that_others_can_read_is_refused_with_the_command_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    for name in [DEVICE_KEY, SEAL_KEY] {
        let (mut node, device) = stopped_node(folder.path());
        let key = node.directory.join(name);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = refusal(&mut node);
        assert!(error.contains(&format!("chmod 600 {}", key.display())) && error.contains("0644"), "{error}");
        let chmod = Command::new("chmod").arg("600").arg(&key).status().unwrap();
        assert!(chmod.success());
        assert_eq!(node.start().device(), device);
        node.stop();
    }
}

#[test]
fn adv_060_a_directory_that_has_data_never_gets_a_new_identity_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (mut node, device) = stopped_node(folder.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let (mut other, _) = stopped_node(elsewhere.path());
    let key = node.directory.join(DEVICE_KEY);
    let kept = std::fs::read(&key).unwrap();

    // Gone, with and without the file that says what this directory is.
    std::fs::remove_file(&key).unwrap();
    let error = refusal(&mut node);
    assert!(error.contains("device.key is missing") && error.contains("put the key back"), "{error}");
    std::fs::remove_file(node.directory.join("README")).unwrap();
    let error = refusal(&mut node);
    assert!(error.contains("device.key is missing"), "{error}");
    assert!(!key.exists(), "a new identity was made");

    // Another device's.
    std::fs::copy(other.directory.join(DEVICE_KEY), &key).unwrap();
    let error = refusal(&mut node);
    assert!(error.contains("belongs to device") && error.contains("put the right key back"), "{error}");
    assert_ne!(other.start().device(), device);

    // Damaged.
    std::fs::write(&key, &kept[..20]).unwrap();
    let error = refusal(&mut node);
    assert!(error.contains("device.key is damaged"), "{error}");

    std::fs::write(&key, kept).unwrap();
    assert_eq!(node.start().device(), device);
}

#[test]
fn a_store_that_was_truncated_or_damaged_is_an_error_that_names_it_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut node, device) = stopped_node(folder.path());
    let store = node.directory.join(STORE_FILE);
    let whole = std::fs::read(&store).unwrap();
    let page_of_zeros = {
        let mut bytes = whole.clone();
        let length = bytes.len().min(64 * 1024);
        bytes[..length].fill(0);
        bytes
    };
    for (what, bytes) in [
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("cut to a stump", whole[..100].to_vec()),
        ("empty", Vec::new()),
        ("zeros at its beginning", page_of_zeros),
        ("something else", b"this is no store".repeat(1000)),
    ] {
        std::fs::write(&store, &bytes).unwrap();
        eprintln!("a store that is {what}");
        let error = refusal(&mut node);
        assert!(error.contains(STORE_FILE) && error.contains("damaged"), "{what}: {error}");
        assert_eq!(std::fs::read(&store).unwrap(), bytes, "{what}: the evidence was changed");
    }
    std::fs::write(&store, &whole).unwrap();
    assert_eq!(node.start().device(), device);
}

#[test]
fn adv_139_a_store_of_a_newer_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut node, _) = stopped_node(folder.path());
    {
        let mut store = RedbStore::open(&node.directory, CACHE_BYTES).unwrap();
        let mut batch = Batch::default();
        batch.put(Table::Meta, b"schema", 4711_u32.to_be_bytes());
        store.commit(batch).unwrap();
    }
    let error = refusal(&mut node);
    assert!(error.contains("newer stallmesh") && error.contains("4711"), "{error}");
}

/// A tmpfs of a test, unmounted with it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(SmallDisk(at));
        }
        assert!(!is_ci(), "CI must be able to mount a tmpfs");
        eprintln!("no tmpfs can be mounted here: skipped");
        None
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(status.unwrap().success(), "{options}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn adv_126_a_full_disk_refuses_the_sale_before_it_is_acknowledged_and_loses_none() {
    let market = Market::make();
    let mut node = market.node("till");
    let Some(disk) = SmallDisk::mount(node.directory.clone(), "6m") else { return };
    std::fs::set_permissions(&node.directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    node.set("STALLMESH_UPLINK_ENABLED", "true").start();
    market.admit(&node, "till");
    product(&node, "MUG", 1250);

    // Whatever else fills a disk.
    let ballast = node.directory.join("ballast");
    let mut acknowledged = Vec::new();
    let sell = |node: &Node, key: &str| node.ask("POST", "/v1/sales", &noted(key));
    for number in 0..5 {
        let key = format!("before-{number}");
        assert_eq!(sell(&node, &key).unwrap().status, 201);
        acknowledged.push(key);
    }
    let filled = Command::new("dd").args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}", ballast.display())).output();
    assert!(!filled.unwrap().status.success(), "the disk was to be filled");
    let refused = (0..).find_map(|number| {
        let key = format!("full-{number}");
        assert!(number < 100_000, "a full disk took everything");
        match sell(&node, &key) {
            Ok(reply) if reply.status < 400 => {
                acknowledged.push(key);
                None
            }
            other => Some(other),
        }
    });
    let refused = refused.unwrap().expect("an answer, not silence");
    let problem = refused.json();
    assert_eq!((refused.status, problem["code"].as_str()), (507, Some("E_STORAGE_FULL")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("free some room"), "{problem}");
    let (status, _) = node.wait();
    assert_eq!(status.code(), Some(1));
    assert!(node.log().contains("the disk is full"), "{}", node.log());

    // Still full: no start, and the reason why; or a start, and reads.
    if let Err(ended) = node.try_start() {
        assert!(ended.log.contains("the disk is full"), "{}", ended.log);
    } else {
        assert_eq!(node.get("/v1/sales?limit=1000").as_array().unwrap().len(), acknowledged.len());
        node.kill();
    }

    std::fs::remove_file(&ballast).unwrap();
    disk.remount("size=64m");
    node.start();
    assert_eq!(node.status()["sales"]["recorded"], acknowledged.len());
    for key in &acknowledged {
        let again = node.send("POST", "/v1/sales", &noted(key));
        assert_eq!(again["total"], 1250, "{key}: {again}");
    }
    market.until_received(acknowledged.len());
    assert_eq!(market.settle()["posted"], acknowledged.len());
    node.kill();
}

fn noted(key: &str) -> Value {
    let mut order = order(key, "MUG");
    order["note"] = "x".repeat(900).into();
    order
}

#[test]
fn adv_130_a_directory_that_cannot_be_written_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("disk");
    let Some(disk) = SmallDisk::mount(place.clone(), "32m") else { return };
    let (mut node, device) = stopped_node(&place);
    disk.remount("ro");
    let run = node.cli(&["run"]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1), "{said}");
    let directory = node.directory.display().to_string();
    assert!(said.starts_with("error: ") && said.contains(&directory), "{said}");
    assert!(said.to_lowercase().contains("read-only"), "{said}");
    // A directory that can't be made, likewise.
    let other = Node::new(&place, "other");
    let said = String::from_utf8_lossy(&other.cli(&["run"]).stderr).into_owned();
    assert!(said.starts_with("error: ") && said.contains(&other.directory.display().to_string()), "{said}");
    disk.remount("rw");
    assert_eq!(node.start().device(), device);
    node.kill();
}

#[test]
fn adv_137_a_node_stops_within_five_seconds_when_it_is_asked_to_and_at_once_when_asked_twice() {
    let market = Market::make();
    let mut node = market.stall("till");
    node.send("POST", "/v1/sales", &order("one", "MUG"));
    // Clients that hold connections open don't hold it up.
    let (address, token) = node.tcp();
    let _idle = std::net::TcpStream::connect(address).unwrap();
    let mut events = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(
        &mut events,
        format!("GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
    )
    .unwrap();
    node.signal("TERM");
    let (status, took) = node.wait();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(5), "{took:?}");

    node.start();
    node.signal("TERM");
    node.signal("TERM");
    let (status, _) = node.wait();
    assert!(matches!(status.code(), Some(0 | 130)), "{status}");
    assert_eq!(node.start().status()["sales"]["recorded"], 1);
}

/// Debian's libfaketime; `None` where it isn't installed.
fn fake_clock(node: &mut Node, offset: &str) -> Option<()> {
    let library = PathBuf::from("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1");
    let library = if library.exists() { library } else { find_faketime()? };
    node.set("LD_PRELOAD", &library.display().to_string())
        .set("FAKETIME", offset)
        // The runtime's timers would jump otherwise.
        .set("DONT_FAKE_MONOTONIC", "1");
    Some(())
}

fn find_faketime() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path().join("faketime")));
    let found = places.map(|place| place.join("libfaketime.so.1")).find(|library| library.exists());
    if found.is_none() {
        assert!(!is_ci(), "CI needs Debian's `faketime`: tests/run installs it");
        eprintln!("faketime is missing: skipped");
    }
    found
}

#[test]
fn adv_066_a_clock_ten_years_off_sells_says_so_and_harms_nobody() {
    let market = Market::make();
    let mut right = market.stall("right");
    for (name, offset, word) in [("fast", "+3650d", "ahead"), ("slow", "-3650d", "behind")] {
        // Wrong before it was ever in the market, and wrong when it starts again.
        let mut node = market.node(name);
        if fake_clock(&mut node, offset).is_none() {
            return;
        }
        node.set("STALLMESH_UPLINK_ENABLED", "true").set("STALLMESH_MESH_PEERS", &address(&right));
        node.start();
        market.admit(&node, name);
        // Until it has heard a hub's time it may take its certificate for one that has ended.
        let mug = json!([{ "sku": "MUG", "name": "Mug", "price": 100 }]);
        until("it publishes", || match node.ask("PUT", "/v1/catalog", &mug) {
            Ok(reply) if reply.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        for run in 0..2 {
            let sale = node.send("POST", "/v1/sales", &order(&format!("{name}-{run}"), "MUG"));
            assert_eq!(sale["total"], 100, "{sale}");
            let notices = until("it says that its clock is off", || {
                let notices = node.notices();
                if notices.contains("clock") && notices.contains(word) { Ok(notices) } else { Err(notices) }
            });
            assert!(notices.contains("years"), "{notices}");
            // The market's time, not its own.
            let (own, theirs) = (node.status()["time"].as_u64().unwrap(), right.status()["time"].as_u64().unwrap());
            assert!(own.abs_diff(theirs) < 8 * 86_400_000, "{own} against {theirs}");
            node.stop();
            node.start();
        }
        node.until("its sales are at the hub", |status| status["sales"]["at_the_hub"] == 2);
        right.until("hears of the other's products", |_| {
            right.get("/v1/catalog/counts").as_array().unwrap().iter().any(|count| count[0] == name)
        });
    }
    // The others' time stayed right, and they sell and are paid.
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    for node in [&market.hub, &right] {
        assert!(node.status()["time"].as_u64().unwrap().abs_diff(wall) < 3_600_000, "{}", node.status());
        assert!(!node.notices().contains("clock"), "{}", node.notices());
    }
    right.send("POST", "/v1/sales", &order("right", "MUG"));
    market.until_received(5);
    let settlement = market.settle();
    assert_eq!((settlement["posted"].as_u64(), &settlement["suspense"]), (Some(5), &json!([])), "{settlement}");
    right.stop();
}
