//! Answers as they arrive: from tokens to text, reasoning and calls.

use crate::api::response::{Finish, Usage, random_id};
use crate::error::ApiError;
use crate::prepare::Reading;
use crate::schedule::{Event, ReportedToken};
use crate::vocabulary::TokenTable;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thimble_chat::tools::{CallParser, CallPiece, ToolCall};
use thimble_chat::{AnswerPiece, End, ReasoningSplitter, Toolset};
use thimble_runtime::stop::{StopMatcher, StopStatus, TextStream};
use tokio::sync::mpsc;

/// What is new in a choice.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    /// The choice.
    pub(crate) index: usize,
    /// Text of the answer.
    pub(crate) text: String,
    /// Text of the reasoning before it.
    pub(crate) reasoning: String,
    /// Calls of tools, complete.
    pub(crate) calls: Vec<ToolCall>,
    /// The tokens of the prompt that were scored.
    pub(crate) prompt: Vec<ReportedToken>,
    /// The tokens that were drawn; the text of the last ones may come later.
    pub(crate) tokens: Vec<ReportedToken>,
    /// Why the choice ended, if it did.
    pub(crate) finish: Option<Finish>,
}

impl Delta {
    /// Whether it says nothing.
    pub(crate) fn is_silent(&self) -> bool {
        let Delta { index: _, text, reasoning, calls, prompt, tokens, finish } = self;
        let silent = text.is_empty() && reasoning.is_empty() && calls.is_empty() && finish.is_none();
        silent && prompt.is_empty() && !has_scores(tokens)
    }
}

/// Whether tokens were reported with their log-probabilities.
pub(crate) fn has_scores(tokens: &[ReportedToken]) -> bool {
    tokens.iter().any(|reported| reported.log_probabilities.is_some())
}

/// A choice of a request that runs: how to end it.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    /// Ends the job.
    pub(crate) cancelled: Arc<AtomicBool>,
}

/// The memory that choices borrow: see [`Answers::new`].
pub(crate) struct AnswerMemory {
    stops: Vec<String>,
    held: Vec<Vec<u8>>,
}

impl AnswerMemory {
    /// Memory for so many choices.
    pub(crate) fn new(reading: &Reading, choices: usize) -> AnswerMemory {
        let stops: Vec<&[u8]> = reading.stops.iter().map(String::as_bytes).collect();
        let held = vec![0; StopMatcher::buffer_len(&stops)];
        AnswerMemory { stops: reading.stops.clone(), held: vec![held; choices] }
    }

    /// The stop sequences as bytes, and what each choice holds back.
    pub(crate) fn parts(&mut self) -> (Vec<&[u8]>, &mut [Vec<u8>]) {
        (self.stops.iter().map(String::as_bytes).collect(), &mut self.held)
    }
}

/// The choices of a request.
pub(crate) struct Answers<'s> {
    events: mpsc::Receiver<Event>,
    table: Arc<TokenTable>,
    choices: Vec<Choice<'s>>,
    ready: VecDeque<Delta>,
    /// Choices that have not ended.
    open: usize,
    /// Choices of each prompt.
    per_prompt: usize,
    /// What the request took so far, without its prompts.
    pub(crate) usage: Usage,
}

struct Choice<'s> {
    started: Started,
    text: TextStream<'s>,
    parser: Option<CallParser>,
    splitter: Option<ReasoningSplitter>,
    one_call: bool,
    calls: usize,
    /// What a limit has cut off.
    cut: Cut,
    ended: bool,
}

/// The end of an answer that a limit has cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// None did.
    No,
    /// It may have cut a call.
    Answer,
    /// It has cut a call: what follows is the beginning of one, and no text.
    Call,
}

impl<'s> Answers<'s> {
    /// Reads the events of jobs, in memory that [`AnswerMemory`] has for them.
    ///
    /// # Errors
    /// None are expected: stop sequences were checked.
    pub(crate) fn new(
        events: mpsc::Receiver<Event>,
        started: Vec<Started>,
        per_prompt: usize,
        reading: &Reading,
        table: Arc<TokenTable>,
        (stops, held): (&'s [&'s [u8]], &'s mut [Vec<u8>]),
    ) -> Result<Answers<'s>, ApiError> {
        let mut choices = Vec::with_capacity(started.len());
        let mut ready = VecDeque::new();
        for (index, (started, held)) in started.into_iter().zip(held).enumerate() {
            let text = TextStream::new(stops, held).map_err(|error| ApiError::internal(&error))?;
            let parser = reading.tools.as_ref().and_then(Toolset::parser);
            let splitter = reading.reasons.then(ReasoningSplitter::default);
            let one_call = reading.one_call;
            let mut choice =
                Choice { started, text, parser, splitter, one_call, calls: 0, cut: Cut::No, ended: false };
            if reading.opened {
                let mut delta = Delta { index, ..Delta::default() };
                choice.show("<think>\n", &mut delta);
                ready.extend((!delta.reasoning.is_empty()).then_some(delta));
            }
            choices.push(choice);
        }
        let open = choices.len();
        let per_prompt = per_prompt.max(1);
        Ok(Answers { events, table, choices, ready, open, per_prompt, usage: Usage::default() })
    }

    /// What comes next; `None` after the last choice has ended.
    ///
    /// # Errors
    /// The request failed.
    pub(crate) async fn next(&mut self) -> Option<Result<Delta, ApiError>> {
        loop {
            if let Some(delta) = self.ready.pop_front() {
                return Some(Ok(delta));
            }
            if self.open == 0 {
                return None;
            }
            match self.events.recv().await {
                // The scheduler gave up: the channel was full.
                None => return Some(Err(ApiError::slow_reader())),
                Some(Event::Failed(error)) => return Some(Err(error)),
                Some(event) => self.take(event),
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            // The prompt counts once.
            Event::Begun { index, cached } if index % self.per_prompt == 0 => self.usage.cached += cached,
            Event::Prompt { index, tokens } => {
                self.ready.push_back(Delta { index, prompt: tokens, ..Delta::default() });
            }
            Event::Tokens { index, tokens } => {
                let Some(choice) = self.choices.get_mut(index).filter(|choice| !choice.ended) else { return };
                let mut delta = Delta { index, ..Delta::default() };
                for token in tokens {
                    let bytes = self.table.bytes(token.token);
                    self.usage.answer += 1;
                    let over = choice.push(bytes, &mut delta);
                    delta.tokens.push(token);
                    if over {
                        choice.started.cancelled.store(true, Ordering::Relaxed);
                        break;
                    }
                }
                self.open -= usize::from(choice.ended);
                self.ready.push_back(delta);
            }
            Event::Ended { index, end } => {
                let Some(choice) = self.choices.get_mut(index).filter(|choice| !choice.ended) else { return };
                let mut delta = Delta { index, ..Delta::default() };
                choice.finish(&mut delta, end);
                self.open -= 1;
                self.ready.push_back(delta);
            }
            Event::Begun { .. } | Event::Embedding { .. } | Event::Failed(_) => {}
        }
    }
}

impl Choice<'_> {
    /// Takes the bytes of a token; true if the choice is over.
    fn push(&mut self, bytes: &[u8], delta: &mut Delta) -> bool {
        let mut text = String::new();
        let status = self.text.push(bytes, &mut |piece| text.push_str(piece));
        self.show(&text, delta);
        let enough = self.one_call && self.calls > 0;
        if status == StopStatus::Stopped || enough {
            self.finish(delta, End::Stop);
        }
        self.ended
    }

    /// Ends the choice.
    fn finish(&mut self, delta: &mut Delta, end: End) {
        let mut text = String::new();
        self.text.finish(&mut |piece| text.push_str(piece));
        self.show(&text, delta);
        if end != End::Stop {
            self.cut = Cut::Answer;
        }
        if let Some(mut parser) = self.parser.take() {
            parser.finish(&mut |piece| self.take_piece(piece, delta));
        }
        if let Some(splitter) = &mut self.splitter {
            splitter.finish(&mut |piece| add(piece, delta));
        }
        self.ended = true;
        delta.finish = Some(match end {
            // As vLLM: the calls are whole, and clients refuse what ends by its length.
            _ if self.calls > 0 => Finish::ToolCalls,
            End::Stop => Finish::Stop,
            End::Length | End::Context | End::Interrupted => Finish::Length,
        });
    }

    /// Tells calls and reasoning apart from the text.
    fn show(&mut self, text: &str, delta: &mut Delta) {
        if text.is_empty() {
            return;
        }
        match self.parser.take() {
            None => self.show_text(text, delta),
            Some(mut parser) => {
                parser.push(text, &mut |piece| self.take_piece(piece, delta));
                self.parser = Some(parser);
            }
        }
    }

    fn take_piece(&mut self, piece: CallPiece<'_>, delta: &mut Delta) {
        match piece {
            CallPiece::Text(_) if self.cut == Cut::Call => {}
            CallPiece::Text(text) => self.show_text(text, delta),
            CallPiece::Call(_) if self.one_call && self.calls > 0 => {}
            CallPiece::Call(call) => {
                // Clients keep calls of many requests: ids are unique beyond this one.
                let id = format!("call_{}", &random_id()[..24]);
                delta.calls.push(ToolCall { id, ..call });
                self.calls += 1;
            }
            CallPiece::Invalid(_) if self.cut == Cut::Answer => self.cut = Cut::Call,
            // It follows as text.
            CallPiece::Invalid(_) => {}
        }
    }

    fn show_text(&mut self, text: &str, delta: &mut Delta) {
        match &mut self.splitter {
            Some(splitter) => splitter.push(text, &mut |piece| add(piece, delta)),
            None => delta.text.push_str(text),
        }
    }
}

fn add(piece: AnswerPiece<'_>, delta: &mut Delta) {
    match piece {
        AnswerPiece::Text(text) => delta.text.push_str(text),
        AnswerPiece::Reasoning(text) => delta.reasoning.push_str(text),
    }
}
