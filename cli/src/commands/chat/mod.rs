//! `thimble chat`: a conversation in the terminal.

mod changes;
mod complete;
mod display;
mod line;
mod markdown;
mod settings;
mod slash;
mod state;
mod terminal_chat;
mod tool_calls;
mod transcript;

use crate::adapters::Adapters;
use crate::attach::FileFlags;
use crate::chats::Chats;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::flags::grammar::{AnswerGrammar, GrammarFlags};
use crate::flags::numbers::at_least_one;
use crate::flags::sampling::{GenerationFlags, sampler};
use crate::flags::system::SystemFlags;
use crate::flags::thinking::Thinking;
use crate::flags::tools::ToolFlags;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::model::{Location, ModelFlags};
use crate::workspace::{Mapped, Workspace};
use crate::{input, terminal};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use line::Reader;
use markdown::Look;
use settings::ChatSettings;
use state::{ChatState, Keeper};
use std::io::Write;
use std::path::Path;
use terminal_chat::{Next, TerminalChat};
use thimble_chat::tools::ToolChoice;
use thimble_chat::{ChatSession, Conversation, Toolset};
use thimble_host::{InferenceSettings, LoadedModel, PromptFormat};
use thimble_runtime::sampler::Sampling;

/// Longest context if no flag gives one: memory is only used as it fills.
const MAX_CONTEXT: usize = 8192;

/// `thimble chat`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    model: ModelFlags,
    /// Continue the conversation of this name, or the last one; see `thimble chats`
    #[arg(long = "continue", value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    resume: Option<String>,
    /// Keep the conversation under this name [default: the first words of the first message]
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    name: Option<String>,
    /// Do not keep the conversation. Only those in a terminal are kept, and those with a name
    #[arg(long, conflicts_with_all = ["resume", "name"])]
    private: bool,
    #[command(flatten)]
    system: SystemFlags,
    #[command(flatten)]
    attached: FileFlags,
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
    /// `None` if the conversation says it.
    location: Option<Location>,
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
        if flags.attached.files.iter().any(|path| path == Path::new(input::STDIN)) {
            let reason = "--file -: the messages come from stdin; write the text to a file";
            return Err(Failure::Usage(reason.to_string()));
        }
        let resumed = flags.resume.is_some() && flags.model.model.is_none();
        let location = (!resumed).then(|| flags.model.location()).transpose()?;
        Ok(Job { location, flags })
    }

    /// Chats until the input ends.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let home = Home::find().ok();
        let mut reader = Reader::new(home.as_ref().map(Home::history))?;
        let mut state = self.state(home.as_ref(), reader.interactive())?;
        let mut interrupt = None;
        // What to go back to if the next model cannot be used.
        let mut before = None;
        loop {
            let chosen = (state.location.clone(), state.adapters.clone());
            let mut begun = false;
            match self.chat(&mut state, &mut reader, &mut interrupt, &mut begun, stdout) {
                Ok(Next::Reopen) => before = Some(chosen),
                Ok(_) => break,
                Err(failure) => match before.take() {
                    Some(earlier) if !begun => {
                        state.failed += 1;
                        terminal::error(&failure);
                        (state.location, state.adapters) = earlier;
                    }
                    _ => return Err(failure),
                },
            }
        }
        match state.failed {
            // On a terminal, the user has seen them.
            failed if failed > 0 && !reader.interactive() => Err(Failure::Inputs { failed }),
            _ => Ok(()),
        }
    }

    /// What the chat begins with.
    fn state(&self, home: Option<&Home>, interactive: bool) -> Result<ChatState, Failure> {
        let Flags {
            resume,
            name,
            private,
            system,
            attached,
            thinking,
            max_tokens,
            stop,
            plain,
            generation,
            ..
        } = &self.flags;
        let chats = || home.map(Chats::of).ok_or(Failure::NoHome);
        let mut keeper = Keeper::new(home.map(Chats::of).filter(|_| interactive && !private));
        let (mut conversation, mut model) = (Conversation::default(), None);
        if let Some(name) = resume {
            let kept = keeper.resume(chats()?, Some(&**name).filter(|name| !name.is_empty()))?;
            (conversation, model) = (kept.conversation, kept.model);
        }
        if let Some(name) = name {
            keeper.name_new(chats()?, name)?;
        }
        let location = match &self.location {
            Some(location) => location.clone(),
            None => Location::resolve(model.as_deref())?,
        };
        if let Some(text) = system.read()? {
            conversation.system = Some(text);
        }
        let mut settings = ChatSettings::new(generation.sampling.clone(), *max_tokens);
        (settings.thinking, settings.stops) = (*thinking, stop.clone());
        // An answer of a given shape is a value, whatever it looks like.
        settings.look = Look::of_stdout(*plain || self.flags.grammar.flag().is_some());
        Ok(ChatState {
            location,
            adapters: generation.machine.compute.adapters.clone(),
            settings,
            conversation,
            dropped: Vec::new(),
            attached: attached.read()?,
            keeper,
            resumed: resume.is_some(),
            failed: 0,
        })
    }

    /// Opens the model of `state` and chats with it; `begun` tells errors of the two apart.
    fn chat(
        &self,
        state: &mut ChatState,
        reader: &mut Reader,
        interrupt: &mut Option<Interrupt>,
        begun: &mut bool,
        stdout: &mut dyn Write,
    ) -> Result<Next, Failure> {
        let mapped = Mapped::open(&state.location.fetch(Notes::Shown)?)?;
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
        let adapters = Adapters::open(&state.adapters, &file)?;
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
        if let Some(note) = Thinking::note(state.settings.thinking, &model.file) {
            terminal::note(note);
        }
        let session = ChatSession {
            model,
            conversation: state.conversation.clone(),
            thinking: None,
            max_tokens: None,
            stops: Vec::new(),
            tools: None,
            constraint: None,
        };
        let interrupt = match interrupt {
            Some(installed) => installed,
            None => interrupt.insert(Interrupt::install()?),
        };
        let mut chat = TerminalChat {
            state,
            plan: &plan,
            session,
            biases: &biases,
            sampling,
            tools,
            grammar,
            follow_up,
            interrupt,
            last: None,
            stdout,
        };
        chat.apply_settings()?;
        // A model without a template, or one that refuses the system message, fails now and not after the first message.
        chat.check(&chat.session.conversation)?;
        if reader.interactive() {
            terminal::note(&format!(
                "{} | context {} tokens | /help for commands, Ctrl-C stops an answer, Ctrl-D quits",
                chat.state.location.name(),
                plan.context()
            ));
        }
        *begun = true;
        if std::mem::take(&mut chat.state.resumed) {
            chat.show_conversation()?;
            chat.show_waiting()?;
            chat.give_results(reader)?;
            chat.keep();
        }
        let next = chat.converse(reader)?;
        chat.state.conversation = std::mem::take(&mut chat.session.conversation);
        Ok(next)
    }
}
