//! Every family: tiny random models against transformers (tests/golden/families.py), there and back through
//! Hugging Face folders and GGUF files, and hostile variants.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "families/golden.rs"]
mod golden;
#[path = "families/hostile.rs"]
mod hostile;
#[path = "families/round_trip.rs"]
mod round_trip;
mod tiny;

use conformance::{converted, logit_difference, with_session};
use golden::Golden;
use thimble_converter::{BlockType, Quant};
use thimble_files::MappedModel;
use thimble_host::InferenceSettings;
use thimble_runtime::Token;

const EXACT: InferenceSettings = InferenceSettings {
    context: None,
    threads: Some(2),
    kernels: None,
    kv: None,
    exact: true,
    logit_rows: None,
    batch: None,
    lookup: 0,
    matmul_variant: None,
    adapter_rank: 0,
    sequences: None,
    backend: None,
};
const FAST: InferenceSettings = InferenceSettings { exact: false, ..EXACT };

/// The golden model as a `.thimble` file.
fn model(golden: &Golden, kind: BlockType, quant: Quant) -> (tempfile::TempDir, MappedModel) {
    let folder = tempfile::tempdir().unwrap();
    golden.folder(kind).write(folder.path(), 1);
    let (model, summary) = converted(folder.path(), &folder.path().join("m.thimble"), quant);
    assert_eq!(summary.rounding, 0.0, "{}: every encoding here holds the weights exactly", golden.name);
    (folder, model)
}

/// The logits after the prompt and after each token decoded behind it.
fn logits(golden: &Golden, model: &MappedModel, settings: &InferenceSettings) -> Vec<Vec<f32>> {
    let tokens: Vec<Token> = golden.tokens.iter().copied().map(Token).collect();
    with_session(model, settings, |session| {
        let (prompt, rest) = tokens.split_at(golden.prompt_tokens);
        session.prefill(prompt).unwrap();
        let mut all = vec![session.tokens_and_logits().1.to_vec()];
        for &token in rest {
            session.prefill(&[token]).unwrap();
            all.push(session.tokens_and_logits().1.to_vec());
        }
        all
    })
}

#[test]
fn logits_are_those_of_transformers() {
    for golden in golden::all() {
        for kind in [BlockType::F32, BlockType::BF16] {
            let (_folder, model) = model(&golden, kind, Quant::Keep);
            let all = logits(&golden, &model, &EXACT);
            let [prompt, last] = [(&all[0], &golden.prompt), (&all[all.len() - 1], &golden.last)]
                .map(|(found, expected)| logit_difference(found, expected));
            println!("{}, {kind}: {prompt:.1e} after the prompt, {last:.1e} at the end", golden.name);
            assert!(prompt < 1e-4 && last < 1e-4, "{}, {kind}: {prompt:e} {last:e}", golden.name);
        }
    }
}

/// Kullback-Leibler divergence of two distributions, given by logits, nats.
fn divergence(exact: &[f32], fast: &[f32]) -> f64 {
    let normalized = |logits: &[f32]| -> Vec<f64> {
        let most = logits.iter().fold(f32::MIN, |most, &logit| most.max(logit));
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
        logits.iter().map(|&logit| f64::from(logit - most) - sum.ln()).collect()
    };
    let (exact, fast) = (normalized(exact), normalized(fast));
    exact.iter().zip(&fast).map(|(p, q)| p.exp() * (p - q)).sum()
}

#[test]
fn the_fast_path_is_near_the_exact_one() {
    for golden in golden::all() {
        let (_folder, model) = model(&golden, BlockType::F32, Quant::Q8);
        let (exact, fast) = (logits(&golden, &model, &EXACT), logits(&golden, &model, &FAST));
        let sum: f64 = exact.iter().zip(&fast).map(|(exact, fast)| divergence(exact, fast)).sum();
        let mean = sum / exact.len() as f64;
        println!("{}: {mean:.1e} nats", golden.name);
        assert!(mean < 1e-3, "{}: {mean:e} nats", golden.name);
    }
}
