//! The options of a conversion.

use crate::{Quant, SizeTarget, Table};
use std::path::PathBuf;

/// The options of a conversion.
#[derive(Clone, Debug, Default)]
pub struct ConversionOptions {
    /// How to store the weights.
    pub quant: Quant,
    /// Encodings by tensor name, which override `quant`.
    pub table: Option<Table>,
    /// A size for which to choose the encodings, instead of `quant` and `table`.
    pub target: Option<SizeTarget>,
    /// A file for the sensitivities measured for `target`, so that other targets need no second measurement.
    pub sensitivities: Option<PathBuf>,
    /// A calibration text, for rounding with error compensation; otherwise weights are rounded to nearest.
    pub calibration: Option<String>,
    /// Adapters to merge into the weights, with their weights.
    pub merge: Vec<(PathBuf, f32)>,
    /// Whether to merge adapters of other models of the same shape.
    pub any_base: bool,
    /// The model's name in the file; the default is the source's.
    pub name: Option<String>,
    /// The origin of the source, for the provenance; the default is its file name.
    pub source: Option<String>,
    /// The licence; the default is the source's.
    pub licence: Option<String>,
}
