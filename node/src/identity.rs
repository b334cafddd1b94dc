//! Keys at rest: one file each in the data directory, hexadecimal, readable by their owner alone.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use stallmesh_protocol::sign::DeviceKey;
use zeroize::Zeroizing;

use crate::engine::Identity;
use crate::store::STORE_FILE;

/// The device key's file.
pub const DEVICE_KEY: &str = "device.key";
/// The file of the key that things are wrapped to for this device.
pub const SEAL_KEY: &str = "seal.key";
/// A hub's first opening key; those that followed it are `opening-2.key`, `opening-3.key`, ….
pub const OPENING_KEY: &str = "opening.key";
/// The market's root key: with the organiser, off line if wanted.
pub const ROOT_KEY: &str = "root.key";
/// The market's recovery key: with the root key.
pub const RECOVERY_KEY: &str = "recovery.key";

/// The most opening keys that a hub has: a change each day, for years.
const OPENING_KEYS_MAX: u32 = 2_000;

/// Tells a directory that has an identity.
const IDENTITY_MARK: &str = "README";

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Others can read it.
    #[error(
        "{path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`, and if somebody may have copied it, join anew"
    )]
    Readable {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key.
    #[error(
        "{path} is damaged: it must hold 64 hexadecimal digits. Put back a copy of it; this node won't take a new identity by itself"
    )]
    Damaged {
        /// The file.
        path: String,
    },
    /// A store without its key.
    #[error(
        "{path} is missing, but {mark} says that this directory has an identity: put the key back, or use another --data-dir"
    )]
    Missing {
        /// The key's file.
        path: String,
        /// What tells that there was one.
        mark: String,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// More opening keys than anybody needs.
    #[error("this hub has {OPENING_KEYS_MAX} opening keys already: each must be kept, so there is no room for another")]
    TooMany,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> IdentityError + '_ {
    |source| IdentityError::Io { path: path.display().to_string(), source }
}

/// Reads a key file; `None` where there is none.
///
/// # Errors
/// It is damaged, others can read it, or the system refuses.
pub fn read_key(directory: &Path, name: &str) -> Result<Option<Zeroizing<[u8; 32]>>, IdentityError> {
    let path = directory.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io(&path)(source)),
    };
    let mode = file.metadata().map_err(io(&path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Readable { path: path.display().to_string(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    let damaged = || IdentityError::Damaged { path: path.display().to_string() };
    file.take(200).read_to_string(&mut text).map_err(|_| damaged())?;
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), key.as_mut_slice()).map_err(|_| damaged())?;
    Ok(Some(key))
}

/// Writes a new key file, durably, whole or not at all; never over an old one.
///
/// # Errors
/// There is one already, or the system refuses.
pub fn write_key(directory: &Path, name: &str, key: &[u8; 32]) -> Result<(), IdentityError> {
    let path = directory.join(name);
    let partial = directory.join(format!("{name}.partial"));
    // What a crash has left half written is nobody's key yet.
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&partial)(error)),
        _ => {}
    }
    let text = Zeroizing::new(format!("{}\n", hex::encode(key)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial).map_err(io(&partial))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io(&partial))?;
    // A link, unlike a rename, fails where there is a key already.
    std::fs::hard_link(&partial, &path).map_err(io(&path))?;
    std::fs::remove_file(&partial).map_err(io(&partial))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io(&path))
}

fn opening_key_file(number: u32) -> String {
    if number == 1 { OPENING_KEY.to_owned() } else { format!("opening-{number}.key") }
}

/// A hub's opening keys, the oldest first.
fn read_opening_keys(directory: &Path) -> Result<Vec<Zeroizing<[u8; 32]>>, IdentityError> {
    let mut keys = Vec::new();
    // One that is missing hides none that follow it: whoever put the others back may have overlooked it.
    for number in opening_key_numbers(directory)? {
        keys.extend(read_key(directory, &opening_key_file(number))?);
    }
    Ok(keys)
}

/// The numbers of the opening keys that there are, ascending.
fn opening_key_numbers(directory: &Path) -> Result<Vec<u32>, IdentityError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io(directory))? {
        let name = entry.map_err(io(directory))?.file_name();
        let number = match name.to_str() {
            Some(OPENING_KEY) => Some(1),
            Some(name) => name.strip_prefix("opening-").and_then(|name| name.strip_suffix(".key")?.parse().ok()),
            None => None,
        };
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Writes one more opening key, durably, beside those that there are. Gives the name of its file.
///
/// # Errors
/// There are too many, or the system refuses.
pub fn add_opening_key(directory: &Path, secret: &[u8; 32]) -> Result<String, IdentityError> {
    let next = opening_key_numbers(directory)?.last().map_or(1, |last| last.saturating_add(1));
    if next > OPENING_KEYS_MAX {
        return Err(IdentityError::TooMany);
    }
    let name = opening_key_file(next);
    write_key(directory, &name, secret)?;
    Ok(name)
}

/// 32 bytes from the system's generator.
///
/// # Errors
/// The system has none.
pub fn random() -> Result<[u8; 32], IdentityError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| IdentityError::Io {
        path: "the system's random generator".into(),
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(bytes)
}

/// Reads the device's keys, or makes those that are missing; whether they may be missing is the caller's to know.
///
/// # Errors
/// A key is damaged, or readable by others.
pub fn create_missing(directory: &Path) -> Result<Identity, IdentityError> {
    let load = |name: &str| -> Result<Zeroizing<[u8; 32]>, IdentityError> {
        if let Some(key) = read_key(directory, name)? {
            return Ok(key);
        }
        let key = Zeroizing::new(random()?);
        write_key(directory, name, &key)?;
        Ok(key)
    };
    let device = load(DEVICE_KEY)?;
    let seal = load(SEAL_KEY)?;
    let opening_secrets = read_opening_keys(directory)?.iter().map(|key| **key).collect();
    Ok(Identity { device: DeviceKey::from_seed(&device), seal_secret: *seal, opening_secrets })
}

/// Reads the device's keys, or makes them in a directory that never had any.
///
/// # Errors
/// A key is missing where there was an identity, damaged, or readable by others.
pub fn load_or_create(directory: &Path) -> Result<Identity, IdentityError> {
    let mark = directory.join(IDENTITY_MARK);
    // A store is never there before the keys are.
    let told = [mark.clone(), directory.join(STORE_FILE)].into_iter().find(|mark| mark.exists());
    for name in [DEVICE_KEY, SEAL_KEY] {
        if let Some(mark) = &told
            && read_key(directory, name)?.is_none()
        {
            return Err(IdentityError::Missing {
                path: directory.join(name).display().to_string(),
                mark: mark.display().to_string(),
            });
        }
    }
    let identity = create_missing(directory)?;
    let text = "This directory holds a Stallmesh node. Its *.key files are its identity: keep them, and share them with nobody.\n";
    std::fs::write(&mark, text).map_err(io(&mark))?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_are_made_once_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let first = load_or_create(directory.path()).unwrap();
        let second = load_or_create(directory.path()).unwrap();
        assert_eq!(first.device.id(), second.device.id());
    }

    #[test]
    fn opening_keys_are_kept_in_order_and_what_a_crash_left_half_written_is_none() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let read = || load_or_create(directory.path()).unwrap().opening_secrets;
        assert!(read().is_empty());
        for (number, name) in [(1, "opening.key"), (2, "opening-2.key"), (3, "opening-3.key")] {
            let partial = directory.path().join(format!("{name}.partial"));
            std::fs::write(&partial, "7777").unwrap();
            assert_eq!(read().len(), number - 1);
            assert_eq!(add_opening_key(directory.path(), &[number as u8; 32]).unwrap(), name);
            let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(read(), [[1; 32], [2; 32], [3; 32]]);
        assert!(write_key(directory.path(), OPENING_KEY, &[9; 32]).is_err(), "never over an old one");
        std::fs::remove_file(directory.path().join("opening-2.key")).unwrap();
        assert_eq!(read(), [[1; 32], [3; 32]]);
        assert_eq!(add_opening_key(directory.path(), &[4; 32]).unwrap(), "opening-4.key");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        load_or_create(directory.path()).unwrap();
        let path = directory.path().join(DEVICE_KEY);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_or_create(directory.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Readable { mode: 0o640, .. }), "{error}");
    }

    #[test]
    fn a_directory_with_data_never_gets_a_new_identity() {
        let directory = tempfile::tempdir().unwrap();
        load_or_create(directory.path()).unwrap();
        std::fs::remove_file(directory.path().join(DEVICE_KEY)).unwrap();
        assert!(matches!(load_or_create(directory.path()), Err(IdentityError::Missing { .. })));
        std::fs::write(directory.path().join(DEVICE_KEY), "abc").unwrap();
        std::fs::set_permissions(directory.path().join(DEVICE_KEY), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(load_or_create(directory.path()), Err(IdentityError::Damaged { .. })));
    }
}
