//! Compiled grammars.

use crate::cache::lock;
use crate::compile::compile;
use crate::constraint::GrammarConstraint;
use crate::error::GrammarError;
use crate::failure::first_line;
use crate::limits::GrammarLimits;
use crate::source::GrammarSource;
use crate::vocabulary::Vocabulary;
use llguidance::Matcher;
use std::sync::{Arc, Mutex};
use thimble_chat::ConstraintError;

/// A compiled grammar for one vocabulary; cheap to clone.
#[derive(Clone)]
pub struct Grammar {
    language: &'static str,
    /// A matcher before the first token. Locked only to clone it.
    start: Arc<Mutex<Matcher>>,
}

impl Grammar {
    /// Compiles `source`, or finds it among the grammars that `vocabulary` used last: at most 16, and 64 MB.
    ///
    /// Works on a thread of its own, one of 4 for the vocabulary; one that exceeds [`GrammarLimits::compile_time`] ends by itself
    /// later.
    ///
    /// # Errors
    /// [`GrammarError`].
    pub fn compile(
        vocabulary: &Arc<Vocabulary>,
        source: &GrammarSource,
        limits: &GrammarLimits,
    ) -> Result<Grammar, GrammarError> {
        let language = source.language();
        if let Some(start) = vocabulary.cache.find(source, limits) {
            return Ok(Grammar { language, start });
        }
        let compiled = compile(vocabulary, source, limits)?;
        let start = Arc::new(Mutex::new(compiled.matcher));
        vocabulary.cache.keep(source, limits, &start, compiled.bytes);
        Ok(Grammar { language, start })
    }

    /// The language of its source, in words.
    pub fn language(&self) -> &'static str {
        self.language
    }

    /// A constraint for a new answer.
    ///
    /// # Errors
    /// [`ConstraintError::TooComplex`].
    pub fn constraint(&self) -> Result<GrammarConstraint, ConstraintError> {
        GrammarConstraint::new(lock(&self.start).deep_clone())
    }
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar").field("language", &self.language).finish_non_exhaustive()
    }
}

/// A message of `llguidance` as an error: a keyword of JSON Schema by name, a limit, or a fault in the source.
pub(crate) fn refused(source: &GrammarSource, message: &str) -> GrammarError {
    let language = source.language();
    let reason = first_line(message);
    if matches!(source, GrammarSource::JsonSchema(_)) {
        let known = [
            (
                "oneOf constraints",
                "oneOf",
                "the alternatives may overlap: use anyOf, or give each a `const` that differs",
            ),
            (
                "min/maxProperties",
                "minProperties",
                "it counts optional properties: make them required, or leave it out",
            ),
            (
                "patternProperty regexes",
                "patternProperties",
                "the patterns may overlap: use patterns that exclude each other",
            ),
            (
                "not present in a registry",
                "$ref",
                "it is in another document, and nothing is fetched: put it under $defs",
            ),
            (
                "regex parse error",
                "pattern",
                "expected a regular expression without look-around and back-references",
            ),
            ("nchor '", "$ref", "nothing has this anchor"),
            ("'multipleOf'", "multipleOf", "it has too many digits"),
            ("$dynamicRef", "$dynamicRef", "use $ref"),
            (
                "circular references",
                "$ref",
                "it refers to itself next to other keywords: move them into the definition",
            ),
        ];
        for (text, keyword, reason) in known {
            if message.contains(text) {
                let (keyword, reason) = (keyword.to_string(), reason.to_string());
                return GrammarError::Keyword { keyword, at: "#".to_string(), reason };
            }
        }
    }
    let limits = ["too large", "too complex", "fuel", "too big", "limit", "exceeded", "size"];
    if message.contains("nsatisfiable") {
        GrammarError::Empty { language, reason }
    } else if limits.iter().any(|limit| message.contains(limit)) {
        GrammarError::TooComplex { language, reason }
    } else {
        GrammarError::Syntax { language, reason }
    }
}
