//! Token sets: a folder with a manifest, the tokenizer, and shards of ids, which are read on demand.

mod manifest;
mod shard;
mod writer;

pub use manifest::{
    FORMAT, MANIFEST, MOST_SHORT_IDS, Manifest, ShardInfo, TokenizerFile, VERSION, bytes_per_id,
};
pub use shard::{HEADER_LEN, MAGIC};
pub use thimble_curate::source::{SourceFile, hash_hex};
pub use writer::{DEFAULT_SHARD_TOKENS, SetOptions, ShardWriter, TOKENIZER_FILES, TokenSetWriter};

use crate::error::{Error, Result};
use shard::Shard;
use std::path::{Path, PathBuf};

/// Shards of a set that stay open; later ones are opened for each read. Some systems limit a process to 256 open files,
/// and a run may use several sets.
const MOST_OPEN: usize = 64;

/// An open token set. Ids stay in the shards' files; the document index is in memory, 8 bytes per document.
#[derive(Debug)]
pub struct TokenSet {
    folder: PathBuf,
    manifest: Manifest,
    shards: Vec<Shard>,
    /// Documents before each shard, and in all.
    starts: Vec<usize>,
}

impl TokenSet {
    /// Opens the set in `folder`: checks manifest, tokenizer, and each shard's header, length and document index.
    ///
    /// The shards should not be changed in place while the set is open: ids are read as they are then.
    ///
    /// # Errors
    /// A file is missing, truncated, damaged or of another version.
    pub fn open(folder: &Path) -> Result<TokenSet> {
        let manifest = Manifest::read(folder)?;
        let path = folder.join(&manifest.tokenizer.file);
        let found = hash_hex(&std::fs::read(&path).map_err(Error::file(&path, "read"))?);
        if found != manifest.tokenizer.xxh3 {
            return Err(Error::Invalid(format!(
                "{}: expected the tokenizer that made the ids (xxh3 {}), found another (xxh3 {found}); put the original \
                 back, or tokenize the sources again",
                path.display(),
                manifest.tokenizer.xxh3
            )));
        }
        let mut shards = Vec::with_capacity(manifest.shards.len());
        for info in &manifest.shards {
            let mut shard = Shard::open(folder, info, &manifest)?;
            if shards.len() >= MOST_OPEN {
                shard.close();
            }
            shards.push(shard);
        }
        let mut starts = vec![0];
        starts.extend(shards.iter().scan(0, |sum, shard| {
            *sum += shard.documents();
            Some(*sum)
        }));
        Ok(TokenSet { folder: folder.to_owned(), manifest, shards, starts })
    }

    /// What the set holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The set's folder, which also holds its tokenizer.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The hash of `tokenizer.json`: two sets can be mixed if it is the same.
    pub fn tokenizer_hash(&self) -> &str {
        &self.manifest.tokenizer.xxh3
    }

    /// Documents in the set.
    pub fn documents(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Ids in the set, end-of-document ids included.
    pub fn tokens(&self) -> u64 {
        self.manifest.tokens
    }

    /// Ids of a document, its end-of-document id among them.
    ///
    /// # Panics
    /// Where `document` is not below [`TokenSet::documents`].
    pub fn document_len(&self, document: usize) -> usize {
        let (shard, within) = self.find(document);
        self.shards[shard].document(within).len()
    }

    /// Fills `out` with the ids of `document` from position `from` on.
    ///
    /// # Errors
    /// The shard cannot be read, or was truncated after the set was opened.
    ///
    /// # Panics
    /// Where `document` is not below [`TokenSet::documents`], or `from + out.len()` is beyond
    /// [`TokenSet::document_len`].
    pub fn copy(&self, document: usize, from: usize, out: &mut [u32]) -> Result<()> {
        let (shard, within) = self.find(document);
        let ids = self.shards[shard].document(within);
        let room = ids.len().saturating_sub(from);
        assert!(
            out.len() <= room,
            "{} ids from {from} of document {document}, which has {}",
            out.len(),
            ids.len()
        );
        self.shards[shard].copy(ids.start + from, out)
    }

    /// The shard file that holds `document`, and its number within that shard: for messages.
    ///
    /// # Panics
    /// Where `document` is not below [`TokenSet::documents`].
    pub fn locate(&self, document: usize) -> (&str, usize) {
        let (shard, within) = self.find(document);
        (&self.manifest.shards[shard].file, within)
    }

    /// Reads everything: checksums, every id below the vocabulary, and the end of every document.
    ///
    /// # Errors
    /// The first fault, with file, document and position.
    pub fn verify(&self) -> Result<()> {
        let mut shards = self.shards.iter().zip(&self.manifest.shards);
        shards.try_for_each(|(shard, info)| shard.verify(info, &self.manifest))
    }

    fn find(&self, document: usize) -> (usize, usize) {
        assert!(document < self.documents(), "document {document} of {}", self.documents());
        let shard = self.starts.partition_point(|&start| start <= document) - 1;
        (shard, document - self.starts[shard])
    }
}
