//! The progress of a conversion.

/// A stage of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversionStage {
    /// Measuring the sensitivity of each tensor; progress counts tensors.
    Measuring,
    /// Quantizing for the activations on a text; progress counts layers.
    Calibrating,
    /// Writing; progress counts bytes.
    Writing,
}

/// The progress of a conversion.
#[derive(Clone, Copy, Debug)]
pub struct ConversionProgress<'a> {
    /// The current stage.
    pub stage: ConversionStage,
    /// The name in the source of the tensor being written; otherwise empty.
    pub tensor: &'a str,
    /// Bytes written, or tensors or layers done.
    pub done: u64,
    /// The total of bytes, tensors or layers.
    pub total: u64,
}

#[cfg(feature = "calibrate")]
impl ConversionProgress<'_> {
    pub(crate) fn steps(stage: ConversionStage, done: usize, total: usize) -> ConversionProgress<'static> {
        ConversionProgress { stage, tensor: "", done: done as u64, total: total as u64 }
    }
}
