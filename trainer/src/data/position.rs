//! The position of a run in its data, whatever the data are.

use super::loader::LoaderPosition;
use serde::{Deserialize, Serialize};

/// With the recipe and the data, it determines what every later step reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DataPosition {
    /// In windows of token sets.
    Windows(LoaderPosition),
    /// In examples of files.
    Examples(ExamplePosition),
}

/// The position in examples whose order is a function of seed, stage and step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExamplePosition {
    /// The stage that the last step was for.
    pub stage: usize,
    /// Steps drawn in that stage.
    pub step: u64,
    /// Hash of the examples that are trained on, to recognize them wherever their files lie.
    pub examples: String,
}

impl DataPosition {
    /// The stage that the last step was for.
    pub fn stage(&self) -> usize {
        match self {
            DataPosition::Windows(position) => position.stage,
            DataPosition::Examples(position) => position.stage,
        }
    }

    /// For an error's text.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            DataPosition::Windows(_) => "windows of token sets",
            DataPosition::Examples(_) => "examples of files",
        }
    }
}
