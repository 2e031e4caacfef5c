//! Drawing against the CPU's sampler: the same token for the same seed and logits.

use super::model::{config, mixed, model, options, tokens};
use super::{Random, TestDevice, device};
use crate::dispatch::Dispatch;
use crate::kernels::Entry;
use crate::sampler_state::{SamplerUniforms, penalty_words};
use crate::{Gpu, GpuError};
use thimble_runtime::Token;
use thimble_runtime::kernels::KvKind;
use thimble_runtime::model::{Backend, Batch, Weights, forward};
use thimble_runtime::sampler::{Candidate, Pcg32, Sampler, Sampling};

const GREEDY: Sampling = Sampling { penalty_window: None, ..Sampling::GREEDY };
const WARM: Sampling = Sampling { temperature: 1.0, ..GREEDY };
const PENALTIES: Sampling = Sampling {
    repetition_penalty: 1.3,
    frequency_penalty: 0.2,
    presence_penalty: 0.1,
    penalty_window: Some(7),
    ..WARM
};

/// Draws once for each row of logits, one after the other, behind `history`: tokens, and the generator's state behind them.
fn draw(
    test: &mut TestDevice,
    sampling: &Sampling,
    history: &[Token],
    rows: &[Vec<f32>],
) -> (Vec<u32>, [u64; 2]) {
    let vocab = rows[0].len();
    let settings = SamplerUniforms::new(sampling, vocab, rows.len()).unwrap();
    let start = history.len().saturating_sub(settings.window as usize);
    let mut words = penalty_words(&history[start..], vocab);
    words.splice(vocab..vocab, vec![0; start]);
    words.extend(vec![0; rows.len()]);
    let seen = test.buffer(&words);
    let settings = test.buffer(&[settings]);
    let last = history.len() - 1;
    let state = test.buffer(&[last as u32, 1, 3, 4]);
    let (tokens, ids) = (test.buffer(&[77u32; 4]), test.buffer(&vec![77u32; rows.len()]));
    let rng = test.buffer(&Pcg32::new(sampling.seed).state());
    let kernel = test.kernels.get(Entry::Sample);
    let steps: Vec<Dispatch> = rows
        .iter()
        .map(|row| {
            let logits = test.buffer(row);
            let buffers = [&settings, &state, &logits, &tokens, &ids, &rng, &seen];
            Dispatch { kernel: kernel.clone(), bind: kernel.bind(&test.device, &buffers) }
        })
        .collect();
    let mut found: Vec<u32> =
        test.run(&ids, |pass| steps.iter().for_each(|step| step.record(pass, [1, 1, 1])));
    // Places of the ring follow positions.
    found.rotate_left(last % rows.len());
    assert_eq!(test.run::<u32>(&tokens, |_| {}), [found[rows.len() - 1] & !(1 << 31), 77, 77, 77]);
    assert_eq!(test.run::<u32>(&state, |_| {}), [(last + rows.len()) as u32, 1, 0, 1]);
    let rng: Vec<u64> = test.run(&rng, |_| {});
    // Above is whether all logits were finite.
    (found.into_iter().map(|id| id & !(1 << 31)).collect(), [rng[0], rng[1]])
}

fn cpus(sampling: &Sampling, history: &[Token], rows: &[Vec<f32>]) -> Vec<u32> {
    let mut sampler = Sampler::new(*sampling).unwrap();
    let mut candidates = vec![Candidate::default(); rows[0].len()];
    let mut history = history.to_vec();
    for row in rows {
        let token = sampler.sample(&mut row.clone(), &history, &mut candidates);
        history.push(token);
    }
    history[history.len() - rows.len()..].iter().map(|token| token.0).collect()
}

#[test]
fn tokens_are_those_of_the_cpus_sampler() {
    let Some(mut test) = TestDevice::new() else { return };
    let mut random = Random(31);
    let variants = [
        GREEDY,
        WARM,
        Sampling { temperature: 0.7, min_p: Some(0.05), ..WARM },
        Sampling { top_k: Some(1), ..WARM },
        Sampling { top_k: Some(40), ..WARM },
        Sampling { temperature: 1.3, top_k: Some(1500), ..WARM },
        Sampling { top_k: Some(100_000), top_p: Some(0.9), ..WARM },
        Sampling { temperature: 0.8, top_p: Some(0.95), ..WARM },
        Sampling { temperature: 0.8, top_k: Some(50), top_p: Some(0.9), min_p: Some(0.02), ..WARM },
        Sampling { temperature: 2.0, top_k: Some(3000), top_p: Some(0.99), ..WARM },
        Sampling { temperature: 1e-30, top_k: Some(9), ..WARM },
        Sampling { min_p: Some(1.0), ..WARM },
    ];
    let (mut draws, mut different) = (0, 0);
    // The spread of the logits decides how many tokens count: at 0.5 nearly all of them.
    for (vocab, spread, count) in
        [(1, 1.0, 2), (3, 2.0, 8), (300, 4.0, 20), (5_000, 0.5, 4), (49_152, 8.0, 4)]
    {
        for (i, variant) in variants.iter().enumerate() {
            let sampling = Sampling { seed: random.next(), ..*variant };
            let mut rows = Vec::new();
            for row in 0..count {
                let mut logits: Vec<f32> =
                    (0..vocab).map(|_| (random.float() + random.float()) * spread).collect();
                // Ties, in every other row many.
                if row % 2 == 1 {
                    logits.iter_mut().for_each(|x| *x = (*x * 4.0).round() / 4.0);
                }
                rows.push(logits);
            }
            let (found, state) = draw(&mut test, &sampling, &[Token(0)], &rows);
            let expected = cpus(&sampling, &[Token(0)], &rows);
            let off = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
            if off > 0 {
                println!("variant {i}, {vocab} tokens: {found:?} for {expected:?}");
            }
            assert!(i > 0 || off == 0, "greedy has no rounding");
            (draws, different) = (draws + count, different + off);
            // The generator is where the CPU's is.
            let [mut own, increment] = state;
            let mut rng = Pcg32::new(sampling.seed);
            for _ in 0..if sampling.temperature == 0.0 { 0 } else { 2 * count } {
                rng.next_u32();
            }
            let mut next = || {
                let old = own;
                own = old.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(increment);
                ((((old >> 18) ^ old) >> 27) as u32).rotate_right((old >> 59) as u32)
            };
            assert_eq!([(); 3].map(|()| next()), [(); 3].map(|()| rng.next_u32()));
        }
    }
    println!("{different} of {draws} draws differ from the CPU's");
    assert!(different * 200 <= draws, "more than rounding explains");
}

#[test]
fn penalties_are_the_cpus() {
    let Some(mut test) = TestDevice::new() else { return };
    let mut random = Random(33);
    let variants = [
        Sampling { temperature: 0.0, ..PENALTIES },
        PENALTIES,
        Sampling { penalty_window: None, ..PENALTIES },
        Sampling { penalty_window: Some(1), presence_penalty: -0.5, ..WARM },
        Sampling { penalty_window: Some(0), ..PENALTIES },
        Sampling { repetition_penalty: 0.7, penalty_window: Some(64), top_k: Some(5), ..WARM },
        Sampling { frequency_penalty: 3.0e38, penalty_window: Some(9), ..WARM },
    ];
    let (mut draws, mut different) = (0, 0);
    // A small vocabulary, in which tokens come back, and one smaller than the window.
    for (vocab, length) in [(5, 1), (40, 3), (40, 7), (40, 30), (1_000, 200)] {
        for (i, variant) in variants.iter().enumerate() {
            let sampling = Sampling { seed: random.next(), ..*variant };
            let history: Vec<Token> = (0..length).map(|_| Token(random.next() as u32 % vocab)).collect();
            let mut rows: Vec<Vec<f32>> = Vec::new();
            for _ in 0..24 {
                rows.push((0..vocab).map(|_| (random.float() + random.float()) * 3.0).collect());
            }
            rows[4][vocab as usize / 2] = f32::NAN;
            rows[5][vocab as usize / 2] = f32::NEG_INFINITY;
            let found = draw(&mut test, &sampling, &history, &rows).0;
            let expected = cpus(&sampling, &history, &rows);
            let off = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
            println!("variant {i}, {vocab} tokens behind {length}: {off} differ");
            (draws, different) = (draws + 24, different + off);
        }
    }
    // A draw that differs changes what the ones behind it are made of.
    assert!(different * 200 <= draws, "{different} of {draws} draws differ from the CPU's");
}

#[test]
fn odd_logits_give_the_cpus_token() {
    let Some(mut test) = TestDevice::new() else { return };
    const INF: f32 = f32::INFINITY;
    let rows = [
        vec![f32::NAN, 1.0, f32::NAN, 0.5, -INF, f32::NAN],
        vec![-INF; 6],
        vec![f32::NAN; 6],
        vec![0.0, INF, 1.0, -0.0, INF, 2.0],
        vec![f32::MIN, f32::MAX, f32::MIN, 0.0, 0.0, 0.0],
        vec![-0.0, 0.0, -1.0, 0.0, -0.0, -INF],
        vec![-3.0, -2.0, -2.0, -5.0, -2.0, -9.0],
    ];
    let variants = [
        GREEDY,
        WARM,
        Sampling { top_k: Some(2), ..WARM },
        Sampling { top_p: Some(0.8), ..WARM },
        Sampling { min_p: Some(0.1), ..WARM },
        Sampling { temperature: f32::MIN_POSITIVE, ..WARM },
        Sampling { top_k: Some(4), top_p: Some(0.5), min_p: Some(0.2), ..WARM },
    ];
    for variant in variants {
        for seed in 0..4 {
            let sampling = Sampling { seed, ..variant };
            let found = draw(&mut test, &sampling, &[Token(0)], &rows).0;
            assert_eq!(found, cpus(&sampling, &[Token(0)], &rows), "{sampling:?}");
        }
    }
}

#[test]
fn draws_are_fed_back() {
    let Some(device) = device() else { return };
    let mut random = Random(32);
    let file = model(&config(96, (6, 2, 32), 160, true), mixed, &mut random);
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let prompt = tokens(20, &mut random);
    let mut gpu = Gpu::new(&device, &weights, &options(KvKind::F16, 32, 1)).unwrap();
    let sampling = Sampling { seed: 5, temperature: 1.5, top_k: Some(40), top_p: Some(0.95), ..PENALTIES };
    // One by one, drawn by the CPU.
    let mut sampler = Sampler::new(sampling).unwrap();
    let mut candidates = vec![Candidate::default(); 512];
    let (mut expected, mut history) = (Vec::new(), prompt.clone());
    let (mut batch, mut position) = (prompt.clone(), 0);
    for _ in 0..22 {
        let logits = gpu.logits_after(&Batch { tokens: &batch, position }).unwrap();
        position += batch.len();
        let token = sampler.sample(&mut logits.to_vec(), &history, &mut candidates);
        history.push(token);
        expected.push(token);
        batch = vec![token];
    }
    // The prompt and its token in one submit, then 8, 8 and 5 tokens, two submits ahead.
    let mut found = Vec::new();
    gpu.seed(&Pcg32::new(5));
    gpu.set_sampling(&sampling, &prompt).unwrap();
    forward(&mut gpu, &Batch { tokens: &prompt, position: 0 });
    gpu.head(prompt.len() - 1..prompt.len());
    assert!(gpu.can_sample_after(prompt.len()) && gpu.sample_recorded() == prompt.len());
    for count in [8, 8, 5] {
        gpu.submit_tokens(count).unwrap();
        found.extend(gpu.take_tokens().unwrap());
    }
    assert_eq!(found.len(), 17);
    gpu.submit_tokens(1).unwrap();
    assert!(matches!(gpu.submit_tokens(1), Err(GpuError::Option { .. })), "two submits wait");
    found.extend(gpu.take_tokens().unwrap());
    assert_eq!(found, expected);
    assert_eq!(gpu.take_tokens().unwrap().len(), 1);
    assert!(gpu.take_tokens().unwrap().is_empty());
    // Any other pass ends it.
    gpu.logits_after(&Batch { tokens: &prompt[..1], position: 3 }).unwrap();
    assert!(matches!(gpu.submit_tokens(1), Err(GpuError::Option { .. })));
    assert!(matches!(gpu.begin(&[], &sampling), Err(GpuError::Option { .. })));
    let wrong = Sampling { temperature: -1.0, ..sampling };
    assert!(matches!(gpu.begin(&[Token(1)], &wrong), Err(GpuError::Sampling(_))));
}
