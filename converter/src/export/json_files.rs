//! The JSON files of a folder, and its model card.

use super::Dtype;
use crate::ConvertError;
use crate::config::{Family, config_json};
use crate::read::SourceModel;
use crate::tokenizer::Vocabulary;
use serde_json::{Map, Value, json};
use thimble_runtime::Token;

/// Names and contents.
///
/// # Errors
/// No family has the model's options.
pub(super) fn all(
    model: &SourceModel,
    vocabulary: &Vocabulary,
    dtype: Dtype,
) -> Result<[(&'static str, Value); 4], ConvertError> {
    let special = special_tokens(model, vocabulary);
    let mut tokenizer = special.clone();
    let more = [
        ("add_prefix_space", json!(false)),
        ("clean_up_tokenization_spaces", json!(false)),
        ("model_max_length", json!(model.config.context)),
        ("tokenizer_class", json!("PreTrainedTokenizerFast")),
    ];
    tokenizer.extend(more.map(|(key, value)| (key.to_owned(), value)));
    if vocabulary.adds_bos {
        tokenizer.insert("add_bos_token".to_owned(), json!(true));
    }
    if let Some(template) = &model.chat_template {
        tokenizer.insert("chat_template".to_owned(), json!(template));
    }
    Ok([
        ("config.json", config(model, dtype)?),
        ("generation_config.json", generation(model)),
        ("special_tokens_map.json", Value::Object(special)),
        ("tokenizer_config.json", Value::Object(tokenizer)),
    ])
}

/// `config.json` of the model's family.
fn config(model: &SourceModel, dtype: Dtype) -> Result<Value, ConvertError> {
    let family = Family::of_source(&model.origin.architecture, &model.config)?;
    let mut json = config_json(family, &model.config)?;
    let more = [
        ("_name_or_path", json!(model.origin.name.clone().unwrap_or_default())),
        ("pad_token_id", json!(model.padding.map(|token| token.0))),
        ("torch_dtype", json!(dtype.forms().1)),
    ];
    json.extend(more.map(|(key, value)| (key.to_owned(), value)));
    Ok(Value::Object(json))
}

fn generation(model: &SourceModel) -> Value {
    let mut json = json!({"_from_model_config": true, "eos_token_id": eos(model)});
    let ids = [("bos_token_id", model.config.bos), ("pad_token_id", model.padding)];
    for (key, token) in ids {
        if let Some(token) = token {
            json[key] = token.0.into();
        }
    }
    let sampling = model.origin.sampling.to_json();
    if !sampling.is_empty() {
        // Without it transformers decodes greedily and ignores the other settings.
        let greedy = model.origin.sampling.temperature == Some(0.0);
        json["do_sample"] = (!greedy).into();
        // transformers refuses a temperature of 0.
        let sampling = sampling.into_iter().filter(|(key, _)| !(greedy && key == "temperature"));
        sampling.for_each(|(key, value)| json[key] = value);
    }
    json
}

/// The stop tokens: null, one id, or a list of them.
fn eos(model: &SourceModel) -> Value {
    let stops: Vec<u32> = model.config.stop.iter().flatten().map(|token| token.0).collect();
    match stops.as_slice() {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    }
}

/// The special tokens by role.
fn special_tokens(model: &SourceModel, vocabulary: &Vocabulary) -> Map<String, Value> {
    let text = |token: Option<Token>| {
        let bytes = vocabulary.tokens.get(token?.index())?;
        String::from_utf8(bytes.clone()).ok()
    };
    let texts = [
        ("bos_token", Some(model.bos_text.clone())),
        ("eos_token", Some(model.eos_text.clone())),
        ("pad_token", text(model.padding)),
        ("unk_token", text(model.unknown)),
    ];
    let known =
        texts.into_iter().filter_map(|(key, text)| Some((key, text.filter(|text| !text.is_empty())?)));
    let mut known: Map<String, Value> = known.map(|(key, text)| (key.to_owned(), json!(text))).collect();
    // A chat template may use `mask_token` and the model's own names.
    for (name, text) in &model.named_tokens {
        if !known.contains_key(name) {
            known.insert(name.clone(), json!(text));
        }
    }
    known
}

/// `README.md`: name, source, and the licence if it is known.
pub(super) fn card(model: &SourceModel) -> String {
    let origin = &model.origin;
    let name = origin.name.as_ref().unwrap_or(&origin.source);
    let licence = origin.licence.as_ref().map_or_else(String::new, |l| format!("license: {l}\n"));
    format!(
        "---\n{licence}library_name: transformers\n---\n# {name}\n\nWritten by thimble from {}.\n",
        origin.source
    )
}
