//! What identifies a source file.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// A file that text was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// As it was named on the command line, or its address on the hub.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// [`hash_hex`] of its beginning and its end, 64 KiB each.
    pub xxh3_ends: String,
}

/// xxh3-128 of `bytes` as 32 hexadecimal digits: identifies tokenizers and sources.
pub fn hash_hex(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}
