//! The uniform view of a source: configuration, tensors in canonical order, tokenizer and chat template.

use super::panels;
use super::source_file::SourceFile;
use super::tensor::SourceTensor;
use crate::tokenizer::Vocabulary;
use crate::{ConvertError, Quant, Table, write};
use std::ops::Range;
use thimble_chat::RecommendedSampling;
use thimble_runtime::Token;
use thimble_runtime::format::Config;

/// Where a model comes from, as far as the source says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// The model's name.
    pub name: Option<String>,
    /// Its licence, as the source spells it.
    pub licence: Option<String>,
    /// File or folder name of the source.
    pub source: String,
    /// `safetensors`, `gguf` or `thimble`.
    pub container: &'static str,
    /// The architecture's name in the source.
    pub architecture: String,
    /// How its makers recommend to sample from it.
    pub sampling: RecommendedSampling,
}

/// The tokenizer and chat sections of a `.thimble` file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// The tokenizer tables.
    pub tokenizer: Vec<u8>,
    /// The reduced chat template, if the model has one.
    pub chat: Option<Vec<u8>>,
}

/// What the vocabulary is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// The bytes of a `tokenizer.json`.
    Json(Vec<u8>),
    /// The lists in GGUF metadata.
    Gguf {
        /// Text of every token.
        tokens: Vec<String>,
        /// GGML's type of every token (1 normal, 3 control, 4 user-defined, ...); may be empty.
        token_types: Vec<i32>,
        /// Merges, best first.
        merges: Vec<String>,
        /// Name of the pre-tokenizer.
        pre: String,
        /// Whether every digit is a word of its own, in a file that says so (one written by this crate).
        digits_apart: bool,
    },
    /// The sections of a `.thimble` file.
    Sections(Sections),
}

/// The key of a GGUF file written by this crate that tells two readings of the pre-tokenizer `smollm` apart: with
/// `true` digits are cut off before words are, as a `tokenizer.json` can say and as llama.cpp does.
pub(crate) const DIGITS_APART: &str = "thimble.tokenizer.digits_apart";

impl TokenizerSource {
    /// The vocabulary.
    pub(crate) fn vocabulary(&self) -> Result<Vocabulary, ConvertError> {
        match self {
            TokenizerSource::Json(bytes) => Ok(Vocabulary::from_tokenizer_json(bytes)?),
            TokenizerSource::Sections(sections) => Ok(Vocabulary::from_section(&sections.tokenizer)?),
            TokenizerSource::Gguf { tokens, token_types, merges, pre, digits_apart } => {
                let vocabulary = Vocabulary::from_gguf(tokens, token_types, merges, pre)?;
                Ok(Vocabulary { digits_apart: *digits_apart || vocabulary.digits_apart, ..vocabulary })
            }
        }
    }
}

/// A model in whatever container, ready to be converted.
#[derive(Debug)]
pub struct SourceModel {
    /// Hyperparameters, checked.
    pub config: Config,
    /// Where it comes from.
    pub origin: Origin,
    /// What the vocabulary is made from.
    pub tokenizer: TokenizerSource,
    /// The Jinja chat template, if there is one.
    pub chat_template: Option<String>,
    /// The token that stands for what is not in the vocabulary, as far as the source says.
    pub unknown: Option<Token>,
    /// The token that fills up batches, as far as the source says.
    pub padding: Option<Token>,
    /// Text of the begin-of-text token, for the chat template; may be empty.
    pub bos_text: String,
    /// Text of the end-of-text token, for the chat template; may be empty.
    pub eos_text: String,
    /// Names and texts of all tokens that a chat template may use by name: `bos_token`, `pad_token` and others.
    pub named_tokens: Vec<(String, String)>,
    /// Things worth recording, such as parts of the source that were left out.
    pub notes: Vec<String>,
    pub(crate) tensors: Vec<SourceTensor>,
    pub(crate) files: Vec<SourceFile>,
}

impl SourceModel {
    /// The tensors in the order of the file format's table.
    pub fn tensors(&self) -> &[SourceTensor] {
        &self.tensors
    }

    /// Bytes that the tensors take in a `.thimble` file, stored as `quant` says.
    ///
    /// # Errors
    /// Tensors whose size overflows.
    pub fn weight_bytes(&self, quant: Quant) -> Result<u64, ConvertError> {
        let encodings = Table::default().encodings(&self.tensors, quant)?;
        let records = write::layout(self.tensors.iter().zip(encodings))?;
        Ok(records.last().map_or(0, |last| last.offset + last.length))
    }

    /// Reads rows of a tensor of this model as the source's blocks, in the order of the file format.
    pub fn read_rows(
        &self,
        tensor: &SourceTensor,
        rows: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let row_bytes = tensor.row_bytes();
        let file = &self.files[tensor.file];
        if let Some(encoding) = tensor.packed {
            return panels::read_rows(file, tensor, encoding, rows, out);
        }
        out.clear();
        out.resize(rows.len() * row_bytes, 0);
        if tensor.interleaved.is_none() {
            return file.read_at(tensor.offset + (rows.start * row_bytes) as u64, out);
        }
        for (row, out) in rows.zip(out.chunks_exact_mut(row_bytes)) {
            file.read_at(tensor.offset + (tensor.source_row(row) * row_bytes) as u64, out)?;
        }
        Ok(())
    }
}

/// Adds a stop token unless it is there already.
pub(crate) fn add_stop(config: &mut Config, token: u32) -> Result<(), ConvertError> {
    let token = Token(token);
    if config.is_stop(token) {
        return Ok(());
    }
    let full = || {
        let found = format!("more than {}", Config::MOST_STOPS);
        ConvertError::unsupported("the number of end-of-text tokens", found, "up to 8")
    };
    *config.stop.iter_mut().find(|slot| slot.is_none()).ok_or_else(full)? = Some(token);
    Ok(())
}
