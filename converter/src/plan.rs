//! What will be written: the encoding of every tensor, and everything in the file but the weights.

#[cfg(feature = "calibrate")]
use crate::allocate;
use crate::read::SourceModel;
use crate::write::{self, Contents};
use crate::{ConversionOptions, ConversionProgress, ConvertError, Sections, Table, sections};
use thimble_runtime::format::Encoding;

/// A file to be.
pub(crate) struct ConversionPlan {
    /// Everything but the weights.
    pub(crate) contents: Contents,
    /// The chosen encodings and the divergence expected of them, where there was a target.
    pub(crate) chosen: Option<(Table, f64)>,
    /// As in the provenance.
    pub(crate) notes: Vec<String>,
}

impl ConversionPlan {
    /// Decides as the options say.
    pub(crate) fn make(
        model: &SourceModel,
        sections: Sections,
        options: &ConversionOptions,
        progress: &mut dyn FnMut(ConversionProgress<'_>),
    ) -> Result<ConversionPlan, ConvertError> {
        match options.target {
            None => {
                let table = options.table.clone().unwrap_or_default();
                let encodings = table.encodings(model.tensors(), options.quant)?;
                ConversionPlan::new(model, &sections, options, &encodings, None)
            }
            #[cfg(feature = "calibrate")]
            Some(target) => allocate::plan(model, &sections, options, target, progress),
            #[cfg(not(feature = "calibrate"))]
            Some(_) => {
                let _ = progress;
                Err(ConvertError::LeftOut { what: "a choice of encodings for a size", feature: "calibrate" })
            }
        }
    }

    /// A file with these encodings.
    pub(crate) fn new(
        model: &SourceModel,
        sections: &Sections,
        options: &ConversionOptions,
        encodings: &[Encoding],
        chosen: Option<(Table, f64)>,
    ) -> Result<ConversionPlan, ConvertError> {
        let notes = sections::notes(model, encodings, sections);
        let contents = Contents {
            config: model.config,
            provenance: sections::provenance(model, options, chosen.as_ref(), &notes),
            tokenizer: sections.tokenizer.clone(),
            chat: sections.chat.clone(),
            tensors: write::layout(model.tensors().iter().zip(encodings.iter().copied()))?,
        };
        Ok(ConversionPlan { contents, chosen, notes })
    }
}
