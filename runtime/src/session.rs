//! One sequence of tokens and its state: prefill, decode, rewind, reuse of a common prefix, scoring.

use crate::Token;
use crate::lookup::PromptLookup;
use crate::model::Batch;
use crate::sampler::{self, Sampler, TokenMask};
use crate::sequence::{Limits, Sequence};
use thiserror::Error;

/// Why a session rejects a call. The session is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The tokens do not fit the context.
    #[error("{position} tokens are in the context and {more} more do not fit its {context}")]
    ContextFull {
        /// Tokens in the session.
        position: usize,
        /// Tokens to append.
        more: usize,
        /// Capacity.
        context: usize,
    },
    /// A token is not in the vocabulary.
    #[error("token {found} is not in the vocabulary of {vocab}")]
    UnknownToken {
        /// The token's id.
        found: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// There are no tokens to run.
    #[error("at least one token is needed")]
    Empty,
    /// The position to rewind to is after the end.
    #[error("cannot rewind to position {to}: only {position} tokens are in the context")]
    Rewind {
        /// Requested position.
        to: usize,
        /// Tokens in the session.
        position: usize,
    },
    /// There is no such slot.
    #[error("there is no slot {found}: the slots are 0 to {last}", last = .slots - 1)]
    UnknownSlot {
        /// The requested slot.
        found: usize,
        /// Number of slots.
        slots: usize,
    },
    /// A step has two parts for one slot.
    #[error("two parts are for slot {slot}: join their tokens to one part")]
    SlotTwice {
        /// The slot.
        slot: usize,
    },
    /// The parts of a step have more tokens than a batch.
    #[error("the parts have {found} tokens together, and a batch has at most {limit}: run fewer at a time")]
    BatchFull {
        /// Tokens of all parts.
        found: usize,
        /// Most tokens of a batch.
        limit: usize,
    },
    /// The memory for an embedding has another length.
    #[error("an embedding has {expected} numbers, and there is memory for {found}")]
    EmbeddingLength {
        /// The hidden size.
        expected: usize,
        /// Length of the memory.
        found: usize,
    },
}

/// Log-probability of one token, given the tokens before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Index of the token in the scored slice.
    pub index: usize,
    /// Log-probability, nats.
    pub log_probability: f64,
    /// Whether it is the most probable token (ties: the lowest id).
    pub greedy: bool,
}

/// A sequence of tokens and its inference state, run by `S`.
pub struct Session<S: Sequence> {
    sequence: S,
    vocab: usize,
    position: usize,
    lookup: PromptLookup,
    /// Draft tokens that ran after the last token and are not yet accepted.
    draft: usize,
    /// Row of the last token's logits.
    row: usize,
    /// Tokens without a forward pass of their own.
    accepted_draft_tokens: usize,
}

impl<S: Sequence> Session<S> {
    /// An empty sequence.
    pub fn new(sequence: S) -> Self {
        let vocab = sequence.limits().vocab;
        let lookup = PromptLookup::new(0);
        Session { sequence, vocab, position: 0, lookup, draft: 0, row: 0, accepted_draft_tokens: 0 }
    }

    /// The backend and its tokens.
    pub fn sequence(&self) -> &S {
        &self.sequence
    }

    /// The backend and its tokens, mutable. Do not run batches on it: the session tracks its position.
    pub fn sequence_mut(&mut self) -> &mut S {
        &mut self.sequence
    }

    /// Rewinds to the start and lends the sequence to `change`, which may change what its tokens mean to the model, such as its
    /// adapters.
    ///
    /// # Errors
    /// Those of `change`; the session is empty then, too.
    pub fn reconfigure<E>(&mut self, change: impl FnOnce(&mut S) -> Result<(), E>) -> Result<(), E> {
        // Cannot fail: no position is before the start.
        let _ = self.rewind(0);
        self.sequence.head(0..0);
        change(&mut self.sequence)
    }

    /// Replaces the sequence by `tokens`, whose keys and values `fill` writes to the cache. There are no logits until another
    /// token runs.
    ///
    /// # Errors
    /// Invalid `tokens`, and the errors of `fill`; the session is empty then.
    pub fn restore<E: From<SessionError>>(
        &mut self,
        tokens: &[Token],
        fill: impl FnOnce(&mut S) -> Result<(), E>,
    ) -> Result<(), E> {
        self.rewind(0)?;
        self.sequence.head(0..0);
        self.check(tokens)?;
        self.sequence.history()[..tokens.len()].copy_from_slice(tokens);
        fill(&mut self.sequence)?;
        self.position = tokens.len();
        Ok(())
    }

    /// Enables prompt lookup decoding, with drafts of at most [`Limits::logit_rows`](crate::sequence::Limits::logit_rows) - 1
    /// tokens. The output is the same.
    pub fn with_lookup(self, lookup: PromptLookup) -> Self {
        Session { lookup, ..self }
    }

    /// Capacity in tokens.
    pub fn context(&self) -> usize {
        self.sequence.limits().context
    }

    /// Hidden size: the length of a hidden state.
    pub fn hidden(&self) -> usize {
        self.sequence.limits().hidden
    }

    /// Tokens in the session.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Draft tokens accepted so far ([`Session::with_lookup`]); they needed no forward pass of their own.
    pub fn accepted_draft_tokens(&self) -> usize {
        self.accepted_draft_tokens
    }

    /// The tokens in the session.
    pub fn tokens(&mut self) -> &[Token] {
        &self.sequence.history()[..self.position]
    }

    /// The tokens in the session, and the logits after the last, `[vocab]`: empty before the first forward pass and after a
    /// rewind. The caller may change the logits.
    pub fn tokens_and_logits(&mut self) -> (&[Token], &mut [f32]) {
        let (history, logits) = self.sequence.history_and_logits();
        let row = self.row * self.vocab..(self.row + 1) * self.vocab;
        (&history[..self.position], logits.get_mut(row).unwrap_or(&mut []))
    }

    /// Draws the next token from the current logits, and consumes them: append the token with [`Session::prefill`] before
    /// the next draw. Token 0 if there are no logits.
    pub fn sample(&mut self, sampler: &mut Sampler<'_>) -> Token {
        self.sequence.sample(sampler, self.row, self.position)
    }

    /// Like [`Session::sample`], among the tokens that `mask` allows; it comes before bias and penalties. `None`, with nothing
    /// consumed, if there are no logits or the mask allows no token of the vocabulary. If the logits of all allowed tokens are
    /// minus infinity, the lowest of them.
    pub fn sample_masked(&mut self, sampler: &mut Sampler<'_>, mask: TokenMask<'_>) -> Option<Token> {
        let first = mask.first(self.vocab)?;
        let (_, logits) = self.tokens_and_logits();
        if logits.is_empty() {
            return None;
        }
        mask.apply(logits);
        let token = self.sample(sampler);
        Some(if mask.allows(token) { token } else { first })
    }

    fn check(&self, tokens: &[Token]) -> Result<(), SessionError> {
        let (position, context) = (self.position, self.context());
        if tokens.is_empty() {
            return Err(SessionError::Empty);
        }
        if tokens.len() > context - position {
            return Err(SessionError::ContextFull { position, more: tokens.len(), context });
        }
        let unknown = tokens.iter().find(|token| token.index() >= self.vocab);
        unknown.map_or(Ok(()), |t| Err(SessionError::UnknownToken { found: t.0, vocab: self.vocab }))
    }

    /// Runs the tokens again that a cache of recent positions lost to a rewind.
    fn refill(&mut self) {
        let mut start = self.sequence.resumes_from(self.position);
        let mut tokens = [Token(0); 256];
        while start < self.position {
            let count = tokens.len().min(self.sequence.limits().batch).min(self.position - start);
            let tokens = &mut tokens[..count];
            tokens.copy_from_slice(&self.sequence.history()[start..start + count]);
            self.sequence.run(&Batch { tokens, position: start });
            start += count;
        }
    }

    /// Runs one batch after the last token.
    fn advance(&mut self, tokens: &[Token]) {
        (self.draft, self.row) = (0, 0);
        self.refill();
        self.sequence.history()[self.position..][..tokens.len()].copy_from_slice(tokens);
        self.sequence.run(&Batch { tokens, position: self.position });
        self.position += tokens.len();
    }

    /// Appends `tokens`, one to decode or many to prefill, and computes the logits after the last.
    pub fn prefill(&mut self, tokens: &[Token]) -> Result<(), SessionError> {
        self.check(tokens)?;
        if let [token] = tokens {
            self.decode(*token);
            return Ok(());
        }
        let mut last = 0;
        for batch in tokens.chunks(self.sequence.limits().batch) {
            self.advance(batch);
            last = batch.len() - 1;
        }
        self.sequence.head(last..last + 1);
        Ok(())
    }

    /// Appends one token; runs it with a draft, unless it is an accepted draft token itself.
    fn decode(&mut self, token: Token) {
        let at = self.position;
        if self.draft > 0 && self.sequence.history()[at] == token {
            self.position += 1;
            self.row += 1;
            self.draft -= 1;
            self.accepted_draft_tokens += 1;
            self.lookup.accept();
            return;
        }
        let limits = self.sequence.limits();
        let room = match self.sequence.decodes_ahead() {
            true => 0,
            false => (limits.context - at).min(limits.batch).min(limits.logit_rows) - 1,
        };
        let history = self.sequence.history();
        history[at] = token;
        let (start, count) = self.lookup.draft(&history[..=at], room);
        let mut tokens = [token; 1 + PromptLookup::MAX_DRAFT];
        tokens[1..=count].copy_from_slice(&history[start..start + count]);
        self.advance(&tokens[..=count]);
        self.position = at + 1;
        self.draft = count;
        self.sequence.head(0..1 + count);
    }

    /// Drops all tokens from `position` on. Computes nothing; in a model with sliding windows, the next tokens after a long
    /// rewind take a forward pass of all tokens before them.
    pub fn rewind(&mut self, position: usize) -> Result<(), SessionError> {
        if position > self.position {
            return Err(SessionError::Rewind { to: position, position: self.position });
        }
        if position < self.position {
            self.sequence.head(0..0);
            (self.draft, self.row) = (0, 0);
        }
        self.position = position;
        Ok(())
    }

    /// Rewinds to the longest common prefix with `tokens` and returns its length, at most `tokens.len() - 1`: prefill
    /// `tokens[length..]` next.
    pub fn reuse(&mut self, tokens: &[Token]) -> usize {
        let limit = tokens.len().saturating_sub(1);
        let common = self.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count().min(limit);
        // Cannot fail: `common` is at most the position.
        let _ = self.rewind(common);
        common
    }

    /// Appends `tokens` and calls `each(index, logits)` with the logits after each of them from index `from` on, `[vocab]`,
    /// which `each` may change. Computes logits for these tokens only.
    pub fn append(
        &mut self,
        tokens: &[Token],
        from: usize,
        each: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), SessionError> {
        self.check(tokens)?;
        let limits = self.sequence.limits();
        let (batch_size, rows) = (limits.batch, limits.logit_rows);
        let mut first = 0;
        for batch in tokens.chunks(batch_size) {
            self.advance(batch);
            let mut row = from.saturating_sub(first);
            while row < batch.len() {
                let count = rows.min(batch.len() - row);
                self.sequence.head(row..row + count);
                for (i, logits) in
                    self.sequence.history_and_logits().1.chunks_exact_mut(self.vocab).enumerate()
                {
                    each(first + row + i, logits);
                }
                row += count;
            }
            first += batch.len();
        }
        self.sequence.head(0..0);
        Ok(())
    }

    /// Appends `tokens` and calls `each(index, state)` with the hidden state of each of them from index `from` on, `[hidden]`:
    /// see [`Sequence::hidden_states`]. Computes no logits.
    pub fn hidden_states(
        &mut self,
        tokens: &[Token],
        from: usize,
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), SessionError> {
        self.check(tokens)?;
        let Limits { batch, hidden, .. } = self.sequence.limits();
        let mut first = 0;
        for batch in tokens.chunks(batch) {
            self.advance(batch);
            let row = from.saturating_sub(first);
            if row < batch.len() {
                let states = self.sequence.hidden_states(row..batch.len());
                states.chunks_exact(hidden).enumerate().for_each(|(i, state)| each(first + row + i, state));
            }
            first += batch.len();
        }
        self.sequence.head(0..0);
        Ok(())
    }

    /// Calls `each` with the log-probability of each of `tokens` from index `from` on (at least 1: nothing predicts the first
    /// token). Appends all tokens but the last.
    pub fn score(
        &mut self,
        tokens: &[Token],
        from: usize,
        each: &mut dyn FnMut(Scored),
    ) -> Result<(), SessionError> {
        self.logits_of(tokens, from, &mut |index, logits| {
            let log_probability = f64::from(sampler::log_probability(logits, tokens[index]));
            each(Scored { index, log_probability, greedy: sampler::greedy(logits) == tokens[index] });
        })
    }

    /// Calls `each(index, logits)` with the logits that predict each of `tokens` from index `from` on (at least 1), `[vocab]`,
    /// which `each` may change. Appends all tokens but the last.
    pub fn logits_of(
        &mut self,
        tokens: &[Token],
        from: usize,
        each: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), SessionError> {
        let Some((last, run)) = tokens.split_last() else { return Err(SessionError::Empty) };
        if run.is_empty() {
            return Ok(());
        }
        if last.index() >= self.vocab {
            return Err(SessionError::UnknownToken { found: last.0, vocab: self.vocab });
        }
        // The logits after a token predict the next one.
        self.append(run, from.max(1) - 1, &mut |index, logits| each(index + 1, logits))
    }
}
