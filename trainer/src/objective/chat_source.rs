//! The model that a run begins with, as far as its data need it: tokenizer and chat template.

use crate::atomic_file::write_atomically;
use crate::data::conversations::ConversationEncoder;
use crate::error::{Error, Result};
use crate::init_from;
use crate::recipe::TrainingRecipe;
use std::path::{Path, PathBuf};
use thimble_converter::SourceModel;
use thimble_converter::export::{Dtype, write_metadata};

/// Files that say how the model begins and ends texts, which an export keeps.
const KEPT: [&str; 2] = ["config.json", "generation_config.json"];

/// A model's tokenizer, template and metadata.
pub(super) struct ChatSource {
    source: SourceModel,
    /// The Hugging Face folder, if it is one.
    folder: Option<PathBuf>,
    pub(super) encoder: ConversationEncoder,
}

impl ChatSource {
    /// The model of `init_from`.
    ///
    /// # Errors
    /// The recipe names none, or it cannot be read.
    pub(super) fn open(recipe: &TrainingRecipe) -> Result<ChatSource> {
        let named = recipe.init_from.as_deref().ok_or_else(|| {
            Error::Usage(
                "init_from: expected the model whose tokenizer and chat template encode the data, found none"
                    .into(),
            )
        })?;
        let source = init_from::open(named)?;
        let encoder = ConversationEncoder::of(&source)
            .map_err(|error| Error::Invalid(format!("init_from = {named:?}: {error}")))?;
        let folder = Path::new(named).is_dir().then(|| PathBuf::from(named));
        Ok(ChatSource { source, folder, encoder })
    }

    /// The folder that has the tokenizer's files, if there is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Writes what an export needs of the model into `RUN/tokenizer`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn write(&self, run: &Path) -> Result<()> {
        let to = run.join("tokenizer");
        std::fs::create_dir_all(&to).map_err(Error::file(&to, "create"))?;
        let Some(folder) = &self.folder else {
            return write_metadata(&self.source, &to, Dtype::F32, |_| {})
                .map_err(|error| Error::Invalid(error.to_string()));
        };
        for name in KEPT {
            let from = folder.join(name);
            if from.exists() {
                let bytes = std::fs::read(&from).map_err(Error::file(&from, "read"))?;
                write_atomically(&to.join(name), &bytes)?;
            }
        }
        Ok(())
    }
}
