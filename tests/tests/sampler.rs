//! The sampler draws from the distributions that transformers' logits processors make
//! (`golden/sampler.json`, written by `golden/sampler.py`).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use serde::Deserialize;
use thimble_runtime::Token;
use thimble_runtime::sampler::{Candidate, Sampler, Sampling, log_sum_exp};

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    settings: Settings,
    history: Vec<u32>,
    logits: Vec<f32>,
    adjusted: Vec<f32>,
    probabilities: Vec<f64>,
    log_sum_exp: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    frequency_penalty: f32,
    presence_penalty: f32,
    penalty_window: Option<usize>,
    bias: Vec<(u32, f32)>,
}

const DRAWS: usize = 40_000;

#[test]
fn distributions_are_those_of_transformers() {
    let golden: Golden = serde_json::from_str(include_str!("../golden/sampler.json")).unwrap();
    assert!(golden.cases.len() >= 80);
    for (index, case) in golden.cases.iter().enumerate() {
        check(index, case);
    }
}

fn check(index: usize, case: &Case) {
    let settings = &case.settings;
    let sampling = Sampling {
        temperature: settings.temperature,
        top_k: settings.top_k,
        top_p: settings.top_p,
        min_p: settings.min_p,
        repetition_penalty: settings.repetition_penalty.unwrap_or(1.0),
        frequency_penalty: settings.frequency_penalty,
        presence_penalty: settings.presence_penalty,
        penalty_window: settings.penalty_window,
        seed: 1000 + index as u64,
    };
    let what = format!("case {index}, {settings:?}");
    let bias: Vec<(Token, f32)> = settings.bias.iter().map(|&(id, value)| (Token(id), value)).collect();
    let history: Vec<Token> = case.history.iter().copied().map(Token).collect();
    let mut candidates = vec![Candidate::default(); case.logits.len()];
    let mut sampler = Sampler::new(sampling).unwrap().with_bias(&bias).unwrap();

    let mut adjusted = case.logits.clone();
    sampler.adjust(&mut adjusted, &history, &mut candidates);
    for (found, expected) in adjusted.iter().zip(&case.adjusted) {
        assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{what}: {found} {expected}");
    }
    assert!((f64::from(log_sum_exp(&case.logits)) - case.log_sum_exp).abs() < 2e-6, "{what}");

    let mut counts = vec![0_usize; case.logits.len()];
    for _ in 0..DRAWS {
        counts[sampler.sample(&mut case.logits.clone(), &history, &mut candidates).index()] += 1;
    }
    chi_square(&counts, &case.probabilities, &what);
}

/// Pearson's statistic; cells that expect under five draws are pooled. The seeds are fixed, so a bound that
/// a right sampler passes once it always passes: mean + 4 deviations (df + 4 sqrt(2 df), and 8 more for the
/// skew of few degrees) is a one in many thousands accident per case.
fn chi_square(counts: &[usize], probabilities: &[f64], what: &str) {
    let [mut statistic, mut cells] = [0.0, 0.0];
    let mut pooled = (0.0, 0.0);
    let mut cell = |count: f64, expected: f64| {
        statistic += (count - expected).powi(2) / expected;
        cells += 1.0;
    };
    for (token, (&count, &probability)) in counts.iter().zip(probabilities).enumerate() {
        let expected = probability * DRAWS as f64;
        if probability == 0.0 {
            assert_eq!(count, 0, "{what}: token {token} must never come");
        } else if expected < 5.0 {
            pooled = (pooled.0 + count as f64, pooled.1 + expected);
        } else {
            assert!(count > 0, "{what}: token {token} never came, expected {expected}");
            cell(count as f64, expected);
        }
    }
    if pooled.1 > 0.0 {
        cell(pooled.0, pooled.1);
    }
    let degrees: f64 = cells - 1.0;
    let bound = degrees + 4.0 * (2.0 * degrees).sqrt() + 8.0;
    assert!(statistic <= bound, "{what}: chi-square {statistic} with {degrees} degrees of freedom");
}
