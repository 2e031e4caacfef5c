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
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// First bytes of every shard.
pub const MAGIC: [u8; 8] = *b"THMBTOKS";
/// Bytes before the first id.
pub const HEADER_LEN: usize = 64;
/// Bytes that [`Shard::copy`] reads at once: 4096 short ids.
const COPIED: usize = 1 << 13;
/// Bytes that are read at once where a shard is read from end to end.
const STREAMED: usize = 1 << 16;

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

/// A shard whose header, length and index have been checked.
///
/// Ids are read from the file by position. A file that another process changes in place gives other ids, which every
/// reader treats as untrusted; one that it truncates gives an error.
#[derive(Debug)]
pub(super) struct Shard {
    /// None where the file is opened for each read.
    file: Option<File>,
    path: PathBuf,
    header: Header,
    /// Bytes of the file when it was opened.
    len: u64,
    /// Where each document ends.
    ends: Vec<u64>,
}

impl Shard {
    /// Opens `folder/info.file` and reads its document index, 8 bytes per document.
    pub(super) fn open(folder: &Path, info: &ShardInfo, manifest: &Manifest) -> Result<Shard> {
        let path = folder.join(&info.file);
        let wrong = |why: String| Error::Invalid(format!("{}: {why}", path.display()));
        let mut file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                wrong("expected this shard, which the manifest names, but there is no such file".into())
            }
            _ => Error::file(&path, "open")(error),
        })?;
        let metadata = file.metadata().map_err(Error::file(&path, "read"))?;
        if !metadata.is_file() {
            return Err(wrong("expected a file, found something else".into()));
        }
        let mut start = Vec::with_capacity(HEADER_LEN);
        let taken = (&mut file).take(HEADER_LEN as u64).read_to_end(&mut start);
        taken.map_err(Error::file(&path, "read"))?;
        let header = Header::parse(&start).map_err(wrong)?;
        let expected =
            Header { bytes_per_id: manifest.bytes_per_id, tokens: info.tokens, documents: info.documents };
        if header != expected {
            return Err(wrong(format!("expected {expected}, as the manifest says, found {header}")));
        }
        let (len, found) = (header.file_len(), metadata.len());
        if len != Some(found) {
            let expected = len.map_or("more than can be counted".to_owned(), |len| len.to_string());
            return Err(wrong(format!(
                "expected {expected} bytes, found {found}; the shard is {}: tokenize the sources again, or fetch the \
                 file again",
                if len.is_some_and(|len| len < found) { "too long" } else { "truncated" }
            )));
        }
        let mut shard = Shard { file: Some(file), path, header, len: found, ends: Vec::new() };
        shard.ends = shard.read_index()?;
        Ok(shard)
    }

    /// Closes the file; later reads open it each time.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    fn read_index(&self) -> Result<Vec<u64>> {
        let mut ends = Vec::new();
        let mut before = 0;
        // The file is that long, so the index begins within it.
        let start = self.header.index_start().unwrap_or(self.len);
        self.stream(start..self.len, |bytes| {
            for &end in bytes.as_chunks::<8>().0 {
                let end = u64::from_le_bytes(end);
                if end <= before {
                    return Err(self.wrong(format!(
                        "document {}: expected an end above {before}, found {end}; the index is damaged",
                        ends.len()
                    )));
                }
                ends.push(end);
                before = end;
            }
            Ok(())
        })?;
        if before != self.header.tokens {
            return Err(self.wrong(format!(
                "expected the last document to end at {}, found {before}; the index is damaged",
                self.header.tokens
            )));
        }
        ends.shrink_to_fit();
        Ok(ends)
    }

    /// Checks the checksum and every id.
    pub(super) fn verify(&self, info: &ShardInfo, manifest: &Manifest) -> Result<()> {
        let mut checksum = Box::new(Xxh3::new());
        let ids_end = HEADER_LEN as u64 + self.header.tokens * u64::from(self.header.bytes_per_id);
        let (mut buffer, mut document, mut at) = (Vec::new(), 0, 0);
        self.stream(HEADER_LEN as u64..ids_end, |bytes| {
            checksum.update(bytes);
            buffer.resize(bytes.len() / self.header.bytes_per_id as usize, 0);
            self.decode(bytes, &mut buffer);
            let mut rest = &buffer[..];
            while !rest.is_empty() {
                let place = self.document(document);
                let (ids, behind) = rest.split_at(rest.len().min(place.end - at));
                if let Some(found) = ids.iter().position(|&id| id >= manifest.vocab) {
                    return Err(self.wrong(format!(
                        "document {document}, position {}: expected an id below the vocabulary of {}, found {}; \
                         tokenize the sources again",
                        at + found - place.start,
                        manifest.vocab,
                        ids[found]
                    )));
                }
                (at, rest) = (at + ids.len(), behind);
                if at == place.end {
                    let last = ids.last().copied();
                    if last != Some(manifest.end_of_document) {
                        return Err(self.wrong(format!(
                            "document {document}: expected its last id to be {} (end of document), found {last:?}",
                            manifest.end_of_document
                        )));
                    }
                    document += 1;
                }
            }
            Ok(())
        })?;
        self.stream(ids_end..self.len, |bytes| {
            checksum.update(bytes);
            Ok(())
        })?;
        let found = checksum_hex(checksum.digest());
        if found != info.xxh3 {
            return Err(self.wrong(format!(
                "expected checksum {}, found {found}; the shard is damaged: tokenize the sources again",
                info.xxh3
            )));
        }
        Ok(())
    }

    pub(super) fn documents(&self) -> usize {
        self.ends.len()
    }

    /// Range of a document's ids.
    pub(super) fn document(&self, document: usize) -> Range<usize> {
        let start = if document == 0 { 0 } else { self.ends[document - 1] };
        start as usize..self.ends[document] as usize
    }

    /// Reads `out.len()` ids of the shard from position `from`, which must exist.
    pub(super) fn copy(&self, from: usize, out: &mut [u32]) -> Result<()> {
        let width = self.header.bytes_per_id as usize;
        let mut buffer = [0; COPIED];
        let mut at = (HEADER_LEN + from * width) as u64;
        self.with_file(|file| {
            for out in out.chunks_mut(COPIED / width) {
                let bytes = &mut buffer[..out.len() * width];
                self.read(file, at, bytes)?;
                self.decode(bytes, out);
                at += bytes.len() as u64;
            }
            Ok(())
        })
    }

    /// Calls `each` with the file's bytes of `range`, in order, in pieces of whole ids and index entries.
    fn stream(&self, mut range: Range<u64>, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; (range.end - range.start).min(STREAMED as u64) as usize];
        self.with_file(|file| {
            while !range.is_empty() {
                let len = (range.end - range.start).min(buffer.len() as u64) as usize;
                let bytes = &mut buffer[..len];
                self.read(file, range.start, bytes)?;
                each(bytes)?;
                range.start += len as u64;
            }
            Ok(())
        })
    }

    fn with_file(&self, work: impl FnOnce(&File) -> Result<()>) -> Result<()> {
        match &self.file {
            Some(file) => work(file),
            None => work(&File::open(&self.path).map_err(Error::file(&self.path, "open"))?),
        }
    }

    fn read(&self, file: &File, at: u64, out: &mut [u8]) -> Result<()> {
        read_exact_at(file, at, out).map_err(|error| match (error.kind(), file.metadata()) {
            (io::ErrorKind::UnexpectedEof, Ok(metadata)) => self.wrong(format!(
                "expected {} bytes, as when it was opened, found {}; the shard was truncated: tokenize the sources \
                 again, or fetch the file again",
                self.len,
                metadata.len()
            )),
            _ => Error::file(&self.path, "read")(error),
        })
    }

    /// Decodes the ids in bytes of the shard.
    fn decode(&self, bytes: &[u8], out: &mut [u32]) {
        if self.header.bytes_per_id == 2 {
            for (out, &id) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = u16::from_le_bytes(id).into();
            }
        } else {
            for (out, &id) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = u32::from_le_bytes(id);
            }
        }
    }

    fn wrong(&self, why: String) -> Error {
        Error::Invalid(format!("{}: {why}", self.path.display()))
    }
}

/// Fills `out` from byte `at` of the file, independent of its cursor.
#[cfg(unix)]
fn read_exact_at(file: &File, at: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

/// Fills `out` from byte `at` of the file, independent of its cursor.
#[cfg(windows)]
fn read_exact_at(file: &File, mut at: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => (at, out) = (at + read as u64, &mut out[read..]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
