//! A job that has a slot.

use super::job::{Event, Generation, Job, ReportedToken, TokenScores, Work};
use super::slots::SlotRunner;
use crate::error::ApiError;
use thimble_chat::{ConstraintError, End, Step, TokenConstraint, TokenSource, next_tokens};
use thimble_grammar::{Grammar, GrammarConstraint};
use thimble_host::LogProbabilities;
use thimble_runtime::Token;
use thimble_runtime::embedding::{Pooling, normalize};
use thimble_runtime::sampler::{Sampler, TokenMask};

/// What the scheduler knows of a model's tokens.
#[derive(Clone, Debug)]
pub(crate) struct ModelTokens {
    /// Size of the vocabulary.
    pub(crate) vocab: usize,
    /// Those that end an answer.
    pub(crate) stop: Vec<Token>,
}

/// A job in its slot.
pub(crate) struct Running {
    pub(crate) job: Job,
    /// Admissions before this one: earlier prompts run first.
    pub(crate) number: u64,
    /// Tokens that have to run before the next draw.
    pending: Vec<Token>,
    /// How many of them ran.
    ran: usize,
    /// Tokens of the answer so far.
    produced: usize,
    kept: Option<LogProbabilities>,
    /// What the answer may be.
    constraint: Option<GrammarConstraint>,
    /// Sum of hidden states, `[hidden]`; empty if there is nothing to embed.
    sum: Vec<f32>,
}

/// How the tokens of a job run next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Together with those of other slots.
    Step,
    /// By themselves: the logits after each of so many tokens are wanted.
    Score(usize),
    /// Together with those of other texts: their hidden states are wanted.
    States,
}

/// What became of a job.
pub(crate) enum Outcome {
    /// It goes on.
    Goes,
    /// It is over, with this as its last event.
    Over(Event),
}

impl Running {
    /// Begins a job in a slot that holds the first `cached` tokens of its prompt. Without a constraint if its grammar exceeds a
    /// limit, which is the error.
    pub(crate) fn new(
        job: Job,
        (number, cached): (u64, usize),
        slots: &dyn SlotRunner,
        vocab: usize,
    ) -> (Running, Result<(), ApiError>) {
        let pending = job.prompt[cached..].to_vec();
        let (mut kept, mut constraint, mut sum) = (None, Ok(None), Vec::new());
        match &job.work {
            Work::Generate(generation) => {
                kept = generation.log_probabilities.map(|count| LogProbabilities::new(vocab, count));
                constraint = generation.grammar.as_ref().map(Grammar::constraint).transpose();
            }
            Work::Embed(_) => sum = vec![0.0; slots.hidden()],
        }
        let (constraint, made) = match constraint {
            Ok(constraint) => (constraint, Ok(())),
            Err(error) => (None, Err(refused(&error))),
        };
        (Running { job, number, pending, ran: 0, produced: 0, kept, constraint, sum }, made)
    }

    /// Tokens that have to run.
    pub(crate) fn waiting(&self) -> &[Token] {
        &self.pending[self.ran..]
    }

    /// Whether it has begun to answer.
    pub(crate) fn answers(&self) -> bool {
        self.produced > 0
    }

    /// Whether it computes a prompt that `other` can go on from.
    pub(crate) fn prepares(&self, other: &Job) -> bool {
        !self.answers() && other.reuses() && self.job.reuses() && self.job.prompt == other.prompt
    }

    /// How its tokens run next.
    pub(crate) fn next_run(&self) -> Run {
        match &self.job.work {
            Work::Embed(_) => Run::States,
            // The logits after the last token are needed to answer.
            Work::Generate(generation) if generation.scores_prompt && !self.answers() => {
                match self.waiting().len() {
                    0 | 1 => Run::Step,
                    more => Run::Score(more - 1),
                }
            }
            Work::Generate(_) => Run::Step,
        }
    }

    /// Counts tokens that ran.
    pub(crate) fn advance(&mut self, count: usize) {
        self.ran += count;
    }

    /// Scores the next `count` tokens of the prompt, alone in `slot`.
    pub(crate) fn score(&mut self, slots: &mut dyn SlotRunner, slot: usize, count: usize) -> Outcome {
        let tokens = &self.pending[self.ran..self.ran + count];
        let Some(kept) = &mut self.kept else { return Outcome::Goes };
        let (prompt, from) = (&self.job.prompt, self.ran);
        let mut reported = Vec::with_capacity(count + 1);
        if from == 0 {
            reported.push(ReportedToken { token: prompt[0], log_probabilities: None });
        }
        let scored = slots.append(slot, tokens, &mut |index, logits| {
            let token = prompt[from + index + 1];
            kept.observe(logits);
            kept.drawn(token);
            reported.push(ReportedToken { token, log_probabilities: scores(kept) });
        });
        let index = self.job.index;
        self.ran += count;
        match scored {
            Err(error) => Outcome::Over(Event::Failed(ApiError::internal(&error))),
            Ok(()) if self.send(Event::Prompt { index, tokens: reported }) => Outcome::Goes,
            Ok(()) => Outcome::Over(Event::Ended { index, end: End::Interrupted }),
        }
    }

    /// The sum of hidden states so far, to be changed and given back to [`Running::add_states`], and the first of the next
    /// `count` states that counts.
    pub(crate) fn sum_of_states(&mut self, count: usize) -> (Vec<f32>, usize) {
        let from = match &self.job.work {
            Work::Embed(Pooling::Last) if self.waiting().len() == count => count - 1,
            Work::Embed(Pooling::Last) => count,
            _ => 0,
        };
        (std::mem::take(&mut self.sum), from)
    }

    /// Takes the sum with the states of the next `count` tokens, which ran.
    pub(crate) fn add_states(&mut self, mut sum: Vec<f32>, count: usize) -> Outcome {
        self.ran += count;
        if !self.waiting().is_empty() {
            self.sum = sum;
            return Outcome::Goes;
        }
        // The length of a mean cancels out.
        normalize(&mut sum);
        Outcome::Over(Event::Embedding { index: self.job.index, vector: sum })
    }

    /// Draws the next tokens from the logits of `slot`.
    pub(crate) fn draw(&mut self, slots: &mut dyn SlotRunner, slot: usize, tokens: &ModelTokens) -> Outcome {
        let Work::Generate(generation) = &mut self.job.work else { return Outcome::Goes };
        if generation.scores_prompt && self.produced == 0 && self.job.prompt.len() == 1 {
            let first = vec![ReportedToken { token: self.job.prompt[0], log_probabilities: None }];
            let index = self.job.index;
            // A full channel is noticed with the next event.
            let _ = self.job.events.try_send(Event::Prompt { index, tokens: first });
        }
        let Generation { sampler, biases, max_tokens, stops, .. } = &mut **generation;
        let left = *max_tokens - self.produced.min(*max_tokens);
        let kept = self.kept.as_mut();
        let mut source = SlotSource { slots, slot, sampler, biases, kept, tokens, stops: *stops };
        let mut next = Vec::with_capacity(1);
        let constraint = self.constraint.as_mut().map(|constraint| constraint as &mut dyn TokenConstraint);
        let step = next_tokens(&mut source, constraint, left, &mut next);
        let complete = self.constraint.as_ref().is_some_and(|constraint| constraint.is_complete());
        let end = |end: End| match end {
            End::Length | End::Context if complete => End::Stop,
            end => end,
        };
        let (index, max_tokens) = (self.job.index, *max_tokens);
        match step {
            Err(error) => return Outcome::Over(Event::Failed(refused(&error))),
            Ok(Step::Stop) => return Outcome::Over(Event::Ended { index, end: End::Stop }),
            Ok(Step::Limit) => return Outcome::Over(Event::Ended { index, end: end(End::Length) }),
            Ok(Step::Tokens) => {}
        }
        let log_probabilities = self.kept.as_ref().and_then(scores);
        let report = |&token: &Token| ReportedToken { token, log_probabilities: log_probabilities.clone() };
        let drawn = next.iter().map(report).collect();
        self.produced += next.len();
        if !self.send(Event::Tokens { index, tokens: drawn }) {
            return Outcome::Over(Event::Ended { index, end: End::Interrupted });
        }
        if self.produced >= max_tokens {
            return Outcome::Over(Event::Ended { index, end: end(End::Length) });
        }
        if slots.tokens(slot).len() + next.len() > slots.context() {
            return Outcome::Over(Event::Ended { index, end: end(End::Context) });
        }
        (self.pending, self.ran) = (next, 0);
        Outcome::Goes
    }

    /// Sends an event; false if nobody listens any more, or too slowly.
    fn send(&self, event: Event) -> bool {
        self.job.events.try_send(event).is_ok()
    }
}

/// What was kept of the token drawn last.
fn scores(kept: &LogProbabilities) -> Option<TokenScores> {
    let sampled = kept.last()?;
    let likely = sampled.alternatives.iter().map(|likely| (likely.token, likely.log_probability));
    Some(TokenScores { log_probability: sampled.log_probability, likely: likely.collect() })
}

/// A grammar that exceeds its limits is the client's.
fn refused(error: &ConstraintError) -> ApiError {
    match error {
        ConstraintError::TooComplex { .. } => ApiError::invalid(None, error.to_string()),
        _ => ApiError::internal(error),
    }
}

/// The sequence of a slot as a source of tokens.
struct SlotSource<'s> {
    slots: &'s mut dyn SlotRunner,
    slot: usize,
    sampler: &'s mut Sampler<'static>,
    biases: &'s [(Token, f32)],
    kept: Option<&'s mut LogProbabilities>,
    tokens: &'s ModelTokens,
    stops: bool,
}

impl SlotSource<'_> {
    /// Calls `draw` with the biased sampler, between what keeps log-probabilities.
    fn with_sampler<T>(
        &mut self,
        draw: impl FnOnce(&mut dyn SlotRunner, &mut Sampler<'_>) -> T,
        token: impl FnOnce(&T) -> Option<Token>,
    ) -> T {
        if let Some(kept) = &mut self.kept {
            kept.observe(self.slots.logits(self.slot));
        }
        let biased = match self.biases.is_empty() {
            true => None,
            false => self.sampler.clone().with_bias(self.biases).ok(),
        };
        let drawn = match biased {
            None => draw(self.slots, self.sampler),
            Some(mut biased) => {
                let drawn = draw(self.slots, &mut biased);
                self.sampler.skip();
                drawn
            }
        };
        if let (Some(kept), Some(token)) = (&mut self.kept, token(&drawn)) {
            kept.drawn(token);
        }
        drawn
    }
}

impl TokenSource for SlotSource<'_> {
    fn sample(&mut self) -> Token {
        let slot = self.slot;
        self.with_sampler(|slots, sampler| slots.sample(slot, sampler), |&token| Some(token))
    }

    fn sample_masked(&mut self, mask: TokenMask<'_>) -> Option<Token> {
        let slot = self.slot;
        self.with_sampler(|slots, sampler| slots.sample_masked(slot, sampler, mask), |&token| token)
    }

    fn keeps_log_probabilities(&self) -> bool {
        self.kept.is_some()
    }

    fn is_stop(&self, token: Token) -> bool {
        self.stops && self.tokens.stop.contains(&token)
    }
}
