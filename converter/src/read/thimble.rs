//! Opens a `.thimble` file as a [`SourceModel`], to export or requantize it.

use super::source_file::SourceFile;
use super::tensor::SourceTensor;
use super::{BlockType, Origin, SourceModel, TokenizerSource};
use crate::chat;
use crate::sections::NO_TEMPLATE;
use crate::{ConvertError, Sections};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::path::Path;
use thimble_chat::RecommendedSampling;
use thimble_files::MappedModel;
use thimble_runtime::chat::ChatTemplate;
use thimble_runtime::format::{Directory, Encoding, FormatError, ModelFile, SectionKind};

/// Opens a `.thimble` file and verifies its checksums.
pub(super) fn open(path: &Path) -> Result<SourceModel, ConvertError> {
    let mapped = MappedModel::read(path)?;
    let file = mapped.file()?;
    file.verify()?;
    let config = *file.config();
    let directory = Directory::parse(file.bytes())?;
    let section = |kind| directory.bytes(file.bytes(), kind).map(<[u8]>::to_vec);
    let chat = match section(SectionKind::Chat) {
        Ok(chat) => Some(chat),
        Err(FormatError::MissingSection { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let sections = Sections { tokenizer: section(SectionKind::Tokenizer)?, chat };
    let tokenizer = file.tokenizer();
    let text = |token| String::from_utf8_lossy(tokenizer.token_bytes(token)).into_owned();
    let mut bos_text = config.bos.map(text).unwrap_or_default();
    let mut eos_text = config.stop.iter().flatten().next().copied().map(text).unwrap_or_default();
    if let Some(ChatTemplate::Jinja(jinja)) = file.chat() {
        (bos_text, eos_text) = (jinja.bos.to_owned(), jinja.eos.to_owned());
    }
    let (origin, notes) = origin(&file, path);
    Ok(SourceModel {
        config,
        origin,
        tokenizer: TokenizerSource::Sections(sections),
        chat_template: file.chat().map(|template| chat::to_jinja(&template)),
        unknown: None,
        padding: None,
        bos_text,
        eos_text,
        named_tokens: Vec::new(),
        notes,
        tensors: tensors(&file, &directory)?,
        files: vec![SourceFile::open(path)?],
        merged: HashMap::new(),
    })
}

/// The prefix of notes about the source itself.
const EARLIER: &str = "the source: ";

/// The origin and notes in the file's provenance.
fn origin(file: &ModelFile<'_>, path: &Path) -> (Origin, Vec<String>) {
    let provenance: Json = serde_json::from_str(file.provenance()).unwrap_or(Json::Null);
    let text = |key: &str| provenance.get(key).and_then(Json::as_str).map(str::to_owned);
    let notes = provenance.get("notes").and_then(Json::as_array);
    let notes = notes.into_iter().flatten().filter_map(Json::as_str).filter(|&note| note != NO_TEMPLATE);
    let notes = notes.map(|note| match note.starts_with(EARLIER) {
        true => note.to_owned(),
        false => format!("{EARLIER}{note}"),
    });
    let notes = notes.collect();
    let origin = Origin {
        name: text("name"),
        licence: text("licence"),
        source: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        container: "thimble",
        architecture: text("architecture").unwrap_or_else(|| "llama".to_owned()),
        sampling: RecommendedSampling::of(file),
    };
    (origin, notes)
}

fn tensors(file: &ModelFile<'_>, directory: &Directory) -> Result<Vec<SourceTensor>, ConvertError> {
    let kind = SectionKind::Tensors;
    let section = directory.get(kind).ok_or(FormatError::MissingSection { kind })?;
    let stored = file.tensors().iter().map(|record| {
        let (rows, columns) = (record.rows as usize, record.columns as usize);
        let matrix = record.encoding != Encoding::Vector;
        SourceTensor {
            name: record.role.gguf(record.layer).to_string(),
            role: record.role,
            layer: record.layer,
            kind: BlockType::of(record.encoding, columns),
            rows,
            columns,
            file: 0,
            offset: section.offset + record.offset,
            interleaved: None,
            packed: matrix.then_some(record.encoding),
            stored: None,
        }
    });
    Ok(stored.collect())
}
