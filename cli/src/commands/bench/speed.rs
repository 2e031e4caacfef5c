//! How fast a running model computes prompts and decodes tokens.

use super::figures::{Figure, GpuWork, Spread, Test};
use crate::adapters::Adapters;
use crate::failure::Failure;
use crate::workspace::{Mapped, Workspace};
use std::time::Instant;
use thimble_host::{Generator, InferenceSettings};
use thimble_runtime::Token;
use thimble_runtime::sampler::{Sampler, Sampling};

/// One test of a running model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) test: Test,
    pub(super) tokens: usize,
    /// Tokens already in the context.
    pub(super) depth: usize,
}

/// Runs the cases in one session, each `rounds` times after a warm-up.
pub(super) fn measure(
    (mapped, adapters): (&Mapped, &Adapters),
    settings: &InferenceSettings,
    cases: &[Case],
    rounds: usize,
    each: &mut dyn FnMut(Figure),
) -> Result<(), Failure> {
    let Some(longest) = cases.iter().map(|case| case.depth + case.tokens).max() else { return Ok(()) };
    let file = mapped.file()?;
    let plan = mapped.plan(&InferenceSettings { context: Some(longest), ..*settings })?;
    let mut workspace = Workspace::new(&plan)?;
    let mut generator = workspace.generator(&file, &plan, adapters)?;
    let vocab = file.config().vocab;
    let tokens: Vec<Token> = (0..longest).map(|i| Token((i * 7919 % vocab) as u32)).collect();
    for &Case { test, tokens: count, depth } in cases {
        if generator.position() < depth {
            let missing = &tokens[generator.position()..depth];
            generator.prefill(missing).map_err(Failure::other)?;
        }
        let own = &tokens[depth..depth + count];
        let mut speeds = Vec::new();
        generator.rewind(depth).map_err(Failure::other)?;
        let gpu = if test == Test::Decode { gpu_work(&mut generator, own[0])? } else { None };
        for round in 0..=rounds {
            generator.rewind(depth).map_err(Failure::other)?;
            let start = Instant::now();
            match test {
                Test::Prefill => run_tokens(&mut generator, own, count)?,
                // A GPU also samples, and continues by itself.
                _ if gpu.is_some() => run_sampled(&mut generator, own)?,
                _ => run_tokens(&mut generator, own, 1)?,
            }
            let seconds = start.elapsed().as_secs_f64().max(1e-9);
            if round > 0 {
                speeds.push(count as f64 / seconds);
            }
        }
        let tokens_per_second = Spread::of(speeds);
        let processors = generator.sequence().processors();
        each(Figure::Speed {
            test,
            tokens: count,
            depth,
            threads: plan.threads(),
            processors,
            tokens_per_second,
            gpu,
        });
    }
    Ok(())
}

/// Runs the tokens, `at_once` at a time.
fn run_tokens(generator: &mut Generator<'_>, tokens: &[Token], at_once: usize) -> Result<(), Failure> {
    for part in tokens.chunks(at_once) {
        generator.prefill(part).map_err(Failure::other)?;
        // A GPU may not have run them yet: waits for it.
        generator.tokens_and_logits();
    }
    Ok(())
}

/// Runs as many tokens as given: the first, then sampled ones.
fn run_sampled(generator: &mut Generator<'_>, tokens: &[Token]) -> Result<(), Failure> {
    let mut sampler = Sampler::new(Sampling::default()).map_err(Failure::other)?;
    let mut next = tokens[0];
    for _ in tokens {
        generator.prefill(&[next]).map_err(Failure::other)?;
        next = generator.sample(&mut sampler);
    }
    Ok(())
}

/// A GPU's work for one more token, if it decodes.
fn gpu_work(generator: &mut Generator<'_>, token: Token) -> Result<Option<GpuWork>, Failure> {
    let position = generator.position();
    let dispatches = |generator: &Generator<'_>| {
        let decodes = generator.sequence().kind().decodes_on_gpu();
        generator.sequence().gpu_work(position).filter(|_| decodes)
    };
    let Some(before) = dispatches(generator) else { return Ok(None) };
    run_tokens(generator, &[token], 1)?;
    // None if the GPU was given up during this token.
    let work = dispatches(generator)
        .map(|after| GpuWork { dispatches: after.dispatches - before.dispatches, bytes: after.read_bytes });
    generator.rewind(position).map_err(Failure::other)?;
    Ok(work)
}
