//! Tokenizers: text to ids, with Thimble's own tables if they give the same ids, else with the `tokenizers` crate.

mod train;

pub use train::{SPECIAL_TOKENS, TrainOptions, train};

use crate::data::token_set::{TOKENIZER_FILES, hash_hex};
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use thimble_converter::tokenizer::Vocabulary;
use thimble_files::contain;
use thimble_runtime::Token;
use thimble_runtime::tokenizer::{EncodeError, Specials, Tokenizer};

/// The default end-of-document token.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// A tokenizer that many threads can use at once.
pub struct Encoder {
    path: PathBuf,
    hash: String,
    vocab: u32,
    reference: tokenizers::Tokenizer,
    /// The tables of Thimble's own tokenizer, verified against the crate; or why there are none.
    tables: std::result::Result<Vec<u8>, String>,
}

/// Scratch memory of a thread for [`Encoder::encode`].
#[derive(Debug, Default)]
pub struct EncodeScratch {
    words: Vec<u8>,
    tokens: Vec<Token>,
}

impl Encoder {
    /// Opens a `tokenizer.json`, or the folder that holds one. The tables of Thimble's own tokenizer are compared with
    /// the `tokenizers` crate before they are used.
    pub fn open(path: &Path) -> Result<Encoder> {
        let path = if path.is_dir() { path.join(TOKENIZER_FILES[0]) } else { path.to_owned() };
        let json = std::fs::read(&path).map_err(Error::file(&path, "read"))?;
        let wrong = |why: String| Error::Invalid(format!("{}: expected a tokenizer: {why}", path.display()));
        let reference = contain("tokenizers", || tokenizers::Tokenizer::from_bytes(&json));
        let reference = reference.map_err(|panic| wrong(panic.to_string()))?;
        let mut reference = reference.map_err(|error| wrong(error.to_string()))?;
        reference.with_truncation(None).map_err(|error| wrong(error.to_string()))?.with_padding(None);
        // Special tokens in a document are ordinary text, not ends of documents.
        reference.set_encode_special_tokens(true);
        let last = reference.get_vocab(true).into_values().max();
        let vocab = last.ok_or_else(|| wrong("its vocabulary is empty".into()))?;
        let vocab = vocab.checked_add(1).ok_or_else(|| wrong(format!("it has the id {vocab}")))?;
        let tables = Vocabulary::from_tokenizer_json(&json)
            .and_then(|vocabulary| vocabulary.emit_verified(Some(&json)))
            .map_err(|error| error.to_string());
        Ok(Encoder { hash: hash_hex(&json), path, vocab, reference, tables })
    }

    /// Uses the `tokenizers` crate even if Thimble's own tables would give the same ids.
    pub fn without_tables(mut self) -> Encoder {
        self.tables = Err("the tokenizers crate was asked for".into());
        self
    }

    /// The `tokenizer.json`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hash of the `tokenizer.json`, as token sets have it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// One more than the largest id.
    pub fn vocab(&self) -> u32 {
        self.vocab
    }

    /// Why the `tokenizers` crate encodes, if it does.
    pub fn slow_because(&self) -> Option<&str> {
        self.tables.as_ref().err().map(String::as_str)
    }

    /// The id of the token whose text is exactly `text`.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.reference.token_to_id(text)
    }

    /// The id that ends documents: that of `asked`; without it that of [`END_OF_TEXT`], or of the `eos_token` in the
    /// configuration beside the tokenizer.
    pub fn end_of_document(&self, asked: Option<&str>) -> Result<u32> {
        let wrong = |why: String| Error::Usage(format!("{}: {why}", self.path.display()));
        if let Some(asked) = asked {
            let id = self.id(asked);
            return id
                .ok_or_else(|| wrong(format!("expected the token {asked:?}, but the vocabulary lacks it")));
        }
        let configured = TOKENIZER_FILES[1..].iter().find_map(|name| {
            let text = std::fs::read(self.path.with_file_name(name)).ok()?;
            let token = serde_json::from_slice::<Value>(&text).ok()?.get("eos_token")?.clone();
            let text = token.as_str().or_else(|| token["content"].as_str())?;
            self.id(text)
        });
        self.id(END_OF_TEXT).or(configured).ok_or_else(|| {
            wrong(format!(
                "expected the token {END_OF_TEXT:?} or an eos_token, found neither; use --end to set the token that \
                 ends a document"
            ))
        })
    }

    /// Appends the ids of `text` to `out`. Special tokens in the text are encoded as ordinary text.
    ///
    /// # Errors
    /// The tokenizer's message, without a place.
    pub fn encode(
        &self,
        text: &str,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> std::result::Result<(), String> {
        match &self.tables {
            Ok(tables) => scratch.encode(tables, text, out).map_err(|error| error.to_string()),
            Err(_) => {
                let encoding = self.reference.encode_fast(text, false).map_err(|error| error.to_string())?;
                out.extend_from_slice(encoding.get_ids());
                Ok(())
            }
        }
    }

    /// The text of `ids`, special tokens among it; incomplete characters become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> std::result::Result<String, String> {
        let tokenizer = self.tables.as_ref().map(|tables| Tokenizer::parse(tables, usize::MAX));
        match tokenizer {
            Ok(tokenizer) => {
                let tokenizer = tokenizer.map_err(|error| error.to_string())?;
                let bytes: Vec<u8> =
                    ids.iter().flat_map(|&id| tokenizer.token_bytes(Token(id))).copied().collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Err(_) => self.reference.decode(ids, false).map_err(|error| error.to_string()),
        }
    }
}

impl EncodeScratch {
    fn encode(
        &mut self,
        tables: &[u8],
        text: &str,
        out: &mut Vec<u32>,
    ) -> std::result::Result<(), EncodeError> {
        // The tables were parsed when they were verified; parsing takes no time.
        let tokenizer = Tokenizer::parse(tables, usize::MAX);
        let tokenizer = tokenizer.map_err(|_| EncodeError::DamagedTables { id: 0, tokens: 0 })?;
        // A token is at least a byte.
        if self.tokens.len() < text.len() {
            self.tokens.resize(text.len(), Token(0));
        }
        loop {
            match tokenizer.encode(text, Specials::Escape, &mut self.words, &mut self.tokens) {
                Ok(count) => {
                    out.extend(self.tokens[..count].iter().map(|token| token.0));
                    return Ok(());
                }
                // Words of more than 64 bytes are rare: memory grows on demand.
                Err(EncodeError::WordTooLong { expected, .. }) if expected > self.words.len() => {
                    self.words.resize(expected.next_power_of_two(), 0);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
