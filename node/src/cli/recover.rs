//! A new hub for a market whose hub is gone.
#![allow(clippy::print_stdout, reason = "this is where the program speaks")]

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use stallmesh_protocol::seal::SealKey;
use stallmesh_protocol::sign::DeviceKey;

use super::CliError;
use super::commands::{DAY_MS, failed, show};
use crate::date::utc_minute;
use crate::engine::{Now, RecoveryOrder, recover_market};
use crate::identity;
use crate::runtime;
use crate::store::{CACHE_BYTES, DirectoryLock, RedbStore, STORE_FILE};

/// Of markets that this program makes.
const EPOCH: u32 = 1;

/// Makes a hub's data directory from the market's root and recovery keys.
pub(super) fn recover(directory: &Path, keys: &Path, name: &str, days: u64, json: bool) -> Result<(), CliError> {
    let key = |name: &str| {
        identity::read_key(keys, name).map_err(failed)?.ok_or_else(|| {
            CliError::Failed(format!("{} is not there: it can't be done without", keys.join(name).display()))
        })
    };
    let (root, recovery) = (key(identity::ROOT_KEY)?, key(identity::RECOVERY_KEY)?);
    runtime::make_directory(directory).map_err(failed)?;
    let lock = DirectoryLock::take(directory).map_err(failed)?;
    if [identity::DEVICE_KEY, STORE_FILE].iter().any(|name| directory.join(name).exists()) {
        return Err(CliError::Failed(format!("{} already holds a node: use another --data-dir", directory.display())));
    }
    // The running hub needs both until it has met the market.
    for (name, key) in [(identity::ROOT_KEY, &root), (identity::RECOVERY_KEY, &recovery)] {
        if identity::read_key(directory, name).map_err(failed)?.is_none() {
            identity::write_key(directory, name, key).map_err(failed)?;
        }
    }
    identity::add_opening_key(directory, &identity::random().map_err(failed)?).map_err(failed)?;
    let identity = identity::load_or_create(directory).map_err(failed)?;
    let store = RedbStore::open_locked(directory, CACHE_BYTES, lock).map_err(failed)?;
    let root = DeviceKey::from_seed(&root);
    let recovery = SealKey::from_secret(&recovery).map_err(failed)?.public();
    let order = RecoveryOrder { epoch: EPOCH, hub_name: name.to_owned(), valid_ms: days.saturating_mul(DAY_MS) };
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let now = Now { monotonic_ms: 0, wall_ms };
    let seed = identity::random().map_err(failed)?;
    recover_market(store, &order, &identity, &root, recovery, seed, now).map_err(failed)?;
    std::fs::write(directory.join("market.pub"), format!("{}\n", root.id())).map_err(failed)?;
    let device = identity.device.id();
    let view = json!({ "market_key": root.id().to_string(), "device": device.to_string(), "time": wall_ms });
    show(json, &view, |_| {
        let at = directory.display();
        println!("A new hub of market {} is made in {at}.", root.id().short());
        println!(
            "By this machine's clock it is {}. If that is wrong, delete {at}, set the clock, and begin again.",
            utc_minute(wall_ms)
        );
        println!();
        println!(
            "1. `stallmesh --data-dir {at} run`, on the market's network. Members find it by mDNS. Where they don't, tell"
        );
        println!(
            "   it of one (`stallmesh --data-dir {at} peer ADDRESS`), or tell one of them of it. If the old hub had a"
        );
        println!("   name or an address of its own for uplinks, give that to this machine.");
        println!(
            "2. `status` says when it has met the market. From then on it admits, and writes checkpoints. Stalls and"
        );
        println!(
            "   carriers bring it all that they hold; `ledger` says what the old hub had and nobody has brought yet."
        );
        println!("3. Settle when that is little enough, or nothing. What was settled before is not settled again.");
        println!("4. Take root.key and recovery.key out of {at} again, and keep them off line.");
        println!();
        println!(
            "Should the old hub's machine come back, let it run beside this one until nothing waits there: it hands over"
        );
        println!(
            "what it has, and settles nothing. Then, or at once if it may be in wrong hands, revoke it here, while"
        );
        println!("root.key is in {at}: `members` shows its key, `revoke KEY` ends it.");
    })
}
