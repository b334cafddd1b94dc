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
/// A hub's opening key.
pub const OPENING_KEY: &str = "opening.key";
/// The market's root key: with the organiser, off line if wanted.
pub const ROOT_KEY: &str = "root.key";
/// The market's recovery key: with the root key.
pub const RECOVERY_KEY: &str = "recovery.key";

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

/// Writes a new key file, durably; never over an old one.
///
/// # Errors
/// There is one already, or the system refuses.
pub fn write_key(directory: &Path, name: &str, key: &[u8; 32]) -> Result<(), IdentityError> {
    let path = directory.join(name);
    let text = Zeroizing::new(format!("{}\n", hex::encode(key)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(io(&path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io(&path))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io(&path))
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
    let opening = read_key(directory, OPENING_KEY)?;
    Ok(Identity { device: DeviceKey::from_seed(&device), seal_secret: *seal, opening_secret: opening.map(|key| *key) })
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
