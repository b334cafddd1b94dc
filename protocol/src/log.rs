//! Writing a log: appending entries, and signing what leaves the device.

use thiserror::Error;

use crate::entry::{Entry, PAYLOAD_MAX, Payload, sign_head};
use crate::hash::Hash;
use crate::id::{Head, LogId, LogName, MarketId};
use crate::kind::Kind;
use crate::page::SIGNED_EVERY;
use crate::sign::{DeviceKey, Signature};

/// Authors sign at the latest before this many bytes of payload stand unsigned, so that a page of
/// [`crate::page::PAGE_MAX`] bytes always can end at a signed entry.
pub const UNSIGNED_BYTES_MAX: usize = 128 * 1024;

/// What an author can't append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    /// The parts are too long together.
    #[error("E_TOO_LARGE: a payload of {0} bytes; the limit is {PAYLOAD_MAX}")]
    TooLarge(usize),
    /// The key entry that the payload names isn't before it.
    #[error("E_DECODE: key entry {0} isn't before its user")]
    Key(u64),
    /// There is no sequence number left.
    #[error("E_AMOUNT_RANGE: the log is full")]
    Full,
}

/// The end of one log of one's own incarnation. Never made for a log of an earlier one: those are never appended to.
#[derive(Clone, Debug)]
pub struct LogWriter {
    name: LogName,
    id: LogId,
    head: Head,
    timestamp: u64,
    unsigned_bytes: usize,
}

/// An entry that was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where it stands.
    pub head: Head,
    /// The entry.
    pub entry: Entry,
    /// Present where the format asks for a signature at this position.
    pub signature: Option<Signature>,
}

impl LogWriter {
    /// Opens a log of the running incarnation: empty.
    pub fn open(market: &MarketId, name: LogName) -> Self {
        LogWriter { name, id: name.id(market), head: Head::EMPTY, timestamp: 0, unsigned_bytes: 0 }
    }

    /// The log's id.
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The log's name.
    pub fn name(&self) -> &LogName {
        &self.name
    }

    /// The newest position.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The timestamp that the next entry gets if the clock says `now`: time never falls within a log.
    pub fn next_timestamp(&self, now: u64) -> u64 {
        now.max(self.timestamp)
    }

    /// Appends an entry; `now` in milliseconds since 1970.
    ///
    /// # Errors
    /// The payload breaks a limit; the log is as it was.
    pub fn append(
        &mut self,
        key: &DeviceKey,
        now: u64,
        seen: [u8; 8],
        kind: Kind,
        payload: Payload,
    ) -> Result<Appended, AppendError> {
        let length = payload.length();
        if length > PAYLOAD_MAX {
            return Err(AppendError::TooLarge(length));
        }
        let sequence = self.head.sequence.checked_add(1).ok_or(AppendError::Full)?;
        if let Some(key) = payload.key
            && (key == 0 || key >= sequence)
        {
            return Err(AppendError::Key(key));
        }
        let entry = Entry { timestamp: self.next_timestamp(now), seen, kind, payload };
        let hash: Hash = entry.header().hash(&self.id, sequence, &self.head.hash);
        self.head = Head { sequence, hash };
        self.timestamp = entry.timestamp;
        self.unsigned_bytes += length;
        let due = sequence % SIGNED_EVERY == 0 || self.unsigned_bytes > UNSIGNED_BYTES_MAX - PAYLOAD_MAX;
        let signature = due.then(|| self.sign(key));
        Ok(Appended { head: self.head, entry, signature })
    }

    /// Signs the newest position: before it leaves the device.
    pub fn sign(&mut self, key: &DeviceKey) -> Signature {
        self.unsigned_bytes = 0;
        sign_head(key, &self.id, &self.head)
    }
}
