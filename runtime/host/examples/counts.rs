//! What one prompt and one token of decoding cost, in figures that other programs on the machine cannot change.
//! `benches/counts.py` runs it.
//!
//!     counts MODEL            # bytes read from memory, and barriers between two threads, as a line of JSON
//!     counts MODEL KERNELS    # the same passes on one thread, for a tool that counts their instructions
//!
//! The passes are [`prompt_pass`] and [`decode_passes`], whose names such a tool needs.

use serde_json::{Value, json};
use std::error::Error;
use std::hint::black_box;
use thimble_files::MappedModel;
use thimble_host::{InferencePlan, InferenceSettings, KernelKind, SpinPool, generator};
use thimble_runtime::Token;
use thimble_runtime::format::{ModelFile, TensorRole};
use thimble_runtime::kernels::{CHUNK, CountingPool, KvKind, SingleThread, ThreadPool};
use thimble_runtime::sampler::{Sampler, Sampling};
use thimble_runtime::sequence::Sequence;
use thimble_runtime::session::{Session, SessionError};

/// Tokens of the prompt.
const PROMPT: usize = 32;
/// Tokens decoded behind it; the mean of their costs counts.
const DECODED: usize = 4;
/// Positions of the context.
const CONTEXT: usize = 128;

/// Fills the empty session with the prompt.
#[inline(never)]
fn prompt_pass<S: Sequence>(session: &mut Session<S>, prompt: &[Token]) -> Result<(), SessionError> {
    session.prefill(black_box(prompt))
}

/// Decodes [`DECODED`] tokens, greedily.
#[inline(never)]
fn decode_passes<S: Sequence>(
    session: &mut Session<S>,
    sampler: &mut Sampler<'_>,
) -> Result<(), SessionError> {
    for _ in 0..DECODED {
        let token = session.sample(sampler);
        session.prefill(&[black_box(token)])?;
    }
    Ok(())
}

fn settings(threads: usize, kernels: Option<KernelKind>) -> InferenceSettings {
    InferenceSettings {
        context: Some(CONTEXT),
        threads: Some(threads),
        kernels,
        kv: Some(KvKind::F16),
        ..InferenceSettings::default()
    }
}

/// Runs both passes; `between` is called after each of them.
fn run<T: ThreadPool>(
    file: &ModelFile<'_>,
    plan: &InferencePlan,
    pool: &T,
    mut between: impl FnMut(),
) -> Result<(), Box<dyn Error>> {
    let vocab = file.config().vocab;
    let prompt: Vec<Token> = (0..PROMPT).map(|i| Token((i * 7919 % vocab) as u32)).collect();
    let mut memory = plan.allocate()?;
    let mut session = generator(file, plan, &mut memory, pool)?;
    let mut sampler = Sampler::new(Sampling::GREEDY)?;
    prompt_pass(&mut session, &prompt)?;
    between();
    decode_passes(&mut session, &mut sampler)?;
    between();
    Ok(())
}

/// Bytes that a pass reads from memory, which follows the cached positions and has `tokens` tokens: each weight once, the panels
/// of the tokens' embeddings, and the cache's whole chunks. What a pass writes, or reads again while it is in a cache, does not
/// count.
fn bytes_of_pass(file: &ModelFile<'_>, cached: usize, tokens: usize) -> usize {
    let config = file.config();
    let weights: usize = file.tensors().iter().map(|record| file.tensor_bytes(&record).len()).sum();
    let embedding = file.tensors().find(TensorRole::Embedding, TensorRole::NO_LAYER);
    let table = embedding.map_or(0, |record| file.tensor_bytes(&record).len());
    let panel = embedding.and_then(|record| record.encoding.panel_bytes(config.hidden)).unwrap_or(0);
    let position = 2 * config.layers * config.kv_dim() * size_of::<u16>();
    let head = if config.tied { 0 } else { table };
    weights - head + tokens * panel + cached.next_multiple_of(CHUNK) * position
}

/// Bytes and barriers, of the prompt and of one token.
fn costs(file: &ModelFile<'_>) -> Result<Value, Box<dyn Error>> {
    let threads = SpinPool::new(2)?;
    let pool = CountingPool::new(&threads);
    let mut barriers = Vec::new();
    let plan = InferencePlan::new(file.config(), &settings(2, None))?;
    run(file, &plan, &pool, || barriers.push(pool.take()))?;
    let [prompt, decode] = barriers[..] else { return Err("expected barriers of two passes".into()) };
    let decoded: usize = (0..DECODED).map(|i| bytes_of_pass(file, PROMPT + i, 1)).sum();
    Ok(json!({
        "prompt": { "tokens": PROMPT, "bytes": bytes_of_pass(file, 0, PROMPT), "barriers": prompt },
        "decode": { "tokens": DECODED, "bytes": decoded, "barriers": decode },
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("expected: MODEL [KERNELS]")?;
    let model = MappedModel::read(path.as_ref())?;
    let file = model.file()?;
    match arguments.next() {
        None => println!("{}", costs(&file)?),
        Some(name) => {
            let plan = InferencePlan::new(file.config(), &settings(1, Some(name.parse()?)))?;
            run(&file, &plan, &SingleThread, || ())?;
        }
    }
    Ok(())
}
