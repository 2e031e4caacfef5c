//! Dispatches, bytes and speed of a model on a GPU: `gpu_bench MODEL.thimble [ADAPTER] [PROMPT TOKENS] [TOKENS]`.
//!
//! Speeds are medians of five runs; prompts are timed with every kernel variant that the adapter supports.

use std::error::Error;
use std::time::Instant;
use thimble_gpu::{Device, Gpu, GpuOptions};
use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;
use thimble_runtime::kernels::KvKind;
use thimble_runtime::model::{Backend, Batch, Weights, forward};
use thimble_runtime::sampler::Sampling;

const RUNS: usize = 5;
/// Tokens of one submit, where the host does not choose.
const TOGETHER: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which .thimble file?")?;
    let adapter = arguments.next().filter(|name| !name.is_empty());
    let prompt: usize = arguments.next().map_or(Ok(512), |n| n.parse())?;
    let count: usize = arguments.next().map_or(Ok(64), |n| n.parse())?;

    let bytes = std::fs::read(path)?;
    let mut memory = vec![0; bytes.len() + 64];
    let start = memory.as_ptr().align_offset(64);
    memory[start..start + bytes.len()].copy_from_slice(&bytes);
    drop(bytes);
    let end = memory.len() - 64 + start;
    let file = ModelFile::parse(&memory[start..end])?;
    let weights = Weights::new(&file)?;
    let config = weights.config();
    let context = (prompt + count + TOGETHER).min(config.context);
    let prompt = prompt.min(context.saturating_sub(count + TOGETHER)).max(1);
    let tokens: Vec<Token> = (0..prompt).map(|i| Token((i * 7919 % config.vocab) as u32)).collect();
    let options = GpuOptions { kv: KvKind::F16, ..GpuOptions::generate(context) };

    let device = Device::open(adapter.as_deref())?;
    let report = device.report();
    println!("{} ({}, {}), driver {}", report.name, report.api, report.kind, report.driver);
    for variant in device.matmul_variants().to_vec() {
        let device = device.clone().with_matmul_variant(variant)?;
        let begin = Instant::now();
        let mut gpu = Gpu::new(&device, &weights, &options)?;
        let made = begin.elapsed();
        let mut run = || -> Result<f64, Box<dyn Error>> {
            let begin = Instant::now();
            for (i, part) in tokens.chunks(options.batch).enumerate() {
                forward(&mut gpu, &Batch { tokens: part, position: i * options.batch });
            }
            let last = (prompt - 1) % options.batch;
            gpu.head(last..last + 1);
            gpu.logits();
            gpu.check()?;
            Ok(prompt as f64 / begin.elapsed().as_secs_f64())
        };
        // The first compiles and fills caches.
        run()?;
        let speed = median(&mut run)?;
        println!("prompt of {prompt}, {variant:?} products: {speed:.1} tokens/s; made in {made:.2?}");
    }

    let mut gpu = Gpu::new(&device, &weights, &options)?;
    println!("{} bytes on the device", gpu.plan().bytes());
    for (i, part) in tokens.chunks(options.batch).enumerate() {
        forward(&mut gpu, &Batch { tokens: part, position: i * options.batch });
    }
    let before = gpu.dispatches();
    gpu.logits_after(&Batch { tokens: &[Token(1)], position: prompt })?;
    let dispatches = gpu.dispatches() - before;
    let read = gpu.read_bytes(prompt);
    println!(
        "{dispatches} dispatches and {read} bytes per token at position {prompt}: {} bytes per dispatch",
        read / dispatches
    );

    let speed = median(&mut || {
        let begin = Instant::now();
        for i in 0..count {
            gpu.logits_after(&Batch { tokens: &[Token(1)], position: prompt + i })?;
        }
        Ok(count as f64 / begin.elapsed().as_secs_f64())
    })?;
    println!(
        "decoding, logits read for each token: {speed:.1} tokens/s, {:.2} GB/s",
        speed * read as f64 / 1e9
    );
    let history = vec![Token(1); prompt + 1];
    let warm = Sampling { temperature: 0.7, top_k: Some(40), top_p: Some(0.95), ..Sampling::default() };
    for (name, sampling) in [
        ("greedy", Sampling::default()),
        ("temperature, top-k and top-p", warm),
        ("the same with a penalty", Sampling { repetition_penalty: 1.1, ..warm }),
    ] {
        let speed = median(&mut || {
            let begin = Instant::now();
            gpu.begin(&history, &sampling)?;
            let mut taken = 0;
            gpu.submit_tokens(TOGETHER)?;
            while taken < count {
                // One submit runs while the one before it is read.
                gpu.submit_tokens(TOGETHER.min(context - prompt - taken - TOGETHER).max(1))?;
                taken += gpu.take_tokens()?.len();
            }
            let speed = taken as f64 / begin.elapsed().as_secs_f64();
            gpu.take_tokens()?;
            Ok(speed)
        })?;
        println!(
            "decoding, {name}, {TOGETHER} tokens of a submit: {speed:.1} tokens/s, {:.2} GB/s",
            speed * read as f64 / 1e9
        );
    }
    Ok(())
}

fn median(run: &mut dyn FnMut() -> Result<f64, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut speeds = (0..RUNS).map(|_| run()).collect::<Result<Vec<f64>, _>>()?;
    speeds.sort_by(f64::total_cmp);
    Ok(speeds[RUNS / 2])
}
