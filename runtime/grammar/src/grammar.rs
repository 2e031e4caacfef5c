//! Compiled grammars.

use crate::cache::lock;
use crate::compile::compile;
use crate::constraint::GrammarConstraint;
use crate::error::GrammarError;
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
