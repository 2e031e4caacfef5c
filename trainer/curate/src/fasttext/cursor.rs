//! The bytes of a model file, read from the front without ever passing the end.

use std::ops::Range;

/// What a part of a file should be, and what it is.
pub(super) type Fault = String;

/// A place in a file.
pub(super) struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Cursor<'b> {
        Cursor { bytes, at: 0 }
    }

    /// The next `len` bytes, as a range of the file; `what` names them in the error.
    pub(super) fn range(&mut self, len: usize, what: &str) -> Result<Range<usize>, Fault> {
        let left = self.bytes.len() - self.at;
        if len > left {
            return Err(format!(
                "expected {len} bytes for {what}, found {left} up to the end of the file; it is truncated: copy it again"
            ));
        }
        let start = self.at;
        self.at += len;
        Ok(start..self.at)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        let range = self.range(N, what)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    pub(super) fn i32(&mut self, what: &str) -> Result<i32, Fault> {
        self.array(what).map(i32::from_le_bytes)
    }

    pub(super) fn i64(&mut self, what: &str) -> Result<i64, Fault> {
        self.array(what).map(i64::from_le_bytes)
    }

    pub(super) fn f64(&mut self, what: &str) -> Result<f64, Fault> {
        self.array(what).map(f64::from_le_bytes)
    }

    pub(super) fn byte(&mut self, what: &str) -> Result<u8, Fault> {
        self.array(what).map(|[byte]| byte)
    }

    /// A number from 0 to `most`, stored in 4 bytes.
    pub(super) fn count(&mut self, most: usize, what: &str) -> Result<usize, Fault> {
        let found = i64::from(self.i32(what)?);
        within(found, most, what)
    }

    /// A number from 0 to `most`, stored in 8 bytes.
    pub(super) fn long_count(&mut self, most: usize, what: &str) -> Result<usize, Fault> {
        let found = self.i64(what)?;
        within(found, most, what)
    }

    /// A boolean, stored in a byte.
    pub(super) fn flag(&mut self, what: &str) -> Result<bool, Fault> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("expected 0 or 1 for {what}, found {other}")),
        }
    }

    /// The bytes up to a zero, which is passed.
    pub(super) fn until_zero(&mut self, what: &str) -> Result<&'b [u8], Fault> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| byte == 0);
        let len = len.ok_or_else(|| format!("expected a zero behind {what}, found the end of the file"))?;
        self.at += len + 1;
        Ok(&rest[..len])
    }

    /// The bytes of a range that this cursor gave.
    pub(super) fn bytes(&self, range: &Range<usize>) -> &'b [u8] {
        &self.bytes[range.clone()]
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
}

fn within(found: i64, most: usize, what: &str) -> Result<usize, Fault> {
    let count = usize::try_from(found).ok().filter(|&count| count <= most);
    count.ok_or_else(|| format!("expected a number from 0 to {most} for {what}, found {found}"))
}
