//! G. Stores on disks that lie, rot and grow.

use std::collections::BTreeSet;

use stallmesh_node::engine::{Answer, Request};
use stallmesh_node::identity;
use stallmesh_node::store::{Batch, CACHE_BYTES, Direction, RedbStore, Store, StoreError, Table};
use stallmesh_tests::simulation::{Medium, OPENING_MS, Simulation};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn everything(store: &impl Store) -> Result<Pairs, StoreError> {
    store.scan(Table::Entries, &[], &[0xff; 20], usize::MAX, Direction::Forward)
}

/// A store with some batches, and what it held after each.
fn filled(medium: &Medium, batches: u64) -> Vec<Pairs> {
    let mut store = RedbStore::with_backend(medium.clone(), CACHE_BYTES).unwrap();
    let mut states = vec![everything(&store).unwrap()];
    for number in 0..batches {
        let mut batch = Batch::default();
        for part in 0..8 {
            batch.put(Table::Entries, (number % 13 * 8 + part).to_be_bytes(), vec![number as u8; 300]);
        }
        store.commit(batch).unwrap();
        states.push(everything(&store).unwrap());
    }
    states
}

fn dice(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }
}

/// What a store says after its disk was tampered with: an error, or one of the states that it was in.
fn says(medium: &Medium) -> Result<Pairs, String> {
    medium.power_on();
    // The store's library may panic on such a file; the program opens it where that ends the start, and nothing else.
    let medium = medium.clone();
    let opened = std::panic::catch_unwind(move || {
        let store = RedbStore::with_backend(medium, CACHE_BYTES).map_err(|error| error.to_string())?;
        everything(&store).map_err(|error| error.to_string())
    });
    opened.unwrap_or_else(|_| Err("it panicked".into()))
}

#[test]
fn adv_127_after_a_disk_has_lied_the_store_is_an_error_or_an_earlier_state_and_never_a_mixture() {
    let (mut errors, mut earlier, mut panics) = (0, 0, 0);
    for seed in 0..200 {
        let medium = Medium::default();
        let mut states = filled(&medium, 5);
        medium.lie(true);
        states.extend(filled(&medium, 1 + seed % 4));
        let mut random = dice(seed);
        medium.lose_unsynced(&mut random);
        medium.lie(false);
        match says(&medium) {
            Ok(found) => {
                assert!(states.contains(&found), "seed {seed}: a state that never was");
                earlier += 1;
            }
            Err(error) if error == "it panicked" => panics += 1,
            Err(error) => {
                assert!(error.contains("damaged") || error.contains("E_"), "{error}");
                errors += 1;
            }
        }
    }
    println!("200 lying disks: {earlier} in an earlier state, {errors} errors, {panics} panics while opening");
    // A node on such a disk goes on from what is there, and gets back from its neighbours what isn't.
    let mut market = Simulation::on_media(960, OPENING_MS);
    let gateway = market.add();
    market.uplink(gateway, true);
    market.invite(gateway, "");
    let stall = market.add();
    market.invite(stall, "stall-1");
    market.until("both join", 120_000, |market| {
        market.status(stall).role == "stall" && market.status(gateway).role != "none"
    });
    market.until(
        "it knows the terms",
        60_000,
        |market| matches!(market.ask(stall, Request::Policy), Answer::Policy(policy) if !policy.tax_rates.0.is_empty()),
    );
    market.publish(stall);
    market.sell(stall, "before");
    market.until("it is posted", 60_000, |market| market.status(stall).sales.at_the_hub == 1);
    let medium = market.nodes[stall].disk.medium().unwrap();
    let copy = market.nodes[stall].disk.copy();
    medium.lie(true);
    market.uplink(gateway, false);
    market.sell(stall, "while it lies");
    market.until("it is copied", 60_000, |market| market.status(stall).sales.copied == 1);
    market.kill(stall);
    // The power goes; of what it said it had written nothing was.
    market.nodes[stall].disk = copy;
    market.start(stall);
    market.sell(stall, "after");
    market.uplink(gateway, true);
    market.until("all three are posted", 120_000, |market| market.settle(true).posted == 3);
    assert!(market.suspense().is_empty());
}

#[test]
fn adv_128_bits_that_rot_while_a_store_is_closed_are_never_taken_for_what_was_written() {
    let (mut whole, mut errors, mut earlier, mut panics) = (0, 0, 0, 0);
    for seed in 0..300 {
        let medium = Medium::default();
        let states = filled(&medium, 20);
        let mut random = dice(seed);
        medium.rot(1 + (seed % 3) as u32, &mut random);
        match says(&medium) {
            Ok(found) if Some(&found) == states.last() => whole += 1,
            Ok(found) => {
                // Falling back by a commit is what a new incarnation is for; anything else would be believed.
                assert!(states.contains(&found), "seed {seed}: a state that never was");
                earlier += 1;
            }
            Err(error) if error == "it panicked" => panics += 1,
            Err(_) => errors += 1,
        }
    }
    println!("300 rotten stores: {whole} whole, {errors} errors, {earlier} earlier, {panics} panics while opening");
    assert!(whole > 0 && errors + panics > 0, "both come up");
}

/// Ten million entries take hours here: fifty thousand show the size of each, and that opening stays quick.
#[test]
fn adv_138_a_large_store_takes_room_in_proportion_and_opens_whole() {
    const ENTRIES: u64 = 50_000;
    let folder = tempfile::tempdir().unwrap();
    {
        let mut store = RedbStore::open(folder.path(), CACHE_BYTES).unwrap();
        for chunk in 0..ENTRIES / 1_000 {
            let mut batch = Batch::default();
            for number in chunk * 1_000..(chunk + 1) * 1_000 {
                batch.put(Table::Entries, number.to_be_bytes(), vec![number as u8; 400]);
            }
            store.commit(batch).unwrap();
        }
    }
    let bytes = std::fs::metadata(folder.path().join(stallmesh_node::store::STORE_FILE)).unwrap().len();
    let begun = std::time::Instant::now();
    let store = RedbStore::open(folder.path(), CACHE_BYTES).unwrap();
    println!("{ENTRIES} entries of 400 bytes: {bytes} bytes of file; opened, and checked, in {:?}", begun.elapsed());
    assert_eq!(everything(&store).unwrap().len() as u64, ENTRIES);
    assert!(bytes < ENTRIES * 408 * 8, "{bytes} bytes");
}

#[test]
fn adv_141_keys_and_incarnations_come_from_the_system_and_from_no_clock() {
    // Many in the same millisecond: no two alike.
    let drawn: BTreeSet<[u8; 32]> = (0..2_000).map(|_| identity::random().unwrap()).collect();
    assert_eq!(drawn.len(), 2_000);
    let folders: Vec<_> = (0..8).map(|_| tempfile::tempdir().unwrap()).collect();
    let devices: BTreeSet<_> =
        folders.iter().map(|folder| identity::load_or_create(folder.path()).unwrap().device.id()).collect();
    assert_eq!(devices.len(), folders.len());
}
