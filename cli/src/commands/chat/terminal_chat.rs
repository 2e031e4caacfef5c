//! A running chat: messages, slash commands and streamed answers.

use super::display::AnswerDisplay;
use super::line::{Line, Reader};
use super::slash::{self, Input};
use super::state::{ChatState, Keeper};
use super::tool_calls;
use crate::attach;
use crate::failure::Failure;
use crate::flags::grammar::AnswerGrammar;
use crate::flags::sampling::sampler;
use crate::flags::thinking::Thinking;
use crate::flags::tools::call_line;
use crate::interrupt::Interrupt;
use crate::terminal;
use crate::workspace;
use std::io::Write;
use thimble_chat::tools::ToolCall;
use thimble_chat::{
    AnswerStats, ChatError, ChatEvent, ChatModel, ChatPrompt, ChatSession, Conversation, End, Toolset, Turn,
};
use thimble_host::{InferencePlan, LoadedModel};
use thimble_runtime::Token;
use thimble_runtime::sampler::Sampling;

/// A session with its terminal.
pub(super) struct TerminalChat<'r, 'a, 'b> {
    pub(super) state: &'r mut ChatState,
    pub(super) plan: &'r InferencePlan,
    pub(super) session: ChatSession<LoadedModel<'a, 'b>>,
    /// What the flags add to logits.
    pub(super) biases: &'b [(Token, f32)],
    /// How tokens are chosen at present.
    pub(super) sampling: Sampling,
    /// The tools that an answer to a message may call.
    pub(super) tools: Option<Toolset>,
    /// The shape of every answer to a message, if it is given or there are tools.
    pub(super) grammar: Option<AnswerGrammar>,
    /// The same for answers to results: there the model decides about calls.
    pub(super) follow_up: Option<(Toolset, Option<AnswerGrammar>)>,
    pub(super) interrupt: &'r Interrupt,
    pub(super) last: Option<AnswerStats>,
    pub(super) stdout: &'r mut dyn Write,
}

/// What comes after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another input.
    Input,
    /// The end of the chat.
    Quit,
    /// The same chat with what has changed in its state: another model, or other adapters.
    Reopen,
}

/// What the model answers.
enum Question<'q> {
    /// A message.
    Message(&'q str),
    /// The results of its calls.
    Results(&'q [String]),
}

/// Rounds of calls before a chat expects an answer.
const MOST_ROUNDS: usize = 16;

impl TerminalChat<'_, '_, '_> {
    /// Refuses a model that cannot answer, and a system prompt that leaves no room for a message.
    pub(super) fn check(&self, conversation: &Conversation) -> Result<(), Failure> {
        let model = &self.session.model;
        let open = Turn::new("hello");
        let messages = conversation.messages(conversation.turns.len(), &open);
        let (tools, thinking) = (self.tools.as_ref(), self.session.thinking);
        let tokens = model.encode(&ChatPrompt { messages, tools, thinking });
        let found = tokens.map_err(|error| Failure::chat(&self.state.location.typed(), error))?.len();
        match found < model.context() {
            true => Ok(()),
            false => Err(self.too_long("the system prompt with a message", found, model.context() - 1)),
        }
    }

    fn too_long(&self, what: &'static str, found: usize, room: usize) -> Failure {
        Failure::TooLong { what, found, room, remedy: self.too_long_remedy() }
    }

    fn too_long_remedy(&self) -> String {
        workspace::too_long_remedy(self.plan, self.session.model.file.config())
    }

    /// Handles inputs until they end, or the chat needs another model.
    pub(super) fn converse(&mut self, reader: &mut Reader) -> Result<Next, Failure> {
        while let Some(line) = reader.read()? {
            match self.handle(line, reader)? {
                Next::Input => {}
                next => return Ok(next),
            }
        }
        Ok(Next::Quit)
    }

    /// Handles one input. Only a broken stdout ends the program.
    fn handle(&mut self, line: Line, reader: &mut Reader) -> Result<Next, Failure> {
        let text = match line {
            Line::Text(text) => text,
            Line::Message(text) => {
                self.say(&text, reader)?;
                return Ok(Next::Input);
            }
            Line::Cleared => {
                terminal::note("(type /quit or press Ctrl-D to quit)");
                return Ok(Next::Input);
            }
        };
        match Input::parse(&text) {
            Input::Empty => {}
            Input::Say(text) => self.say(&text, reader)?,
            Input::Help => terminal::note(&slash::help()),
            Input::ShowSettings => self.show_settings(),
            Input::Set { name, value } => self.set(&name, value.as_deref()),
            Input::ShowSystem => match &self.session.conversation.system {
                Some(text) => terminal::note(text),
                None => terminal::note("(no system prompt; the model's own default may apply)"),
            },
            Input::SetSystem(text) => self.set_system(text),
            Input::Model(name) => return Ok(self.change_model(name.as_deref())),
            Input::Adapter(typed) => return Ok(self.change_adapter(typed.as_deref())),
            Input::File(path) => self.attach(path.as_deref()),
            Input::Clear => {
                self.session.conversation.turns.clear();
                self.state.dropped.clear();
                self.state.attached.clear();
                self.state.keeper.begin();
                terminal::note("(conversation cleared)");
            }
            Input::Retry => match self.session.pop_turn() {
                Some(turn) => self.retry(turn, reader)?,
                None => terminal::note("(there is no message to answer again)"),
            },
            Input::Name(name) => self.name(name.as_deref()),
            Input::Save { path, replace } => self.save(&path, replace, reader)?,
            Input::Load(name) => self.load(&name, reader)?,
            Input::Stats => self.stats(),
            Input::Quit => return Ok(Next::Quit),
            Input::Wrong(sentence) => {
                self.state.failed += 1;
                terminal::note(&sentence);
            }
        }
        Ok(Next::Input)
    }

    /// Answers a message with the attached files, and keeps the conversation.
    fn say(&mut self, text: &str, reader: &mut Reader) -> Result<(), Failure> {
        let files = std::mem::take(&mut self.state.attached);
        self.answer(&attach::message_with(&files, text), reader)?;
        Ok(())
    }

    /// Makes the session follow the settings.
    ///
    /// # Errors
    /// The sampler refuses them together.
    pub(super) fn apply_settings(&mut self) -> Result<(), Failure> {
        let settings = &self.state.settings;
        let sampling = settings.sampling.sampling(&self.session.model.file, Sampling::ANSWER);
        self.session.model.sampler = sampler(sampling, self.biases)?;
        self.sampling = sampling;
        self.session.thinking = Thinking::option(settings.thinking);
        self.session.max_tokens = Some(settings.max_tokens);
        self.session.stops = settings.stops.clone();
        Ok(())
    }

    /// Reports why an input failed; the chat continues.
    pub(super) fn fail(&mut self, sentence: &dyn std::fmt::Display) {
        self.state.failed += 1;
        terminal::error(sentence);
    }

    /// Answers a removed turn again; if that fails, the turn is put back.
    fn retry(&mut self, turn: Turn, reader: &mut Reader) -> Result<(), Failure> {
        if !self.answer(&turn.user, reader)? {
            self.session.conversation.turns.push(turn);
            self.keep();
        }
        Ok(())
    }

    /// Answers a message, with the results of the tools that the model calls; whether the turn is remembered.
    fn answer(&mut self, user: &str, reader: &mut Reader) -> Result<bool, Failure> {
        let remembered = self.stream(Question::Message(user))? && self.give_results(reader)?;
        self.keep();
        Ok(remembered)
    }

    /// Keeps the conversation on disk, if it is kept.
    pub(super) fn keep(&mut self) {
        let model = self.state.location.absolute();
        let whole = self.state.whole(&self.session.conversation);
        if let Err(failure) = self.state.keeper.keep(&model, &whole) {
            // The answer is there: the chat goes on, and says this once.
            self.state.keeper = Keeper::new(None);
            let sentence =
                format!("(this conversation is not kept from here on: {failure}; /name NAME tries again)");
            terminal::note(&sentence);
        }
    }

    /// Reads the results of the calls that wait, and answers them, until there is an answer; whether the turn is remembered.
    pub(super) fn give_results(&mut self, reader: &mut Reader) -> Result<bool, Failure> {
        for round in 0.. {
            let Some(calls) = self.waiting() else { return Ok(true) };
            let results = if round < MOST_ROUNDS { tool_calls::read_results(calls, reader)? } else { None };
            let expected = calls.len();
            let reason = match &results {
                None if round == MOST_ROUNDS => {
                    format!("the model called tools {MOST_ROUNDS} times without an answer")
                }
                None => format!("the input ended before all results of the calls ({expected}) were given"),
                Some(results) if self.stream(Question::Results(results))? => continue,
                Some(_) => "there is no answer to the results".to_string(),
            };
            self.session.pop_turn();
            match reader.interactive() {
                true => terminal::note(&format!("({reason}: the message is taken back)")),
                false => self.fail(&format!("{reason}: the message is taken back")),
            }
            break;
        }
        Ok(false)
    }

    /// The calls that wait for their results.
    fn waiting(&self) -> Option<&[ToolCall]> {
        let turn = self.session.conversation.turns.last().filter(|turn| turn.waits());
        turn.and_then(|turn| turn.rounds.last()).map(|round| &*round.calls)
    }

    /// Shows the calls of a loaded conversation that wait.
    pub(super) fn show_waiting(&mut self) -> Result<(), Failure> {
        let terminal = self.state.settings.look.is_some();
        let lines = self.waiting().into_iter().flatten().map(|call| call_line(call, terminal));
        for line in lines.collect::<Vec<String>>() {
            writeln!(self.stdout, "{line}")?;
        }
        Ok(self.stdout.flush()?)
    }

    /// Streams one answer; whether it is remembered. A failure of the model is reported and the chat continues.
    fn stream(&mut self, question: Question<'_>) -> Result<bool, Failure> {
        let (tools, grammar) = match (&question, &self.follow_up) {
            (Question::Results(_), Some((tools, grammar))) => (Some(tools), grammar),
            _ => (self.tools.as_ref(), &self.grammar),
        };
        self.session.tools = tools.cloned();
        self.session.constraint = grammar.as_ref().map(AnswerGrammar::constraint).transpose()?;
        let before = self.session.conversation.turns.clone();
        let mut dropped = 0;
        let answering = self.interrupt.answering();
        let (look, hidden) = (self.state.settings.look, self.hides_reasoning());
        let mut display = AnswerDisplay::new(&mut *self.stdout, look, hidden);
        let mut show = |event: ChatEvent<'_>| match event {
            ChatEvent::Text(text) => Ok(display.text(text)?),
            ChatEvent::Call(call) => Ok(display.call(&call_line(call, look.is_some()))?),
            ChatEvent::InvalidCall(error) => {
                display.status.clear();
                display.interrupt_line()?;
                terminal::note(&format!("({error})"));
                Ok(())
            }
            ChatEvent::Dropped { turns } => {
                dropped += turns;
                display.status.clear();
                display.interrupt_line()?;
                let turns = if turns == 1 { "turn is".to_string() } else { format!("{turns} turns are") };
                terminal::note(&format!("(the context is full: the oldest {turns} dropped)"));
                Ok(())
            }
            // Log-probabilities are not kept here.
            ChatEvent::Sampled(_) => Ok(()),
            ChatEvent::Prefill { done, of } => {
                display.status.show(&format!("reading {} of {} tokens", with_commas(done), with_commas(of)));
                Ok(())
            }
        };
        let answered: Result<AnswerStats, Failure> = match question {
            Question::Message(user) => self.session.answer(user, answering.flag(), &mut show),
            Question::Results(results) => self.session.answer_results(results, answering.flag(), &mut show),
        };
        display.status.clear();
        drop(answering);
        match answered {
            Ok(answer) => {
                display.finish()?;
                let empty = display.empty;
                self.last = Some(answer);
                if answer.remembered {
                    self.state.dropped.extend(before.into_iter().take(dropped));
                }
                match answer.end {
                    End::Stop if empty => terminal::note(
                        "(the model gave an empty answer: /retry asks again, and a shorter or simpler message may help)",
                    ),
                    End::Stop => {}
                    End::Interrupted => terminal::note("(stopped)"),
                    End::Context if empty => terminal::note(&format!(
                        "(the message leaves no room for an answer in the context of {} tokens: {})",
                        self.plan.context(),
                        self.too_long_remedy()
                    )),
                    End::Context => terminal::note("(the context is full: the answer ends here)"),
                    End::Length => terminal::note(&format!(
                        "(stopped after {} tokens; /set max-tokens N allows more)",
                        self.session.max_tokens.unwrap_or_default()
                    )),
                }
                Ok(answer.remembered)
            }
            Err(failure @ Failure::Stdout(_)) => Err(failure),
            Err(Failure::Chat(ChatError::TooLong { found, room })) => {
                let failure = self.too_long("this message (with the system prompt)", found, room);
                self.fail(&failure);
                Ok(false)
            }
            Err(failure) => {
                self.fail(&failure);
                Ok(false)
            }
        }
    }

    /// Whether to show only answers.
    pub(super) fn hides_reasoning(&self) -> bool {
        self.state.settings.thinking == Some(Thinking::Hide)
    }
}

/// A number with commas between thousands.
fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8_lossy(&groups.join(&b',')).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_separated() {
        let found = [0, 999, 1000, 8089, 1_234_567].map(super::with_commas);
        assert_eq!(found, ["0", "999", "1,000", "8,089", "1,234,567"]);
    }
}
