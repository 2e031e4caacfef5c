//! `thimble chat`: a conversation in the terminal.

mod display;
mod line;
mod markdown;
mod slash;
mod style;
mod terminal_chat;
mod tool_calls;
mod wrap;

use crate::adapters::Adapters;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::flags::grammar::{AnswerGrammar, GrammarFlags};
use crate::flags::numbers::at_least_one;
use crate::flags::sampling::{GenerationFlags, sampler};
use crate::flags::thinking::Thinking;
use crate::flags::tools::ToolFlags;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::model::{Location, ModelFlags};
use crate::workspace::{Mapped, Workspace};
use crate::{input, terminal};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use line::{Line, Reader};
use markdown::Look;
use std::io::Write;
use std::path::Path;
use terminal_chat::TerminalChat;
use thimble_chat::tools::ToolChoice;
use thimble_chat::{ChatSession, Conversation, Toolset};
use thimble_host::{InferenceSettings, LoadedModel, PromptFormat};
use thimble_runtime::sampler::Sampling;

/// Longest context if no flag gives one: memory is only used as it fills.
const MAX_CONTEXT: usize = 8192;
/// Longest answer if no flag gives one: small models may never stop.
const MAX_TOKENS: usize = 1024;

/// `thimble chat`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    model: ModelFlags,
    /// System prompt: instructions to the model, before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Whether the model thinks before it answers, if its chat template has such a mode [default: the template's]
    #[arg(long, value_enum, value_name = "MODE")]
    thinking: Option<Thinking>,
    /// Longest answer in tokens [default: 1024]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    max_tokens: Option<usize>,
    /// End an answer before this text; may be repeated
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Show answers as the model writes them, without formatting their Markdown
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    grammar: GrammarFlags,
    #[command(flatten)]
    tools: ToolFlags,
    #[command(flatten)]
    generation: GenerationFlags,
}

/// Which model, and how.
pub(crate) struct Job {
    location: Location,
    flags: Flags,
}

impl Job {
    /// Locates the model.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        flags.grammar.check()?;
        flags.tools.check()?;
        if flags.grammar.schema.as_deref() == Some(Path::new(input::STDIN)) {
            let reason = "--schema -: the messages come from stdin; write the schema to a file";
            return Err(Failure::Usage(reason.to_string()));
        }
        Ok(Job { location: flags.model.location()?, flags })
    }

    /// Chats until the input ends.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let mapped = Mapped::open(&self.location.fetch(Notes::Shown)?)?;
        let file = mapped.file()?;
        let tools = self.flags.tools.toolset(&file)?;
        let with_grammar = |tools: Toolset| -> Result<_, Failure> {
            let grammar = AnswerGrammar::of_tools(&file, &tools)?;
            Ok((tools, grammar))
        };
        let (follow_up, grammar) = match &tools {
            Some(tools) => {
                let follow_up = with_grammar(tools.with_auto_choice())?;
                let same = *tools.choice() == ToolChoice::Auto;
                let grammar = if same { follow_up.1.clone() } else { AnswerGrammar::of_tools(&file, tools)? };
                (Some(follow_up), grammar)
            }
            None => (None, self.flags.grammar.compile(&file)?),
        };
        if tools.as_ref().is_some_and(|tools| !tools.format().lists_tools) {
            terminal::note(
                "note: this model's chat template has no place for tools, so the system message lists them; the model may not be \
                 trained to call any",
            );
        }
        let GenerationFlags { lookup, sampling: sampling_flags, machine } = &self.flags.generation;
        let context = file.config().context.min(MAX_CONTEXT);
        let adapters = Adapters::open(&machine.compute.adapters, &file)?;
        let needed = InferenceSettings {
            adapter_rank: adapters.rank()?,
            context: Some(context),
            lookup: *lookup,
            ..InferenceSettings::default()
        };
        let plan = mapped.plan(&machine.settings(needed))?;
        let mut workspace = Workspace::new(&plan)?;
        let generator = workspace.generator(&file, &plan, &adapters)?;
        let sampling = sampling_flags.sampling(&file, Sampling::ANSWER);
        let biases = sampling_flags.biases(&file)?;
        let sampler = sampler(sampling, &biases)?;
        let model = LoadedModel {
            file,
            generator,
            sampler,
            format: PromptFormat::Chat,
            kv_file: None,
            log_probabilities: None,
            adapters: Vec::new(),
        };
        let conversation = Conversation { system: self.flags.system.clone(), turns: Vec::new() };
        if let Some(note) = Thinking::note(self.flags.thinking, &model.file) {
            terminal::note(note);
        }
        let session = ChatSession {
            model,
            conversation,
            thinking: Thinking::option(self.flags.thinking),
            max_tokens: Some(self.flags.max_tokens.unwrap_or(MAX_TOKENS)),
            stops: self.flags.stop.clone(),
            tools: None,
            constraint: None,
        };
        let mut chat = TerminalChat {
            location: &self.location,
            plan: &plan,
            session,
            tools,
            grammar,
            follow_up,
            hide_reasoning: self.flags.thinking == Some(Thinking::Hide),
            look: Look::of_stdout(self.flags.plain),
            interrupt: Interrupt::install()?,
            seed: sampling.seed,
            last: None,
            failed: 0,
            stdout,
        };
        // A model without a template, or one that refuses the system message, fails now and not after the first message.
        chat.check(&chat.session.conversation)?;
        let mut reader = Reader::new(Home::find().ok().map(|home| home.history()))?;
        if reader.interactive() {
            terminal::note(&format!(
                "{} | context {} tokens | /help for commands, Ctrl-C stops an answer, Ctrl-D quits",
                self.location.name(),
                plan.context()
            ));
        }
        while let Some(line) = reader.read()? {
            match line {
                Line::Text(text) => {
                    if !chat.handle(&text, &mut reader)? {
                        break;
                    }
                }
                Line::Cleared => terminal::note("(type /quit or press Ctrl-D to quit)"),
            }
        }
        match chat.failed {
            // On a terminal, the user has seen them.
            failed if failed > 0 && !reader.interactive() => Err(Failure::Inputs { failed }),
            _ => Ok(()),
        }
    }
}
