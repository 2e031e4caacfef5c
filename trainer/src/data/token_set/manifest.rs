//! `manifest.json`: the content of a token set, and its sources.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use thimble_curate::source::SourceFile;

/// Name of the format in every manifest.
pub const FORMAT: &str = "thimble-token-set";
/// Version of manifest and shards that this program reads and writes.
pub const VERSION: u32 = 1;
/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// Largest vocabulary whose ids are stored in two bytes.
pub const MOST_SHORT_IDS: u32 = 1 << 16;

/// What a token set holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`VERSION`].
    pub version: u32,
    /// The tokenizer that made the ids.
    pub tokenizer: TokenizerFile,
    /// Ids are below this.
    pub vocab: u32,
    /// The id that every document ends with.
    pub end_of_document: u32,
    /// 2 for vocabularies of up to 65,536 ids, else 4.
    pub bytes_per_id: u32,
    /// Documents in all shards.
    pub documents: u64,
    /// Ids in all shards, end-of-document ids included.
    pub tokens: u64,
    /// The options of the job; a rerun with other options is refused. None if no job made the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<serde_json::Value>,
    /// The texts.
    pub sources: Vec<SourceFile>,
    /// The shards, in the order of their documents.
    pub shards: Vec<ShardInfo>,
}

/// The copy of the tokenizer in a token set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerFile {
    /// File name within the set's folder.
    pub file: String,
    /// [`hash_hex`](thimble_curate::source::hash_hex) of its bytes.
    pub xxh3: String,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// File name within the set's folder.
    pub file: String,
    /// Documents in it.
    pub documents: u64,
    /// Ids in it.
    pub tokens: u64,
    /// xxh3-64 of everything after the header, 16 hexadecimal digits.
    pub xxh3: String,
}

impl Manifest {
    /// Reads `folder/manifest.json` and checks that it is consistent.
    pub fn read(folder: &Path) -> Result<Manifest> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Invalid(format!(
                "{}: there is no {MANIFEST}, so this is no finished token set; `thimble-train tokenize` writes one (run \
                 it again if it was interrupted)",
                folder.display()
            )),
            _ => Error::file(&path, "read")(error),
        })?;
        let wrong = |why: String| Error::Invalid(format!("{}: {why}", path.display()));
        // The version first: another version may have other fields.
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| wrong(format!("expected JSON: {error}")))?;
        if value["format"] != FORMAT {
            return Err(wrong(format!("expected format {FORMAT:?}, found {}", value["format"])));
        }
        if value["version"] != VERSION {
            return Err(wrong(format!(
                "expected version {VERSION}, found {}; tokenize the sources again with this program",
                value["version"]
            )));
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        manifest.check().map_err(wrong)?;
        Ok(manifest)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let expected = bytes_per_id(self.vocab);
        if self.bytes_per_id != expected {
            return Err(format!(
                "expected {expected} bytes per id for a vocabulary of {}, found {}",
                self.vocab, self.bytes_per_id
            ));
        }
        if self.end_of_document >= self.vocab {
            return Err(format!(
                "expected an end-of-document id below the vocabulary of {}, found {}",
                self.vocab, self.end_of_document
            ));
        }
        let totals = [
            ("documents", self.documents, sum(self.shards.iter().map(|shard| shard.documents))),
            ("tokens", self.tokens, sum(self.shards.iter().map(|shard| shard.tokens))),
        ];
        for (what, expected, found) in totals {
            if found != Some(expected) {
                let found = found.map_or("more than can be counted".to_owned(), |found| found.to_string());
                return Err(format!("expected {expected} {what}, but the shards sum to {found}"));
            }
        }
        let inside = |name: &&str| Path::new(name).file_name().is_none_or(|file| file != *name);
        let names = self.shards.iter().map(|shard| shard.file.as_str()).chain([self.tokenizer.file.as_str()]);
        match { names }.find(inside) {
            Some(name) => Err(format!("expected the name of a file in the set's folder, found {name:?}")),
            None => Ok(()),
        }
    }
}

/// Bytes of one stored id.
pub fn bytes_per_id(vocab: u32) -> u32 {
    if vocab <= MOST_SHORT_IDS { 2 } else { 4 }
}

fn sum(mut counts: impl Iterator<Item = u64>) -> Option<u64> {
    counts.try_fold(0u64, u64::checked_add)
}
