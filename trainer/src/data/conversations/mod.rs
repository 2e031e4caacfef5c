//! Conversations and other instruction data: rows of files to examples, tokens with targets, and rows of batches.
//!
//! A row is recognized by its fields ([`ConversationExample::of_row`]), encoded through the model's own chat template
//! ([`ConversationEncoder`]), and packed with others ([`pack_best_fit`]) into batches ([`fill_batch`]).

mod batch;
mod encoder;
mod epochs;
mod pack;
mod rows;
mod set;
mod shapes;
#[cfg(test)]
mod tests;

pub use batch::{RowOptions, fill_batch, row_targets, rows};
pub use encoder::{ConversationEncoder, ExampleEncoder, TokenizedExample};
pub use epochs::{EpochOrder, EpochPlan};
pub use pack::pack_best_fit;
pub use rows::for_each_row;
pub use set::{ConversationCounts, ConversationOptions, ConversationSet};
pub use shapes::{ConversationExample, ShapeResult, TrainingMessage, messages};
pub(in crate::data) use shapes::{kind, text, with_system};
