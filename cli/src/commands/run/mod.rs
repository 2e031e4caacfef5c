//! `thimble run`: continues a text.

mod answer;
mod log_probabilities;
mod output;
mod prompt;

use crate::adapters::Adapters;
use crate::attach::FileFlags;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::flags::grammar::{AnswerGrammar, GrammarFlags};
use crate::flags::numbers::{up_to_twenty, whole};
use crate::flags::sampling::{GenerationFlags, sampler};
use crate::flags::system::SystemFlags;
use crate::flags::thinking::Thinking;
use crate::flags::tools::{ToolFlags, call_json, call_line};
use crate::model::Location;
use crate::workspace::{self, Mapped, Workspace};
use crate::{attach, input, json, resources, terminal};
use answer::Answer;
use clap::Args;
use log_probabilities::TokenLogProbabilities;
use output::{Finish, Output, Stats, report};
use prompt::{MissingPrompt, Prompt, PromptFlags};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Instant;
use thimble_chat::{ChatModel, ChatPrompt, Step, Toolset, next_tokens};
use thimble_host::{
    Generator, InferencePlan, InferenceSettings, LoadedModel, LogProbabilities, PromptFormat,
};
use thimble_runtime::Token;
use thimble_runtime::chat::{Message, Role};
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::Sampling;
use thimble_runtime::stop::{StopMatcher, StopStatus, TextStream};
use thimble_runtime::tokenizer::Specials;

/// Tokens to generate if no flag gives a number.
const MAX_TOKENS: usize = 256;

/// `thimble run`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) prompt: PromptFlags,
    /// Generate exactly N tokens, continuing past the model's end-of-text token (with --chat it stops there)
    #[arg(long, value_name = "N", conflicts_with_all = ["max_tokens", "shape"], value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) tokens: Option<usize>,
    /// Generate at most N tokens and stop at the model's end-of-text token [default: 256]
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    max_tokens: Option<usize>,
    /// Stop before this text; may be repeated
    #[arg(long, value_name = "TEXT", conflicts_with = "shape", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Send the prompt as one message to a chat model, in its chat template
    #[arg(long)]
    chat: bool,
    #[command(flatten)]
    system: SystemFlags,
    #[command(flatten)]
    attached: FileFlags,
    /// With --chat: whether the model thinks before it answers, if its chat template has such a mode [default: the
    /// template's]
    #[arg(long, value_enum, value_name = "MODE", requires = "chat")]
    thinking: Option<Thinking>,
    /// Read special tokens such as <|im_start|> in the prompt as plain text
    #[arg(long)]
    escape: bool,
    /// Print one JSON object with ids, text and statistics instead of the text
    #[arg(long)]
    pub(crate) json: bool,
    /// With --json: the log-probability of each generated token, with the N most probable tokens in its place (at most 20)
    #[arg(long, value_name = "N", requires = "json", value_parser = up_to_twenty, allow_negative_numbers = true)]
    logprobs: Option<usize>,
    #[command(flatten)]
    grammar: GrammarFlags,
    #[command(flatten)]
    tools: ToolFlags,
    #[command(flatten)]
    pub(crate) generation: GenerationFlags,
}

/// What to continue, with which model, how far.
pub(crate) struct Job {
    start: Instant,
    location: Location,
    prompt: Prompt,
    amount: Amount,
    flags: Flags,
}

/// A model that is ready to run.
struct Begun<'a, 'p> {
    file: ModelFile<'a>,
    plan: &'p InferencePlan,
    generator: Generator<'a>,
    grammar: Option<AnswerGrammar>,
    tools: Option<&'p Toolset>,
}

/// How much to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amount {
    tokens: usize,
    /// Whether to stop at an end-of-text token.
    stop: bool,
}

impl Job {
    /// Tells model and prompt apart; the prompt may come from stdin.
    pub(crate) fn resolve(flags: Flags, start: Instant) -> Result<Job, Failure> {
        let missing = match (flags.attached.files.is_empty(), std::io::stdin().is_terminal()) {
            (false, _) => MissingPrompt::Empty,
            (true, true) => MissingPrompt::Refused,
            (true, false) => MissingPrompt::Stdin,
        };
        let (location, prompt) = prompt::resolve(flags.prompt.clone(), missing)?;
        let system = [&flags.system.system_file.is_some(), &flags.system.system.is_some()];
        if !flags.chat && system.contains(&&true) {
            let reason =
                "--system: expected --chat beside it, because a text to continue has no system prompt";
            return Err(Failure::Usage(reason.to_string()));
        }
        let amount = match (flags.tokens, flags.max_tokens) {
            (Some(tokens), _) => Amount { tokens, stop: flags.chat },
            (None, most) => Amount { tokens: most.unwrap_or(MAX_TOKENS), stop: true },
        };
        flags.grammar.check()?;
        flags.tools.check()?;
        if flags.tools.given() && !flags.chat {
            let reason = "--tools: expected --chat beside it, because only answers to messages call tools";
            return Err(Failure::Usage(reason.to_string()));
        }
        if flags.grammar.flag().is_some() && Thinking::option(flags.thinking) == Some(true) {
            let reason =
                "--thinking on: an answer of a given shape begins without thinking; leave one of them out";
            return Err(Failure::Usage(reason.to_string()));
        }
        if flags.grammar.schema.as_deref() == Some(Path::new(input::STDIN)) && prompt == Prompt::Stdin {
            let reason = "--schema - and the prompt both read stdin: give one of them as an argument";
            return Err(Failure::Usage(reason.to_string()));
        }
        if flags.stop.iter().any(String::is_empty) {
            return Err(Failure::Usage("--stop is empty: expected at least one character".to_string()));
        }
        Ok(Job { start, location, prompt, amount, flags })
    }

    /// Streams the completion to `stdout` and statistics to stderr; or writes one JSON object.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        // An invalid file is reported before the prompt is read; nothing is fetched until there is a prompt.
        let opened = match &self.location {
            Location::Path(_) => Some(Mapped::open(&self.location.fetch(Notes::unless(self.flags.json))?)?),
            Location::Catalogue(_) | Location::Stored(_) => None,
        };
        let prompt = self.text()?;
        let mapped = match opened {
            Some(mapped) => mapped,
            None => Mapped::open(&self.location.fetch(Notes::unless(self.flags.json))?)?,
        };
        let file = mapped.file()?;
        let tools = self.flags.tools.toolset(&file)?;
        let grammar = match &tools {
            Some(tools) => AnswerGrammar::of_tools(&file, tools)?,
            None => self.flags.grammar.compile(&file)?,
        };
        let prompt = self.encode(&file, tools.as_ref(), &prompt)?;
        if let Some(note) = Thinking::note(self.flags.thinking, &file) {
            terminal::note(note);
        }
        let GenerationFlags { lookup, machine, .. } = &self.flags.generation;
        let context = prompt.len().saturating_add(self.amount.tokens).clamp(1, file.config().context);
        let adapters = Adapters::open(&machine.compute.adapters, &file)?;
        let needed = InferenceSettings {
            adapter_rank: adapters.rank()?,
            context: Some(context),
            lookup: *lookup,
            ..InferenceSettings::default()
        };
        let plan = mapped.plan(&machine.settings(needed))?;
        if prompt.len() > plan.context() {
            return Err(Failure::TooLong {
                what: "the prompt",
                found: prompt.len(),
                room: plan.context(),
                remedy: workspace::too_long_remedy(&plan, file.config()),
            });
        }
        let mut workspace = Workspace::new(&plan)?;
        let generator = workspace.generator(&file, &plan, &adapters)?;
        let mut show = |text: &str| match self.flags.json {
            true => Ok(()),
            false => stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()),
        };
        let begun = Begun { file, plan: &plan, generator, grammar, tools: tools.as_ref() };
        let output = self.complete(begun, &prompt, &mut show)?;
        if self.flags.json {
            json::write(stdout, &output)?;
        } else {
            if std::io::stdout().is_terminal() && !output.text.ends_with('\n') {
                writeln!(stdout)?;
            }
            report(&output);
        }
        let shaped = self.flags.grammar.flag().is_some() || tools.is_some_and(|tools| tools.must_call());
        match (shaped, output.finish_reason) {
            (true, Finish::Length) => {
                let reason = format!("it has {} tokens; --max-tokens N allows more", output.ids.len());
                Err(Failure::Incomplete { reason })
            }
            (true, Finish::Context) => Err(Failure::Incomplete {
                reason: format!("the context of {} tokens is full", plan.context()),
            }),
            _ => Ok(()),
        }
    }

    /// The prompt behind the files: a message has their names, a text to continue only their text.
    fn text(&self) -> Result<String, Failure> {
        let (files, prompt) = (self.flags.attached.read()?, self.prompt.read()?);
        Ok(match self.flags.chat {
            true => attach::message_with(&files, &prompt),
            false => files.into_iter().map(|file| file.text).chain([prompt]).collect(),
        })
    }

    fn encode(
        &self,
        file: &ModelFile<'_>,
        tools: Option<&Toolset>,
        prompt: &str,
    ) -> Result<Vec<Token>, Failure> {
        let tokens = if self.flags.chat {
            let system = self.flags.system.read()?;
            let system = system.as_deref().map(|text| Message { role: Role::System, text });
            let user = Message { role: Role::User, text: prompt };
            let messages: Vec<Message<'_>> = system.into_iter().chain([user]).collect();
            let encoded = thimble_chat::encode_chat(
                file,
                &ChatPrompt { tools, ..ChatPrompt::new(&messages, self.thinking(tools)) },
            );
            encoded.map_err(|error| Failure::chat(&self.location.typed(), error))?
        } else {
            let specials = if self.flags.escape { Specials::Escape } else { Specials::Parse };
            workspace::encode_text(file, prompt, specials)?
        };
        if !tokens.is_empty() {
            return Ok(tokens);
        }
        let missing =
            "the prompt is empty, and this model has no start-of-text token to begin from: give a prompt";
        Ok(vec![thimble_chat::end_of_text(file).ok_or_else(|| Failure::other(missing))?])
    }

    /// Whether the model thinks first: never before an answer of a given shape.
    fn thinking(&self, tools: Option<&Toolset>) -> Option<bool> {
        let shaped = self.flags.grammar.flag().is_some() || tools.is_some_and(Toolset::must_call);
        if shaped { Some(false) } else { Thinking::option(self.flags.thinking) }
    }

    fn complete(
        &self,
        Begun { file, plan, generator, grammar, tools }: Begun<'_, '_>,
        prompt: &[Token],
        show: &mut dyn FnMut(&str) -> std::io::Result<()>,
    ) -> Result<Output, Failure> {
        let (tokenizer, config) = (file.tokenizer(), file.config());
        let defaults = if self.flags.chat { Sampling::ANSWER } else { Sampling::CONTINUATION };
        let sampling = self.flags.generation.sampling.sampling(&file, defaults);
        let biases = self.flags.generation.sampling.biases(&file)?;
        let sampler = sampler(sampling, &biases)?;
        let mut constraint = grammar.map(|grammar| grammar.constraint()).transpose()?;
        let format = PromptFormat::default();
        let kept = self.flags.logprobs.map(|count| LogProbabilities::new(config.vocab, count));
        let mut logprobs = kept.as_ref().map(|_| Vec::new());
        let mut model = LoadedModel {
            file,
            generator,
            sampler,
            format,
            kv_file: None,
            log_probabilities: kept,
            adapters: Vec::new(),
        };
        let stops: Vec<&[u8]> = self.flags.stop.iter().map(String::as_bytes).collect();
        let mut held = vec![0; StopMatcher::buffer_len(&stops)];
        let mut stream = TextStream::new(&stops, &mut held).map_err(Failure::other)?;
        let mut answer = Answer::new(self.flags.thinking == Some(Thinking::Hide), tools, &tokenizer, prompt);

        let begin = Instant::now();
        model.generator.prefill(prompt).map_err(Failure::other)?;
        // A GPU may not have run the prompt yet: waits for it.
        model.generator.tokens_and_logits();
        let prefill_seconds = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let most = self.amount.tokens.min(1 << 16);
        let mut ids = Vec::with_capacity(most);
        answer.text.reserve(most * 8);
        let (mut shown, mut calls) = (0, 0);
        let mut show_new = |answer: &Answer| {
            show(&answer.text[shown..])?;
            for call in &answer.calls[calls..] {
                let within = shown < answer.text.len() && !answer.text.ends_with('\n');
                show(&format!("{}{}\n", if within { "\n" } else { "" }, call_line(call, false)))?;
            }
            (shown, calls) = (answer.text.len(), answer.calls.len());
            Ok::<(), std::io::Error>(())
        };
        let mut first_token_seconds = None;
        let mut next = Vec::with_capacity(1);
        let mut finish_reason = loop {
            if !next.is_empty() && ids.len() < self.amount.tokens {
                if model.generator.position() + next.len() > model.generator.context() {
                    break Finish::Context;
                }
                model.generator.prefill(&next).map_err(Failure::other)?;
            }
            let left = self.amount.tokens - ids.len();
            let step = next_tokens(&mut model, constraint.as_deref_mut(), left, &mut next);
            let step = step.map_err(Failure::other)?;
            if step == Step::Limit {
                break Finish::Length;
            }
            first_token_seconds.get_or_insert_with(|| self.start.elapsed().as_secs_f64());
            if step == Step::Stop && self.amount.stop {
                break Finish::Stop;
            }
            if let (Some(sampled), Some(logprobs)) = (model.sampled(), &mut logprobs) {
                logprobs.push(TokenLogProbabilities::new(&tokenizer, &sampled));
            }
            let mut status = StopStatus::Continue;
            for &token in &next {
                ids.push(token.0);
                status = stream.push(tokenizer.token_bytes(token), &mut |piece| answer.push(piece));
            }
            show_new(&answer)?;
            if status == StopStatus::Stopped {
                break Finish::Stop;
            }
        };
        if finish_reason != Finish::Stop && constraint.is_some_and(|constraint| constraint.is_complete()) {
            finish_reason = Finish::Stop;
        }
        stream.finish(&mut |piece| answer.push(piece));
        answer.finish();
        show_new(&answer)?;
        answer.invalid.iter().for_each(|reason| terminal::note(&format!("({reason})")));
        if finish_reason == Finish::Stop && !answer.calls.is_empty() {
            finish_reason = Finish::Calls;
        }
        let tool_calls = tools.map(|_| answer.calls.iter().map(call_json).collect());
        let stats = Stats {
            prefill_tokens: prompt.len(),
            prefill_seconds,
            decode_tokens: ids.len(),
            decode_seconds: begin.elapsed().as_secs_f64(),
            accepted_draft_tokens: model.generator.accepted_draft_tokens(),
            first_token_seconds,
            peak_resident_bytes: resources::peak_resident_bytes(),
            plan_bytes: plan.bytes(),
            backend: model.generator.sequence().processors(),
            threads: plan.threads(),
            seed: sampling.seed,
        };
        let prompt_ids = prompt.iter().map(|token| token.0).collect();
        Ok(Output { prompt_ids, ids, text: answer.text, finish_reason, tool_calls, logprobs, stats })
    }
}
