//! Preferences: pairs of a chosen and a rejected answer to the same prompt.

mod batch;
mod example;
mod set;

pub use batch::PairBatch;
pub use example::PreferenceExample;
pub use set::{PreferenceCounts, PreferenceSet};

/// A pair as token ids: the prompt with the beginning of an answer, and both answers whole, each with all that the chat
/// template puts behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferencePair {
    /// What both answers follow.
    pub prompt: Vec<u32>,
    /// The better answer.
    pub chosen: Vec<u32>,
    /// The worse answer.
    pub rejected: Vec<u32>,
}

impl PreferencePair {
    /// The prompt with each answer in turn, the chosen one first.
    pub fn answers(&self) -> [&[u32]; 2] {
        [&self.chosen, &self.rejected]
    }

    /// Targets of each answer: its tokens that follow another token.
    pub fn targets(&self) -> [usize; 2] {
        let first = usize::from(self.prompt.is_empty());
        self.answers().map(|answer| answer.len().saturating_sub(first))
    }

    /// Tokens of both sequences.
    pub fn tokens(&self) -> usize {
        2 * self.prompt.len() + self.chosen.len() + self.rejected.len()
    }

    /// Tokens of the longer of the two sequences.
    pub fn longest(&self) -> usize {
        self.prompt.len() + self.chosen.len().max(self.rejected.len())
    }
}
