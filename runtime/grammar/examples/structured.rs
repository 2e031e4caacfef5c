//! Generates answers of given shapes with a real model: `structured MODEL.thimble COUNT TEMPERATURE SCHEMA.json...`.
//!
//! Prints a line of JSON for each answer (`schema`, `seed`, `end`, `text`) and then, on stderr, what the grammar cost. The
//! message to the model is the schema's `title`.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use thimble_chat::{ChatError, ChatSession, ConstraintError, Conversation, TokenConstraint};
use thimble_files::MappedModel;
use thimble_grammar::{Grammar, GrammarConstraint, GrammarLimits, GrammarSource, Vocabulary};
use thimble_host::{InferencePlan, InferenceSettings, LoadedModel, PromptFormat, SpinPool, generator};
use thimble_runtime::Token;
use thimble_runtime::sampler::{Sampler, Sampling, TokenMask};

/// Longest answer, tokens.
const MAX_TOKENS: usize = 300;

/// What the grammar took.
#[derive(Default)]
struct Times {
    masks: Vec<Duration>,
    accepts: Vec<Duration>,
    forced: usize,
}

/// A constraint that keeps the time.
struct Timed {
    inner: GrammarConstraint,
    times: Arc<Mutex<Times>>,
}

impl Timed {
    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl TokenConstraint for Timed {
    fn mask(&mut self) -> Result<TokenMask<'_>, ConstraintError> {
        let start = Instant::now();
        self.inner.mask()?;
        self.times().masks.push(start.elapsed());
        Ok(self.inner.last_mask())
    }

    fn accept(&mut self, token: Token) -> Result<(), ConstraintError> {
        let start = Instant::now();
        self.inner.accept(token)?;
        self.times().accepts.push(start.elapsed());
        Ok(())
    }

    fn forced(&mut self, most: usize, tokens: &mut Vec<Token>) -> Result<(), ConstraintError> {
        let before = tokens.len();
        let start = Instant::now();
        self.inner.forced(most, tokens)?;
        let mut times = self.times();
        times.accepts.push(start.elapsed());
        times.forced += tokens.len() - before;
        Ok(())
    }

    fn prepare(&mut self) {
        let start = Instant::now();
        self.inner.prepare();
        self.times().accepts.push(start.elapsed());
    }

    fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }

    fn must_end(&self) -> bool {
        self.inner.must_end()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [model, count, temperature, schemas @ ..] = words.as_slice() else {
        return Err("expected MODEL.thimble COUNT TEMPERATURE SCHEMA.json...".into());
    };
    let (count, temperature): (u64, f32) = (count.parse()?, temperature.parse()?);
    let mapped = MappedModel::read(Path::new(model))?;
    let file = mapped.file()?;
    let start = Instant::now();
    let vocabulary = Vocabulary::of(&file)?;
    eprintln!(
        "vocabulary: {:.0} ms for {} tokens",
        1e3 * start.elapsed().as_secs_f64(),
        file.tokenizer().vocab()
    );
    let settings = InferenceSettings { context: Some(1024), lookup: 4, ..InferenceSettings::default() };
    let plan = InferencePlan::new(file.config(), &settings)?;
    let mut memory = plan.allocate()?;
    let pool = SpinPool::new(plan.threads())?;
    let generator = generator(&file, &plan, &mut memory, &pool)?;
    let sampling = Sampling { temperature, ..Sampling::GREEDY };
    let model = LoadedModel {
        file,
        generator,
        sampler: Sampler::new(sampling)?,
        format: PromptFormat::Chat,
        kv_file: None,
        log_probabilities: None,
        adapters: Vec::new(),
    };
    let mut session = ChatSession {
        model,
        conversation: Conversation::default(),
        thinking: None,
        max_tokens: Some(MAX_TOKENS),
        stops: Vec::new(),
        tools: None,
        constraint: None,
    };
    for path in schemas {
        let text = std::fs::read_to_string(path)?;
        let schema: serde_json::Value = serde_json::from_str(&text)?;
        let message = schema["title"].as_str().unwrap_or("Answer with JSON.").to_string();
        let start = Instant::now();
        let grammar =
            Grammar::compile(&vocabulary, &GrammarSource::JsonSchema(text), &GrammarLimits::default())?;
        let compiled = start.elapsed();
        let times = Arc::new(Mutex::new(Times::default()));
        let (mut decoded, mut decode_time) = (0, Duration::ZERO);
        for seed in 0..count {
            session.conversation.turns.clear();
            session.model.sampler.reseed(seed);
            let inner = grammar.constraint()?;
            session.constraint = Some(Box::new(Timed { inner, times: Arc::clone(&times) }));
            let answered = session.answer::<ChatError>(&message, &AtomicBool::new(false), &mut |_| Ok(()))?;
            let text = session.conversation.turns.last().map_or("", |turn| &turn.answer);
            let end = format!("{:?}", answered.end).to_lowercase();
            println!("{}", serde_json::json!({"schema": path, "seed": seed, "end": end, "text": text}));
            decoded += answered.decoded;
            decode_time += answered.decode_time;
        }
        let mut times = times.lock().map_err(|_| "a panic while the times were kept")?;
        report(path, compiled, &mut times, decoded, decode_time);
    }
    Ok(())
}

fn report(path: &str, compiled: Duration, times: &mut Times, decoded: usize, decode_time: Duration) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    times.masks.sort();
    times.accepts.sort();
    let at = |sorted: &[Duration], part: f64| {
        sorted.get((sorted.len() as f64 * part) as usize).map_or(0.0, |&t| micros(t))
    };
    let all: Duration = times.masks.iter().chain(&times.accepts).sum();
    let tokens = decoded.max(1) as f64;
    eprintln!(
        "{path}: compiled in {:.1} ms; mask {:.0} us (median), {:.0} us (p99), {:.0} us (most); grammar {:.0} us of {:.0} us per token; \
         {} of {decoded} tokens forced",
        1e3 * compiled.as_secs_f64(),
        at(&times.masks, 0.5),
        at(&times.masks, 0.99),
        times.masks.last().map_or(0.0, |&time| micros(time)),
        micros(all) / tokens,
        micros(decode_time) / tokens,
        times.forced,
    );
}
