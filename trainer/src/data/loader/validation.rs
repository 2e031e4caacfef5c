//! Held-out windows, always the same.

use crate::data::TrainingBatch;
use crate::data::token_set::TokenSet;
use crate::error::{Error, Result};

/// A held-out set, cut into windows in file order from its beginning. Windows share one token (the last target of one
/// is the first input of the next), so no token is a target twice; the rest at the end is unused.
pub struct ValidationSet {
    pub(super) name: String,
    pub(super) set: TokenSet,
    pub(super) vocab: usize,
    /// Tokens before each document.
    pub(super) starts: Vec<u64>,
}

impl ValidationSet {
    pub(super) fn new(name: &str, set: TokenSet, vocab: usize) -> ValidationSet {
        let starts = (0..set.documents()).scan(0, |sum, document| {
            let start = *sum;
            *sum += set.document_len(document) as u64;
            Some(start)
        });
        ValidationSet { name: name.to_owned(), vocab, starts: starts.collect(), set }
    }

    /// Windows of `context` inputs in the set, at most `limit`.
    ///
    /// Errors where there is none.
    pub fn windows(&self, context: usize, limit: Option<usize>) -> Result<usize> {
        let whole = (self.set.tokens().saturating_sub(1) / context.max(1) as u64) as usize;
        if whole == 0 {
            return Err(Error::Invalid(format!(
                "validation set `{}` has {} tokens, too few for one window of {context} and the next token; hold \
                 out more text",
                self.name,
                self.set.tokens()
            )));
        }
        Ok(whole.min(limit.unwrap_or(usize::MAX)))
    }

    /// Fills `batch` with some of the windows, whose numbers must be below [`ValidationSet::windows`].
    ///
    /// Errors where a shard cannot be read, an id is beyond the model's vocabulary, or there are not that many windows.
    pub fn fill(&self, windows: &[usize], context: usize, batch: &mut TrainingBatch) -> Result<()> {
        let there = self.windows(context, None)?;
        if let Some(beyond) = windows.iter().find(|window| context == 0 || **window >= there) {
            return Err(Error::Invalid(format!(
                "validation set `{}`: window {beyond} of {context} tokens was asked for, there are {there}",
                self.name
            )));
        }
        batch.resize(windows.len(), context);
        let rows =
            batch.ids.chunks_exact_mut(context + 1).zip(batch.document_start.chunks_exact_mut(context));
        for (window, (ids, document_start)) in windows.iter().zip(rows) {
            let mut offset = (window * context) as u64;
            let mut document = self.starts.partition_point(|start| *start <= offset) - 1;
            let mut filled = 0;
            while filled < ids.len() {
                let from = (offset - self.starts[document]) as usize;
                let take = (self.set.document_len(document) - from).min(ids.len() - filled);
                self.set.copy(document, from, &mut ids[filled..filled + take])?;
                document_start[filled.min(context)..(filled + take).min(context)].fill(filled as u32);
                filled += take;
                offset += take as u64;
                document += 1;
            }
            if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab) {
                return Err(Error::Invalid(format!(
                    "validation set `{}`, window {window}: id {id} is beyond the model's vocabulary of {}",
                    self.name, self.vocab
                )));
            }
        }
        Ok(())
    }
}
