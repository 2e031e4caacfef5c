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

/// The names of the catalogue, with their repositories on the Hugging Face hub.
const REPOSITORIES: [(&str, &str); 14] = [
    ("smollm2-70m", "codelion/SmolLM2-70M"),
    ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M"),
    ("smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ("smollm2-360m", "HuggingFaceTB/SmolLM2-360M"),
    ("smollm2-360m-instruct", "HuggingFaceTB/SmolLM2-360M-Instruct"),
    ("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B"),
    ("smollm2-1.7b-instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct"),
    ("smollm3-3b", "HuggingFaceTB/SmolLM3-3B"),
    ("llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct"),
    ("llama-3.2-3b-instruct", "meta-llama/Llama-3.2-3B-Instruct"),
    ("qwen2.5-0.5b-instruct", "Qwen/Qwen2.5-0.5B-Instruct"),
    ("qwen2.5-1.5b-instruct", "Qwen/Qwen2.5-1.5B-Instruct"),
    ("qwen3-0.6b", "Qwen/Qwen3-0.6B"),
    ("qwen3-1.7b", "Qwen/Qwen3-1.7B"),
];

/// The repository on the Hugging Face hub of a name of the catalogue, case-insensitive.
pub const fn repository_of(name: &str) -> Option<&'static str> {
    let mut index = 0;
    while index < REPOSITORIES.len() {
        let (known, repository) = REPOSITORIES[index];
        if known.eq_ignore_ascii_case(name) {
            return Some(repository);
        }
        index += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{cached_model, repository_of};
    use std::path::Path;

    #[test]
    fn names_and_repositories_have_files() {
        let home = Path::new("home");
        assert_eq!(cached_model(home, "smollm2-70m"), home.join("models/smollm2-70m.thimble"));
        assert_eq!(cached_model(home, "Qwen/Qwen3-0.6B"), home.join("models/Qwen--Qwen3-0.6B.thimble"));
        assert_eq!(repository_of("Qwen3-0.6b"), Some("Qwen/Qwen3-0.6B"));
        assert_eq!(repository_of("Qwen/Qwen3-0.6B"), None);
    }
}
