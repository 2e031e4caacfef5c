//! Makes the tokenizer, chat and provenance sections.

use crate::read::{Sections, SourceModel, SourceTensor, TokenizerSource};
use crate::{ConversionOptions, ConvertError, SizeTarget, Table, chat};
use serde_json::json;
use std::collections::BTreeMap;
use thimble_runtime::chat::ChatTemplate;
use thimble_runtime::format::{Encoding, checksum};

impl Sections {
    /// The sections of a source.
    pub fn of(model: &SourceModel) -> Result<Sections, ConvertError> {
        if let TokenizerSource::Sections(sections) = &model.tokenizer {
            return Ok(sections.clone());
        }
        let vocabulary = model.tokenizer.vocabulary()?;
        let (tokens, rows) = (vocabulary.tokens.len(), model.config.vocab);
        if tokens > rows {
            let found = format!("{tokens} tokens for {rows} embedding rows");
            return Err(ConvertError::unsupported("the vocabulary", found, "at most one token for each row"));
        }
        let json = match &model.tokenizer {
            TokenizerSource::Json(bytes) => Some(bytes.as_slice()),
            _ => None,
        };
        let tokenizer = vocabulary.emit_verified(json)?;
        let chat = match &model.chat_template {
            Some(template) => {
                let template = chat::define_tokens(template, &model.named_tokens);
                Some(chat::derive(&template, &model.bos_text, &model.eos_text)?)
            }
            None => None,
        };
        Ok(Sections { tokenizer, chat })
    }
}

/// The note about a source without a chat template.
pub(crate) const NO_TEMPLATE: &str = "no chat template in the source: a base model";

/// The notes on a conversion: what was omitted, what was rounded.
pub(crate) fn notes(model: &SourceModel, encodings: &[Encoding], sections: &Sections) -> Vec<String> {
    let mut notes = model.notes.clone();
    let mut rounded: BTreeMap<String, Vec<&SourceTensor>> = BTreeMap::new();
    for (tensor, &encoding) in model.tensors().iter().zip(encodings) {
        if tensor.rounds(encoding) {
            let change = format!("rounded from {} to {}", tensor.stored_as(), encoding.name());
            rounded.entry(change).or_default().push(tensor);
        }
    }
    let matrices = encodings.iter().filter(|&&e| e != Encoding::Vector).count();
    for (change, tensors) in rounded {
        // A long list of layers is no more useful than their number.
        let names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
        let shown =
            if names.len() > 8 { format!("{}, ...", names[..8].join(", ")) } else { names.join(", ") };
        notes.push(format!("{change}: {} of {matrices} matrices ({shown})", names.len()));
    }
    if model.chat_template.is_none() && sections.chat.is_none() {
        notes.push(NO_TEMPLATE.to_owned());
    }
    let template = sections.chat.as_deref().and_then(|section| ChatTemplate::parse(section).ok());
    notes.extend(template.as_ref().and_then(chat::find_fault));
    notes
}

/// The provenance section: a JSON object that depends on the input only. `chosen` is as in
/// [`ConversionSummary`](crate::ConversionSummary).
pub(crate) fn provenance(
    model: &SourceModel,
    options: &ConversionOptions,
    chosen: Option<&(Table, f64)>,
    notes: &[String],
) -> String {
    let origin = &model.origin;
    let recipe = match options.target {
        Some(SizeTarget::Bits(bits)) => format!("{bits} bits"),
        Some(SizeTarget::Bytes(bytes)) => format!("{bytes} bytes"),
        None if options.table.is_some() => format!("table on {}", options.quant),
        None => options.quant.name().to_owned(),
    };
    let table = chosen.map(|(table, _)| table).or(options.table.as_ref());
    let text = options.calibration.as_ref();
    let calibration =
        text.map(|text| format!("{} bytes, XXH3-64 {:016x}", text.len(), checksum(text.as_bytes())));
    let mut provenance = json!({
        "name": options.name.as_ref().or(origin.name.as_ref()),
        "source": options.source.as_ref().unwrap_or(&origin.source),
        "container": origin.container,
        "architecture": origin.architecture,
        "licence": options.licence.as_ref().or(origin.licence.as_ref()),
        "recipe": recipe,
        "table": table.map(Table::to_toml),
        "expected_divergence": chosen.map(|(_, divergence)| divergence),
        "calibration": calibration,
        "converter": concat!("thimble-converter ", env!("CARGO_PKG_VERSION")),
        "parameters": model.config.parameters(),
        "notes": notes,
    });
    let sampling = origin.sampling.to_json();
    if !sampling.is_empty() {
        provenance["sampling"] = sampling.into();
    }
    provenance.to_string()
}
