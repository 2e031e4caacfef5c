//! Opens a GGUF file of the architecture `llama` as a [`SourceModel`].

use super::gguf_split::{self, SplitModel};
use super::source_file::SourceFile;
use super::source_model::{DIGITS_APART, add_stop};
use super::tensor::{RawTensor, match_tensors, reject_unknown};
use super::{Origin, SourceModel, TokenizerSource, Value};
use crate::ConvertError;
use std::collections::BTreeMap;
use std::path::Path;
use thimble_chat::RecommendedSampling;
use thimble_runtime::Token;
use thimble_runtime::format::{Config, RopeParameters, TensorRole};

const PLACE: &str = "GGUF metadata";

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
    let architecture = metadata.need_text("general.architecture")?;
    if architecture != "llama" {
        return Err(ConvertError::unsupported("the architecture", architecture, "llama"));
    }
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
    refuse_variants(&metadata)?;
    let config = config(&metadata, &found)?;
    let tensors = match_tensors(&config, &mut found, TensorRole::gguf, true)?;
    reject_unknown(&found)?;
    let origin = Origin {
        name: metadata.text("general.name")?,
        licence: metadata.text("general.license")?,
        source,
        container: "gguf",
        architecture,
        sampling: metadata.sampling(),
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
    let text = |id: usize| match &tokenizer {
        TokenizerSource::Gguf { tokens, .. } => tokens.get(id).cloned(),
        _ => None,
    };
    let (bos_text, eos_text) = (text(bos).unwrap_or_default(), text(eos).unwrap_or_default());
    let named_tokens = ids.into_iter().filter_map(|(name, id)| Some((name.to_owned(), text(id)?))).collect();
    Ok(SourceModel {
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

/// Rejects unsupported variants of the Llama architecture.
fn refuse_variants(metadata: &Metadata) -> Result<(), ConvertError> {
    if let Some(kind) = metadata.text("llama.rope.scaling.type")?
        && kind != "none"
    {
        return Err(ConvertError::unsupported("llama.rope.scaling.type", kind, "none"));
    }
    for key in ["llama.rope.scaling.factor", "llama.rope.scale_linear"] {
        if let Some(factor) = metadata.float(key)?
            && factor != 1.0
        {
            return Err(ConvertError::unsupported(key, factor.to_string(), "1, no scaling"));
        }
    }
    for key in ["llama.expert_count", "llama.attention.sliding_window"] {
        if let Some(count) = metadata.size(key)?
            && count != 0
        {
            return Err(ConvertError::unsupported(key, count.to_string(), "none"));
        }
    }
    if metadata.0.get("llama.attention.causal").is_some_and(|causal| *causal != Value::Bool(true)) {
        return Err(ConvertError::unsupported("llama.attention.causal", "false", "true"));
    }
    for key in [
        "llama.attn_logit_softcapping",
        "llama.final_logit_softcapping",
        "llama.logit_scale",
        "llama.residual_scale",
        "llama.embedding_scale",
        "llama.attention.scale",
    ] {
        if let Some(scale) = metadata.float(key)?
            && scale != 0.0
        {
            return Err(ConvertError::unsupported(key, scale.to_string(), "none"));
        }
    }
    Ok(())
}

fn config(metadata: &Metadata, found: &BTreeMap<String, RawTensor>) -> Result<Config, ConvertError> {
    let hidden = metadata.need_size("llama.embedding_length")?;
    let heads = metadata.need_size("llama.attention.head_count")?;
    let embedding = TensorRole::Embedding.gguf(TensorRole::NO_LAYER).to_string();
    let missing = || ConvertError::MissingTensor { name: embedding.clone() };
    let shape = &found.get(&embedding).ok_or_else(missing)?.shape;
    let vocab = shape.first().and_then(|&rows| usize::try_from(rows).ok()).unwrap_or(usize::MAX);
    let expected_dim = hidden.checked_div(heads).unwrap_or(0);
    let head_dim = metadata.size("llama.attention.key_length")?.unwrap_or(expected_dim);
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        if let Some(dim) = metadata.size(key)?
            && dim != head_dim
        {
            return Err(ConvertError::unsupported(key, dim.to_string(), "the head dimension"));
        }
    }
    let context = metadata.need_size("llama.context_length")?;
    let epsilon_key = "llama.attention.layer_norm_rms_epsilon";
    let epsilon = metadata.float(epsilon_key)?.ok_or_else(|| field(epsilon_key, "a number"))?;
    let mut config = Config {
        hidden,
        layers: metadata.need_size("llama.block_count")?,
        heads,
        kv_heads: metadata.size("llama.attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        ffn: metadata.need_size("llama.feed_forward_length")?,
        vocab,
        context,
        rope: RopeParameters::new(metadata.float("llama.rope.freq_base")?.unwrap_or(10_000.0) as f32),
        norm_eps: epsilon as f32,
        tied: !found.contains_key(&TensorRole::Head.gguf(TensorRole::NO_LAYER).to_string()),
        ..Config::PLAIN
    };
    let id = |key: &'static str| -> Result<Option<u32>, ConvertError> {
        let wrong = |_| field(key, "a token id");
        metadata.size(key)?.map(|id| u32::try_from(id).map_err(wrong)).transpose()
    };
    config.bos = id("tokenizer.ggml.bos_token_id")?.map(Token);
    let stops = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
    for key in stops {
        if let Some(token) = id(key)? {
            add_stop(&mut config, token)?;
        }
    }
    config.check()?;
    Ok(config)
}

fn tokenizer(metadata: &mut Metadata) -> Result<TokenizerSource, ConvertError> {
    let model = metadata.need_text("tokenizer.ggml.model")?;
    if model != "gpt2" {
        return Err(ConvertError::unsupported("tokenizer.ggml.model", model, "gpt2 (byte-level BPE)"));
    }
    let pre = metadata.text("tokenizer.ggml.pre")?.unwrap_or_else(|| "default".to_owned());
    for key in
        ["tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_sep_token"]
    {
        if metadata.0.get(key).is_some_and(|adds| *adds != Value::Bool(false)) {
            return Err(ConvertError::unsupported(key, "true", "false: nothing is added to a text"));
        }
    }
    let tokens = metadata.take_texts("tokenizer.ggml.tokens")?;
    let types_key = "tokenizer.ggml.token_type";
    let token_types = match metadata.0.remove(types_key) {
        None => Vec::new(),
        Some(Value::Integers(types)) => types,
        Some(_) => return Err(field(types_key, "an integer for each token")),
    };
    let merges = metadata.take_texts("tokenizer.ggml.merges")?;
    let digits_apart = metadata.0.get(DIGITS_APART) == Some(&Value::Bool(true));
    Ok(TokenizerSource::Gguf { tokens, token_types, merges, pre, digits_apart })
}

fn field(key: &str, expected: &'static str) -> ConvertError {
    ConvertError::field(PLACE, key, expected)
}

/// Metadata with typed access.
struct Metadata(BTreeMap<String, Value>);

impl Metadata {
    fn size(&self, key: &str) -> Result<Option<usize>, ConvertError> {
        let number = match self.0.get(key) {
            None => return Ok(None),
            Some(Value::Unsigned(number)) => usize::try_from(*number).ok(),
            Some(Value::Signed(number)) => usize::try_from(*number).ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| field(key, "a whole number"))
    }

    fn need_size(&self, key: &str) -> Result<usize, ConvertError> {
        self.size(key)?.ok_or_else(|| field(key, "a whole number"))
    }

    fn float(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(*number)),
            Some(_) => Err(field(key, "a number")),
        }
    }

    /// The recommended sampling settings.
    fn sampling(&self) -> RecommendedSampling {
        let json = SAMPLING.iter().filter_map(|(key, gguf)| {
            let value = match self.0.get(*gguf)? {
                Value::Float(number) => (*number).into(),
                Value::Unsigned(number) => (*number).into(),
                Value::Signed(number) => (*number).into(),
                _ => return None,
            };
            Some(((*key).to_owned(), value))
        });
        RecommendedSampling::read(&serde_json::Value::Object(json.collect()))
    }

    fn text(&self, key: &str) -> Result<Option<String>, ConvertError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => {
                String::from_utf8(text.clone()).map(Some).map_err(|_| field(key, "UTF-8 text"))
            }
            Some(_) => Err(field(key, "a string")),
        }
    }

    fn need_text(&self, key: &str) -> Result<String, ConvertError> {
        self.text(key)?.ok_or_else(|| field(key, "a string"))
    }

    fn take_texts(&mut self, key: &str) -> Result<Vec<String>, ConvertError> {
        let Some(Value::Texts(texts)) = self.0.remove(key) else {
            return Err(field(key, "a list of strings"));
        };
        let texts = texts.into_iter().map(String::from_utf8).collect::<Result<_, _>>();
        texts.map_err(|_| field(key, "a list of UTF-8 strings"))
    }
}
