//! A running chat: messages, slash commands and streamed answers.

use super::display::AnswerDisplay;
use super::line::Reader;
use super::markdown::Look;
use super::slash::{HELP, Input};
use super::tool_calls;
use crate::failure::Failure;
use crate::flags::grammar::AnswerGrammar;
use crate::interrupt::Interrupt;
use crate::model::Location;
use crate::terminal;
use crate::{resources, workspace};
use std::io::Write;
use std::path::Path;
use thimble_chat::tools::ToolCall;
use thimble_chat::{
    AnswerStats, ChatError, ChatEvent, ChatModel, ChatPrompt, ChatSession, Conversation, End,
    SavedConversation, Toolset, Turn,
};
use thimble_host::{InferencePlan, LoadedModel};

/// A session with its terminal.
pub(super) struct TerminalChat<'r, 'a, 'b> {
    pub(super) location: &'r Location,
    pub(super) plan: &'r InferencePlan,
    pub(super) session: ChatSession<LoadedModel<'a, 'b>>,
    /// The tools that an answer to a message may call.
    pub(super) tools: Option<Toolset>,
    /// The shape of every answer to a message, if it is given or there are tools.
    pub(super) grammar: Option<AnswerGrammar>,
    /// The same for answers to results: there the model decides about calls.
    pub(super) follow_up: Option<(Toolset, Option<AnswerGrammar>)>,
    /// Whether to show only answers.
    pub(super) hide_reasoning: bool,
    /// How answers are shown on a terminal.
    pub(super) look: Option<Look>,
    pub(super) interrupt: Interrupt,
    pub(super) seed: u64,
    pub(super) last: Option<AnswerStats>,
    /// Inputs that failed.
    pub(super) failed: usize,
    pub(super) stdout: &'r mut dyn Write,
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
        let found = tokens.map_err(|error| Failure::chat(&self.location.typed(), error))?.len();
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

    /// Handles one input; false to leave. Only a broken stdout ends the program.
    pub(super) fn handle(&mut self, text: &str, reader: &mut Reader) -> Result<bool, Failure> {
        match Input::parse(text) {
            Input::Empty => {}
            Input::Say(text) => {
                self.answer(&text, reader)?;
            }
            Input::Help => terminal::note(HELP),
            Input::Reset => {
                self.session.conversation.turns.clear();
                terminal::note("(conversation cleared)");
            }
            Input::ShowSystem => match &self.session.conversation.system {
                Some(text) => terminal::note(text),
                None => terminal::note("(no system prompt; the model's own default may apply)"),
            },
            Input::SetSystem(text) => self.set_system(text),
            Input::Retry => match self.session.pop_turn() {
                Some(turn) => self.retry(turn, reader)?,
                None => terminal::note("(there is no message to answer again)"),
            },
            Input::Save { path, replace } => self.save(&path, replace, reader)?,
            Input::Load(path) => {
                let saved = SavedConversation::read(&path).map_err(Failure::from);
                match saved.and_then(|conversation| self.check(&conversation).map(|()| conversation)) {
                    Ok(conversation) => {
                        terminal::note(&format!("(loaded {})", turns(conversation.turns.len())));
                        self.session.conversation = conversation;
                        self.show_waiting()?;
                        self.give_results(reader)?;
                    }
                    Err(failure) => self.fail(&failure),
                }
            }
            Input::Stats => self.stats(),
            Input::Quit => return Ok(false),
            Input::Wrong(sentence) => {
                self.failed += 1;
                terminal::note(&sentence);
            }
        }
        Ok(true)
    }

    /// Reports why an input failed; the chat continues.
    fn fail(&mut self, sentence: &dyn std::fmt::Display) {
        self.failed += 1;
        terminal::error(sentence);
    }

    /// Writes the conversation; replaces an existing file only if asked or confirmed.
    fn save(&mut self, path: &Path, replace: bool, reader: &mut Reader) -> Result<(), Failure> {
        let shown = path.display();
        if !replace && path.is_file() {
            match reader.confirm(&format!("{shown} exists already. Replace it? [y/N] "))? {
                Some(true) => {}
                Some(false) => {
                    terminal::note("(not saved)");
                    return Ok(());
                }
                None => {
                    self.fail(&format!(
                        "{shown} exists already: save to another file, or replace it with /save! {shown}"
                    ));
                    return Ok(());
                }
            }
        }
        let saved = SavedConversation::new(&self.location.name(), &self.session.conversation);
        match saved.write(path) {
            Ok(()) => terminal::note(&format!("(saved to {shown})")),
            Err(failure) => self.fail(&failure),
        }
        Ok(())
    }

    /// Sets the system prompt, if the model's template accepts it and it fits the context.
    fn set_system(&mut self, text: Option<String>) {
        let before = std::mem::replace(&mut self.session.conversation.system, text);
        match self.check(&self.session.conversation) {
            Ok(()) if self.session.conversation.system.is_none() => terminal::note("(system prompt removed)"),
            Ok(()) => terminal::note("(system prompt changed)"),
            Err(failure) => {
                self.fail(&failure);
                self.session.conversation.system = before;
            }
        }
    }

    /// Answers a removed turn again; if that fails, the turn is put back.
    fn retry(&mut self, turn: Turn, reader: &mut Reader) -> Result<(), Failure> {
        if !self.answer(&turn.user, reader)? {
            self.session.conversation.turns.push(turn);
        }
        Ok(())
    }

    /// Answers a message, with the results of the tools that the model calls; whether the turn is remembered.
    fn answer(&mut self, user: &str, reader: &mut Reader) -> Result<bool, Failure> {
        Ok(self.stream(Question::Message(user))? && self.give_results(reader)?)
    }

    /// Reads the results of the calls that wait, and answers them, until there is an answer; whether the turn is remembered.
    fn give_results(&mut self, reader: &mut Reader) -> Result<bool, Failure> {
        for round in 0.. {
            let Some(calls) = self.waiting() else { return Ok(true) };
            let results = if round < MOST_ROUNDS { tool_calls::read_results(calls, reader)? } else { None };
            let expected = calls.len();
            let reason = match &results {
                None if round == MOST_ROUNDS => {
                    format!("the model called tools {MOST_ROUNDS} times without an answer")
                }
                None => format!("the input ended before the results of {expected} calls"),
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
    fn show_waiting(&mut self) -> Result<(), Failure> {
        let terminal = self.look.is_some();
        let lines = self.waiting().into_iter().flatten().map(|call| tool_calls::shown(call, terminal));
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
        let answering = self.interrupt.answering();
        let terminal = self.look.is_some();
        let mut display = AnswerDisplay::new(&mut *self.stdout, self.look, self.hide_reasoning);
        let mut show = |event: ChatEvent<'_>| match event {
            ChatEvent::Text(text) => Ok(display.text(text)?),
            ChatEvent::Call(call) => Ok(display.call(&tool_calls::shown(call, terminal))?),
            ChatEvent::InvalidCall(error) => {
                display.status.clear();
                display.interrupt_line()?;
                terminal::note(&format!("({error})"));
                Ok(())
            }
            ChatEvent::Dropped { turns } => {
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
                        "(stopped after {} tokens; --max-tokens N allows more)",
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

    fn stats(&mut self) {
        let rate = |tokens: usize, time: std::time::Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
        if let Some(a) = &self.last {
            terminal::note(&format!(
                "last answer: {} prompt tokens from the cache, {} computed at {:.0}/s; {} answer tokens at {:.1}/s",
                a.reused,
                a.prefilled,
                rate(a.prefilled, a.prefill_time),
                a.decoded,
                rate(a.decoded, a.decode_time)
            ));
        }
        let plan = self.plan;
        let peak = resources::peak_resident_bytes();
        terminal::note(&format!(
            "{}, {} of {} tokens in the context; reserved {:.1} MB{}; {}, {} threads; seed {}",
            turns(self.session.conversation.turns.len()),
            self.session.model.generator.position(),
            plan.context(),
            plan.bytes() as f64 / 1e6,
            peak.map_or(String::new(), |bytes| format!(", peak memory {:.1} MB", bytes as f64 / 1e6)),
            self.session.model.generator.sequence().processors(),
            plan.threads(),
            self.seed,
        ));
    }
}

/// A number of turns.
fn turns(turns: usize) -> String {
    format!("{turns} turn{}", if turns == 1 { "" } else { "s" })
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
