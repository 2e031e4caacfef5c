//! A source as the converter sees it: configuration, tensors in canonical order, tokenizer and chat template.

use super::merged::{self, MergedMatrix};
use super::panels;
use super::source_file::SourceFile;
use super::tensor::SourceTensor;
use crate::tokenizer::{GgufOverrides, Vocabulary};
use crate::{ConvertError, Quant, Table, dequantize, write};
use std::collections::HashMap;
use std::ops::Range;
use thimble_chat::RecommendedSampling;
use thimble_runtime::Token;
use thimble_runtime::format::Config;

/// The origin of a model, as far as the source tells.
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
    /// The recommended sampling settings.
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

/// The source of the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// The bytes of a `tokenizer.json`.
    Json(Vec<u8>),
    /// The lists in GGUF metadata.
    Gguf {
        /// The text of every token.
        tokens: Vec<String>,
        /// GGML's type of every token (1 normal, 3 control, 4 user-defined, ...); may be empty.
        token_types: Vec<i32>,
        /// Merges by rank.
        merges: Vec<String>,
        /// Name of the pre-tokenizer.
        pre: String,
        /// What differs from that pre-tokenizer, in files written by this crate.
        overrides: GgufOverrides,
        /// Whether a text by itself begins with the begin-of-text token.
        adds_bos: bool,
    },
    /// The sections of a `.thimble` file.
    Sections(Sections),
}

impl TokenizerSource {
    /// The vocabulary.
    pub(crate) fn vocabulary(&self) -> Result<Vocabulary, ConvertError> {
        match self {
            TokenizerSource::Json(bytes) => Ok(Vocabulary::from_tokenizer_json(bytes)?),
            TokenizerSource::Sections(sections) => Ok(Vocabulary::from_section(&sections.tokenizer)?),
            TokenizerSource::Gguf { tokens, token_types, merges, pre, overrides, adds_bos } => {
                let vocabulary = Vocabulary::from_gguf(tokens, token_types, merges, pre)?;
                Ok(Vocabulary { adds_bos: *adds_bos, ..overrides.apply(vocabulary) })
            }
        }
    }
}

/// An opened model of any container.
#[derive(Debug)]
pub struct SourceModel {
    /// Hyperparameters, checked.
    pub config: Config,
    /// Its origin.
    pub origin: Origin,
    /// The source of the vocabulary.
    pub tokenizer: TokenizerSource,
    /// The Jinja chat template, if there is one.
    pub chat_template: Option<String>,
    /// The unknown token, if the source has one.
    pub unknown: Option<Token>,
    /// The padding token, if the source has one.
    pub padding: Option<Token>,
    /// Text of the begin-of-text token, for the chat template; may be empty.
    pub bos_text: String,
    /// Text of the end-of-text token, for the chat template; may be empty.
    pub eos_text: String,
    /// Names and texts of the tokens that a chat template may refer to: `bos_token`, `pad_token` and others.
    pub named_tokens: Vec<(String, String)>,
    /// Notes for the provenance, such as omitted parts of the source.
    pub notes: Vec<String>,
    pub(crate) tensors: Vec<SourceTensor>,
    pub(crate) files: Vec<SourceFile>,
    /// What adapters add, by layer and role ([`SourceModel::merge`]).
    pub(crate) merged: HashMap<(u16, u16), Vec<MergedMatrix>>,
}

impl SourceModel {
    /// The tensors in canonical order.
    pub fn tensors(&self) -> &[SourceTensor] {
        &self.tensors
    }

    /// Bytes of the tensors in a `.thimble` file with the encodings of `quant`.
    ///
    /// # Errors
    /// The size of a tensor overflows.
    pub fn weight_bytes(&self, quant: Quant) -> Result<u64, ConvertError> {
        let encodings = Table::default().encodings(&self.tensors, quant)?;
        let records = write::layout(self.tensors.iter().zip(encodings))?;
        Ok(records.last().map_or(0, |last| last.offset + last.length))
    }

    /// Reads rows of a merged tensor, which the source stores as `stored`, as f32.
    fn read_merged_rows(
        &self,
        stored: &SourceTensor,
        rows: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let mut bytes = Vec::new();
        self.read_rows(stored, rows.clone(), &mut bytes)?;
        let mut numbers = vec![0.0f32; rows.len() * stored.columns];
        dequantize(stored.kind, &bytes, &mut numbers);
        let merged = self.merged.get(&(stored.layer, stored.role as u16)).map_or(&[][..], Vec::as_slice);
        merged::add(merged, rows, stored.columns, &mut numbers);
        out.clear();
        out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        Ok(())
    }

    /// Reads rows of a tensor as blocks of its type, in the row order of the file format.
    pub fn read_rows(
        &self,
        tensor: &SourceTensor,
        rows: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        if let Some(stored) = &tensor.stored {
            return self.read_merged_rows(stored, rows, out);
        }
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

/// Adds a stop token unless the configuration has it.
pub(crate) fn add_stop(config: &mut Config, token: u32) -> Result<(), ConvertError> {
    let token = Token(token);
    if config.is_stop(token) {
        return Ok(());
    }
    let full = || {
        let found = format!("more than {}", Config::MAX_STOP_TOKENS);
        ConvertError::unsupported("the number of end-of-text tokens", found, "up to 8")
    };
    *config.stop.iter_mut().find(|slot| slot.is_none()).ok_or_else(full)? = Some(token);
    Ok(())
}
