//! Reading and writing Hugging Face folders.

use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::model::Parameters;
use crate::recipe::Precision;
use crate::weights::{EMBEDDING, HEAD, TensorFile, write_weights};
use safetensors::tensor::Dtype;
use serde::Deserialize;
use std::path::Path;
use thimble_files::AtomicFolder;
use thimble_runtime::format::{Config, RopeParameters};

const WEIGHTS: &str = "model.safetensors";

/// The part of a Llama's `config.json` that decides its shape.
#[derive(Deserialize)]
struct LlamaConfig {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    vocab_size: usize,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

/// The shape that a `config.json` describes.
///
/// # Errors
/// The file is missing, is not a Llama's, or needs what the engine lacks: biases, rope scaling.
pub fn read_config(path: &Path) -> Result<Config> {
    let text = std::fs::read(path).map_err(Error::file(path, "read"))?;
    let invalid = |error| Error::Invalid(format!("{}: not a Llama's config.json: {error}", path.display()));
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(invalid)?;
    let config = LlamaConfig::deserialize(&json).map_err(invalid)?;
    let refuse = |what: &str| Err(Error::Invalid(format!("{}: {what}", path.display())));
    if config.model_type != "llama" {
        return refuse(&format!("model_type is {:?}, only \"llama\" can be trained", config.model_type));
    }
    if config.attention_bias || config.mlp_bias {
        return refuse("projections with biases cannot be trained");
    }
    let rope_theta = match thimble_converter::read::rope_theta(&json) {
        Ok(theta) => theta,
        Err(error) => return refuse(&error.to_string()),
    };
    Ok(Config {
        hidden: config.hidden_size,
        layers: config.num_hidden_layers,
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads.unwrap_or(config.num_attention_heads),
        head_dim: config.head_dim.unwrap_or(config.hidden_size / config.num_attention_heads.max(1)),
        ffn: config.intermediate_size,
        vocab: config.vocab_size,
        context: config.max_position_embeddings,
        rope: RopeParameters::new(rope_theta as f32),
        norm_eps: config.rms_norm_eps as f32,
        tied: config.tie_word_embeddings,
        ..Config::PLAIN
    })
}

/// The shape and the weights of a Llama's Hugging Face folder.
///
/// A head that differs from the embedding is kept, with a warning, even if config.json ties the two; transformers and
/// the converter do the same.
///
/// # Errors
/// As [`read_config`] and [`read_weights`](crate::weights::read_weights).
pub fn read_model(folder: &Path) -> Result<(Config, Vec<f32>)> {
    let mut shape = read_config(&folder.join("config.json"))?;
    let path = folder.join(WEIGHTS);
    let bytes = std::fs::read(&path).map_err(Error::file(&path, "read"))?;
    let file = TensorFile::parse(&path, &bytes)?;
    let parameters = Parameters::new(&shape);
    let weights = file.weights(&parameters)?;
    if file.has_another_head(&parameters, &weights)? {
        eprintln!(
            "warning: {}: {HEAD} is kept: it differs from {EMBEDDING}, although config.json says tie_word_embeddings",
            path.display()
        );
        shape.tied = false;
        let weights = file.weights(&Parameters::new(&shape))?;
        return Ok((shape, weights));
    }
    Ok((shape, weights))
}

/// The model to export.
#[derive(Clone, Copy, Debug)]
pub struct Export<'a> {
    /// The model, with the rotary embedding that it was last trained with.
    pub config: &'a Config,
    /// Standard deviation of the initial weights, for `initializer_range`.
    pub init_std: f64,
    /// Master weights.
    pub weights: &'a [f32],
    /// Folder of the tokenizer's files.
    pub tokenizer: &'a Path,
    /// The id that ends every document.
    pub end_of_document: u32,
    /// Number format of the weights.
    pub precision: Precision,
}

/// Files of a tokenizer in an export; only the first must exist.
pub const EXPORTED_TOKENIZER_FILES: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

/// Copies a tokenizer's files.
///
/// # Errors
/// `tokenizer.json` is missing, or a file cannot be copied.
pub fn copy_tokenizer(from: &Path, to: &Path) -> Result<()> {
    for (index, name) in EXPORTED_TOKENIZER_FILES.iter().enumerate() {
        let source = from.join(name);
        if index == 0 || source.exists() {
            let bytes = std::fs::read(&source).map_err(Error::file(&source, "read"))?;
            write_atomically(&to.join(name), &bytes)?;
        }
    }
    Ok(())
}

/// Writes a Hugging Face folder that `transformers` loads and `thimble convert` reads. The folder appears whole or not
/// at all.
///
/// # Errors
/// The folder exists already, or a file cannot be written.
pub fn export(model: &Export, folder: &Path) -> Result<()> {
    let unfinished = AtomicFolder::create(folder).map_err(Error::file(folder, "write"))?;
    let path = |name: &str| unfinished.path().join(name);
    let parameters = Parameters::new(model.config);
    let dtype = match model.precision {
        Precision::F32 => Dtype::F32,
        Precision::Bf16 => Dtype::BF16,
    };
    write_weights(&path(WEIGHTS), &parameters, model.weights, dtype)?;
    copy_tokenizer(model.tokenizer, unfinished.path())?;
    let json = |name: &str, value: serde_json::Value| {
        let mut text =
            serde_json::to_vec_pretty(&value).map_err(|error| Error::Invalid(error.to_string()))?;
        text.push(b'\n');
        write_atomically(&path(name), &text)
    };
    json("config.json", config(model))?;
    json(
        "generation_config.json",
        serde_json::json!({
            "bos_token_id": model.end_of_document,
            "eos_token_id": model.end_of_document,
            "_from_model_config": true,
        }),
    )?;
    unfinished.publish().map_err(Error::file(folder, "write"))
}

fn config(model: &Export) -> serde_json::Value {
    let shape = model.config;
    serde_json::json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": model.end_of_document,
        "eos_token_id": model.end_of_document,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": model.init_std,
        "intermediate_size": shape.ffn,
        "max_position_embeddings": shape.context,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": decimal(shape.norm_eps),
        "rope_scaling": null,
        "rope_theta": decimal(shape.rope.theta),
        "tie_word_embeddings": shape.tied,
        "torch_dtype": match model.precision { Precision::F32 => "float32", Precision::Bf16 => "bfloat16" },
        "use_cache": true,
        "vocab_size": shape.vocab,
    })
}

/// The shortest decimal number that is this one in f32.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::read_weights;
    use serde_json::json;

    #[test]
    fn the_rotary_base_is_found_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let read = |rope: serde_json::Value| {
            let mut config = json!({
                "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
                "num_attention_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "vocab_size": 300,
            });
            config.as_object_mut().unwrap().extend(rope.as_object().unwrap().clone());
            std::fs::write(&path, config.to_string()).unwrap();
            read_config(&path).map(|config| config.rope.theta)
        };
        // The converter's function does the work, and has the whole table.
        for (rope, expected) in [
            (json!({}), 1e4),
            (json!({"rope_theta": 5e5, "rope_scaling": null}), 5e5),
            (json!({"rope_parameters": {"rope_type": "default", "rope_theta": 3e4}}), 3e4),
            (json!({"rope_theta": 2e4, "rope_parameters": {"rope_theta": 3e4}}), 3e4),
            (json!({"rope_scaling": {"rope_type": "default", "rope_theta": 4e4}}), 4e4),
        ] {
            assert_eq!(read(rope.clone()).unwrap(), expected, "{rope}");
        }
        for (rope, expected) in [
            (json!({"rope_theta": null}), "rope_theta is missing or not a number"),
            (json!({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}), "yarn"),
            (json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), "linear"),
        ] {
            let error = read(rope).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("config.json"), "{error}");
        }
    }

    #[test]
    fn a_tied_models_head_counts_where_it_differs_from_the_embedding() {
        let folder = tempfile::tempdir().unwrap();
        let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train"));
        std::fs::copy(golden.join("config.json"), folder.path().join("config.json")).unwrap();
        let (shape, weights) = read_model(golden).unwrap();
        let (tied, untied) = (Parameters::new(&shape), Parameters::new(&Config { tied: false, ..shape }));
        let [embedding, head] = [EMBEDDING, HEAD].map(|name| untied.find(name).unwrap());
        // A head whose first number is the embedding's plus `more`.
        let with_head = |more: f32| {
            let mut values = vec![0.0; untied.len];
            for named in tied.named() {
                values[untied.find(&named.name).unwrap().range()].copy_from_slice(&weights[named.range()]);
            }
            values.copy_within(embedding.range(), head.start);
            values[head.start] += more;
            values
        };
        let path = folder.path().join(WEIGHTS);
        write_weights(&path, &untied, &with_head(0.0), Dtype::F32).unwrap();
        assert!(read_weights(&path, &tied).unwrap() == weights);
        let (shape, found) = read_model(folder.path()).unwrap();
        assert!(shape.tied && found == weights);

        write_weights(&path, &untied, &with_head(0.5), Dtype::F32).unwrap();
        let error = read_weights(&path, &tied).unwrap_err().to_string();
        assert!(error.contains("model.safetensors: expected no lm_head.weight"), "{error}");
        let (shape, found) = read_model(folder.path()).unwrap();
        assert!(!shape.tied && found == with_head(0.5));
    }
}
