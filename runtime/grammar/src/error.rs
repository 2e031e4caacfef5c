//! Why a grammar is refused.

use thiserror::Error;

/// Why a grammar cannot be compiled. Nothing has been generated then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GrammarError {
    /// A JSON Schema with a keyword, or a use of one, that the grammar could not enforce.
    #[error("JSON Schema: `{keyword}` at {at} is not supported: {reason}")]
    Keyword {
        /// The keyword.
        keyword: String,
        /// Its place: a JSON pointer with `#` in front, `#` for the root.
        at: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A source that is not in its language, or uses a part of it that has no translation.
    #[error("the {language} is not usable: {reason}")]
    Syntax {
        /// The language, in words.
        language: &'static str,
        /// What was expected and what was found.
        reason: String,
    },
    /// No text matches, or none that this vocabulary can write.
    #[error("the {language} allows no answer: {reason}")]
    Empty {
        /// The language, in words.
        language: &'static str,
        /// Why.
        reason: String,
    },
    /// A limit was reached.
    #[error("the {language} is too complex: {reason}; simplify it, or raise the limit")]
    TooComplex {
        /// The language, in words.
        language: &'static str,
        /// Which limit, in words.
        reason: String,
    },
    /// The arguments of a tool.
    #[error("the arguments of {tool}: {source}")]
    Tool {
        /// The tool's name.
        tool: String,
        /// What is wrong with their schema.
        source: Box<GrammarError>,
    },
    /// A tokenizer from which no vocabulary can be made.
    #[error("this model's tokenizer cannot be constrained: {reason}")]
    Vocabulary {
        /// What was expected and what was found.
        reason: String,
    },
}

/// The refusal of a keyword of the schema at `pointer`.
pub(crate) fn refusal(keyword: &str, pointer: &str, reason: impl Into<String>) -> GrammarError {
    GrammarError::Keyword { keyword: keyword.to_string(), at: format!("#{pointer}"), reason: reason.into() }
}
