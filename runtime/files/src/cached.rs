//! Where the models that `thimble pull` fetched lie.

use std::path::{Path, PathBuf};

/// `$THIMBLE_HOME`, or `thimble` in the platform's cache folder; none if the platform has none. It may not exist.
pub fn home_folder() -> Option<PathBuf> {
    let named = std::env::var_os("THIMBLE_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(dirs::cache_dir()?.join("thimble")))
}

/// The folder of all models in a [`home_folder`].
pub fn models_folder(home: &Path) -> PathBuf {
    home.join("models")
}

/// The file in a [`home_folder`] of the model with this name of the catalogue or repository, present or not.
pub fn cached_model(home: &Path, name: &str) -> PathBuf {
    models_folder(home).join(format!("{}.thimble", model_file_stem(name)))
}

/// The name of a repository's model as a file name. Names of repositories have no `--`, so two never share a file.
pub fn model_file_stem(name: &str) -> String {
    name.replace('/', "--")
}

#[cfg(test)]
mod tests {
    use super::cached_model;
    use std::path::Path;

    #[test]
    fn names_and_repositories_have_files() {
        let home = Path::new("home");
        assert_eq!(cached_model(home, "smollm2-70m"), home.join("models/smollm2-70m.thimble"));
        assert_eq!(cached_model(home, "Qwen/Qwen3-0.6B"), home.join("models/Qwen--Qwen3-0.6B.thimble"));
    }
}
