//! The model that a recipe's `init_from` names.

use crate::error::{Error, Result};
use crate::shell;
use std::path::{Path, PathBuf};
use thimble_converter::SourceModel;
use thimble_converter::read::{self, BlockType};
use thimble_runtime::format::TensorRole;

/// Opens a Hugging Face folder, a GGUF file, a `.thimble` file, or a model that `thimble pull` fetched by the name of the
/// catalogue or repository. Reads only metadata. A path comes before a name.
///
/// # Errors
/// There is no such path or model, or it is a run folder; the file is damaged or of no supported family.
pub fn open(typed: &str) -> Result<SourceModel> {
    let path = path_of(typed)?;
    read::open(&path).map_err(|error| Error::Invalid(format!("{typed}: {error}")))
}

/// A sentence about a model whose matrices are stored in few bits: training continues from the rounded numbers.
pub fn rounded(typed: &str, source: &SourceModel) -> Option<String> {
    let matrix = source.tensors().iter().find(|tensor| {
        !matches!(tensor.kind, BlockType::F32 | BlockType::F16 | BlockType::BF16)
            && !matches!(tensor.role, TensorRole::Embedding | TensorRole::Head)
    })?;
    let repository = thimble_files::repository_of(typed);
    let of = repository.map(|repository| format!(" of {repository}")).unwrap_or_default();
    Some(format!(
        "the weights of {typed} are rounded ({}), and training starts from the rounded ones: a Hugging Face folder{of} has them \
         in full precision",
        matrix.stored_as()
    ))
}

/// Whether a folder is that of a run.
pub(crate) fn is_run(folder: &Path) -> bool {
    folder.join("recipe.toml").is_file() && folder.join("checkpoints").is_dir()
}

/// Where the model lies.
fn path_of(typed: &str) -> Result<PathBuf> {
    let path = Path::new(typed);
    if path.is_dir() && is_run(path) {
        let export = path.join("export");
        let what = if export.is_dir() {
            format!("give its export, {}", export.display())
        } else {
            let path = shell::quote(path);
            format!("make a model of it with `thimble-train export {path} -o FOLDER` and give that folder")
        };
        return Err(Error::Usage(format!("{typed}: expected a model, found the folder of a run; {what}")));
    }
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
        Error::Usage(format!(
            "{typed}: expected a Hugging Face folder, a .gguf or .thimble file, or the name of a model on this machine, found \
             none; `thimble pull {typed}` fetches a model of the catalogue or the hub (`thimble list`)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::open;

    #[test]
    fn what_is_not_there_is_refused_with_a_way_to_get_it() {
        let error = open("no-such-model").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let error = error.to_string();
        assert!(error.starts_with("no-such-model: expected") && error.contains("thimble pull"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let typed = folder.path().to_str().unwrap();
        let error = open(typed).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{typed}: ")), "{error}");
    }

    #[test]
    fn a_run_folder_is_refused_with_the_model_to_give() {
        let folder = tempfile::tempdir().unwrap();
        let typed = folder.path().to_str().unwrap();
        std::fs::create_dir(folder.path().join("checkpoints")).unwrap();
        std::fs::write(folder.path().join("recipe.toml"), "").unwrap();
        let error = open(typed).unwrap_err().to_string();
        assert!(error.contains("folder of a run") && error.contains("thimble-train export"), "{error}");
        std::fs::create_dir(folder.path().join("export")).unwrap();
        let error = open(typed).unwrap_err().to_string();
        assert!(error.contains(&format!("give its export, {typed}/export")), "{error}");
    }
}
