//! One process per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::StoreError;
use super::redb::io_error;

/// The lock file's name; it holds the process id of whoever has the lock.
const LOCK_FILE: &str = "node.lock";

/// A held lock. The system gives it back when the process ends, however it ends: a file that was left behind is no lock.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of a data directory.
    ///
    /// # Errors
    /// Another process has it, or the system refuses.
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(LOCK_FILE);
        let text = path.display().to_string();
        let refused = |error: std::io::Error| io_error(&text, &error);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Best effort: the holder is named where its number can be read.
                let _ = file.take(16).read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "unknown".into() } else { pid.trim().to_owned() };
                return Err(StoreError::Locked { path: directory.display().to_string(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        file.set_len(0).map_err(refused)?;
        file.rewind().map_err(refused)?;
        writeln!(file, "{}", std::process::id()).map_err(refused)?;
        Ok(DirectoryLock { _file: file })
    }
}
