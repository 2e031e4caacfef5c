//! The grammars that a vocabulary keeps.

use crate::limits::GrammarLimits;
use crate::source::GrammarSource;
use llguidance::Matcher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most grammars that a vocabulary keeps.
const KEPT: usize = 16;

/// A matcher before the first token.
type Start = Arc<Mutex<Matcher>>;

/// The grammars that were compiled or used last, the latest at the end.
#[derive(Default)]
pub(crate) struct Cache {
    kept: Mutex<Vec<(GrammarSource, GrammarLimits, Start)>>,
}

impl Cache {
    /// The grammar of `source`, if it is kept and its `limits` are the same.
    pub(crate) fn find(&self, source: &GrammarSource, limits: &GrammarLimits) -> Option<Start> {
        let mut kept = lock(&self.kept);
        let at = kept.iter().position(|(known, under, _)| known == source && under == limits)?;
        let found = kept.remove(at);
        let start = Arc::clone(&found.2);
        kept.push(found);
        Some(start)
    }

    /// Keeps a grammar, in place of the one that was not used for longest.
    pub(crate) fn keep(&self, source: &GrammarSource, limits: &GrammarLimits, start: &Start) {
        let mut kept = lock(&self.kept);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((source.clone(), *limits, Arc::clone(start)));
    }
}

/// The lock of what stays whole if a holder panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
