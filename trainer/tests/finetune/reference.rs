//! The losses, gradient norms and weights of TRL's steps.

use crate::setup::{GOLDEN, Home, succeeds};
use serde_json::Value;
use std::path::Path;
use thimble_trainer::export::{read_config, read_model};
use thimble_trainer::model::Parameters;
use thimble_trainer::weights::read_weights;

/// The optimizer of the reference, and examples in the order of the file, each in a row of its own.
const AS_TRL: [&str; 12] = [
    "--set",
    "stages.0.length={steps=5}",
    "--set",
    "stages.0.schedule={kind=\"constant\", peak=1e-3}",
    "--set",
    "objective.packing=false",
    "--set",
    "objective.shuffle=false",
    "--set",
    "optimizer.beta1=0.9",
    "--context",
    "256",
];
const TOGETHER: [&str; 4] = ["--set", "stages.0.micro_batch=4", "--set", "stages.0.accumulate=1"];
const BY_TWO: [&str; 4] = ["--set", "stages.0.micro_batch=2", "--set", "stages.0.accumulate=2"];
const SINGLY: [&str; 4] = ["--set", "stages.0.micro_batch=1", "--set", "stages.0.accumulate=4"];

/// Asserts that the steps of a run have these losses and gradient norms.
fn assert_steps(home: &Home, run: &str, expected: &Value) {
    let (found, expected) = (home.steps(run), expected.as_array().unwrap());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        for (found, key, bound) in [(found.loss, "loss", 1e-5), (found.gradient_norm, "grad_norm", 1e-4)] {
            let expected = expected[key].as_f64().unwrap();
            assert!((found - expected).abs() <= bound * expected, "{run}: {key} {found} for {expected}");
        }
    }
}

fn weights(path: &Path, model: &Path) -> Vec<f32> {
    read_weights(path, &Parameters::new(&read_config(&model.join("config.json")).unwrap())).unwrap()
}

/// The largest distance of two weights, over the norm of the weights per number.
fn distance(found: &[f32], expected: &[f32]) -> (f64, f64) {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let far = square(&mut found.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let norm = square(&mut expected.iter().map(|&b| f64::from(b)));
    let most = found.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    ((far / norm).sqrt(), most)
}

fn check(folder: &Path) -> Home {
    let home = Home::new();
    let (reference, model) = (home.rows_of(folder, "chats.jsonl"), folder.join("model"));
    for (run, split) in [("together", TOGETHER), ("by-two", BY_TWO), ("singly", SINGLY)] {
        succeeds(home.finetune(&model, run, &[&AS_TRL[..], &split, &["--threads", "2"]].concat()));
        assert_steps(&home, run, &reference["steps_assistant_only"]);
    }
    let after = |run: &str| read_model(&home.path(run).join("export")).unwrap().1;
    let expected = weights(&folder.join("after5.safetensors"), &model);
    let (relative, most) = distance(&after("together"), &expected);
    println!("{}: weights {relative:.1e}, {most:.1e} at most", folder.display());
    assert!(relative <= 1e-4, "{relative}");
    // One mean over the step's targets, however the step is split; a mean of means would differ.
    for split in ["by-two", "singly"] {
        let (relative, most) = distance(&after(split), &after("together"));
        println!("{split}: {relative:.1e}, {most:.1e} at most");
        assert!(relative <= 1e-6, "{split}: {relative}");
    }
    home
}

#[test]
fn the_steps_are_those_of_trl() {
    check(Path::new(GOLDEN));
}

/// And with all tokens as targets, as SmolLM2's recipe has it.
#[test]
fn the_steps_are_those_of_trl_on_the_shared_reference() {
    let Some(shared) = thimble_needs::shared() else { return };
    let folder = shared.join("reference/sft");
    let home = check(&folder);
    let text = std::fs::read_to_string(folder.join("sft_variants.json")).unwrap();
    let variants: Value = serde_json::from_str(&text).unwrap();
    let all = [&AS_TRL[..], &TOGETHER, &["--targets", "all"]].concat();
    succeeds(home.finetune(&folder.join("model"), "all", &all));
    assert_steps(&home, "all", &variants["full_sequence_loss"]);
    assert_steps(&home, "by-two", &variants["assistant_only_micro_2_accumulate_2"]);
}
