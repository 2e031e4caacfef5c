//! The model that teaches the quantizing stages of pretraining, as the run folder keeps it.

use crate::error::{Error, Result};
use crate::export::{Export, WEIGHTS, export};
use crate::model::Parameters;
use crate::quantization::StartFile;
use crate::weights::read_weights;
use std::path::{Path, PathBuf};

/// The Hugging Face folder of the teacher in a run folder.
pub fn folder(run: &Path) -> PathBuf {
    run.join("teacher")
}

/// The teacher's weights, as a flat buffer.
///
/// # Errors
/// There is none, or it is damaged or of another shape.
pub fn read(run: &Path, parameters: &Parameters) -> Result<Vec<f32>> {
    read_weights(&folder(run).join(WEIGHTS), parameters)
}

/// Keeps a model as the teacher of a run. Another one is replaced, and with it the conversion that was made of it.
///
/// # Errors
/// A file cannot be removed or written.
pub fn keep(run: &Path, model: &Export<'_>) -> Result<()> {
    let folder = folder(run);
    if folder.exists() {
        if read(run, &Parameters::new(model.config)).is_ok_and(|weights| weights == model.weights) {
            return Ok(());
        }
        // First the conversion: a kill in between must not leave it beside another teacher.
        StartFile::remove(run)?;
        std::fs::remove_dir_all(&folder).map_err(Error::file(&folder, "remove"))?;
    }
    export(model, &folder)
}
