//! A chat session: answers one message at a time, in a context of limited length.

use crate::ChatError;
use crate::calls::AnswerText;
use crate::constraint::{Step, TokenConstraint, next_tokens};
use crate::conversation::{Conversation, Turn};
use crate::event::{AnswerStats, ChatEvent, End};
use crate::model::ChatModel;
use crate::prompt::{ChatPrompt, Toolset};
use crate::reasoning::{THINK, opens_reasoning};
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
use std::time::Instant;
use thimble_runtime::Token;
use thimble_runtime::stop::{StopMatcher, StopStatus, TextStream};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use web_time::Instant;

/// A conversation with a model.
pub struct ChatSession<M> {
    /// The model and its session.
    pub model: M,
    /// The conversation so far.
    pub conversation: Conversation,
    /// Whether the model thinks before it answers; `None` for the default of its template.
    pub thinking: Option<bool>,
    /// Longest answer in tokens.
    pub max_tokens: Option<usize>,
    /// Stop sequences: an answer ends before the first of them. None is empty.
    pub stops: Vec<String>,
    /// Tools that the model may call. Then an answer may be calls, which [`ChatSession::answer_results`] answers.
    pub tools: Option<Toolset>,
    /// What the next answer may be, and only that one. It is then complete if it ends with [`End::Stop`]; stop sequences and
    /// thinking do not apply. With tools that the model may call, but need not, both apply.
    pub constraint: Option<Box<dyn TokenConstraint>>,
}

/// Prompts of more tokens report progress.
const LONG_PROMPT: usize = 400;
/// A generous estimate of the bytes of a token, to reserve memory before the first one.
pub const TOKEN_BYTES: usize = 8;
/// Tokens to leave for an answer, if the context allows.
const ANSWER_ROOM: usize = 256;

impl<M: ChatModel> ChatSession<M> {
    /// Answers `user` and adds both to the conversation. `show` gets the text as it is generated.
    ///
    /// An error, or an interruption before the first character, leaves the conversation unchanged: the message is not added
    /// and no turn is dropped. Decoding does not allocate, apart from `show`, while the context has room.
    ///
    /// # Errors
    /// Those of the model and of `show`; [`ChatError::TooLong`] if the message alone does not fit the context.
    pub fn answer<E: From<ChatError>>(
        &mut self,
        user: &str,
        interrupted: &AtomicBool,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<AnswerStats, E> {
        self.continue_answer(user, &mut Vec::new(), interrupted, show)
    }

    /// Like [`ChatSession::answer`], but continues from the tokens `answer_tokens`, which were shown before, and appends to them.
    /// After an error, the same call continues from there, as long as the conversation is unchanged; a constraint has to be
    /// set again, at its beginning.
    ///
    /// # Errors
    /// As for [`ChatSession::answer`].
    pub fn continue_answer<E: From<ChatError>>(
        &mut self,
        user: &str,
        answer_tokens: &mut Vec<Token>,
        interrupted: &AtomicBool,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<AnswerStats, E> {
        if self.conversation.turns.last().is_some_and(Turn::waits) {
            return Err(ChatError::CallsWait.into());
        }
        self.answer_turn(Turn::new(user), answer_tokens, interrupted, show)
    }

    /// Goes on after calls: takes the result of each, in their order, and answers as [`ChatSession::answer`] does. The answer
    /// may be calls again. Without an answer, the calls wait as before.
    ///
    /// # Errors
    /// As for [`ChatSession::answer`]; [`ChatError::NoCalls`] and [`ChatError::Results`].
    pub fn answer_results<E: From<ChatError>>(
        &mut self,
        results: &[String],
        interrupted: &AtomicBool,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<AnswerStats, E> {
        self.continue_results(results, &mut Vec::new(), interrupted, show)
    }

    /// Like [`ChatSession::answer_results`], but continues as [`ChatSession::continue_answer`] does.
    ///
    /// # Errors
    /// As for [`ChatSession::answer_results`].
    pub fn continue_results<E: From<ChatError>>(
        &mut self,
        results: &[String],
        answer_tokens: &mut Vec<Token>,
        interrupted: &AtomicBool,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<AnswerStats, E> {
        let waiting = self.conversation.turns.pop_if(|turn| turn.waits());
        let waiting = waiting.ok_or(ChatError::NoCalls)?;
        let mut turn = waiting.clone();
        let calls = turn.rounds.last_mut().map(|round| {
            round.results = results.to_vec();
            round.calls.len()
        });
        let answered = match calls.filter(|&calls| calls != results.len()) {
            Some(expected) => Err(ChatError::Results { expected, found: results.len() }.into()),
            None => self.answer_turn(turn, answer_tokens, interrupted, show),
        };
        if !answered.as_ref().is_ok_and(|answer| answer.remembered) {
            self.conversation.turns.push(waiting);
        }
        answered
    }

    fn answer_turn<E: From<ChatError>>(
        &mut self,
        turn: Turn,
        answer_tokens: &mut Vec<Token>,
        interrupted: &AtomicBool,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<AnswerStats, E> {
        let answered = self.decode_answer(turn, answer_tokens, interrupted, show);
        self.constraint = None;
        answered
    }

    fn decode_answer<E: From<ChatError>>(
        &mut self,
        mut turn: Turn,
        answer_tokens: &mut Vec<Token>,
        interrupted: &AtomicBool,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<AnswerStats, E> {
        let mut first = 0;
        let Some(mut prompt) = self.fit(&mut first, &turn, answer_tokens, interrupted)? else {
            return Ok(AnswerStats::interrupted());
        };
        if first > 0 {
            show(ChatEvent::Dropped { turns: first })?;
        }
        let start = Instant::now();
        let all: Vec<Token> = prompt.iter().chain(&*answer_tokens).copied().collect();
        let reused = self.model.reuse(&all);
        let mut answer = AnswerStats { reused, ..AnswerStats::interrupted() };
        answer.prefilled = self.prefill(&all[reused..], interrupted, show)?;
        let computed = reused + answer.prefilled == all.len();
        answer.prefill_time = start.elapsed();
        let start = Instant::now();
        let limit = self.max_tokens.unwrap_or(usize::MAX).min(self.model.context());
        answer_tokens.reserve(limit.saturating_sub(answer_tokens.len()));
        let mut text = String::with_capacity(limit * TOKEN_BYTES);
        // With such a template the answer has no tag of its own: reasoning must look the same with all of them.
        let reasons = !self.is_value() && self.model.has_reasoning();
        if reasons && opens_reasoning(&prompt, |token| self.model.bytes(token)) {
            text.push_str(THINK);
            text.push('\n');
        }
        let opened = text.len();
        let stops = if self.is_value() { Vec::new() } else { self.stops.clone() };
        let stops: Vec<&[u8]> = stops.iter().map(String::as_bytes).collect();
        let mut held = vec![0; StopMatcher::buffer_len(&stops)];
        let mut stream = TextStream::new(&stops, &mut held).map_err(ChatError::from)?;
        for &token in &*answer_tokens {
            let _ = stream.push(self.model.bytes(token), &mut |piece: &str| text.push_str(piece));
            if let Some(constraint) = &mut self.constraint {
                constraint.accept(token).map_err(ChatError::from)?;
            }
        }
        let mut next = Vec::with_capacity(1);
        let mut output = AnswerText::new(self.tools.as_ref(), &self.conversation, &turn);
        let mut shown = if answer_tokens.is_empty() { 0 } else { text.len() };
        output.push::<E>(&text[..shown], &mut |_| Ok(()))?;
        answer.end = loop {
            if !computed || interrupted.load(Ordering::Relaxed) {
                break End::Interrupted;
            }
            let left = self.max_tokens.map_or(usize::MAX, |max| max.saturating_sub(answer_tokens.len()));
            let constraint = self.constraint.as_deref_mut();
            match next_tokens(&mut self.model, constraint, left, &mut next).map_err(ChatError::from)? {
                Step::Tokens => {}
                Step::Stop => break End::Stop,
                Step::Limit => break End::Length,
            }
            if let Some(sampled) = self.model.sampled() {
                show(ChatEvent::Sampled(sampled))?;
            }
            let mut status = StopStatus::Continue;
            for &token in &next {
                answer_tokens.push(token);
                status = stream.push(self.model.bytes(token), &mut |piece: &str| text.push_str(piece));
            }
            if text.len() > shown {
                output.push(&text[shown..], show)?;
                shown = text.len();
            }
            if status == StopStatus::Stopped {
                break End::Stop;
            }
            if prompt.len() + answer_tokens.len() < self.model.context() {
                self.model.prefill(&next)?;
                continue;
            }
            let before = first;
            if !self.make_room(&mut first, &mut prompt, &turn, answer_tokens, interrupted)? {
                break if interrupted.load(Ordering::Relaxed) { End::Interrupted } else { End::Context };
            }
            show(ChatEvent::Dropped { turns: first - before })?;
            let all: Vec<Token> = prompt.iter().chain(&*answer_tokens).copied().collect();
            let reused = self.model.reuse(&all);
            if self.prefill(&all[reused..], interrupted, show)? < all.len() - reused {
                break End::Interrupted;
            }
        };
        let complete = self.constraint.as_ref().is_some_and(|constraint| constraint.is_complete());
        if complete && self.is_value() && matches!(answer.end, End::Length | End::Context) {
            answer.end = End::Stop;
        }
        stream.finish(&mut |piece: &str| text.push_str(piece));
        if text.len() == opened && shown == 0 {
            text.clear();
        }
        if text.len() > shown {
            output.push(&text[shown..], show)?;
        }
        output.finish(show)?;
        answer.decoded = answer_tokens.len();
        answer.decode_time = start.elapsed();
        answer.remembered = !(answer.end == End::Interrupted && text.is_empty());
        if answer.remembered {
            // Only now: an interrupted message must not drop any turn.
            self.conversation.turns.drain(..first);
            answer.calls = output.end(text, &mut turn);
            self.conversation.turns.push(turn);
        }
        Ok(answer)
    }

    /// Whether the next answer is nothing but a value of a given shape, or calls.
    fn is_value(&self) -> bool {
        self.constraint.is_some() && self.tools.as_ref().is_none_or(Toolset::must_call)
    }

    /// Removes the last turn and returns it, to answer its message again.
    pub fn pop_turn(&mut self) -> Option<Turn> {
        self.conversation.turns.pop()
    }

    /// The prompt for `turn`, without the turns before `first`; `first` grows until prompt, `answer_tokens` and an answer fit.
    ///
    /// If turns have to be dropped, a quarter of the context is freed at once: each drop means to recompute the whole prompt.
    /// Attempts encode about as many tokens as fit, however long the conversation is. `None` if the user interrupted it.
    fn fit(
        &self,
        first: &mut usize,
        turn: &Turn,
        answer_tokens: &[Token],
        interrupted: &AtomicBool,
    ) -> Result<Option<Vec<Token>>, ChatError> {
        let context = self.model.context();
        let turns = self.conversation.turns.len();
        let thinking = if self.is_value() { Some(false) } else { self.thinking };
        let prompt = |first: usize| {
            let messages = self.conversation.messages(first, turn);
            self.model.encode(&ChatPrompt { messages, tools: self.tools.as_ref(), thinking })
        };
        let mut above = turns - *first + 1;
        if self.conversation.bytes(*first) <= context.saturating_mul(TOKEN_BYTES) {
            let all = prompt(*first)?;
            if all.len() + answer_tokens.len() <= context - ANSWER_ROOM.min(context / 4) {
                return Ok(Some(all));
            }
            above -= 1;
        }
        let limit = context - context / 4;
        let mut best = prompt(turns)?;
        *first = turns;
        if best.len() + answer_tokens.len() > limit || above == 0 {
            // Nothing is left to drop: room for a single token of the answer has to do.
            return match best.len() < context {
                true => Ok(Some(best)),
                false => Err(ChatError::TooLong { found: best.len(), room: context - 1 }),
            };
        }
        // The last `kept` turns fit, `above` do not: doubles the step, then bisects.
        let (mut kept, mut step) = (0, 1);
        while kept + 1 < above {
            if interrupted.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let tried = if kept + step < above { kept + step } else { kept + (above - kept) / 2 };
            let longer = prompt(turns - tried)?;
            if longer.len() + answer_tokens.len() <= limit {
                (kept, best) = (tried, longer);
                step *= 2;
            } else {
                above = tried;
            }
        }
        *first = turns - kept;
        Ok(Some(best))
    }

    /// Drops turns to continue an answer; false if that makes no room.
    fn make_room(
        &self,
        first: &mut usize,
        prompt: &mut Vec<Token>,
        turn: &Turn,
        answer_tokens: &[Token],
        interrupted: &AtomicBool,
    ) -> Result<bool, ChatError> {
        let mut fewer = *first;
        let Some(shorter) = self.fit(&mut fewer, turn, answer_tokens, interrupted)? else { return Ok(false) };
        if fewer == *first || shorter.len() + answer_tokens.len() >= self.model.context() {
            return Ok(false);
        }
        *first = fewer;
        *prompt = shorter;
        Ok(true)
    }

    /// Computes `tokens` in pieces and returns their number; fewer than all if the user interrupted it.
    fn prefill<E: From<ChatError>>(
        &mut self,
        tokens: &[Token],
        interrupted: &AtomicBool,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut done = 0;
        for piece in tokens.chunks(self.model.batch()) {
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
            if tokens.len() > LONG_PROMPT {
                show(ChatEvent::Prefill { done, of: tokens.len() })?;
            }
            self.model.prefill(piece)?;
            done += piece.len();
        }
        Ok(done)
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "tool_session_tests.rs"]
mod tool_tests;
