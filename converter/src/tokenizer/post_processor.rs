//! The post-processor of a `tokenizer.json`: it may add a begin-of-text token to each text, and nothing else.

use super::TokenizerError;
use super::component::{excerpt, kind, refuse, steps};
use serde_json::{Value, json};
use tokenizers::PostProcessorWrapper;
use tokenizers::processors::byte_level::ByteLevel;

/// A token that a post-processor adds to each text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextStart {
    /// Its id.
    pub id: u32,
    /// Its name in the post-processor, usually its text.
    pub name: String,
}

impl TextStart {
    /// The token that the post-processor of a `tokenizer.json` puts in front of each text, if it adds one.
    ///
    /// # Errors
    /// A post-processor that adds tokens elsewhere, or several.
    pub fn of_tokenizer_json(json: &Value) -> Result<Option<TextStart>, TokenizerError> {
        Self::of_post_processor(&json["post_processor"])
    }

    pub(super) fn of_post_processor(processor: &Value) -> Result<Option<TextStart>, TokenizerError> {
        let mut start = None;
        for step in steps(processor, "processors") {
            let added = match kind(step) {
                "ByteLevel" => None,
                "TemplateProcessing" => of_template(step)?,
                _ => return Err(unsupported(excerpt(step))),
            };
            if let (Some(first), Some(second)) = (&start, &added) {
                let TextStart { name, .. } = first;
                return Err(unsupported(format!("several that add {name:?} and {:?}", second.name)));
            }
            start = start.or(added);
        }
        Ok(start)
    }

    /// The post-processor that adds this token, in the form of Llama 3's.
    pub(super) fn post_processor(&self) -> Result<PostProcessorWrapper, TokenizerError> {
        let TextStart { id, name } = self;
        let start = |sequence: u8| json!({"SpecialToken": {"id": name, "type_id": sequence}});
        let text = |sequence: u8, name: &str| json!({"Sequence": {"id": name, "type_id": sequence}});
        let byte_level = serde_json::to_value(ByteLevel::new(true, false, true))?;
        let template = json!({
            "type": "TemplateProcessing",
            "single": [start(0), text(0, "A")],
            "pair": [start(0), text(0, "A"), start(1), text(1, "B")],
            "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]}},
        });
        Ok(serde_json::from_value(json!({"type": "Sequence", "processors": [byte_level, template]}))?)
    }
}

/// The token that a `TemplateProcessing` puts in front of a single text.
fn of_template(step: &Value) -> Result<Option<TextStart>, TokenizerError> {
    let pieces = step["single"].as_array().ok_or_else(|| unsupported(excerpt(step)))?;
    let (token, text) = match pieces.as_slice() {
        [text] => (None, text),
        [token, text] if token.get("SpecialToken").is_some() => (Some(token), text),
        _ => return Err(unsupported(named(pieces))),
    };
    if text["Sequence"]["id"] != "A" {
        return Err(unsupported(named(pieces)));
    }
    let Some(name) = token.map(|token| &token["SpecialToken"]["id"]) else { return Ok(None) };
    let missing = || unsupported(format!("one whose special_tokens have no single id for {name}"));
    let name = name.as_str().ok_or_else(missing)?;
    let ids = step["special_tokens"][name]["ids"].as_array().map(Vec::as_slice);
    let Some([id]) = ids else { return Err(missing()) };
    let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(missing)?;
    Ok(Some(TextStart { id, name: name.to_owned() }))
}

/// A template's pieces as an error shows them: tokens by name, the text as `$A`.
fn named(pieces: &[Value]) -> String {
    let name = |piece: &Value| match (piece["SpecialToken"]["id"].as_str(), piece["Sequence"]["id"].as_str())
    {
        (Some(token), _) => token.to_owned(),
        (_, Some(text)) => format!("${text}"),
        _ => excerpt(piece),
    };
    format!("the template {:?}", pieces.iter().map(name).collect::<Vec<_>>().join(" "))
}

fn unsupported(found: String) -> TokenizerError {
    refuse("post_processor", "one that adds nothing, or a begin-of-text token in front of a text,", found)
}
