//! What will be written: the encoding of every tensor, and everything in the file but the weights.

#[cfg(feature = "calibrate")]
use crate::allocate;
use crate::read::Checkpoint;
use crate::write::{self, Contents};
use crate::{ConvertError, Options, Progress, Sections, Table, sections};
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

impl Plan {
    /// Decides as the options say.
    pub(crate) fn make(
        checkpoint: &Checkpoint,
        sections: Sections,
        options: &Options,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Plan, ConvertError> {
        match options.target {
            None => {
                let table = options.table.clone().unwrap_or_default();
                let encodings = table.encodings(checkpoint.tensors(), options.quant)?;
                Plan::new(checkpoint, &sections, options, &encodings, None)
            }
            #[cfg(feature = "calibrate")]
            Some(target) => allocate::plan(checkpoint, &sections, options, target, progress),
            #[cfg(not(feature = "calibrate"))]
            Some(_) => {
                let _ = progress;
                Err(ConvertError::LeftOut { what: "a choice of encodings for a size", feature: "calibrate" })
            }
        }
    }

    /// A file with these encodings.
    pub(crate) fn new(
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
