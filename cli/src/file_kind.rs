//! What kind of model a path leads to.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use thimble_converter::read::names::CONFIG_JSON;

/// The first bytes of a GGUF file.
pub(crate) const GGUF: &[u8] = b"GGUF";

/// Whether the file can be read and begins with these bytes.
pub(crate) fn begins_with(path: &Path, magic: &[u8]) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(magic.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == magic
}

/// Whether the name is that of a .thimble, a .gguf or a .safetensors file.
pub(crate) fn has_model_extension(path: &Path) -> bool {
    path.extension().is_some_and(|name| name == "thimble" || name == "gguf" || name == "safetensors")
}

/// Whether the path is a folder with a config.json.
pub(crate) fn is_model_folder(path: &Path) -> bool {
    path.join(CONFIG_JSON).is_file()
}

/// Whether the converter reads this path and the runtime does not: a Hugging Face folder, a .safetensors or a GGUF file.
pub(crate) fn is_convertible(path: &Path) -> bool {
    let is_weights = path.extension().is_some_and(|extension| extension == "safetensors");
    is_model_folder(path) || (is_weights && path.is_file()) || begins_with(path, GGUF)
}
