//! The uniform view of a source: configuration, tensors in canonical order, tokenizer and chat template.

use super::BlockType;
use super::source_file::SourceFile;
use super::thimble;
use crate::recipe;
use crate::tokenizer::Vocabulary;
use crate::{ConvertError, Quant, Sections, Table, write};
use std::collections::BTreeMap;
use std::ops::Range;
use thimble_chat::RecommendedSampling;
use thimble_runtime::Token;
use thimble_runtime::format::{Config, Encoding, TensorRole};

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

/// One tensor of the source, found and checked against the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name in the source.
    pub name: String,
    /// What it is for.
    pub role: TensorRole,
    /// Its layer, or [`TensorRole::NO_LAYER`].
    pub layer: u16,
    /// How its numbers are stored.
    pub kind: BlockType,
    /// Rows: outputs.
    pub rows: usize,
    /// Columns: inputs.
    pub columns: usize,
    pub(crate) file: usize,
    pub(crate) offset: u64,
    /// The head dimension, where the source has rows in the order of interleaved rotary pairs.
    pub(crate) interleaved: Option<usize>,
    /// The encoding whose panels hold the rows, where the source is a `.thimble` file and this is a matrix.
    pub(crate) packed: Option<Encoding>,
}

impl Stored {
    /// Bytes of one row in the source.
    pub fn row_bytes(&self) -> usize {
        // Readers refuse partial blocks, so this is never the default.
        self.kind.row_bytes(self.columns).unwrap_or(0)
    }

    /// The encoding that holds every number of the tensor exactly, if there is one.
    pub(crate) fn exact(&self) -> Option<Encoding> {
        self.packed.or_else(|| recipe::lossless_encoding(self.kind))
    }

    /// Whether storing the tensor as `encoding` may change its numbers.
    pub(crate) fn rounds(&self, encoding: Encoding) -> bool {
        recipe::rounds(self.kind, encoding) && self.packed != Some(encoding)
    }

    /// How its numbers are stored, for people.
    pub(crate) fn stored_as(&self) -> String {
        self.packed.map_or_else(|| self.kind.to_string(), |encoding| encoding.name().to_owned())
    }

    /// Where row `row` (in the order that rotates half against half) lies in the source.
    ///
    /// llama.cpp's converter stores the rows of Q and K so that a rotary pair is adjacent: row `2i + j` of a
    /// head there is row `j * head_dim / 2 + i` here (`permute` in its `conversion` scripts).
    fn source_row(&self, row: usize) -> usize {
        match self.interleaved {
            None => row,
            Some(head_dim) => {
                let (head, within) = (row / head_dim, row % head_dim);
                let (half, pair) = (within / (head_dim / 2), within % (head_dim / 2));
                head * head_dim + 2 * pair + half
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
    pub(crate) tensors: Vec<Stored>,
    pub(crate) files: Vec<SourceFile>,
}

impl SourceModel {
    /// The tensors in the order of the file format's table.
    pub fn tensors(&self) -> &[Stored] {
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
        tensor: &Stored,
        rows: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let row_bytes = tensor.row_bytes();
        let file = &self.files[tensor.file];
        if let Some(encoding) = tensor.packed {
            return thimble::read_rows(file, tensor, encoding, rows, out);
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
    let full = || ConvertError::Unsupported {
        what: "the number of end-of-text tokens".to_owned(),
        found: format!("more than {}", Config::MOST_STOPS),
        supported: "up to 8",
    };
    *config.stop.iter_mut().find(|slot| slot.is_none()).ok_or_else(full)? = Some(token);
    Ok(())
}

/// A tensor as a reader found it, before anything is known about its use.
pub(crate) struct Found {
    pub(crate) kind: BlockType,
    /// Outermost first.
    pub(crate) shape: Vec<u64>,
    pub(crate) file: usize,
    pub(crate) offset: u64,
}

/// Takes every tensor that the configuration implies out of `found`, in canonical order.
///
/// `name` gives a tensor's name in the source; `interleaved` says whether Q and K have llama.cpp's row order.
pub(crate) fn place(
    config: &Config,
    found: &mut BTreeMap<String, Found>,
    name: impl Fn(TensorRole, u16) -> String,
    interleaved: bool,
) -> Result<Vec<Stored>, ConvertError> {
    let mut tensors = Vec::new();
    for index in 0..TensorRole::count(config) {
        let (role, layer) = TensorRole::at(config, index);
        let name = name(role, layer);
        let Some(tensor) = found.remove(&name) else {
            return Err(ConvertError::MissingTensor { name });
        };
        let (rows, columns) = role.shape(config);
        let expected: Vec<u64> =
            if role.is_norm() { vec![columns as u64] } else { vec![rows as u64, columns as u64] };
        if tensor.shape != expected {
            return Err(ConvertError::Shape { name, expected, found: tensor.shape });
        }
        let rotated = interleaved && matches!(role, TensorRole::Query | TensorRole::Key);
        let Found { kind, file, offset, .. } = tensor;
        let interleaved = rotated.then_some(config.head_dim);
        let packed = None;
        tensors.push(Stored { name, role, layer, kind, rows, columns, file, offset, interleaved, packed });
    }
    Ok(tensors)
}

/// Refuses, by name, the first tensor that no supported model has.
pub(crate) fn refuse_rest(found: &BTreeMap<String, Found>) -> Result<(), ConvertError> {
    let Some(name) = found.keys().next() else { return Ok(()) };
    let found = if name.ends_with(".bias") {
        "a bias"
    } else if name.contains("rope_freqs") {
        "a table of scaled rotary frequencies"
    } else {
        "no part of a plain Llama model"
    };
    Err(ConvertError::Unsupported {
        what: format!("tensor {name}"),
        found: found.to_owned(),
        supported: "the nine weights of a Llama layer, embedding, final norm and head",
    })
}
