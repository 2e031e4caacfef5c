//! The model that a recipe's `init_from` names.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use thimble_converter::SourceModel;
use thimble_converter::read;

/// Opens a Hugging Face folder, a GGUF file, a `.thimble` file, or a model that `thimble pull` fetched by the name of the
/// catalogue or repository. Reads only metadata. A path comes before a name.
///
/// # Errors
/// There is no such path or model; the file is damaged or of no supported family.
pub fn open(typed: &str) -> Result<SourceModel> {
    let path = path_of(typed)?;
    read::open(&path).map_err(|error| Error::Invalid(format!("init_from = {typed:?}: {error}")))
}

/// Where the model lies.
fn path_of(typed: &str) -> Result<PathBuf> {
    let path = Path::new(typed);
    if path.exists() {
        return Ok(path.to_owned());
    }
    let looks_like_a_path = path
        .extension()
        .is_some_and(|extension| ["gguf", "thimble", "safetensors"].iter().any(|known| extension == *known));
    let cached = thimble_files::home_folder().filter(|_| !looks_like_a_path).and_then(|home| {
        // Names of the catalogue are in lower case, those of repositories as on the hub.
        let names = [typed.to_lowercase(), typed.to_owned()];
        names.iter().map(|name| thimble_files::cached_model(&home, name)).find(|path| path.is_file())
    });
    cached.ok_or_else(|| {
        Error::Invalid(format!(
            "init_from = {typed:?}: expected a Hugging Face folder, a .gguf or .thimble file, or the name of a model on this \
             machine, found none; `thimble pull {typed}` fetches a model of the catalogue or the hub (`thimble list`)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::open;

    #[test]
    fn what_is_not_there_is_refused_with_a_way_to_get_it() {
        let error = open("no-such-model").unwrap_err().to_string();
        assert!(error.contains("init_from = \"no-such-model\"") && error.contains("thimble pull"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let typed = folder.path().to_str().unwrap();
        let error = open(typed).unwrap_err().to_string();
        assert!(error.starts_with(&format!("init_from = {typed:?}: ")), "{error}");
    }
}
