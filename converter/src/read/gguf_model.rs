//! Opens a GGUF file as a [`SourceModel`].

use super::gguf_metadata::{Metadata, field};
use super::gguf_split::{self, SplitModel};
use super::source_file::SourceFile;
use super::tensor::{RawTensor, match_tensors, reject_unknown};
use super::{BlockType, Origin, SourceModel, TokenizerSource, Value};
use crate::config::gguf;
use crate::tokenizer::{GgufOverrides, gguf_adds_bos};
use crate::{ConvertError, dequantize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use thimble_chat::RecommendedSampling;
use thimble_runtime::Token;
use thimble_runtime::format::{MAX_HEAD_DIM, TensorRole};

/// Keys of `generation_config.json` and of GGUF files.
pub(crate) const SAMPLING: [(&str, &str); 5] = [
    ("temperature", "general.sampling.temp"),
    ("top_k", "general.sampling.top_k"),
    ("top_p", "general.sampling.top_p"),
    ("min_p", "general.sampling.min_p"),
    ("repetition_penalty", "general.sampling.penalty_repeat"),
];

/// Opens a GGUF file, or all shards of a split model.
pub(super) fn open(path: &Path) -> Result<SourceModel, ConvertError> {
    let SplitModel { metadata, tensors, files } = gguf_split::open(path)?;
    // The first file names the model, whichever shard the caller gave.
    let first = files.first().map_or(path, SourceFile::path);
    let source = first.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut metadata = Metadata(metadata);
    let mut found = BTreeMap::new();
    for (file, tensor) in tensors {
        let mut shape = tensor.dimensions;
        // Outermost first, without the trailing ones that some writers append.
        while shape.len() > 1 && shape.last() == Some(&1) {
            shape.pop();
        }
        shape.reverse();
        found.insert(tensor.name, RawTensor { kind: tensor.kind, shape, file, offset: tensor.offset });
    }
    let divisors = found.remove(gguf::ROPE_FREQS);
    let divisors = divisors.map(|tensor| rope_freqs(&tensor, &files)).transpose()?;
    let (family, config) = gguf::read(&metadata, &found, divisors.as_deref())?;
    let tensors = match_tensors(&config, &mut found, TensorRole::gguf, family.interleaves())?;
    reject_unknown(&found, family)?;
    let origin = Origin {
        name: metadata.text("general.name")?,
        licence: metadata.text("general.license")?,
        source,
        container: "gguf",
        architecture: metadata.need_text("general.architecture")?,
        sampling: sampling(&metadata),
    };
    let chat_template = metadata.text("tokenizer.chat_template")?;
    let token_id = |key| metadata.size(key).map(|id| id.unwrap_or(usize::MAX));
    let (bos, eos) = (token_id("tokenizer.ggml.bos_token_id")?, token_id("tokenizer.ggml.eos_token_id")?);
    let unknown = token_id("tokenizer.ggml.unknown_token_id")?;
    let padding = token_id("tokenizer.ggml.padding_token_id")?;
    let ids = [
        ("bos_token", bos),
        ("eos_token", eos),
        ("unk_token", unknown),
        // GGUF's own spelling.
        ("sep_token", token_id("tokenizer.ggml.seperator_token_id")?),
        ("pad_token", padding),
        ("cls_token", token_id("tokenizer.ggml.cls_token_id")?),
        ("mask_token", token_id("tokenizer.ggml.mask_token_id")?),
    ];
    let vocab = config.vocab;
    let named = |id: usize| u32::try_from(id).ok().filter(|_| id < vocab).map(Token);
    let tokenizer = tokenizer(&mut metadata)?;
    if config.bos.is_none() && matches!(tokenizer, TokenizerSource::Gguf { adds_bos: true, .. }) {
        return Err(field("tokenizer.ggml.bos_token_id", "a token id: texts begin with this token"));
    }
    let text = |id: usize| match &tokenizer {
        TokenizerSource::Gguf { tokens, .. } => tokens.get(id).cloned(),
        _ => None,
    };
    let (bos_text, eos_text) = (text(bos).unwrap_or_default(), text(eos).unwrap_or_default());
    let named_tokens = ids.into_iter().filter_map(|(name, id)| Some((name.to_owned(), text(id)?))).collect();
    Ok(SourceModel {
        merged: HashMap::new(),
        config,
        origin,
        tokenizer,
        chat_template,
        unknown: named(unknown),
        padding: named(padding),
        bos_text,
        eos_text,
        named_tokens,
        notes: Vec::new(),
        tensors,
        files,
    })
}

/// The numbers of the tensor with divisors of RoPE's frequencies.
fn rope_freqs(tensor: &RawTensor, files: &[SourceFile]) -> Result<Vec<f32>, ConvertError> {
    let name = gguf::ROPE_FREQS;
    // Half of the largest head dimension.
    let most = MAX_HEAD_DIM as u64 / 2;
    match tensor.shape.as_slice() {
        [count] if *count <= most && tensor.kind == BlockType::F32 => {
            let mut bytes = vec![0; *count as usize * 4];
            files[tensor.file].read_at(tensor.offset, &mut bytes)?;
            let mut values = vec![0.0; *count as usize];
            dequantize(tensor.kind, &bytes, &mut values);
            Ok(values)
        }
        shape => {
            let found = format!("{} of shape {shape:?}", tensor.kind);
            Err(ConvertError::unsupported(
                format!("tensor {name}"),
                found,
                "a vector of up to 128 rotary divisors in F32",
            ))
        }
    }
}

fn tokenizer(metadata: &mut Metadata) -> Result<TokenizerSource, ConvertError> {
    let model = metadata.need_text("tokenizer.ggml.model")?;
    if model != "gpt2" {
        return Err(ConvertError::unsupported("tokenizer.ggml.model", model, "gpt2 (byte-level BPE)"));
    }
    let pre = metadata.text("tokenizer.ggml.pre")?.unwrap_or_else(|| "default".to_owned());
    for key in ["tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_sep_token"] {
        if metadata.flag(key)? == Some(true) {
            return Err(ConvertError::unsupported(key, "true", "false: nothing is added behind a text"));
        }
    }
    let adds_bos = metadata.flag("tokenizer.ggml.add_bos_token")?;
    let adds_bos = adds_bos.unwrap_or_else(|| gguf_adds_bos(&pre));
    let tokens = metadata.take_texts("tokenizer.ggml.tokens")?;
    let types_key = "tokenizer.ggml.token_type";
    let token_types = match metadata.0.remove(types_key) {
        None => Vec::new(),
        Some(Value::Integers(types)) => types,
        Some(_) => return Err(field(types_key, "an integer for each token")),
    };
    let merges = metadata.take_texts("tokenizer.ggml.merges")?;
    let overrides = GgufOverrides::read(|key| metadata.flag(key))?;
    Ok(TokenizerSource::Gguf { tokens, token_types, merges, pre, overrides, adds_bos })
}

/// The recommended sampling settings.
fn sampling(metadata: &Metadata) -> RecommendedSampling {
    let json = SAMPLING.iter().filter_map(|(key, gguf)| {
        let value = match metadata.0.get(*gguf)? {
            Value::Float(number) => (*number).into(),
            Value::Unsigned(number) => (*number).into(),
            Value::Signed(number) => (*number).into(),
            _ => return None,
        };
        Some(((*key).to_owned(), value))
    });
    RecommendedSampling::read(&serde_json::Value::Object(json.collect()))
}
