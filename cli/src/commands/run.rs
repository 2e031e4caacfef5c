//! `thimble run`: continues a text.

use crate::failure::Failure;
use crate::flags::{MachineFlags, RunFlags, SamplingFlags};
use crate::model::Location;
use crate::prompt::{self, Prompt};
use crate::workspace::{self, Mapped, Need, Workspace};
use crate::{resources, terminal};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::time::Instant;

use thimble_host::{Generator, InferencePlan};
use thimble_runtime::Token;
use thimble_runtime::chat::{Message, Speaker};
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::Sampling;
use thimble_runtime::stop::{Progress, StopMatcher, TextStream};
use thimble_runtime::tokenizer::Specials;

/// Answer tokens where the user names no number.
const MOST_TOKENS: usize = 256;

/// What to continue, with what, how far.
pub(crate) struct Job {
    start: Instant,
    location: Location,
    prompt: Prompt,
    amount: Amount,
    stops: Vec<String>,
    chat: Option<Option<String>>,
    specials: Specials,
    json: bool,
    sampling: SamplingFlags,
    machine: MachineFlags,
    lookup: usize,
}

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amount {
    tokens: usize,
    /// Whether an end-of-text token ends it.
    stop: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Finish {
    Stop,
    Length,
    Context,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output<'a> {
    prompt_ids: Vec<u32>,
    ids: Vec<u32>,
    text: &'a str,
    finish_reason: Finish,
    stats: Stats,
}

#[derive(Serialize)]
struct Stats {
    prefill_tokens: usize,
    prefill_seconds: f64,
    decode_tokens: usize,
    decode_seconds: f64,
    /// Tokens that were proposed by `--lookup` and took no pass of their own.
    accepted_draft_tokens: usize,
    /// From the start of the process until the first token was chosen; `null` if none was.
    first_token_seconds: Option<f64>,
    peak_resident_bytes: Option<u64>,
    plan_bytes: usize,
    backend: String,
    threads: usize,
    seed: u64,
}

/// What was generated.
struct Completion {
    ids: Vec<Token>,
    text: String,
    finish: Finish,
    prefill_seconds: f64,
    decode_seconds: f64,
    accepted_draft_tokens: usize,
    first_token_seconds: Option<f64>,
    seed: u64,
    /// What computed it in the end.
    processors: String,
}

impl Job {
    /// Tells model and prompt apart; the prompt may come from stdin.
    pub(crate) fn resolve(flags: RunFlags, start: Instant) -> Result<Job, Failure> {
        let (location, prompt) = prompt::resolve(flags.prompt, std::io::stdin().is_terminal())?;
        let amount = match (flags.tokens, flags.max_tokens) {
            (Some(tokens), _) => Amount { tokens, stop: flags.chat },
            (None, most) => Amount { tokens: most.unwrap_or(MOST_TOKENS), stop: true },
        };
        if flags.stop.iter().any(String::is_empty) {
            return Err(Failure::Usage("--stop: expected a text that is not empty".to_string()));
        }
        Ok(Job {
            start,
            location,
            prompt,
            amount,
            stops: flags.stop,
            chat: flags.chat.then_some(flags.system),
            specials: if flags.escape { Specials::Escape } else { Specials::Parse },
            json: flags.json,
            sampling: flags.sampling,
            machine: flags.machine,
            lookup: flags.lookup,
        })
    }

    /// Completion to `stdout` as it is made, statistics to stderr; or one JSON object.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        // What is wrong with a file is said before its prompt is waited for; nothing is fetched before there is one.
        let here = match &self.location {
            Location::Path(_) => Some(Mapped::open(&self.location.fetch()?)?),
            Location::Catalogue(_) => None,
        };
        let prompt = self.prompt.read()?;
        let mapped = match here {
            Some(mapped) => mapped,
            None => Mapped::open(&self.location.fetch()?)?,
        };
        let file = mapped.file()?;
        let prompt = self.encode(&file, &prompt)?;
        let needed = prompt.len().saturating_add(self.amount.tokens).clamp(1, file.config().context);
        let need = Need { context: Some(needed), lookup: self.lookup, ..Need::default() };
        let plan = workspace::chosen(&mapped, &self.machine, need)?;
        if prompt.len() > plan.context() {
            return Err(Failure::TooLong {
                what: "the prompt",
                found: prompt.len(),
                room: plan.context(),
                remedy: workspace::shorten(&plan, file.config()),
            });
        }
        let mut bench = Workspace::new(&plan)?;
        let mut generator = bench.generator(&file, &plan)?;
        let quiet = &mut |_: &str| Ok(());
        let mut print = |text: &str| {
            stdout.write_all(text.as_bytes())?;
            Ok(stdout.flush()?)
        };
        let show: &mut dyn FnMut(&str) -> Result<(), Failure> = if self.json { quiet } else { &mut print };
        let completion = self.complete(&file, &mut generator, &prompt, show)?;
        let output = self.output(&prompt, &completion, &plan);
        if self.json {
            serde_json::to_writer(&mut *stdout, &output).map_err(std::io::Error::from)?;
            return Ok(writeln!(stdout)?);
        }
        if std::io::stdout().is_terminal() && !completion.text.ends_with('\n') {
            writeln!(stdout)?;
        }
        report(&output);
        Ok(())
    }

    fn encode(&self, file: &ModelFile<'_>, prompt: &str) -> Result<Vec<Token>, Failure> {
        let tokenizer = file.tokenizer();
        let tokens = match &self.chat {
            None => workspace::encode(&tokenizer, prompt, self.specials)?,
            Some(system) => {
                let system = system.as_deref().map(|text| Message { speaker: Speaker::System, text });
                let user = Message { speaker: Speaker::User, text: prompt };
                let messages: Vec<Message<'_>> = system.into_iter().chain([user]).collect();
                let encoded = thimble_chat::encode_chat(file, &messages);
                encoded.map_err(|error| Failure::chat(&self.location.typed(), error))?
            }
        };
        match tokens.is_empty() {
            true => Ok(vec![workspace::end_of_text(file)?]),
            false => Ok(tokens),
        }
    }

    fn complete(
        &self,
        file: &ModelFile<'_>,
        generator: &mut Generator<'_>,
        prompt: &[Token],
        show: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<Completion, Failure> {
        let (tokenizer, config) = (file.tokenizer(), file.config());
        let defaults = if self.chat.is_some() { Sampling::ANSWER } else { Sampling::CONTINUATION };
        let sampling = workspace::sampling(&self.sampling, file, defaults);
        let biases = workspace::biases(&self.sampling);
        let mut sampler = workspace::sampler(sampling, &biases, config.vocab)?;
        let stops: Vec<&[u8]> = self.stops.iter().map(String::as_bytes).collect();
        let mut held = vec![0; StopMatcher::buffer_len(&stops)];
        let mut stream = TextStream::new(&stops, &mut held).map_err(workspace::engine)?;

        let begin = Instant::now();
        generator.prefill(prompt).map_err(workspace::engine)?;
        // A GPU may only have been told: waits for what it makes of it.
        generator.tokens_and_logits();
        let prefill_seconds = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let (mut ids, mut text) = (
            Vec::with_capacity(self.amount.tokens.min(1 << 16)),
            String::with_capacity(self.amount.tokens.min(1 << 16) * 8),
        );
        let mut first_token_seconds = None;
        let finish = loop {
            if ids.len() == self.amount.tokens {
                break Finish::Length;
            }
            let token = generator.sample(&mut sampler);
            first_token_seconds.get_or_insert_with(|| self.start.elapsed().as_secs_f64());
            if self.amount.stop && config.is_stop(token) {
                break Finish::Stop;
            }
            ids.push(token);
            let shown = text.len();
            let progress = stream.push(tokenizer.token_bytes(token), &mut |piece| text.push_str(piece));
            if text.len() > shown {
                show(&text[shown..])?;
            }
            if progress == Progress::Stopped {
                break Finish::Stop;
            }
            if ids.len() == self.amount.tokens {
                break Finish::Length;
            }
            if generator.position() == generator.context() {
                break Finish::Context;
            }
            generator.prefill(&[token]).map_err(workspace::engine)?;
        };
        let shown = text.len();
        stream.finish(&mut |piece| text.push_str(piece));
        if text.len() > shown {
            show(&text[shown..])?;
        }
        let decode_seconds = begin.elapsed().as_secs_f64();
        let accepted_draft_tokens = generator.accepted_draft_tokens();
        Ok(Completion {
            ids,
            text,
            finish,
            prefill_seconds,
            decode_seconds,
            accepted_draft_tokens,
            first_token_seconds,
            seed: sampling.seed,
            processors: generator.sequence().processors(),
        })
    }

    fn output<'a>(
        &self,
        prompt: &[Token],
        completion: &'a Completion,
        plan: &'a InferencePlan,
    ) -> Output<'a> {
        let numbers = |tokens: &[Token]| tokens.iter().map(|token| token.0).collect();
        Output {
            prompt_ids: numbers(prompt),
            ids: numbers(&completion.ids),
            text: &completion.text,
            finish_reason: completion.finish,
            stats: Stats {
                prefill_tokens: prompt.len(),
                prefill_seconds: completion.prefill_seconds,
                decode_tokens: completion.ids.len(),
                decode_seconds: completion.decode_seconds,
                accepted_draft_tokens: completion.accepted_draft_tokens,
                first_token_seconds: completion.first_token_seconds,
                peak_resident_bytes: resources::peak_resident_bytes(),
                plan_bytes: plan.bytes(),
                backend: completion.processors.clone(),
                threads: plan.threads(),
                seed: completion.seed,
            },
        }
    }
}

fn report(output: &Output<'_>) {
    let stats = &output.stats;
    let rate = |tokens: usize, seconds: f64| tokens as f64 / seconds.max(1e-9);
    let ended = match output.finish_reason {
        Finish::Stop => "stopped",
        Finish::Length => "length reached",
        Finish::Context => "context full",
    };
    let first =
        stats.first_token_seconds.map_or(String::new(), |s| format!("first token {:.0} ms; ", s * 1e3));
    let peak =
        stats.peak_resident_bytes.map_or(String::new(), |b| format!("peak {:.1} MB; ", b as f64 / 1e6));
    terminal::note(&format!(
        "[{ended}; prompt {} tokens at {:.0}/s; answer {} tokens at {:.1}/s; {first}{peak}plan {:.1} MB; {}, {} threads; seed {}]",
        stats.prefill_tokens,
        rate(stats.prefill_tokens, stats.prefill_seconds),
        stats.decode_tokens,
        rate(stats.decode_tokens, stats.decode_seconds),
        stats.plan_bytes as f64 / 1e6,
        stats.backend,
        stats.threads,
        stats.seed,
    ));
}
