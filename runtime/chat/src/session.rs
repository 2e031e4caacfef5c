//! One message in, one answer out, in a context of limited length.

use crate::ChatError;
use crate::conversation::{Conversation, Role, Turn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use thimble_runtime::Token;
use thimble_runtime::stop::{Progress, StopMatcher, TextStream};

/// What a chat needs of a model and its session.
pub trait ChatModel {
    /// Positions in the context.
    fn context(&self) -> usize;
    /// The messages in the model's chat format, up to the place where the answer begins. Special tokens in a
    /// message's text are plain text.
    fn encode(&self, messages: &[(Role, &str)]) -> Result<Vec<Token>, ChatError>;
    /// Goes back to the longest common prefix of `tokens` and what was computed, and returns its length.
    fn reuse(&mut self, tokens: &[Token]) -> usize;
    /// Tokens that are computed between two looks at whether the person wants to stop.
    fn batch(&self) -> usize {
        CHUNK
    }
    /// Computes `tokens` behind what is there.
    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError>;
    /// Chooses the next token after the last computed one.
    fn sample(&mut self) -> Token;
    /// The bytes of a token.
    fn bytes(&self, token: Token) -> &[u8];
    /// Whether the token ends an answer.
    fn is_stop(&self, token: Token) -> bool;
    /// Keeps what was computed where a later session finds it, if there is such a place.
    fn keep(&mut self) {}
    /// Forgets what was computed, also where a later session would find it.
    fn forget(&mut self) {}
}

/// A model that is only lent.
impl<V: ChatModel + ?Sized> ChatModel for &mut V {
    fn context(&self) -> usize {
        (**self).context()
    }

    fn encode(&self, messages: &[(Role, &str)]) -> Result<Vec<Token>, ChatError> {
        (**self).encode(messages)
    }

    fn reuse(&mut self, tokens: &[Token]) -> usize {
        (**self).reuse(tokens)
    }

    fn batch(&self) -> usize {
        (**self).batch()
    }

    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError> {
        (**self).prefill(tokens)
    }

    fn sample(&mut self) -> Token {
        (**self).sample()
    }

    fn bytes(&self, token: Token) -> &[u8] {
        (**self).bytes(token)
    }

    fn is_stop(&self, token: Token) -> bool {
        (**self).is_stop(token)
    }

    fn keep(&mut self) {
        (**self).keep();
    }

    fn forget(&mut self) {
        (**self).forget();
    }
}

/// Tokens of a prompt that a CPU computes at a time.
pub const CHUNK: usize = 192;

/// Something to show while an answer is made.
#[derive(Debug, PartialEq, Eq)]
pub enum ChatEvent<'a> {
    /// More text of the answer.
    Text(&'a str),
    /// The oldest turns were forgotten, because the context is full.
    Forgot {
        /// How many.
        turns: usize,
    },
    /// A long prompt is being read.
    Reading {
        /// Tokens computed so far.
        done: usize,
        /// All that have to be.
        of: usize,
    },
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model ended it, or a stop sequence did.
    Stop,
    /// It reached the most tokens allowed.
    Length,
    /// The context is full and nothing older can give way.
    Context,
    /// The person stopped it.
    Interrupted,
}

/// What an answer took.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Why it ended.
    pub end: End,
    /// Prompt tokens that were in the KV cache already.
    pub reused: usize,
    /// Prompt tokens computed.
    pub prefilled: usize,
    /// Time for those.
    pub prefill_time: Duration,
    /// Tokens of the answer.
    pub decoded: usize,
    /// Time for those.
    pub decode_time: Duration,
    /// Whether the message and the answer are the conversation's last turn now.
    pub remembered: bool,
}

impl Answer {
    /// One that was stopped before anything was computed.
    const fn interrupted() -> Answer {
        Answer {
            end: End::Interrupted,
            reused: 0,
            prefilled: 0,
            prefill_time: Duration::ZERO,
            decoded: 0,
            decode_time: Duration::ZERO,
            remembered: false,
        }
    }
}

/// A conversation with a model.
pub struct ChatSession<S> {
    /// The model and its session.
    pub model: S,
    /// What was said.
    pub conversation: Conversation,
    /// Longest answer in tokens.
    pub max_tokens: Option<usize>,
    /// Texts that an answer ends in front of; none of them empty.
    pub stops: Vec<String>,
}

/// Tokens that take long enough to be told how far it is.
const LONG: usize = 400;
/// Bytes that a token of an answer has, with some to spare: memory for so many is reserved before the first one.
const TOKEN_BYTES: usize = 8;
/// Room that an answer should find, where the context allows for that.
const ANSWER_ROOM: usize = 256;

impl<S: ChatModel> ChatSession<S> {
    /// Answers `user` and remembers both. `show` gets the text as it is made.
    ///
    /// A message that does not fit into the context even alone is an error, and an error leaves the
    /// conversation as it was. So does an interruption before the first character: then neither is the message
    /// remembered, nor are the turns gone that would have given way to it. A token takes no memory but what `show`
    /// takes for it, as long as the context has room.
    pub fn answer<E: From<ChatError>>(
        &mut self,
        user: &str,
        interrupted: &AtomicBool,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<Answer, E> {
        self.go_on(user, &mut Vec::new(), interrupted, show)
    }

    /// The same for an answer of which the tokens `said` are there and were shown; more are put behind them. After an
    /// error they are those to go on from, which takes the same conversation.
    pub fn go_on<E: From<ChatError>>(
        &mut self,
        user: &str,
        said: &mut Vec<Token>,
        interrupted: &AtomicBool,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<Answer, E> {
        let mut first = 0;
        let Some(mut prompt) = self.fit(&mut first, user, said, interrupted)? else {
            return Ok(Answer::interrupted());
        };
        if first > 0 {
            show(ChatEvent::Forgot { turns: first })?;
        }
        let start = Instant::now();
        let all: Vec<Token> = prompt.iter().chain(&*said).copied().collect();
        let reused = self.model.reuse(&all);
        let mut answer = Answer { reused, ..Answer::interrupted() };
        answer.prefilled = self.prefill(&all[reused..], interrupted, show)?;
        let computed = reused + answer.prefilled == all.len();
        answer.prefill_time = start.elapsed();
        let start = Instant::now();
        let most = self.max_tokens.unwrap_or(usize::MAX).min(self.model.context());
        said.reserve(most.saturating_sub(said.len()));
        let mut text = String::with_capacity(most * TOKEN_BYTES);
        let stops = self.stops.clone();
        let stops: Vec<&[u8]> = stops.iter().map(String::as_bytes).collect();
        let mut held = vec![0; StopMatcher::buffer_len(&stops)];
        let mut stream = TextStream::new(&stops, &mut held).map_err(ChatError::from)?;
        for &token in &*said {
            let _ = stream.push(self.model.bytes(token), &mut |piece: &str| text.push_str(piece));
        }
        answer.end = loop {
            if !computed || interrupted.load(Ordering::Relaxed) {
                break End::Interrupted;
            }
            if self.max_tokens.is_some_and(|most| said.len() >= most) {
                break End::Length;
            }
            let token = self.model.sample();
            if self.model.is_stop(token) {
                break End::Stop;
            }
            said.push(token);
            let shown = text.len();
            let progress = stream.push(self.model.bytes(token), &mut |piece: &str| text.push_str(piece));
            if text.len() > shown {
                show(ChatEvent::Text(&text[shown..]))?;
            }
            if progress == Progress::Stopped {
                break End::Stop;
            }
            if prompt.len() + said.len() < self.model.context() {
                self.model.prefill(&[token])?;
                continue;
            }
            let before = first;
            if !self.make_room(&mut first, &mut prompt, user, said, interrupted)? {
                break if interrupted.load(Ordering::Relaxed) { End::Interrupted } else { End::Context };
            }
            show(ChatEvent::Forgot { turns: first - before })?;
            let all: Vec<Token> = prompt.iter().chain(&*said).copied().collect();
            let kept = self.model.reuse(&all);
            if self.prefill(&all[kept..], interrupted, show)? < all.len() - kept {
                break End::Interrupted;
            }
        };
        let shown = text.len();
        stream.finish(&mut |piece: &str| text.push_str(piece));
        if text.len() > shown {
            show(ChatEvent::Text(&text[shown..]))?;
        }
        answer.decoded = said.len();
        answer.decode_time = start.elapsed();
        answer.remembered = !(answer.end == End::Interrupted && text.is_empty());
        if answer.remembered {
            // Not before: a message that is taken back must not cost any turn.
            self.conversation.turns.drain(..first);
            self.conversation.turns.push(Turn { user: user.to_string(), answer: text });
        }
        Ok(answer)
    }

    /// Forgets the last turn and returns its message, to be answered again.
    pub fn take_last(&mut self) -> Option<Turn> {
        self.conversation.turns.pop()
    }

    /// The prompt for `user`, without the turns before `first`; `first` grows until prompt, `said` and an answer fit.
    ///
    /// Where turns have to go, a quarter of the context is freed at once: every change of the oldest turn means computing
    /// the rest again. What is tried has about as many tokens as fit, however long the conversation is. `None` where the
    /// person stopped it.
    fn fit(
        &self,
        first: &mut usize,
        user: &str,
        said: &[Token],
        interrupted: &AtomicBool,
    ) -> Result<Option<Vec<Token>>, ChatError> {
        let context = self.model.context();
        let turns = self.conversation.turns.len();
        let prompt = |first: usize| self.model.encode(&self.conversation.messages(first, user));
        let mut above = turns - *first + 1;
        if self.conversation.bytes(*first) <= context.saturating_mul(TOKEN_BYTES) {
            let all = prompt(*first)?;
            if all.len() + said.len() <= context - ANSWER_ROOM.min(context / 4) {
                return Ok(Some(all));
            }
            above -= 1;
        }
        let most = context - context / 4;
        let mut best = prompt(turns)?;
        *first = turns;
        if best.len() + said.len() > most || above == 0 {
            // Nothing can give way any more: it will do as long as one token of an answer fits.
            return match best.len() < context {
                true => Ok(Some(best)),
                false => Err(ChatError::TooLong { found: best.len(), room: context - 1 }),
            };
        }
        // The last `kept` turns fit, `above` are too many: twice as many as before, then halfway between the two.
        let (mut kept, mut step) = (0, 1);
        while kept + 1 < above {
            if interrupted.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let tried = if kept + step < above { kept + step } else { kept + (above - kept) / 2 };
            let longer = prompt(turns - tried)?;
            if longer.len() + said.len() <= most {
                (kept, best) = (tried, longer);
                step *= 2;
            } else {
                above = tried;
            }
        }
        *first = turns - kept;
        Ok(Some(best))
    }

    /// Whether forgetting turns made room to go on with an answer.
    fn make_room(
        &self,
        first: &mut usize,
        prompt: &mut Vec<Token>,
        user: &str,
        said: &[Token],
        interrupted: &AtomicBool,
    ) -> Result<bool, ChatError> {
        let mut fewer = *first;
        let Some(shorter) = self.fit(&mut fewer, user, said, interrupted)? else { return Ok(false) };
        if fewer == *first || shorter.len() + said.len() >= self.model.context() {
            return Ok(false);
        }
        *first = fewer;
        *prompt = shorter;
        Ok(true)
    }

    /// Computes `tokens` in pieces and returns how many; fewer than all if the person stopped it in between.
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
            if tokens.len() > LONG {
                show(ChatEvent::Reading { done, of: tokens.len() })?;
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
