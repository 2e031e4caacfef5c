//! Decodes 1, 2, 4, 8 and 16 sequences at once: total tokens per second, and the time of a step.
//!
//!     cargo run --release -p thimble-host --example sequences_bench -- MODEL.thimble [DEPTH] [ROUNDS]
//!
//! Each sequence has DEPTH tokens (64) first. Every round measures all numbers of sequences in turn, so that a busy machine
//! slows all of them; medians of ROUNDS (5), and the range.

use std::error::Error;
use std::time::Instant;
use thimble_files::MappedModel;
use thimble_host::{InferencePlan, InferenceSettings, SpinPool, slots};
use thimble_runtime::Token;
use thimble_runtime::sampler::greedy;
use thimble_runtime::sequences::Part;

const SEQUENCES: [usize; 5] = [1, 2, 4, 8, 16];
/// Steps of one measurement.
const STEPS: usize = 48;

/// Seconds of one step of `sequences`, each after `depth` tokens.
fn step_seconds(model: &MappedModel, sequences: usize, depth: usize) -> Result<f64, Box<dyn Error>> {
    let file = model.file()?;
    let context = Some(depth + STEPS + 1);
    let settings = InferenceSettings { context, sequences: Some(sequences), ..InferenceSettings::default() };
    let plan = InferencePlan::new(file.config(), &settings)?;
    let (mut memory, pool) = (plan.allocate()?, SpinPool::new(plan.threads())?);
    let mut all = slots(&file, &plan, &mut memory, &pool)?;
    let vocab = file.config().vocab;
    for slot in 0..sequences {
        let text: Vec<Token> = (0..depth).map(|i| Token(((i * 7919 + slot * 31) % vocab) as u32)).collect();
        for tokens in text.chunks(all.batch()) {
            all.step(&[Part { slot, tokens }])?;
        }
    }
    let mut next: Vec<[Token; 1]> = (0..sequences as u32).map(|slot| [Token(slot + 5)]).collect();
    let mut seconds = 0.0;
    for step in 0..STEPS {
        let begin = Instant::now();
        let parts: Vec<Part<'_>> =
            next.iter().enumerate().map(|(slot, tokens)| Part { slot, tokens }).collect();
        all.step(&parts)?;
        for (slot, next) in next.iter_mut().enumerate() {
            *next = [greedy(all.logits(slot))];
        }
        // The first steps touch memory for the first time.
        if step >= STEPS / 4 {
            seconds += begin.elapsed().as_secs_f64();
        }
    }
    Ok(seconds / (STEPS - STEPS / 4) as f64)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("expected: MODEL.thimble [DEPTH] [ROUNDS]")?;
    let depth: usize = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let model = MappedModel::read(path.as_ref())?;
    let mut found: [Vec<f64>; SEQUENCES.len()] = Default::default();
    for _ in 0..rounds.max(1) {
        for (sequences, found) in SEQUENCES.into_iter().zip(&mut found) {
            found.push(step_seconds(&model, sequences, depth)?);
        }
    }
    println!("sequences   tokens/s   (range)           step ms   against one");
    let mut alone = None;
    for (sequences, mut found) in SEQUENCES.into_iter().zip(found) {
        found.sort_by(f64::total_cmp);
        let [fastest, median, slowest] = [0, found.len() / 2, found.len() - 1].map(|i| found[i]);
        let rate = |seconds: f64| sequences as f64 / seconds;
        let one = *alone.get_or_insert(rate(median));
        println!(
            "{sequences:9}  {:9.1}   ({:.1} to {:.1}){:>16.2}  {:10.2}",
            rate(median),
            rate(slowest),
            rate(fastest),
            median * 1e3,
            rate(median) / one
        );
    }
    Ok(())
}
