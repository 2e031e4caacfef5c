//! The plan of a conversion: the encoding of every tensor, and the rest of the file but the weights.

use crate::read::SourceModel;
use crate::write::{self, Contents};
use crate::{ConversionOptions, ConvertError, Sections, Table, sections};
use thimble_runtime::format::Encoding;

/// A `.thimble` file before its weights are written.
pub(crate) struct ConversionPlan {
    /// Everything but the weights.
    pub(crate) contents: Contents,
    /// With a size target: the chosen encodings and their expected divergence.
    pub(crate) chosen: Option<(Table, f64)>,
    /// The notes of the provenance.
    pub(crate) notes: Vec<String>,
}

impl ConversionPlan {
    /// Plans a file with these encodings.
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
