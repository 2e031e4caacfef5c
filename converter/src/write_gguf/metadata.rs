//! Metadata and tensor directory of a GGUF file, as llama.cpp's converter writes them.

use super::Target;
use crate::ConvertError;
use crate::config::gguf::{self, Hyperparameters};
use crate::read::gguf_model::SAMPLING;
use crate::read::{BlockType, SourceModel, TokenizerSource, Value};
use crate::tokenizer::{GgufLists, GgufOverrides};
use std::collections::BTreeMap;
use thimble_runtime::Token;

/// Alignment of tensors; GGUF's default.
pub(super) const ALIGN: u64 = 32;

const VERSION: u32 = 3;
/// Version of the block layouts (`GGML_QNT_VERSION`).
const QUANTIZATION: u32 = 2;

/// GGUF's numbers of value types.
mod value {
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const TEXT: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
}

/// The header up to the first tensor, padding included.
pub(super) fn head(
    model: &SourceModel,
    hyperparameters: &Hyperparameters,
    targets: &[Target<'_>],
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, ConvertError> {
    let mut keys = Keys::default();
    general(model, targets, &mut keys)?;
    for (key, value) in &hyperparameters.keys {
        keys.value(key, value);
    }
    tokenizer(model, &mut keys, notes)?;
    keys.number("general.quantization_version", QUANTIZATION);
    let mut out = b"GGUF".to_vec();
    out.extend(VERSION.to_le_bytes());
    let tensors = targets.len() + usize::from(hyperparameters.rope_freqs.is_some());
    out.extend((tensors as u64).to_le_bytes());
    out.extend(keys.count.to_le_bytes());
    out.extend(keys.bytes);
    let mut offset = 0_u64;
    let mut put = |name: &str, dimensions: &[u64], kind: BlockType, length: u64| {
        put_text(&mut out, name);
        out.extend((dimensions.len() as u32).to_le_bytes());
        dimensions.iter().for_each(|dimension| out.extend(dimension.to_le_bytes()));
        out.extend((kind as u32).to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset = (offset + length).next_multiple_of(ALIGN);
    };
    for target in targets {
        let (rows, columns) = (target.tensor.rows as u64, target.tensor.columns as u64);
        let dimensions = if target.tensor.role.is_vector() { vec![columns] } else { vec![columns, rows] };
        let name = target.tensor.role.gguf(target.tensor.layer).to_string();
        put(&name, &dimensions, target.kind, target.length);
    }
    if let Some(divisors) = &hyperparameters.rope_freqs {
        let count = divisors.len() as u64;
        put(gguf::ROPE_FREQS, &[count], BlockType::F32, 4 * count);
    }
    out.resize(out.len().next_multiple_of(ALIGN as usize), 0);
    Ok(out)
}

fn general(model: &SourceModel, targets: &[Target<'_>], keys: &mut Keys) -> Result<(), ConvertError> {
    keys.text("general.architecture", gguf::family(&model.config)?.architecture());
    keys.text("general.type", "model");
    if let Some(name) = &model.origin.name {
        keys.text("general.name", name);
    }
    keys.text("general.size_label", &size_label(model.config.parameters()));
    if let Some(licence) = &model.origin.licence {
        keys.text("general.license", licence);
    }
    keys.number("general.file_type", file_type(targets));
    let sampling = model.origin.sampling.to_json();
    for (key, gguf) in SAMPLING {
        match sampling.get(key) {
            Some(value) if value.is_u64() => keys.integer(gguf, value.as_u64().unwrap_or(0)),
            Some(value) => keys.float(gguf, value.as_f64().unwrap_or(0.0) as f32),
            None => {}
        }
    }
    Ok(())
}

fn tokenizer(model: &SourceModel, keys: &mut Keys, notes: &mut Vec<String>) -> Result<(), ConvertError> {
    let vocabulary = model.tokenizer.vocabulary()?;
    let mut lists = match &model.tokenizer {
        TokenizerSource::Gguf { tokens, token_types, merges, pre, .. } => GgufLists {
            tokens: tokens.clone(),
            token_types: token_types.clone(),
            merges: merges.clone(),
            pre: pre.clone(),
        },
        _ => vocabulary.gguf_lists(),
    };
    let rows = model.config.vocab;
    if lists.tokens.len() > rows {
        let found = format!("{} tokens for {rows} embedding rows", lists.tokens.len());
        return Err(ConvertError::unsupported("the vocabulary", found, "at most one token for each row"));
    }
    lists.pad(rows);
    keys.text("tokenizer.ggml.model", "gpt2");
    keys.text("tokenizer.ggml.pre", &lists.pre);
    let overrides = GgufOverrides::of(&vocabulary, &lists.pre)?;
    for (key, value) in overrides.keys() {
        if let Some(on) = value {
            keys.flag(key, on);
        }
    }
    notes.extend(vocabulary.gguf_notes(&overrides, &lists.pre));
    keys.texts("tokenizer.ggml.tokens", &lists.tokens);
    keys.integers("tokenizer.ggml.token_type", &lists.token_types);
    keys.texts("tokenizer.ggml.merges", &lists.merges);
    let config = &model.config;
    let mut id = |key: &str, token: Option<Token>| {
        if let Some(token) = token {
            keys.number(key, token.0);
        }
    };
    id("tokenizer.ggml.bos_token_id", config.bos);
    let [eos, others @ ..] = stops(model, &lists);
    id("tokenizer.ggml.eos_token_id", eos);
    id("tokenizer.ggml.eot_token_id", others[0]);
    id("tokenizer.ggml.eom_token_id", others[1]);
    id("tokenizer.ggml.unknown_token_id", model.unknown);
    id("tokenizer.ggml.padding_token_id", model.padding);
    let left: Vec<String> = others[2..].iter().flatten().map(|token| token.0.to_string()).collect();
    if !left.is_empty() {
        notes.push(format!("GGUF has room for three stop tokens: {} left out", left.join(", ")));
    }
    keys.flag("tokenizer.ggml.add_bos_token", vocabulary.adds_bos);
    keys.flag("tokenizer.ggml.add_space_prefix", false);
    if let Some(template) = &model.chat_template {
        keys.text("tokenizer.chat_template", template);
    }
    Ok(())
}

/// The stop tokens, starting with the chat template's `eos_token`.
fn stops(model: &SourceModel, lists: &GgufLists) -> [Option<Token>; 8] {
    let mut stops = model.config.stop;
    let is_eos = |token: &Option<Token>| {
        token.is_some_and(|token| lists.tokens.get(token.index()) == Some(&model.eos_text))
    };
    if let Some(place) = stops.iter().position(is_eos) {
        stops[..=place].rotate_right(1);
    }
    stops
}

/// llama.cpp's number (`llama_ftype`) of the type with most bytes.
fn file_type(targets: &[Target<'_>]) -> u32 {
    let mut bytes: BTreeMap<u32, (u64, BlockType)> = BTreeMap::new();
    for target in targets.iter().filter(|target| !target.tensor.role.is_vector()) {
        bytes.entry(target.kind as u32).or_insert((0, target.kind)).0 += target.length;
    }
    match bytes.into_values().max_by_key(|(bytes, _)| *bytes).map_or(BlockType::F32, |(_, kind)| kind) {
        BlockType::F32 => 0,
        BlockType::F16 => 1,
        BlockType::Q4_0 => 2,
        BlockType::Q4_1 => 3,
        BlockType::Q8_0 => 7,
        BlockType::Q5_0 => 8,
        BlockType::Q5_1 => 9,
        BlockType::Q2_K => 10,
        BlockType::Q3_K => 12,
        BlockType::Q4_K => 14,
        BlockType::Q5_K => 16,
        BlockType::Q6_K => 18,
        BlockType::BF16 => 32,
        #[cfg(feature = "ggml")]
        BlockType::IQ4_NL => 25,
        #[cfg(feature = "ggml")]
        BlockType::IQ4_XS => 30,
        // "Guessed": readers look at the tensors.
        #[cfg(feature = "ggml")]
        _ => 1024,
    }
}

/// The number of weights as llama.cpp's converter writes it, with at least two digits: `135M`.
fn size_label(parameters: u64) -> String {
    let (unit, letter) = [(1e12, "T"), (1e9, "B"), (1e6, "M")]
        .into_iter()
        .find(|(unit, _)| parameters as f64 > *unit)
        .unwrap_or((1e3, "K"));
    let scaled = parameters as f64 / unit;
    let whole = format!("{:.0}", scaled.round_ties_even());
    let digits = 2_usize.saturating_sub(whole.trim_start_matches('0').len());
    format!("{scaled:.digits$}{letter}")
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Metadata to write.
#[derive(Default)]
struct Keys {
    count: u64,
    bytes: Vec<u8>,
}

impl Keys {
    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        put_text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn number(&mut self, key: &str, number: u32) {
        self.key(key, value::U32);
        self.bytes.extend(number.to_le_bytes());
    }

    /// An integer that llama.cpp stores as signed.
    fn integer(&mut self, key: &str, number: u64) {
        self.key(key, value::I32);
        self.bytes.extend(i32::try_from(number).unwrap_or(i32::MAX).to_le_bytes());
    }

    fn float(&mut self, key: &str, number: f32) {
        self.key(key, value::F32);
        self.bytes.extend(number.to_le_bytes());
    }

    /// A value of the model's configuration.
    fn value(&mut self, key: &str, value: &Value) {
        match value {
            Value::Unsigned(number) => self.number(key, u32::try_from(*number).unwrap_or(u32::MAX)),
            Value::Float(number) => self.float(key, *number as f32),
            Value::Text(text) => self.text(key, &String::from_utf8_lossy(text)),
            Value::Integers(numbers) => self.integers(key, numbers),
            // `gguf::write` makes no others.
            _ => {}
        }
    }

    fn flag(&mut self, key: &str, on: bool) {
        self.key(key, value::BOOL);
        self.bytes.push(u8::from(on));
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key, value::TEXT);
        put_text(&mut self.bytes, text);
    }

    fn array(&mut self, key: &str, kind: u32, count: usize) {
        self.key(key, value::ARRAY);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((count as u64).to_le_bytes());
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        self.array(key, value::TEXT, texts.len());
        texts.iter().for_each(|text| put_text(&mut self.bytes, text));
    }

    fn integers(&mut self, key: &str, numbers: &[i32]) {
        self.array(key, value::I32, numbers.len());
        numbers.iter().for_each(|number| self.bytes.extend(number.to_le_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::size_label;

    #[test]
    fn sizes_are_labelled_as_llama_cpp_does() {
        // gguf.utility.model_weight_count_rounded_notation
        let expected =
            [(134_515_008, "135M"), (1_711_376_384, "1.7B"), (69_000_000, "69M"), (3_150_000, "3.1M")];
        for (parameters, label) in expected.into_iter().chain([(29_000, "29K"), (900, "0.9K")]) {
            assert_eq!(size_label(parameters), label);
        }
    }
}
