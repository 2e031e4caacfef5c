//! Microseconds to draw a token from 49,152 logits, for each kind of sampling settings.
//!
//!     cargo run --release -p thimble-host --example sampler_bench -- [ROUNDS]
//!
//! The logits are normally distributed with a standard deviation of 3.4, as SmolLM2-135M's are over its own answers, with ten
//! likely tokens above the others. Medians of ROUNDS (9), and the range.

use std::error::Error;
use std::time::Instant;
use thimble_runtime::Token;
use thimble_runtime::sampler::{Candidate, Pcg32, Sampler, Sampling};

const VOCAB: usize = 49_152;
/// Draws of one measurement, each from logits of its own.
const DRAWS: usize = 16;

/// Logits of all draws, `[draws, vocab]`.
fn logits() -> Vec<f32> {
    let mut random = Pcg32::new(1);
    // The sum of twelve uniform numbers has variance 1.
    let mut normal = || (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
    let mut logits: Vec<f32> = (0..DRAWS * VOCAB).map(|_| 3.4 * normal() as f32).collect();
    for row in logits.chunks_exact_mut(VOCAB) {
        for likely in 0..10 {
            row[(likely * 4_919 + 77) % VOCAB] = 18.5 - likely as f32 / 2.0;
        }
    }
    logits
}

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(9), |text| text.parse())?;
    let warm = Sampling { temperature: 1.0, ..Sampling::GREEDY };
    let settings = [
        ("greedy", Sampling::GREEDY),
        ("answers' default", Sampling::ANSWER),
        ("completions' default", Sampling::CONTINUATION),
        ("temperature 1", warm),
        ("top-k 40", Sampling { top_k: Some(40), ..warm }),
        ("top-p 0.9", Sampling { top_p: Some(0.9), ..warm }),
        ("min-p 0.05", Sampling { min_p: Some(0.05), ..warm }),
    ];
    let history: Vec<Token> = (0..64).map(|i| Token(i * 97)).collect();
    let (before, mut candidates) = (logits(), vec![Candidate::default(); VOCAB]);
    let mut found = [const { Vec::new() }; 7];
    // Tells whether two versions draw the same.
    let mut drawn = 0_u64;
    for _ in 0..rounds.max(1) {
        for ((_, sampling), found) in settings.iter().zip(&mut found) {
            let mut sampler = Sampler::new(*sampling)?;
            let mut logits = before.clone();
            let begin = Instant::now();
            for row in logits.chunks_exact_mut(VOCAB) {
                let token = sampler.sample(row, &history, &mut candidates);
                drawn = drawn.wrapping_mul(31).wrapping_add(u64::from(token.0));
            }
            found.push(begin.elapsed().as_secs_f64() * 1e6 / DRAWS as f64);
        }
    }
    for ((name, _), mut found) in settings.into_iter().zip(found) {
        found.sort_by(f64::total_cmp);
        let [fastest, median, slowest] = [0, found.len() / 2, found.len() - 1].map(|i| found[i]);
        println!("{name:22} {median:7.1} us ({fastest:.1} to {slowest:.1})");
    }
    println!("tokens drawn: {drawn:016x}");
    Ok(())
}
