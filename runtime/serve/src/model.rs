//! The model that a server serves.

use thimble_runtime::format::ModelFile;

/// The model that a server serves.
#[derive(Clone)]
pub struct ServedModel<'f> {
    /// Its file.
    pub file: ModelFile<'f>,
    /// What requests call it.
    pub name: String,
}
