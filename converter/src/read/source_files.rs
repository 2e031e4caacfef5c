//! Lists the files that a model is converted from.

use super::names::{CONFIG_JSON, MODEL_CARD, OPTIONAL, TOKENIZER_JSON};
use super::{gguf_split, safetensors};
use crate::ConvertError;
use std::path::{Path, PathBuf};

/// Every file that [`super::open`] reads for this source, in a fixed order: all shards, and what lies beside the weights of
/// a Hugging Face folder. A conversion depends on nothing else.
///
/// # Errors
/// A folder without config.json or weights; an index of weights that cannot be read.
pub fn source_files(source: &Path) -> Result<Vec<PathBuf>, ConvertError> {
    let is_folder = source.metadata().map_err(ConvertError::read(source))?.is_dir();
    let is_weights = source.extension().is_some_and(|extension| extension == "safetensors");
    if !is_folder && !is_weights {
        let shards = gguf_split::shards(source);
        return Ok(if shards.is_empty() { vec![source.to_owned()] } else { shards });
    }
    let parent = source.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = if is_folder { source } else { parent };
    if !folder.join(CONFIG_JSON).is_file() {
        return Err(ConvertError::NotAModel { path: folder.to_owned() });
    }
    let beside = [CONFIG_JSON, TOKENIZER_JSON].into_iter().chain(OPTIONAL).chain([MODEL_CARD]);
    let beside = beside.map(|name| folder.join(name)).filter(|path| path.is_file());
    let weights = safetensors::paths(folder, is_weights.then_some(source))?;
    Ok(beside.chain(weights).collect())
}
