//! `thimble chat`: the terminal around a [`ChatSession`].

use crate::failure::Failure;
use crate::flags::{ChatFlags, MachineFlags, SamplingFlags};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::line::{Line, Reader};
use crate::model::Location;
use crate::slash::{HELP, Input};
use crate::terminal::Status;
use crate::workspace::{self, Mapped, Need, Workspace};
use crate::wrap::{self, Wrap};
use crate::{resources, terminal};
use std::io::{IsTerminal, Write};
use std::path::Path;
use thimble_chat::{Answer, ChatError, ChatEvent, ChatModel, ChatSession, Conversation, End, Saved, Turn};
use thimble_host::InferencePlan;
use thimble_host::{LoadedModel, PromptFormat};
use thimble_runtime::sampler::Sampling;

/// Longest context where the user names none: memory is taken only as it fills.
const MOST_CONTEXT: usize = 8192;
/// Longest answer where the user names none: small models may never come to an end.
const MOST_TOKENS: usize = 1024;

/// With whom, and how.
pub(crate) struct Job {
    location: Location,
    system: Option<String>,
    max_tokens: usize,
    sampling: SamplingFlags,
    lookup: usize,
    machine: MachineFlags,
}

impl Job {
    /// Names the model.
    pub(crate) fn resolve(flags: ChatFlags) -> Result<Job, Failure> {
        Ok(Job {
            location: Location::resolve(flags.model.model.as_deref())?,
            system: flags.system,
            max_tokens: flags.max_tokens.unwrap_or(MOST_TOKENS),
            sampling: flags.sampling,
            lookup: flags.lookup,
            machine: flags.machine,
        })
    }

    /// Talks until the input ends.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let mapped = Mapped::open(&self.location.fetch()?)?;
        let file = mapped.file()?;
        let context = file.config().context.min(MOST_CONTEXT);
        let need = Need { context: Some(context), lookup: self.lookup, ..Need::default() };
        let plan = workspace::chosen(&mapped, &self.machine, need)?;
        let mut bench = Workspace::new(&plan)?;
        let generator = bench.generator(&file, &plan)?;
        let sampling = workspace::sampling(&self.sampling, &file, Sampling::ANSWER);
        let biases = workspace::biases(&self.sampling);
        let sampler = workspace::sampler(sampling, &biases, file.config().vocab)?;
        let model = LoadedModel { file, generator, sampler, format: PromptFormat::Chat, kept: None };
        // A model without a template, or one that refuses the system message, fails here and not after the
        // first message.
        let conversation = Conversation { system: self.system.clone(), turns: Vec::new() };
        check(&model, &conversation, &self.location, &plan)?;
        let session =
            ChatSession { model, conversation, max_tokens: Some(self.max_tokens), stops: Vec::new() };
        let interrupt = Interrupt::install()?;
        let mut reader = Reader::new(Home::find().ok().map(|home| home.history()))?;
        if reader.interactive() {
            terminal::note(&format!(
                "{} | context {} tokens | /help for commands, Ctrl-C stops an answer, Ctrl-D leaves",
                self.location.name(),
                plan.context()
            ));
        }
        let seed = sampling.seed;
        let mut room =
            Room { job: &self, plan: &plan, session, interrupt, seed, last: None, failed: 0, stdout };
        while let Some(line) = reader.read()? {
            match line {
                Line::Text(text) => {
                    if !room.hear(&text, &mut reader)? {
                        break;
                    }
                }
                Line::Cleared => terminal::note("(/quit or Ctrl-D leaves)"),
            }
        }
        match room.failed {
            // A person has seen them.
            failed if failed > 0 && !reader.interactive() => Err(Failure::Inputs { failed }),
            _ => Ok(()),
        }
    }
}

/// Refuses a model that cannot answer, and instructions that leave no room for a message.
fn check(
    model: &LoadedModel<'_, '_>,
    conversation: &Conversation,
    location: &Location,
    plan: &InferencePlan,
) -> Result<(), Failure> {
    let tokens = model.encode(&conversation.messages(conversation.turns.len(), "hello"));
    let found = tokens.map_err(|error| Failure::chat(&location.typed(), error))?.len();
    match found < model.context() {
        true => Ok(()),
        false => Err(Failure::TooLong {
            what: "the system prompt with a message",
            found,
            room: model.context() - 1,
            remedy: workspace::shorten(plan, model.file.config()),
        }),
    }
}

/// A running chat.
struct Room<'r, 'a, 'b> {
    job: &'r Job,
    plan: &'r InferencePlan,
    session: ChatSession<LoadedModel<'a, 'b>>,
    interrupt: Interrupt,
    seed: u64,
    last: Option<Answer>,
    /// Inputs that were not done as asked.
    failed: usize,
    stdout: &'r mut dyn Write,
}

impl Room<'_, '_, '_> {
    /// Acts on one input; false to leave. Only a broken stdout ends the program.
    fn hear(&mut self, text: &str, reader: &mut Reader) -> Result<bool, Failure> {
        match Input::parse(text) {
            Input::Empty => {}
            Input::Say(text) => {
                self.answer(&text)?;
            }
            Input::Help => terminal::note(HELP),
            Input::Reset => {
                self.session.conversation.turns.clear();
                terminal::note("(the conversation is forgotten)");
            }
            Input::ShowSystem => match &self.session.conversation.system {
                Some(text) => terminal::note(text),
                None => terminal::note("(no instructions; the model's own default may apply)"),
            },
            Input::SetSystem(text) => self.set_system(text),
            Input::Retry => match self.session.take_last() {
                Some(turn) => self.retry(turn)?,
                None => terminal::note("(there is nothing to answer again)"),
            },
            Input::Save { path, replace } => self.save(&path, replace, reader)?,
            Input::Load(path) => {
                let loaded = Saved::read(&path).map_err(Failure::from).and_then(|conversation| {
                    check(&self.session.model, &conversation, &self.job.location, self.plan)?;
                    Ok(conversation)
                });
                match loaded {
                    Ok(conversation) => {
                        terminal::note(&format!("(loaded {})", counted(conversation.turns.len())));
                        self.session.conversation = conversation;
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

    /// Says what an input failed with; the chat goes on.
    fn fail(&mut self, sentence: &dyn std::fmt::Display) {
        self.failed += 1;
        terminal::error(sentence);
    }

    /// Writes the conversation, but not over a file that is there unless that is wanted.
    fn save(&mut self, path: &Path, replace: bool, reader: &mut Reader) -> Result<(), Failure> {
        let shown = path.display();
        if !replace && path.is_file() {
            match reader.confirm(&format!("{shown} is there already. Replace it? [y/N] "))? {
                Some(true) => {}
                Some(false) => {
                    terminal::note("(not saved)");
                    return Ok(());
                }
                None => {
                    let there = format!(
                        "{shown} is there already: save to another file, or replace it with /save! {shown}"
                    );
                    self.fail(&there);
                    return Ok(());
                }
            }
        }
        let saved = Saved::new(&self.job.location.name(), &self.session.conversation);
        match saved.write(path) {
            Ok(()) => terminal::note(&format!("(saved to {shown})")),
            Err(failure) => self.fail(&failure),
        }
        Ok(())
    }

    /// Takes the instructions only if the model's template takes them and the context has room for them.
    fn set_system(&mut self, text: Option<String>) {
        let before = std::mem::replace(&mut self.session.conversation.system, text);
        match check(&self.session.model, &self.session.conversation, &self.job.location, self.plan) {
            Ok(()) => terminal::note("(the instructions are changed)"),
            Err(failure) => {
                self.fail(&failure);
                self.session.conversation.system = before;
            }
        }
    }

    /// Another answer to a turn that was taken out; without one, the turn stays as it was.
    fn retry(&mut self, turn: Turn) -> Result<(), Failure> {
        if !self.answer(&turn.user)? {
            self.session.conversation.turns.push(turn);
        }
        Ok(())
    }

    /// One answer, streamed; whether it is remembered. A failure of the model is told and the chat goes on.
    fn answer(&mut self, user: &str) -> Result<bool, Failure> {
        let answering = self.interrupt.answering();
        let stdout = &mut *self.stdout;
        let terminal = std::io::stdout().is_terminal();
        let mut status = Status::default();
        let mut wrap = Wrap::new(if terminal { wrap::terminal_width() } else { None });
        let mut empty = true;
        let answered = self.session.answer::<Failure>(user, answering.flag(), &mut |event| match event {
            ChatEvent::Text(text) => {
                status.clear();
                empty &= text.trim().is_empty();
                let text = if terminal { terminal::harmless(text) } else { text.into() };
                stdout.write_all(wrap.push(&text).as_bytes())?;
                Ok(stdout.flush()?)
            }
            ChatEvent::Forgot { turns } => {
                status.clear();
                stdout.write_all(wrap.finish().as_bytes())?;
                if terminal && wrap.within_line() {
                    writeln!(stdout)?;
                    wrap.restart();
                }
                stdout.flush()?;
                let plural = if turns == 1 { "turn gives" } else { "turns give" };
                terminal::note(&format!("(the context is full: the oldest {turns} {plural} way)"));
                Ok(())
            }
            ChatEvent::Reading { done, of } => {
                status.show(&format!("reading {} of {} tokens", grouped(done), grouped(of)));
                Ok(())
            }
        });
        status.clear();
        drop(answering);
        match answered {
            Ok(answer) => {
                writeln!(self.stdout, "{}", wrap.finish())?;
                self.stdout.flush()?;
                self.last = Some(answer);
                match answer.end {
                    End::Stop if empty => terminal::note(
                        "(the model ended its answer without a word: /retry asks for another one, and a shorter or plainer \
                         message may help)",
                    ),
                    End::Stop => {}
                    End::Interrupted => terminal::note("(stopped)"),
                    End::Context if empty => terminal::note(&format!(
                        "(the message leaves no room for an answer in the context of {} tokens: {})",
                        self.plan.context(),
                        workspace::shorten(self.plan, self.session.model.file.config())
                    )),
                    End::Context => terminal::note("(the context is full: the answer ends here)"),
                    End::Length => terminal::note(&format!(
                        "(stopped after {} tokens; --max-tokens N allows more)",
                        self.job.max_tokens
                    )),
                }
                Ok(answer.remembered)
            }
            Err(failure @ Failure::Stdout(_)) => Err(failure),
            Err(Failure::Chat(ChatError::TooLong { found, room })) => {
                let what = "this message (with the instructions)";
                let remedy = workspace::shorten(self.plan, self.session.model.file.config());
                self.fail(&Failure::TooLong { what, found, room, remedy });
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
                "last answer: {} prompt tokens in the cache, {} computed at {:.0}/s, {} answered at {:.1}/s",
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
            "{}, {} of {} tokens in the context; plan {:.1} MB{}; {}, {} threads; seed {}",
            counted(self.session.conversation.turns.len()),
            self.session.model.generator.position(),
            plan.context(),
            plan.bytes() as f64 / 1e6,
            peak.map_or(String::new(), |bytes| format!(", peak resident {:.1} MB", bytes as f64 / 1e6)),
            self.session.model.generator.sequence().processors(),
            plan.threads(),
            self.seed,
        ));
    }
}

/// So many turns.
fn counted(turns: usize) -> String {
    format!("{turns} turn{}", if turns == 1 { "" } else { "s" })
}

/// A number with commas between its thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8_lossy(&groups.join(&b',')).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_set_apart() {
        let found = [0, 999, 1000, 8089, 1_234_567].map(super::grouped);
        assert_eq!(found, ["0", "999", "1,000", "8,089", "1,234,567"]);
    }
}
