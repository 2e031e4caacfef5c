//! What will be written: the encoding of every tensor, and everything in the file but the weights.

use crate::allocate::{Allocation, Sensitivity};
use crate::read::Checkpoint;
use crate::write::{self, Contents};
use crate::{ConvertError, Options, Progress, Sections, Stage, Table, Target, calibrate, sections};
use thimble_runtime::format::Encoding;

/// A file to be.
pub(crate) struct Plan {
    /// Everything but the weights.
    pub(crate) contents: Contents,
    /// The chosen encodings and the divergence expected of them, where there was a target.
    pub(crate) chosen: Option<(Table, f64)>,
    /// As in the provenance.
    pub(crate) notes: Vec<String>,
}

/// Choices that are tried before one fits a file of a given size.
const TRIES: usize = 12;

impl Plan {
    /// Decides as the options say.
    pub(crate) fn make(
        checkpoint: &Checkpoint,
        sections: Sections,
        options: &Options,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Plan, ConvertError> {
        let Some(target) = options.target else {
            let table = options.table.clone().unwrap_or_default();
            let encodings = table.encodings(checkpoint.tensors(), options.quant)?;
            return Plan::new(checkpoint, &sections, options, &encodings, None);
        };
        let text = options.calibration.as_deref().unwrap_or(calibrate::default_text());
        let keep = options.sensitivities.as_deref();
        let sensitivity =
            Sensitivity::measure(checkpoint, &sections.tokenizer, text, keep, &mut |done, total| {
                progress(Progress::steps(Stage::Measuring, done, total));
            })?;
        let plan = |budget: u64| {
            let Allocation { encodings, divergence } = sensitivity.allocate(budget)?;
            let table = Table::of(&checkpoint.config, &encodings);
            Plan::new(checkpoint, &sections, options, &encodings, Some((table, divergence)))
        };
        let size = match target {
            Target::Bits(bits) => return plan((bits * checkpoint.config.parameters() as f64 / 8.0) as u64),
            Target::Bytes(bytes) => bytes,
        };
        // The provenance holds the choice, so that its length is not known before.
        let mut budget = size.saturating_sub(sections.tokenizer.len() as u64);
        let mut best: Option<Plan> = None;
        for _ in 0..TRIES {
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
            reason: format!("no choice of encodings makes a file of {size} bytes: choose a larger target"),
        })
    }

    fn new(
        checkpoint: &Checkpoint,
        sections: &Sections,
        options: &Options,
        encodings: &[Encoding],
        chosen: Option<(Table, f64)>,
    ) -> Result<Plan, ConvertError> {
        let notes = sections::notes(checkpoint, encodings, sections);
        let contents = Contents {
            config: checkpoint.config,
            provenance: sections::provenance(checkpoint, options, chosen.as_ref(), &notes),
            tokenizer: sections.tokenizer.clone(),
            chat: sections.chat.clone(),
            tensors: write::layout(checkpoint.tensors().iter().zip(encodings.iter().copied()))?,
        };
        Ok(Plan { contents, chosen, notes })
    }
}
