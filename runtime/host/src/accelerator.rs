//! What a processor beside the CPU has to do.

use std::ops::Range;
use thimble_runtime::Token;
use thimble_runtime::adapter::WeightedAdapter;
use thimble_runtime::kernels::KvHead;
use thimble_runtime::model::{Backend, Batch};
use thimble_runtime::sampler::Sampler;

/// Receives a part of a cache: layer, key-value head, keys and values.
pub type CachePart<'a> = dyn FnMut(usize, usize, KvHead<'_>) + 'a;

/// The chunks of a layer, 64 positions each, that a transfer takes.
pub type LayerChunks<'a> = dyn Fn(usize) -> Range<usize> + 'a;

/// What a GPU does for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuWork {
    /// Dispatches so far.
    pub dispatches: u64,
    /// Bytes read for each token.
    pub read_bytes: u64,
}

/// A second processor for the same model, with the same context, batch size and rows of logits. It may fail at any time.
pub trait Accelerator: Backend + Send {
    /// Why it is no longer usable; `None` while it works.
    fn failure(&self) -> Option<String>;

    /// Copies the residual stream of `rows` of the last batch to `out`, `[rows, hidden]`. Logits that were requested stay
    /// available. After a failure `out` is unspecified.
    fn read_residual(&mut self, rows: Range<usize>, out: &mut [f32]);

    /// Whether a token at `position` finds all positions that it attends to, if they were written: layers with a sliding
    /// window keep recent positions only.
    fn resumes_at(&self, _position: usize) -> bool {
        true
    }

    /// Passes keys and values of `chunks` of each layer to `each`; false where its cache layout differs from the CPU's. What
    /// the cache no longer has, and after a failure everything, is unspecified.
    fn read_cache(&mut self, chunks: &LayerChunks<'_>, each: &mut CachePart<'_>) -> bool;

    /// Prepares for [`Accelerator::write_cache`] of `positions`, which replace all from their start on. Running a batch does the
    /// same.
    fn reserve(&mut self, _positions: Range<usize>) {}

    /// Stores keys and values of one layer and head for `chunks`; false where they have to be recomputed.
    fn write_cache(&mut self, chunks: Range<usize>, layer: usize, head: usize, part: KvHead<'_>) -> bool;

    /// Replaces the adapters by others, as the CPU does; keys and values in the cache are then those of the adapters before.
    ///
    /// # Errors
    /// The fault, as a clause.
    fn set_adapters(&mut self, adapters: &[WeightedAdapter<'_>]) -> Result<(), String> {
        match adapters {
            [] => Ok(()),
            _ => Err("the accelerator cannot run adapters".into()),
        }
    }

    /// Work so far, and for a token at `position`; `None` where nothing is counted.
    fn work(&self, _position: usize) -> Option<GpuWork> {
        None
    }

    /// Samples the next token, either from the only requested row of logits or after a batch that
    /// [`Accelerator::continue_with`] accepted, and starts to run it. `history` is the whole sequence. `sampler` ends up as
    /// if it had sampled itself. `None` where the host has to sample.
    ///
    /// # Errors
    /// The fault, as a clause.
    fn sample(&mut self, _sampler: &mut Sampler<'_>, _history: &[Token]) -> Result<Option<Token>, String> {
        Ok(None)
    }

    /// Whether `batch` is the token sampled last, which needs no other forward pass. It has no logits;
    /// [`Accelerator::sample`] continues from it.
    fn continue_with(&mut self, _batch: &Batch<'_>) -> bool {
        false
    }
}
