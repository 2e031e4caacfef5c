//! One shard: a 64-byte header, the ids, zeros up to a multiple of 8 bytes, and the end of each document.
//!
//! | bytes | header field |
//! |---|---|
//! | 0..8 | `THMBTOKS` |
//! | 8..12 | version (u32) |
//! | 12..16 | bytes per id, 2 or 4 (u32) |
//! | 16..24 | ids (u64) |
//! | 24..32 | documents (u64) |
//! | 32..64 | zero |
//!
//! All numbers are little-endian. Document `d` is ids `ends[d - 1]..ends[d]` of its shard, from 0 for the first.

use super::manifest::{Manifest, ShardInfo, VERSION};
use crate::error::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// First bytes of every shard.
pub const MAGIC: [u8; 8] = *b"THMBTOKS";
/// Bytes before the first id.
pub const HEADER_LEN: usize = 64;

/// The numbers of a shard's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) bytes_per_id: u32,
    pub(super) tokens: u64,
    pub(super) documents: u64,
}

impl Header {
    pub(super) fn emit(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.bytes_per_id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.tokens.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.documents.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> std::result::Result<Header, String> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(format!(
                "expected a header of {HEADER_LEN} bytes, found a file of {}; the shard is truncated",
                bytes.len()
            ));
        };
        if header[..8] != MAGIC {
            return Err(format!("expected a shard that begins with {MAGIC:?}, found {:?}", &header[..8]));
        }
        let (version, bytes_per_id) = (u32_at(header, 8), u32_at(header, 12));
        if version != VERSION {
            return Err(format!(
                "expected version {VERSION}, found {version}; tokenize the sources again with this program"
            ));
        }
        if header[32..].iter().any(|&byte| byte != 0) {
            return Err("expected zeros in the header's last 32 bytes, found something else".into());
        }
        Ok(Header { bytes_per_id, tokens: u64_at(header, 16), documents: u64_at(header, 24) })
    }

    /// Bytes from the file's beginning to the index; none where they cannot be counted.
    pub(super) fn index_start(self) -> Option<u64> {
        let ids = self.tokens.checked_mul(self.bytes_per_id.into())?;
        ids.checked_next_multiple_of(8)?.checked_add(HEADER_LEN as u64)
    }

    fn file_len(self) -> Option<u64> {
        self.index_start()?.checked_add(self.documents.checked_mul(8)?)
    }
}

/// A mapped shard whose header, length and index have been checked.
#[derive(Debug)]
pub(super) struct Shard {
    map: Mmap,
    path: PathBuf,
    header: Header,
    index_start: usize,
}

impl Shard {
    /// Maps `folder/info.file`, which must not be changed in place while it is mapped.
    pub(super) fn open(folder: &Path, info: &ShardInfo, manifest: &Manifest) -> Result<Shard> {
        let path = folder.join(&info.file);
        let wrong = |why: String| Error::Invalid(format!("{}: {why}", path.display()));
        let file = File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                wrong("expected this shard, which the manifest names, but there is no such file".into())
            }
            _ => Error::file(&path, "open")(error),
        })?;
        let metadata = file.metadata().map_err(Error::file(&path, "read"))?;
        if !metadata.is_file() {
            return Err(wrong("expected a file, found something else".into()));
        }
        // SAFETY: the mapping is read-only and private to this process; a file that another process
        // overwrites in place, against this function's documentation, changes numbers (which every reader treats as
        // untrusted: they only ever index slices with a bounds check); one that it truncates ends this one with a bus
        // error.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::file(&path, "map"))?;
        let header = Header::parse(&map).map_err(wrong)?;
        let expected =
            Header { bytes_per_id: manifest.bytes_per_id, tokens: info.tokens, documents: info.documents };
        if header != expected {
            return Err(wrong(format!("expected {expected}, as the manifest says, found {header}")));
        }
        let len = header.file_len();
        if len != Some(map.len() as u64) {
            let expected = len.map_or("more than can be counted".to_owned(), |len| len.to_string());
            return Err(wrong(format!(
                "expected {expected} bytes, found {}; the shard is {}: tokenize the sources again, or fetch the file \
                 again",
                map.len(),
                if len.is_some_and(|len| len < map.len() as u64) { "too long" } else { "truncated" }
            )));
        }
        // The file is that long, so the index begins within it.
        let index_start = header.index_start().map_or(map.len(), |start| start as usize);
        let shard = Shard { map, path, header, index_start };
        shard.check_index()?;
        Ok(shard)
    }

    fn check_index(&self) -> Result<()> {
        let mut before = 0;
        for (document, end) in self.ends().enumerate() {
            if end <= before {
                return Err(self.wrong(format!(
                    "document {document}: expected an end above {before}, found {end}; the index is damaged"
                )));
            }
            before = end;
        }
        if before != self.header.tokens {
            return Err(self.wrong(format!(
                "expected the last document to end at {}, found {before}; the index is damaged",
                self.header.tokens
            )));
        }
        Ok(())
    }

    /// Checks the checksum and every id.
    pub(super) fn verify(&self, info: &ShardInfo, manifest: &Manifest) -> Result<()> {
        for document in 0..self.documents() {
            let ids = self.document(document);
            let mut last = None;
            for (position, id) in self.ids(ids).enumerate() {
                if id >= manifest.vocab {
                    return Err(self.wrong(format!(
                        "document {document}, position {position}: expected an id below the vocabulary of {}, found \
                         {id}; tokenize the sources again",
                        manifest.vocab
                    )));
                }
                last = Some(id);
            }
            if last != Some(manifest.end_of_document) {
                return Err(self.wrong(format!(
                    "document {document}: expected its last id to be {} (end of document), found {last:?}",
                    manifest.end_of_document
                )));
            }
        }
        let found = checksum_hex(xxh3_64(&self.map[HEADER_LEN..]));
        if found != info.xxh3 {
            return Err(self.wrong(format!(
                "expected checksum {}, found {found}; the shard is damaged: tokenize the sources again",
                info.xxh3
            )));
        }
        Ok(())
    }

    pub(super) fn documents(&self) -> usize {
        self.header.documents as usize
    }

    /// Where the ids of a document lie.
    pub(super) fn document(&self, document: usize) -> Range<usize> {
        let end = |document: usize| u64_at(&self.map[self.index_start..], 8 * document) as usize;
        (if document == 0 { 0 } else { end(document - 1) })..end(document)
    }

    /// Writes `out.len()` ids from position `from` of the shard on.
    pub(super) fn copy(&self, from: usize, out: &mut [u32]) {
        let to = from + out.len();
        for (out, id) in out.iter_mut().zip(self.ids(from..to)) {
            *out = id;
        }
    }

    fn ids(&self, ids: Range<usize>) -> impl Iterator<Item = u32> {
        let width = self.header.bytes_per_id as usize;
        let bytes = &self.map[HEADER_LEN + ids.start * width..HEADER_LEN + ids.end * width];
        // One of the two is empty: ids are two or four bytes wide.
        let (short, long) = if width == 2 { (bytes, &bytes[..0]) } else { (&bytes[..0], bytes) };
        let short = short.as_chunks::<2>().0.iter().map(|&id| u32::from(u16::from_le_bytes(id)));
        short.chain(long.as_chunks::<4>().0.iter().map(|&id| u32::from_le_bytes(id)))
    }

    fn ends(&self) -> impl Iterator<Item = u64> {
        self.map[self.index_start..].as_chunks::<8>().0.iter().map(|&end| u64::from_le_bytes(end))
    }

    fn wrong(&self, why: String) -> Error {
        Error::Invalid(format!("{}: {why}", self.path.display()))
    }
}

impl std::fmt::Display for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Header { bytes_per_id, tokens, documents } = self;
        write!(f, "{tokens} ids of {bytes_per_id} bytes in {documents} documents")
    }
}

pub(super) fn checksum_hex(checksum: u64) -> String {
    format!("{checksum:016x}")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |&word| u32::from_le_bytes(word))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |&word| u64::from_le_bytes(word))
}
