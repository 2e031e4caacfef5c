//! The grammars that a vocabulary keeps.

use crate::limits::GrammarLimits;
use crate::source::GrammarSource;
use llguidance::Matcher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most grammars that a vocabulary keeps.
const KEPT: usize = 16;
/// Most bytes of all of them, their sources and lexers.
const KEPT_BYTES: usize = 64 << 20;

/// A matcher before the first token.
type Start = Arc<Mutex<Matcher>>;

/// The grammars that were compiled or used last, the latest at the end.
#[derive(Default)]
pub(crate) struct Cache {
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    source: GrammarSource,
    limits: GrammarLimits,
    start: Start,
    bytes: usize,
}

impl Cache {
    /// The grammar of `source`, if it is kept and its `limits` are the same.
    pub(crate) fn find(&self, source: &GrammarSource, limits: &GrammarLimits) -> Option<Start> {
        let mut kept = lock(&self.kept);
        let at = kept.iter().position(|known| known.source == *source && known.limits == *limits)?;
        let found = kept.remove(at);
        let start = Arc::clone(&found.start);
        kept.push(found);
        Some(start)
    }

    /// Keeps a grammar that takes `bytes`, in place of those that were not used for longest.
    pub(crate) fn keep(&self, source: &GrammarSource, limits: &GrammarLimits, start: &Start, bytes: usize) {
        let bytes = bytes + source.text_bytes();
        if bytes > KEPT_BYTES {
            return;
        }
        let mut kept = lock(&self.kept);
        while kept.len() >= KEPT || kept.iter().map(|one| one.bytes).sum::<usize>() + bytes > KEPT_BYTES {
            kept.remove(0);
        }
        kept.push(Kept { source: source.clone(), limits: *limits, start: Arc::clone(start), bytes });
    }
}

/// The lock of what stays whole if a holder panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
