//! Reading and writing Hugging Face folders.

use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::model::Parameters;
use crate::recipe::Precision;
use crate::weights::{EMBEDDING, HEAD, TensorFile, write_weights};
use safetensors::tensor::Dtype;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::path::Path;
use thimble_converter::config::{Family, config_json, read_config_json};
use thimble_files::AtomicFolder;
use thimble_runtime::Token;
use thimble_runtime::format::Config;

pub(crate) const WEIGHTS: &str = "model.safetensors";

/// The description in a `config.json` of any family.
///
/// # Errors
/// The file is missing, or is not a model's that can be trained.
pub fn read_config(path: &Path) -> Result<Config> {
    let text = std::fs::read(path).map_err(Error::file(path, "read"))?;
    let refuse = |error: &dyn Display| Error::Invalid(format!("{}: {error}", path.display()));
    let json = serde_json::from_slice(&text).map_err(|error| refuse(&error))?;
    read_config_json(&json).map(|(_, config)| config).map_err(|error| refuse(&error))
}

/// The description and the weights of a model's Hugging Face folder.
///
/// A head that differs from the embedding is kept, with a warning, even if config.json ties the two; transformers and
/// the converter do the same.
///
/// # Errors
/// As [`read_config`] and [`read_weights`](crate::weights::read_weights).
pub fn read_model(folder: &Path) -> Result<(Config, Vec<f32>)> {
    let mut config = read_config(&folder.join("config.json"))?;
    let path = folder.join(WEIGHTS);
    let bytes = std::fs::read(&path).map_err(Error::file(&path, "read"))?;
    let file = TensorFile::parse(&path, &bytes)?;
    let parameters = Parameters::new(&config);
    let weights = file.weights(&parameters)?;
    if file.has_another_head(&parameters, &weights)? {
        eprintln!(
            "warning: {}: {HEAD} is kept: it differs from {EMBEDDING}, although config.json says tie_word_embeddings",
            path.display()
        );
        config.tied = false;
        let weights = file.weights(&Parameters::new(&config))?;
        return Ok((config, weights));
    }
    Ok((config, weights))
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

/// Files of a tokenizer in an export; only the first must exist. The last two are there where the run began with a given
/// model, and are its own.
pub const EXPORTED_TOKENIZER_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    CONFIG,
    GENERATION_CONFIG,
];
const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";

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
/// No family has the model's options together, the folder exists already, or a file cannot be written.
pub fn export(model: &Export, folder: &Path) -> Result<()> {
    let config = config(model)?;
    let unfinished = AtomicFolder::create(folder).map_err(Error::file(folder, "write"))?;
    let path = |name: &str| unfinished.path().join(name);
    let parameters = Parameters::new(model.config);
    let dtype = match model.precision {
        Precision::F32 => Dtype::F32,
        Precision::Bf16 => Dtype::BF16,
    };
    write_weights(&path(WEIGHTS), parameters.named(), model.weights, dtype)?;
    copy_tokenizer(model.tokenizer, unfinished.path())?;
    let json = |name: &str, value: serde_json::Value| {
        let mut text =
            serde_json::to_vec_pretty(&value).map_err(|error| Error::Invalid(error.to_string()))?;
        text.push(b'\n');
        write_atomically(&path(name), &text)
    };
    json(CONFIG, config)?;
    if !path(GENERATION_CONFIG).exists() {
        json(
            GENERATION_CONFIG,
            serde_json::json!({
                "bos_token_id": model.end_of_document,
                "eos_token_id": model.end_of_document,
                "_from_model_config": true,
            }),
        )?;
    }
    unfinished.publish().map_err(Error::file(folder, "write"))
}

/// The model's `config.json`, of the family with its options. That of a model that the run began with keeps its special
/// tokens and whatever else it says.
fn config(model: &Export) -> Result<serde_json::Value> {
    let given = model.tokenizer.join(CONFIG);
    let (mut json, config) = if given.exists() {
        let text = std::fs::read(&given).map_err(Error::file(&given, "read"))?;
        let json: Map<String, Value> = serde_json::from_slice(&text)
            .map_err(|error| Error::Invalid(format!("{}: {error}", given.display())))?;
        let Config { bos, stop, .. } = read_config(&given)?;
        (json, Config { bos, stop, ..*model.config })
    } else {
        let end = Some(Token(model.end_of_document));
        let mut config = Config { bos: end, stop: [None; Config::MAX_STOP_TOKENS], ..*model.config };
        config.stop[0] = end;
        (Map::from_iter([("initializer_range".into(), model.init_std.into())]), config)
    };
    let family = match json.get("model_type").is_some() {
        true => read_config_json(&Value::Object(json.clone())).map(|(family, _)| family),
        false => Family::of(&config),
    };
    let found = family.and_then(|family| config_json(family, &config));
    json.extend(found.map_err(|error| Error::Invalid(error.to_string()))?);
    let dtype = match model.precision {
        Precision::F32 => "float32",
        Precision::Bf16 => "bfloat16",
    };
    json.insert("torch_dtype".into(), dtype.into());
    Ok(json.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::read_weights;

    #[test]
    fn a_config_that_is_none_is_refused_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for (text, expected) in [
            ("{", "EOF"),
            (r#"{"model_type": "gpt2"}"#, "gpt2"),
            (r#"{"model_type": "llama"}"#, "hidden_size"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read_config(&path).unwrap_err().to_string();
            let place = path.display().to_string();
            assert!(error.contains(expected) && error.starts_with(&place), "{error}");
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
        write_weights(&path, untied.named(), &with_head(0.0), Dtype::F32).unwrap();
        assert!(read_weights(&path, &tied).unwrap() == weights);
        let (shape, found) = read_model(folder.path()).unwrap();
        assert!(shape.tied && found == weights);

        write_weights(&path, untied.named(), &with_head(0.5), Dtype::F32).unwrap();
        let error = read_weights(&path, &tied).unwrap_err().to_string();
        assert!(error.contains("model.safetensors: expected no lm_head.weight"), "{error}");
        let (shape, found) = read_model(folder.path()).unwrap();
        assert!(!shape.tied && found == with_head(0.5));
    }
}
