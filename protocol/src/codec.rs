//! Reading and writing the compact binary form of pages: strict, bounded, without recursion.
//!
//! Variable-length integers are LEB128 of at most ten bytes and always minimal, so that a value has one encoding.

use thiserror::Error;

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// The bytes end too early.
    #[error("E_TRUNCATED: the bytes end in the middle of {0}")]
    Truncated(&'static str),
    /// A variable-length integer is longer than it need be, or longer than 64 bits.
    #[error("E_VARINT: {0} is not a minimal integer")]
    Varint(&'static str),
    /// A length or count is above its limit.
    #[error("E_TOO_LARGE: {0} is above its limit")]
    TooLarge(&'static str),
    /// There must be at least one.
    #[error("E_EMPTY: {0} is empty")]
    Empty(&'static str),
    /// A value that the format does not have.
    #[error("E_DECODE: {0}")]
    Invalid(&'static str),
    /// Bytes are left over.
    #[error("E_NONCANONICAL: bytes follow the end")]
    Trailing,
}

/// Reads from a slice, front to back.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], CodecError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(CodecError::Truncated(what))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CodecError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(CodecError::Truncated(what))?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, CodecError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// A minimal variable-length integer.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, CodecError> {
        let mut value = 0_u64;
        for index in 0..10 {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return Err(CodecError::Varint(what));
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                return if byte == 0 && index > 0 { Err(CodecError::Varint(what)) } else { Ok(value) };
            }
        }
        Err(CodecError::Varint(what))
    }

    /// A variable-length integer of at most `max`, as a length or count in memory.
    pub fn length(&mut self, max: usize, what: &'static str) -> Result<usize, CodecError> {
        let value = self.varint(what)?;
        match usize::try_from(value) {
            Ok(length) if length <= max => Ok(length),
            _ => Err(CodecError::TooLarge(what)),
        }
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), CodecError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CodecError::Trailing) }
    }
}

/// Appends a minimal variable-length integer.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] appends.
pub fn varint_length(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
