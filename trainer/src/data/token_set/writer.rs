//! Writing token sets: every file appears whole or not at all.

use super::manifest::{FORMAT, MANIFEST, Manifest, ShardInfo, TokenizerFile, VERSION, bytes_per_id};
use super::shard::{HEADER_LEN, Header, checksum_hex};
use crate::atomic_file::{self, write_atomically, write_error, write_json};
use crate::error::{Error, Result};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use thimble_curate::source::{SourceFile, hash_hex};
use thimble_files::AtomicFile;
use xxhash_rust::xxh3::Xxh3;

/// Ids per shard unless told otherwise: 200 MB of two-byte ids.
pub const DEFAULT_SHARD_TOKENS: u64 = 100_000_000;
/// Files of a tokenizer in a token set; only the first must exist.
pub const TOKENIZER_FILES: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

/// Options of a [`TokenSetWriter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetOptions {
    /// `tokenizer.json`, or the folder that holds it.
    pub tokenizer: PathBuf,
    /// Ids are below this.
    pub vocab: u32,
    /// Written after every document.
    pub end_of_document: u32,
    /// A shard is closed after the document that brings it to this many ids.
    pub shard_tokens: u64,
}

/// Writes a token set, document by document.
pub struct TokenSetWriter {
    folder: PathBuf,
    shard_tokens: u64,
    manifest: Manifest,
    open: Option<ShardWriter>,
}

impl TokenSetWriter {
    /// Starts a set in `folder`, creating it if necessary, and copies the tokenizer into it.
    ///
    /// # Errors
    /// Where the folder holds a finished set already, and where the options contradict each other.
    pub fn create(folder: &Path, options: &SetOptions) -> Result<TokenSetWriter> {
        TokenSetWriter::resume(folder, options, Vec::new())
    }

    /// Resumes a set whose `shards` are written.
    ///
    /// # Errors
    /// As [`TokenSetWriter::create`], and where a shard is missing or has another length.
    pub fn resume(folder: &Path, options: &SetOptions, shards: Vec<ShardInfo>) -> Result<TokenSetWriter> {
        if folder.join(MANIFEST).exists() {
            return Err(Error::Usage(format!(
                "{}: there is a finished token set already; choose another folder, or delete this one first",
                folder.display()
            )));
        }
        if options.end_of_document >= options.vocab {
            return Err(Error::Invalid(format!(
                "expected an end-of-document id below the vocabulary of {}, found {}",
                options.vocab, options.end_of_document
            )));
        }
        std::fs::create_dir_all(folder).map_err(Error::file(folder, "make the folder"))?;
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            tokenizer: copy_tokenizer(&options.tokenizer, folder)?,
            vocab: options.vocab,
            end_of_document: options.end_of_document,
            bytes_per_id: bytes_per_id(options.vocab),
            documents: shards.iter().map(|shard| shard.documents).sum(),
            tokens: shards.iter().map(|shard| shard.tokens).sum(),
            job: None,
            sources: Vec::new(),
            shards,
        };
        for info in &manifest.shards {
            super::shard::Shard::open(folder, info, &manifest)?;
        }
        Ok(TokenSetWriter {
            folder: folder.to_owned(),
            shard_tokens: options.shard_tokens.max(1),
            manifest,
            open: None,
        })
    }

    /// Appends a document, without its end-of-document id: the writer adds it. Returns whether this closed a
    /// shard, so that everything pushed so far is on disk.
    ///
    /// # Errors
    /// An id beyond the vocabulary; a disk that is full.
    pub fn push(&mut self, ids: &[u32]) -> Result<bool> {
        let Manifest { vocab, end_of_document, bytes_per_id, .. } = self.manifest;
        if let Some((position, id)) = ids.iter().enumerate().find(|&(_, &id)| id >= vocab) {
            return Err(Error::Invalid(format!(
                "document {}, position {position}: expected an id below the vocabulary of {vocab}, found {id}",
                self.documents()
            )));
        }
        let shard = match &mut self.open {
            Some(shard) => shard,
            None => {
                let name = format!("shard-{:05}.tokens", self.manifest.shards.len());
                self.open.insert(ShardWriter::create(&self.folder, &name, bytes_per_id)?)
            }
        };
        shard.push(ids, end_of_document)?;
        if shard.tokens() < self.shard_tokens {
            return Ok(false);
        }
        self.close()?;
        Ok(true)
    }

    /// Documents pushed, including those of a resumed set.
    pub fn documents(&self) -> u64 {
        self.manifest.documents + self.open.as_ref().map_or(0, |shard| shard.ends.len() as u64)
    }

    /// Ids written, end-of-document ids included.
    pub fn tokens(&self) -> u64 {
        self.manifest.tokens + self.open.as_ref().map_or(0, ShardWriter::tokens)
    }

    /// The complete shards on disk.
    pub fn shards(&self) -> &[ShardInfo] {
        &self.manifest.shards
    }

    /// Closes the last shard and writes the manifest, which makes the folder a token set.
    pub fn finish(mut self, sources: Vec<SourceFile>, job: Option<serde_json::Value>) -> Result<Manifest> {
        self.close()?;
        self.manifest.sources = sources;
        self.manifest.job = job;
        write_json(&self.folder.join(MANIFEST), &self.manifest)?;
        Ok(self.manifest)
    }

    fn close(&mut self) -> Result<()> {
        if let Some(shard) = self.open.take() {
            let info = shard.finish()?;
            self.manifest.documents += info.documents;
            self.manifest.tokens += info.tokens;
            self.manifest.shards.push(info);
        }
        Ok(())
    }
}

/// Writes one shard under a temporary name until it is whole.
pub struct ShardWriter {
    path: PathBuf,
    file: BufWriter<AtomicFile>,
    bytes_per_id: u32,
    ends: Vec<u64>,
    checksum: Box<Xxh3>,
    encoded: Vec<u8>,
}

impl ShardWriter {
    /// Starts `folder/name`.
    pub fn create(folder: &Path, name: &str, bytes_per_id: u32) -> Result<ShardWriter> {
        let path = folder.join(name);
        let mut shard = ShardWriter {
            file: BufWriter::with_capacity(1 << 20, atomic_file::create(&path)?),
            path,
            bytes_per_id,
            ends: Vec::new(),
            checksum: Box::new(Xxh3::new()),
            encoded: Vec::new(),
        };
        // `finish` overwrites the header.
        shard.write(&[0; HEADER_LEN])?;
        Ok(shard)
    }

    /// Appends a document and the id that ends it. Ids must fit the bytes per id.
    pub fn push(&mut self, ids: &[u32], end: u32) -> Result<()> {
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        self.ends.push(self.tokens() + ids.len() as u64 + 1);
        let ids = ids.iter().chain([&end]);
        match self.bytes_per_id {
            2 => encoded.extend(ids.flat_map(|&id| (id as u16).to_le_bytes())),
            _ => encoded.extend(ids.flat_map(|&id| id.to_le_bytes())),
        }
        self.append(&encoded)?;
        self.encoded = encoded;
        Ok(())
    }

    /// Ids so far.
    pub fn tokens(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Writes index and header, and renames the file to its final name.
    pub fn finish(mut self) -> Result<ShardInfo> {
        let header = Header {
            bytes_per_id: self.bytes_per_id,
            tokens: self.tokens(),
            documents: self.ends.len() as u64,
        };
        let written = self.tokens() as usize * self.bytes_per_id as usize;
        self.append(&[0; 8][..written.next_multiple_of(8) - written])?;
        for ends in std::mem::take(&mut self.ends).chunks(1 << 12) {
            let bytes: Vec<u8> = ends.iter().flat_map(|end| end.to_le_bytes()).collect();
            self.append(&bytes)?;
        }
        let failed = |error| write_error(&self.path, error);
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.file.write_all(&header.emit()).map_err(failed)?;
        let file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        atomic_file::publish(file, &self.path)?;
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(ShardInfo {
            file: name,
            documents: header.documents,
            tokens: header.tokens,
            xxh3: checksum_hex(self.checksum.digest()),
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.update(bytes);
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| write_error(&self.path, error))
    }
}

fn copy_tokenizer(tokenizer: &Path, folder: &Path) -> Result<TokenizerFile> {
    let json = if tokenizer.is_dir() { tokenizer.join(TOKENIZER_FILES[0]) } else { tokenizer.to_owned() };
    let bytes = std::fs::read(&json).map_err(Error::file(&json, "read"))?;
    let [file, beside @ ..] = TOKENIZER_FILES;
    let place = |name: &str, bytes: &[u8]| {
        let to = folder.join(name);
        // An equal file stays: the tokenizer may be the folder's own.
        if std::fs::read(&to).is_ok_and(|found| found == bytes) {
            Ok(())
        } else {
            write_atomically(&to, bytes)
        }
    };
    place(file, &bytes)?;
    for name in beside {
        let from = json.with_file_name(name);
        if from.is_file() {
            place(name, &std::fs::read(&from).map_err(Error::file(&from, "read"))?)?;
        }
    }
    Ok(TokenizerFile { file: file.to_owned(), xxh3: hash_hex(&bytes) })
}
