//! Decoding without waiting: the device draws tokens and goes on with them while the host still handles those before.

use crate::backend::Gpu;
use crate::plan::RING;
use crate::{GpuError, GpuOptions};
use std::collections::VecDeque;
use std::time::Instant;
use thimble_runtime::Token;
use thimble_runtime::model::Batch;
use thimble_runtime::sampler::{Pcg32, Sampler, Sampling};

/// Most tokens of a submit.
const MOST: usize = 8;
/// Seconds that a submit shall take at most: two of them may be in vain where an answer ends, or is stopped.
const SUBMIT: f64 = 0.008;

/// Where drawing ahead of the host stands.
pub(crate) struct Ahead {
    /// Drawn, and not handed out.
    ready: VecDeque<Token>,
    /// The token that was handed out last, and its position.
    last: Option<(Token, usize)>,
    /// The host goes on with that token: the next draw is behind it.
    followed: bool,
    sampling: Sampling,
    /// Where the sampler's random numbers stood behind the last draw.
    random: Pcg32,
    /// Tokens of the next submit.
    together: usize,
    /// When tokens were taken last.
    since: Instant,
}

impl Ahead {
    pub(crate) fn new() -> Ahead {
        Ahead {
            ready: VecDeque::with_capacity(RING),
            last: None,
            followed: false,
            sampling: Sampling::default(),
            random: Pcg32::new(0),
            together: 1,
            since: Instant::now(),
        }
    }

    /// Whether this is the sampler that has drawn, and nothing else was drawn with it since.
    fn is_of(&self, sampler: &Sampler<'_>) -> bool {
        self.sampling == *sampler.sampling() && self.random == *sampler.random()
    }

    /// Something else is run: what was drawn ahead is in vain.
    pub(crate) fn stop(&mut self) {
        self.ready.clear();
        (self.last, self.followed) = (None, false);
    }
}

impl Gpu {
    /// Draws the next token: behind the batch whose last row of logits was asked for, or behind the token that
    /// [`Gpu::follow`] took up. From then on the device runs and draws further tokens by itself, some milliseconds of them.
    /// `sampler` is left as if it had drawn.
    ///
    /// `history` is the whole sequence. `None` where the host has to draw: there is a bias, other logits were asked for, or
    /// sampler or history are others than before.
    ///
    /// # Errors
    /// [`GpuError::Device`], also for logits that are no numbers.
    pub fn draw(&mut self, sampler: &mut Sampler<'_>, history: &[Token]) -> Result<Option<Token>, GpuError> {
        if sampler.has_bias() {
            return Ok(None);
        }
        let end = history.last().map(|last| (*last, history.len() - 1));
        let position = match self.ahead.last.filter(|_| self.ahead.followed) {
            Some(last) if self.ahead.is_of(sampler) && end == Some(last) => history.len(),
            None if self.can_draw_behind(history.len()) => self.begin_ahead(sampler, history)?,
            _ => return Ok(None),
        };
        self.run_ahead()?;
        if self.ahead.ready.is_empty() {
            let taken = self.take_tokens()?;
            let seconds = self.ahead.since.elapsed().as_secs_f64() / taken.len().max(1) as f64;
            self.ahead.since = Instant::now();
            self.ahead.together = ((SUBMIT / seconds) as usize).clamp(1, (2 * self.ahead.together).min(MOST));
            self.ahead.ready.extend(taken);
        }
        let Some(token) = self.ahead.ready.pop_front() else { return Ok(None) };
        sampler.skip();
        self.ahead.random = sampler.random().clone();
        (self.ahead.last, self.ahead.followed) = (Some((token, position)), false);
        Ok(Some(token))
    }

    /// Whether `batch` is the token that [`Gpu::draw`] gave last, where it belongs: the device runs it by itself. There are
    /// no logits behind it, only draws.
    pub fn follow(&mut self, batch: &Batch<'_>) -> bool {
        let expected = self.ahead.last.filter(|_| self.generation.position.is_some());
        let is_next = match (batch.tokens, expected) {
            ([token], Some((last, position))) => (*token, batch.position) == (last, position),
            _ => false,
        };
        // Where nothing has been submitted for this position, it is done now.
        let runs = is_next
            && (self.generation.position > Some(batch.position)
                || self.submit_tokens(self.room_ahead()).is_ok());
        self.ahead.followed = runs;
        runs
    }

    /// Submits what was recorded with a draw behind it: the position of the token drawn.
    fn begin_ahead(&mut self, sampler: &Sampler<'_>, history: &[Token]) -> Result<usize, GpuError> {
        self.set_sampling(sampler.sampling(), history)?;
        self.seed(sampler.random());
        self.ahead.stop();
        (self.ahead.sampling, self.ahead.together) = (*sampler.sampling(), 1);
        Ok(self.draw_behind())
    }

    /// Tokens of the next submit.
    fn room_ahead(&self) -> usize {
        let GpuOptions { context, .. } = self.options;
        self.ahead.together.min(context.saturating_sub(self.generation.position.unwrap_or(context)))
    }

    /// Keeps the device busy while the host handles what is there.
    fn run_ahead(&mut self) -> Result<(), GpuError> {
        while self.generation.has_room() && self.room_ahead() > 0 {
            self.submit_tokens(self.room_ahead())?;
        }
        Ok(())
    }
}
