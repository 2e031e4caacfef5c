//! The thread of a worker: it works on requests until no one can send any more.

use super::request::{AnswerRequest, Ask, PartialAnswer, Request, Shared};
use crate::busy::Busy;
use crate::gate::{Gated, Passage};
use crate::journal::Journal;
use crate::listener::{Listener, ListenerError};
use crate::{AnswerOptions, ApiError, Reply, Stats, TokenLogProbability, ToolCall};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Instant;
use thimble_chat::{
    AnswerPiece, ChatEvent, ChatModel, ChatSession, Conversation, TokenConstraint, Toolset, Turn,
};
use thimble_host::SpinPool;

/// Where a thread's sessions come from: the first message takes memory, and so does the next one after it was given back.
pub(crate) trait SessionSource: Send + 'static {
    /// Lends a session and its threads to `work`, and frees their memory afterwards.
    fn with_session(&self, work: &mut dyn FnMut(&mut dyn ChatModel, &SpinPool)) -> Result<(), ApiError>;
    /// Forgets what sessions have kept for later ones.
    fn forget(&self) {}
    /// What keeps an answer in the form that its options ask for.
    ///
    /// # Errors
    /// The form is not supported, or too complex.
    fn form(&self, _options: &AnswerOptions) -> Result<Form, ApiError> {
        Ok(Form::default())
    }
}

/// What keeps an answer in its form.
#[derive(Default)]
pub(crate) struct Form {
    /// The tools that it may call.
    pub(crate) tools: Option<Toolset>,
    /// What its tokens may be.
    pub(crate) constraint: Option<Box<dyn TokenConstraint>>,
}

impl Form {
    /// Whether the answer is nothing but a value of a given form.
    pub(super) fn is_value(&self) -> bool {
        self.constraint.is_some() && self.tools.is_none()
    }
}

/// What a thread works with.
pub(crate) struct WorkerOptions {
    /// Where sessions come from.
    pub(crate) sessions: Box<dyn SessionSource>,
    /// Whether the model thinks before it answers; `None` for the default of its template.
    pub(crate) thinking: Option<bool>,
    /// Longest answer in tokens.
    pub(crate) max_tokens: usize,
    /// Texts that end an answer.
    pub(crate) stops: Vec<String>,
    /// Has everything on disk before it is shown.
    pub(crate) journal: Option<Journal>,
}

/// Calls a listener; whether it succeeded. Its failures, panics included, do not concern the worker.
fn notify(call: impl FnOnce() -> Result<(), ListenerError>) -> bool {
    matches!(catch_unwind(AssertUnwindSafe(call)), Ok(Ok(())))
}

/// Shows a piece of an answer to its listener; whether that succeeded.
fn show(listener: &dyn Listener, piece: AnswerPiece<'_>) -> bool {
    match piece {
        AnswerPiece::Reasoning(text) => notify(|| listener.on_reasoning(text.to_owned())),
        AnswerPiece::Text(text) => notify(|| listener.on_piece(text.to_owned())),
    }
}

/// Works on requests until the last sender is gone.
pub(super) fn run(options: WorkerOptions, shared: &Shared, requests: &Receiver<Request>) {
    let WorkerOptions { sessions, thinking, max_tokens, stops, journal } = options;
    let (conversation, number) = {
        // `replace` may have changed it already; its request follows.
        let latest = shared.latest();
        (latest.conversation.clone(), latest.number)
    };
    let sessions = &*sessions;
    let mut thread = WorkerThread { sessions, shared, journal, conversation, number, waiting: None };
    let mut next = requests.recv().ok();
    while let Some(request) = next.take() {
        match request {
            Request::Free(number) => _ = shared.gate.grant(number),
            Request::Keep => {}
            Request::Replace(conversation, number) => {
                sessions.forget();
                thread.replace(conversation, number);
            }
            Request::Answer(request) if shared.gate.cancelled_outside(&request.cancelled) => {
                thread.cancelled(*request);
            }
            Request::Answer(request) => {
                thread.waiting = Some((Arc::clone(&request.listener), Busy::new()));
                let mut first = Some(request);
                let entered = catch_unwind(AssertUnwindSafe(|| {
                    sessions.with_session(&mut |model, pool| {
                        let (conversation, stops) = (thread.conversation.clone(), stops.clone());
                        let max_tokens = Some(max_tokens);
                        let mut session = ChatSession {
                            model,
                            conversation,
                            thinking,
                            max_tokens,
                            stops,
                            tools: None,
                            constraint: None,
                        };
                        next = first
                            .take()
                            .and_then(|request| thread.session(&mut session, pool, request, requests));
                    })
                }));
                let entered =
                    entered.unwrap_or_else(|_| Err(ApiError::other("the worker failed: report this")));
                if first.is_some_and(|request| request.waits()) {
                    let _ = thread.write(Journal::dropped);
                }
                // The listener of an answer that failed gets the error; the next message begins with a new session.
                if let (Err(error), Some(waiting)) = (entered, thread.waiting.take()) {
                    notify(|| waiting.0.on_error(error));
                }
            }
        }
        next = next.or_else(|| requests.recv().ok());
    }
}

/// The thread's side of a conversation.
pub(super) struct WorkerThread<'a> {
    pub(super) sessions: &'a dyn SessionSource,
    shared: &'a Shared,
    journal: Option<Journal>,
    /// As of the last complete answer.
    conversation: Conversation,
    /// Its number.
    number: u64,
    /// Who waits for the current answer; in this order, so that the listener is dropped before.
    waiting: Option<(Arc<dyn Listener>, Busy)>,
}

impl WorkerThread<'_> {
    /// Answers with a session in memory until its memory is requested; returns the next request, if there is one already.
    fn session(
        &mut self,
        session: &mut ChatSession<&mut dyn ChatModel>,
        pool: &SpinPool,
        first: Box<AnswerRequest>,
        requests: &Receiver<Request>,
    ) -> Option<Request> {
        let mut next = Request::Answer(first);
        loop {
            match next {
                Request::Answer(request) => {
                    if let Some(unfinished) = self.answer(session, pool, *request) {
                        session.model.save_cache();
                        self.shared.gate.left();
                        return Some(Request::Answer(Box::new(unfinished)));
                    }
                }
                Request::Replace(conversation, number) => {
                    session.model.clear_cache();
                    session.conversation.clone_from(&conversation);
                    self.replace(conversation, number);
                }
                Request::Free(number) if self.shared.gate.grant(number) => {
                    session.model.save_cache();
                    return requests.try_recv().ok();
                }
                Request::Free(_) => {}
                // After an answer the pause may be over: then the system is not about to end the process.
                Request::Keep if self.shared.gate.is_paused() => session.model.save_cache(),
                Request::Keep => {}
            }
            next = requests.recv().ok()?;
        }
    }

    /// Writes to the journal, if there is one.
    pub(super) fn write(&self, line: impl FnOnce(&Journal) -> Result<(), ApiError>) -> Result<(), ApiError> {
        self.journal.as_ref().map_or(Ok(()), line)
    }

    /// Ends an answer that was cancelled outside a session; what was shown of it is kept.
    fn cancelled(&mut self, request: AnswerRequest) {
        let waits = request.waits();
        let AnswerRequest { busy: _busy, ask, accepted, partial, listener, .. } = request;
        let mut reply = Reply::default();
        let shown = partial.filter(|partial| !partial.shown.is_empty());
        let remembered = shown.is_some();
        if waits {
            let _ = self.write(Journal::dropped);
        } else if let Some(mut partial) = shown {
            // What may have been the beginning of a tag is text.
            partial.splitter.finish(&mut |piece| _ = show(&*listener, piece));
            reply = reply.with_answer(&partial.shown, partial.has_reasoning);
            reply.tokens = partial.tokens.len() as u32;
            let mut conversation = self.conversation.clone();
            if !matches!(ask, Ask::Message(_)) {
                conversation.turns.pop();
            }
            conversation.turns.push(Turn { answer: partial.shown, ..partial.turn });
            self.keep(&conversation, None);
            let _ = self.write(|journal| journal.end(remembered));
        } else if accepted.is_ok() {
            let _ = self.write(|journal| journal.end(remembered));
        }
        self.waiting = None;
        notify(|| listener.on_end(reply));
    }

    /// Goes on with another conversation.
    fn replace(&mut self, conversation: Conversation, number: u64) {
        // If this fails the journal tries again before its next line, and the next message reports the error.
        let _ = self.write(|journal| journal.replace(&conversation));
        (self.conversation, self.number) = (conversation, number);
    }

    /// Keeps the conversation and the figures, unless another conversation has replaced it.
    fn keep(&mut self, conversation: &Conversation, stats: Option<Stats>) {
        self.conversation.clone_from(conversation);
        let mut latest = self.shared.latest();
        if latest.number == self.number {
            latest.conversation.clone_from(conversation);
        }
        latest.stats = stats.unwrap_or(latest.stats);
    }

    /// Answers and calls the listener, which gets nothing that is not in the journal. Returns a request to finish in
    /// another session where this one's memory is requested while work waits.
    fn answer(
        &mut self,
        session: &mut ChatSession<&mut dyn ChatModel>,
        pool: &SpinPool,
        mut request: AnswerRequest,
    ) -> Option<AnswerRequest> {
        let listener = Arc::clone(&request.listener);
        let cancelled = Arc::clone(&request.cancelled);
        self.waiting = Some((Arc::clone(&listener), Busy::new()));
        let (begun, again) = self.begin(session, &mut request);
        let (mut partial, form) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                session.conversation.turns.extend(again);
                self.waiting = None;
                notify(|| listener.on_error(error));
                return None;
            }
        };
        // An answer to results goes to a turn that is there.
        let to_results = matches!(request.ask, Ask::Results(_));
        let before = session.conversation.turns.len() - usize::from(to_results);
        let passage = Passage::new(&self.shared.gate, pool, &cancelled);
        let start = Instant::now();
        let mut broken = None;
        let has_reasoning = partial.has_reasoning;
        let PartialAnswer { turn, tokens, shown, splitter, forgotten, sampled, .. } = &mut partial;
        let show = |piece: AnswerPiece<'_>| show(&*listener, piece);
        let conversation = std::mem::take(&mut session.conversation);
        let mut gated = ChatSession {
            model: Gated { model: &mut *session.model, passage: &passage },
            conversation,
            thinking: session.thinking,
            max_tokens: Some(request.most_tokens(session.max_tokens)),
            stops: session.stops.iter().chain(&request.options.stop).cloned().collect(),
            constraint: form.constraint,
            tools: form.tools,
        };
        let mut heard = |event: ChatEvent<'_>| {
            passage.pass();
            let heard = match event {
                // Nothing is shown any more, though the last token may have more text.
                ChatEvent::Text(_) if broken.is_some() => false,
                ChatEvent::Text(text) => match self.write(|journal| journal.piece(text)) {
                    Ok(()) => {
                        shown.push_str(text);
                        let mut heard = true;
                        match has_reasoning {
                            true => splitter.push(text, &mut |piece| heard &= show(piece)),
                            false => heard = show(AnswerPiece::Text(text)),
                        }
                        heard
                    }
                    Err(error) => {
                        broken = Some(error);
                        false
                    }
                },
                ChatEvent::Call(call) => match self.write(|journal| journal.call(call)) {
                    Ok(()) => true,
                    Err(error) => {
                        broken = Some(error);
                        false
                    }
                },
                ChatEvent::InvalidCall(_) => true,
                ChatEvent::Dropped { turns } => {
                    *forgotten += turns;
                    true
                }
                ChatEvent::Sampled(token) => {
                    sampled.push(token.into());
                    true
                }
                ChatEvent::Prefill { done, of } => notify(|| listener.on_progress(done as u32, of as u32)),
            };
            if !heard {
                // The answer ends as if it had been cancelled: what was shown is remembered.
                cancelled.store(true, Ordering::Relaxed);
            }
            Ok::<(), ApiError>(())
        };
        let answered = match (&request.ask, turn.rounds.last()) {
            (Ask::Results(_), Some(round)) => {
                gated.continue_results(&round.results, tokens, &cancelled, &mut heard)
            }
            _ => gated.continue_answer(&turn.user, tokens, &cancelled, &mut heard),
        };
        session.conversation = gated.conversation;
        if passage.evicted.get() && answered.is_err() {
            session.conversation.turns.extend(again);
            let [prefill, decode] = passage.waited;
            partial.spent += start.elapsed().saturating_sub(prefill.get() + decode.get());
            return Some(AnswerRequest { partial: Some(partial), ..request });
        }
        partial.splitter.finish(&mut |piece| _ = show(piece));
        let mut remembered = answered.as_ref().is_ok_and(|answer| answer.remembered);
        if broken.is_some() && remembered {
            // As the journal has it.
            remembered = !partial.shown.is_empty();
            drop(session.pop_turn());
            let mut turn = std::mem::take(&mut partial.turn);
            if remembered {
                turn.answer.clone_from(&partial.shown);
            } else if let Some(round) = turn.rounds.last_mut() {
                round.results.clear();
            }
            session.conversation.turns.extend((remembered || to_results).then_some(turn));
        }
        let gone =
            (before + usize::from(remembered || to_results)).saturating_sub(session.conversation.turns.len());
        let ended = self.write(|journal| journal.end(remembered).and_then(|()| journal.forget(gone)));
        // Without an answer the turn stays as it was.
        session.conversation.turns.extend(again.filter(|_| !remembered));
        let reply = answered.map(|answer| {
            let [prefill, decode] = passage.waited.each_ref().map(|waited| waited.get().as_secs_f64());
            let reply = Reply::new(&answer);
            let turn = session.conversation.turns.last().filter(|_| remembered);
            let calls = turn.filter(|turn| turn.waits()).and_then(|turn| turn.rounds.last());
            let answer: &str = match calls {
                Some(round) => &round.text,
                None => turn.map_or("", |turn| &turn.answer),
            };
            let reply = reply.with_answer(answer, has_reasoning);
            let calls = calls.map_or(&[][..], |round| &round.calls);
            let bytes = |token| session.model.bytes(token);
            let sampled = partial.sampled.iter().map(|token| TokenLogProbability::new(token, bytes));
            Reply {
                tool_calls: calls.iter().map(ToolCall::from).collect(),
                log_probabilities: sampled.collect(),
                forgotten_turns: partial.forgotten as u32,
                prompt_seconds: (reply.prompt_seconds - prefill).max(0.0),
                seconds: (reply.seconds + partial.spent.as_secs_f64() - decode).max(0.0),
                ..reply
            }
        });
        self.keep(&session.conversation, reply.as_ref().ok().map(Stats::new));
        self.waiting = None;
        let reply = match broken {
            Some(error) => Err(error),
            None => reply.and_then(|reply| ended.map(|()| reply)),
        };
        // A listener that fails at the end has nothing left to stop.
        notify(|| match reply {
            Ok(reply) => listener.on_end(reply),
            Err(error) => listener.on_error(error),
        });
        // The listener is dropped before `request`, after which the process may be idle.
        drop(listener);
        drop(request);
        None
    }
}
