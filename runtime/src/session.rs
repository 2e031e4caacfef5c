//! One sequence of tokens and its state: prefill, decode, rewind, reuse of a common prefix, scoring.

use crate::Token;
use crate::lookup::Lookup;
use crate::model::Batch;
use crate::sampler::{self, Sampler};
use crate::sequence::Sequence;
use thiserror::Error;

/// Why a session cannot go on as asked. Its state is as before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The tokens do not fit behind those already there.
    #[error("{position} tokens are in the context and {more} more do not fit its {context}")]
    ContextFull {
        /// Tokens there.
        position: usize,
        /// Tokens that were to be added.
        more: usize,
        /// Positions in all.
        context: usize,
    },
    /// A token that the vocabulary does not have.
    #[error("token {found} is not in the vocabulary of {vocab}")]
    UnknownToken {
        /// The id.
        found: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// Nothing to do a forward pass of.
    #[error("at least one token is needed")]
    Empty,
    /// A rewind to where the session has not been.
    #[error("cannot rewind to position {to}: only {position} tokens are in the context")]
    Rewind {
        /// Position asked for.
        to: usize,
        /// Tokens there.
        position: usize,
    },
}

/// Log-probability of one token, given the tokens before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Index of the token in the slice that was scored.
    pub index: usize,
    /// Natural logarithm of its probability.
    pub log_probability: f64,
    /// Whether it is the most probable token (the lowest id among equals).
    pub greedy: bool,
}

/// A sequence in progress, on the CPU or wherever `S` runs it.
pub struct Session<S: Sequence> {
    sequence: S,
    vocab: usize,
    position: usize,
    lookup: Lookup,
    /// Proposed tokens behind the last that were run with it.
    ahead: usize,
    /// Row of the logits that belongs to the last token.
    row: usize,
    /// Tokens that took no pass of their own.
    accepted_draft_tokens: usize,
}

impl<S: Sequence> Session<S> {
    /// An empty sequence.
    pub fn new(sequence: S) -> Self {
        let vocab = sequence.limits().vocab;
        Session {
            sequence,
            vocab,
            position: 0,
            lookup: Lookup::new(0),
            ahead: 0,
            row: 0,
            accepted_draft_tokens: 0,
        }
    }

    /// What it runs on.
    pub fn sequence(&self) -> &S {
        &self.sequence
    }

    /// The same, to be looked into: what it computes is up to the session.
    pub fn sequence_mut(&mut self) -> &mut S {
        &mut self.sequence
    }

    /// Begins anew with `tokens` as if they had been run, once `fill` has brought their keys and values to where the
    /// sequence has them. There are no logits: another token has to be run before one is drawn.
    ///
    /// # Errors
    /// Tokens that do not fit, and those of `fill`: the session is empty then.
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

    /// The session, proposing tokens while it decodes, as many as the plan has rows of logits for beside the first: what is
    /// drawn is the same, sooner where the text repeats itself.
    pub fn with_lookup(self, lookup: Lookup) -> Self {
        Session { lookup, ..self }
    }

    /// Most tokens that the session can hold.
    pub fn context(&self) -> usize {
        self.sequence.limits().context
    }

    /// Tokens in the session.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Tokens so far that were proposed ([`Session::with_lookup`]) and took no forward pass of their own.
    pub fn accepted_draft_tokens(&self) -> usize {
        self.accepted_draft_tokens
    }

    /// The tokens in the session.
    pub fn tokens(&mut self) -> &[Token] {
        &self.sequence.history()[..self.position]
    }

    /// The tokens in the session, and the logits of the last, `[vocab]`: empty before the first forward pass
    /// and after a rewind. To be changed at will by a sampler.
    pub fn tokens_and_logits(&mut self) -> (&[Token], &mut [f32]) {
        let (history, logits) = self.sequence.history_and_logits();
        let row = self.row * self.vocab..(self.row + 1) * self.vocab;
        (&history[..self.position], logits.get_mut(row).unwrap_or(&mut []))
    }

    /// Draws the next token from the logits of the last, which are used up: the token has to be appended
    /// (with [`Session::prefill`]) before the next draw. Token 0 where there are no logits.
    pub fn sample(&mut self, sampler: &mut Sampler<'_>) -> Token {
        self.sequence.sample(sampler, self.row, self.position)
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

    /// Runs one batch at the end of the sequence.
    fn advance(&mut self, tokens: &[Token]) {
        (self.ahead, self.row) = (0, 0);
        self.sequence.history()[self.position..][..tokens.len()].copy_from_slice(tokens);
        self.sequence.run(&Batch { tokens, position: self.position });
        self.position += tokens.len();
    }

    /// Appends `tokens` (one to decode, many to prefill); afterwards the logits are those behind the last.
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

    /// Appends one token, and runs proposals behind it.
    fn decode(&mut self, token: Token) {
        let at = self.position;
        if self.ahead > 0 && self.sequence.history()[at] == token {
            self.position += 1;
            self.row += 1;
            self.ahead -= 1;
            self.accepted_draft_tokens += 1;
            self.lookup.saved();
            return;
        }
        let limits = self.sequence.limits();
        let room = match self.sequence.runs_ahead() {
            true => 0,
            false => (limits.context - at).min(limits.batch).min(limits.logit_rows) - 1,
        };
        let history = self.sequence.history();
        history[at] = token;
        let (start, count) = self.lookup.propose(&history[..=at], room);
        let mut tokens = [token; 1 + Lookup::MOST];
        tokens[1..=count].copy_from_slice(&history[start..start + count]);
        self.advance(&tokens[..=count]);
        self.position = at + 1;
        self.ahead = count;
        self.sequence.head(0..1 + count);
    }

    /// Goes back to the first `position` tokens, at no cost.
    pub fn rewind(&mut self, position: usize) -> Result<(), SessionError> {
        if position > self.position {
            return Err(SessionError::Rewind { to: position, position: self.position });
        }
        if position < self.position {
            self.sequence.head(0..0);
            (self.ahead, self.row) = (0, 0);
        }
        self.position = position;
        Ok(())
    }

    /// Rewinds to the longest common prefix with `tokens`, but leaves at least one of them to be run, and
    /// returns its length: `tokens[length..]` is what remains to be prefilled.
    pub fn reuse(&mut self, tokens: &[Token]) -> usize {
        let most = tokens.len().saturating_sub(1);
        let common = self.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count().min(most);
        // Not past the end: `common` is at most the number of tokens here.
        let _ = self.rewind(common);
        common
    }

    /// Appends `tokens` and shows the logits behind each of them from index `from` on, `each(index, logits)` with
    /// logits `[vocab]` to be changed at will: head rows are computed for these alone, none where `from` is the number of tokens.
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

    /// Gives the log-probabilities of `tokens` from index `from` (at least 1: the first token of a sequence
    /// has none). Appends all of them but the last, behind which nothing is asked.
    pub fn score(
        &mut self,
        tokens: &[Token],
        from: usize,
        each: &mut dyn FnMut(Scored),
    ) -> Result<(), SessionError> {
        self.logits_of(tokens, from, &mut |index, logits| {
            let (log_probability, greedy) = log_probability(logits, tokens[index]);
            each(Scored { index, log_probability, greedy });
        })
    }

    /// Gives the logits that predict each of `tokens` from index `from` (at least 1) on: its index and `[vocab]`
    /// numbers, to be changed at will. Appends all of `tokens` but the last, as [`Session::score`] does.
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
        // The logits behind a token predict the one that follows it.
        self.append(run, from.max(1) - 1, &mut |behind, logits| each(behind + 1, logits))
    }
}

/// `ln softmax(logits)[token]`, summed in f64, and whether the token has the largest logit.
fn log_probability(logits: &[f32], token: Token) -> (f64, bool) {
    (f64::from(sampler::log_probability(logits, token)), sampler::greedy(logits) == token)
}
