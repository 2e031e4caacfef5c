//! Names of files in sources.

/// The file with a Hugging Face model's hyperparameters.
pub(super) const CONFIG_JSON: &str = "config.json";
