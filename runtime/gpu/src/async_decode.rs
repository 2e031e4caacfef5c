//! Asynchronous decoding: the device samples tokens and continues with them while the host processes earlier ones.

use crate::GpuError;
use crate::backend::Gpu;
use thimble_runtime::Token;
use thimble_runtime::model::Batch;
use thimble_runtime::sampler::Sampler;

impl Gpu {
    /// Samples the next token: from the last row of logits of the batch, or after the token that [`Gpu::continues_with`]
    /// confirmed. The device goes on to run and sample further tokens. `sampler` advances as if it had drawn the token.
    ///
    /// `history` is the whole sequence. Returns `None` if the host has to sample: there is a logit bias, other logits were
    /// requested, or the sampler or the history is not the one of the tokens sampled ahead.
    ///
    /// # Errors
    /// [`GpuError::Device`], also for logits that are not finite.
    pub fn sample(
        &mut self,
        sampler: &mut Sampler<'_>,
        history: &[Token],
    ) -> Result<Option<Token>, GpuError> {
        if sampler.has_bias() {
            return Ok(None);
        }
        let end = history.last().map(|last| (*last, history.len() - 1));
        let position = match self.queue.last.filter(|_| self.queue.confirmed) {
            Some(last) if self.queue.matches(sampler) && end == Some(last) => history.len(),
            None if self.can_sample_after(history.len()) => {
                self.set_sampling(sampler.sampling(), history)?;
                self.seed(sampler.rng());
                self.queue.restart(sampler.sampling());
                self.sample_recorded()
            }
            _ => return Ok(None),
        };
        // Keep the device busy while the host processes tokens.
        while self.sampler.has_room() && self.next_submit_len() > 0 {
            self.submit_tokens(self.next_submit_len())?;
        }
        if self.queue.is_empty() {
            let tokens = self.take_tokens()?;
            self.queue.receive(tokens);
        }
        Ok(self.queue.pop(sampler, position))
    }

    /// Whether `batch` is the token that [`Gpu::sample`] returned last, at its position: the device runs it already. It has no
    /// logits for the host, only sampled tokens.
    pub fn continues_with(&mut self, batch: &Batch<'_>) -> bool {
        let expected = self.queue.last.filter(|_| self.sampler.position.is_some());
        let is_next = match (batch.tokens, expected) {
            ([token], Some((last, position))) => (*token, batch.position) == (last, position),
            _ => false,
        };
        // Submit the position now if that has not been done.
        self.queue.confirmed = is_next
            && (self.sampler.position > Some(batch.position)
                || self.submit_tokens(self.next_submit_len()).is_ok());
        self.queue.confirmed
    }

    /// Tokens of the next submission, limited by the context.
    fn next_submit_len(&self) -> usize {
        let context = self.options.context;
        self.queue.submit_len.min(context.saturating_sub(self.sampler.position.unwrap_or(context)))
    }
}
