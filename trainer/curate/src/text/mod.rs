//! Text as deduplication sees it: normalized, and cut into words.

mod characters;
mod normalize;
mod words;

pub use normalize::normalize;
pub use words::WordList;
