//! What a caller asks a conversion for.

use crate::{Quant, SizeTarget, Table};
use std::path::PathBuf;

/// How to convert.
#[derive(Clone, Debug, Default)]
pub struct ConversionOptions {
    /// How to store the weights.
    pub quant: Quant,
    /// Encodings for tensors by name, before those of `quant`.
    pub table: Option<Table>,
    /// Encodings chosen for a size, in place of those of `quant` and `table`: see [`SizeTarget`].
    pub target: Option<SizeTarget>,
    /// A file that keeps what is measured for a target, so that other targets need no second measurement.
    pub sensitivities: Option<PathBuf>,
    /// Text on whose activations matrices are rounded with error compensation; otherwise each is rounded by itself.
    pub calibration: Option<String>,
    /// The model's name in the file; otherwise the source's own.
    pub name: Option<String>,
    /// Where the source comes from, for provenance; otherwise its file name.
    pub source: Option<String>,
    /// The licence; otherwise the source's own.
    pub licence: Option<String>,
}
