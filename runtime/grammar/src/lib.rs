//! Answers of a given shape: JSON Schema, regular expressions, choices and grammars, as masks of the next token.
//!
//! A [`Vocabulary`] is made once per model, a [`Grammar`] once per shape, a [`GrammarConstraint`] once per answer. The
//! crate `llguidance` parses; this one checks what goes in, bounds it, and refuses what would be ignored.
#![deny(unsafe_code)]

mod ahead;
mod cache;
mod compile;
mod compilers;
mod constraint;
mod error;
mod failure;
mod gbnf;
mod grammar;
mod limits;
mod numbers;
mod schema;
mod source;
mod tools;
mod vocabulary;

pub use constraint::GrammarConstraint;
pub use error::GrammarError;
pub use grammar::Grammar;
pub use limits::GrammarLimits;
pub use source::GrammarSource;
pub use tools::tool_grammar;
pub use vocabulary::Vocabulary;
