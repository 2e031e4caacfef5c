//! How far a conversion is.

/// What a conversion is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversionStage {
    /// Measuring how much each tensor matters; progress counts tensors.
    Measuring,
    /// Rounding for the activations on a text; progress counts layers.
    Calibrating,
    /// Writing; progress counts bytes.
    Writing,
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
pub struct ConversionProgress<'a> {
    /// What is being done.
    pub stage: ConversionStage,
    /// The tensor that is being written, by its name in the source; otherwise empty.
    pub tensor: &'a str,
    /// Bytes of the finished file that are written; or tensors or layers that are done.
    pub done: u64,
    /// How many there will be.
    pub total: u64,
}

#[cfg(feature = "calibrate")]
impl ConversionProgress<'_> {
    pub(crate) fn steps(stage: ConversionStage, done: usize, total: usize) -> ConversionProgress<'static> {
        ConversionProgress { stage, tensor: "", done: done as u64, total: total as u64 }
    }
}
