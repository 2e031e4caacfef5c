//! Chooses encodings for a given size: sensitive tensors get more bits.
//!
//! Each matrix is quantized alone, and the divergence of the predictions measured ([`sensitivity`]). Divergences of
//! small independent errors add up, so that the choice is a knapsack problem ([`choose`]).

mod choose;

mod sensitivity;
mod sensitivity_file;

use crate::calibrate::{self, Windows, windows};
use crate::plan::ConversionPlan;
use crate::read::{SourceModel, SourceTensor};
use crate::{
    ConversionOptions, ConversionProgress, ConversionStage, ConvertError, Sections, SizeTarget, Table,
};
use choose::choose;
use sensitivity::measure;
use sensitivity_file::fingerprint;
use std::path::Path;
use thimble_runtime::format::{ALIGN, Encoding, align_up};

/// An encoding for one tensor, with its costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct EncodingChoice {
    pub(crate) encoding: Encoding,
    /// Bytes of the tensor, padding included.
    pub(crate) bytes: u64,
    /// The divergence it causes alone, in nats per token.
    pub(crate) divergence: f64,
}

impl EncodingChoice {
    fn new(encoding: Encoding, rows: usize, columns: usize, divergence: f64) -> Option<EncodingChoice> {
        let bytes = align_up(encoding.tensor_bytes(rows, columns)? as u64, ALIGN)?;
        Some(EncodingChoice { encoding, bytes, divergence })
    }

    /// The only choice for a norm; none for a matrix.
    fn of_norm(tensor: &SourceTensor) -> Vec<EncodingChoice> {
        let norm = || EncodingChoice::new(Encoding::Vector, tensor.rows, tensor.columns, 0.0);
        tensor.role.is_vector().then(norm).flatten().into_iter().collect()
    }
}

/// The encoding choices of a model's tensors, with their costs.
pub(crate) struct Sensitivity {
    /// In canonical order; one choice for a norm.
    choices: Vec<Vec<EncodingChoice>>,
}

/// Encodings for every tensor and the expected total divergence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Allocation {
    pub(crate) encodings: Vec<Encoding>,
    pub(crate) divergence: f64,
}

/// The windows to measure on; each has a thread.
const WINDOWS: Windows = Windows { tokens: 256, count: 2 };

impl Sensitivity {
    /// Measures a model on a text, or loads an earlier measurement from `file`; `progress` gets the number of finished
    /// tensors and their total.
    ///
    /// # Errors
    /// The text is shorter than a window, a weight is not finite, the source cannot be read, or `file` belongs to another
    /// model or text.
    pub(crate) fn measure(
        model: &SourceModel,
        tokenizer: &[u8],
        text: &str,
        file: Option<&Path>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Sensitivity, ConvertError> {
        let windows = windows(tokenizer, &model.config, text, WINDOWS)?;
        let Some(path) = file else {
            return Ok(Sensitivity { choices: measure(model, &windows, progress)? });
        };
        let fingerprint = fingerprint(model, &windows)?;
        if let Some(saved) = Sensitivity::load(path, model, &fingerprint)? {
            return Ok(saved);
        }
        let measured = Sensitivity { choices: measure(model, &windows, progress)? };
        measured.save(path, model, fingerprint)?;
        Ok(measured)
    }

    /// The best encodings within a budget of bytes for the tensors.
    ///
    /// # Errors
    /// Even the smallest encodings need more.
    pub(crate) fn allocate(&self, budget: u64) -> Result<Allocation, ConvertError> {
        choose(&self.choices, budget).map_err(|least| {
            let (least, budget) = (least as f64 / 1e6, budget as f64 / 1e6);
            ConvertError::Recipe {
                reason: format!(
                    "the target leaves {budget:.2} MB for the weights, but they need at least {least:.2} MB; choose a larger target"
                ),
            }
        })
    }
}

/// Attempts to fit a file of a given size.
const MAX_ATTEMPTS: usize = 12;

/// Plans the file with the lowest expected divergence within the target.
///
/// # Errors
/// Those of [`Sensitivity::measure`] and [`Sensitivity::allocate`], and a target that cannot be met.
pub(crate) fn plan(
    model: &SourceModel,
    sections: &Sections,
    options: &ConversionOptions,
    target: SizeTarget,
    progress: &mut dyn FnMut(ConversionProgress<'_>),
) -> Result<ConversionPlan, ConvertError> {
    let text = options.calibration.as_deref().unwrap_or(calibrate::default_text());
    let file = options.sensitivities.as_deref();
    let sensitivity = Sensitivity::measure(model, &sections.tokenizer, text, file, &mut |done, total| {
        progress(ConversionProgress::steps(ConversionStage::Measuring, done, total));
    })?;
    let plan = |budget: u64| {
        let Allocation { encodings, divergence } = sensitivity.allocate(budget)?;
        let table = Table::of(&model.config, &encodings);
        ConversionPlan::new(model, sections, options, &encodings, Some((table, divergence)))
    };
    let size = match target {
        SizeTarget::Bits(bits) => return plan((bits * model.config.parameters() as f64 / 8.0) as u64),
        SizeTarget::Bytes(bytes) => bytes,
    };
    // The length of the provenance depends on the choice.
    let mut budget = size.saturating_sub(sections.tokenizer.len() as u64);
    let mut best: Option<ConversionPlan> = None;
    for _ in 0..MAX_ATTEMPTS {
        let tried = plan(budget)?;
        let length = tried.contents.file_len();
        if length > size {
            if best.is_some() {
                break;
            }
            budget = budget.saturating_sub(length - size);
        } else {
            let fuller = best.as_ref().is_none_or(|best| best.contents.file_len() < length);
            if !fuller {
                break;
            }
            budget += size - length;
            best = Some(tried);
        }
    }
    best.ok_or_else(|| ConvertError::Recipe {
        reason: format!("no choice of encodings fits a file of {size} bytes; choose a larger target"),
    })
}
