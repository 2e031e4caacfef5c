//! Pretraining whose last stage trains for a quantized file.

use crate::kills::KilledRun;
use crate::quantize::assert_file_has_trained_logits;
use crate::setup::{TestFolder, assert_same_end, copy, refused, succeeds};
use std::fs;
use thimble_converter::Quant;
use thimble_trainer::plan::{DeviceTarget, MemoryEstimate};
use thimble_trainer::recipe::{QuantizationScales, TrainingRecipe};
use thimble_trainer::report::metrics::MetricsEvent;

/// The steps of the stages before.
const TRAINED: u64 = 40;

fn with_stage() -> TestFolder {
    let test = TestFolder::new();
    let path = test.path("recipe.toml");
    let recipe = fs::read_to_string(&path).unwrap()
        + r#"
[[stages]]
name = "quantize"
length = { steps = 24 }
context = 32
micro_batch = 3
mixture = { train = 1.0 }
reset_optimizer = true
quantize = { quant = "q3" }
schedule = { kind = "cosine", peak = 3e-2, warmup = 2 }
"#;
    fs::write(path, recipe).unwrap();
    test
}

/// Removes a run's checkpoints after a step.
fn go_back(test: &TestFolder, run: &str, step: u64) {
    for later in test.checkpoints(run) {
        if later.as_str() > format!("step-{step:08}").as_str() {
            fs::remove_dir_all(test.path(run).join("checkpoints").join(later)).unwrap();
        }
    }
}

#[test]
fn a_run_through_both_kinds_of_stages_exports_a_model_that_converts_exactly() {
    let test = with_stage();
    let keep = ["--quiet", "--set", "checkpoint.last=99"];
    succeeds(test.pretrain("run", &keep));
    let divergences: Vec<f64> = test
        .metrics("run")
        .into_iter()
        .filter_map(|event| match event {
            MetricsEvent::Validation(point) if point.step > TRAINED => Some(point.loss),
            _ => None,
        })
        .collect();
    let (first, last) = (divergences[0], divergences[divergences.len() - 1]);
    assert!(divergences.len() > 3 && last < first && first < 1.0, "{divergences:?}");
    // Divergences are not compared with the losses before.
    let report = fs::read_to_string(test.path("run/report.html")).unwrap();
    assert!(
        report.contains("at step 45") && !report.contains("at step 5<"),
        "the first measurement of the stage"
    );
    assert_file_has_trained_logits(&test, "run", Quant::Q3, QuantizationScales::Trained);
    let said = refused(test.command(&["export", "run", "-o", "bf16", "--dtype", "bf16"]), 2);
    assert!(said.contains("exact in f32"), "{said}");
    // The stage before is exported as it was trained, which is the teacher.
    let end = format!("step-{TRAINED:08}");
    succeeds(test.command(&["export", "run", "-o", "before", "--checkpoint", &end]));
    let before = fs::read(test.path("before/model.safetensors")).unwrap();
    assert!(before == test.kept("run", &end, "model.safetensors"));
    assert!(before == fs::read(test.path("run/teacher/model.safetensors")).unwrap());

    for (name, step) in [("boundary", TRAINED), ("middle", TRAINED + 9)] {
        copy(&test.path("run"), &test.path(name));
        go_back(&test, name, step);
        succeeds(test.pretrain(name, &[&keep[..], &["--resume", "--threads", "3"]].concat()));
        assert_same_end(&test, "run", name);
    }
    // Without its teacher, a run cannot go on.
    copy(&test.path("middle"), &test.path("lost"));
    go_back(&test, "lost", TRAINED + 9);
    fs::remove_dir_all(test.path("lost/teacher")).unwrap();
    let said = refused(test.pretrain("lost", &[&keep[..], &["--resume"]].concat()), 1);
    assert!(said.contains("teacher/model.safetensors"), "{said}");
}

/// What a resume changes before the stage changes its teacher and its scales, too.
#[test]
fn a_stage_that_begins_again_has_the_teacher_of_then() {
    let test = with_stage();
    let keep = ["--quiet", "--set", "checkpoint.last=99"];
    succeeds(test.pretrain("run", &keep));
    let teacher = || fs::read(test.path("run/teacher/model.safetensors")).unwrap();
    let first = teacher();
    go_back(&test, "run", TRAINED - 9);
    let change = ["--resume", "--set", "stages.1.schedule.peak=1e-3"];
    succeeds(test.pretrain("run", &[&keep[..], &change].concat()));
    assert!(teacher() != first);
    assert!(teacher() == test.kept("run", &format!("step-{TRAINED:08}"), "model.safetensors"));
    assert_file_has_trained_logits(&test, "run", Quant::Q3, QuantizationScales::Trained);
}

/// The model as the stage found it is saved, however seldom checkpoints are: a run that stops at the stage's first step resumes
/// with the same teacher.
#[test]
fn the_model_before_the_stage_is_kept() {
    let test = with_stage();
    let seldom = [
        "--quiet",
        "--set",
        "checkpoint.every=1000",
        "--set",
        "checkpoint.last=99",
        "--set",
        "validation=none",
    ];
    succeeds(test.pretrain("run", &seldom));
    let [before, end] = [TRAINED, TRAINED + 24].map(|step| format!("step-{step:08}"));
    assert_eq!(test.checkpoints("run"), [before.clone(), end]);
    let teacher = fs::read(test.path("run/teacher/model.safetensors")).unwrap();
    assert!(teacher == test.kept("run", &before, "model.safetensors"));
}

#[test]
fn kills_around_the_stage_change_nothing() {
    let test = with_stage();
    let more = ["--quiet", "--set", "stages.2.length={steps=90}"];
    let command = |run: &str, extra: &[&str]| test.pretrain(run, &[&more[..], extra].concat());
    KilledRun { home: &test.path(""), command: &command, kills: 8, while_writing: 1 }.ends_as_if_left_alone();
}

#[test]
fn what_a_stage_cannot_quantize_to_is_refused_before_the_run() {
    let test = with_stage();
    for (quant, code, expected) in [("q9", 2, "q4even"), ("f16", 2, "found only floats")] {
        let set = format!("stages.2.quantize.quant={quant}");
        let said = refused(test.pretrain("run", &["--set", &set]), code);
        assert!(said.contains(quant) && said.contains(expected), "{said}");
        assert!(test.checkpoints("run").is_empty());
    }
}

#[test]
fn the_plan_counts_the_copies_of_the_weights() {
    let test = with_stage();
    let weights = |overrides: &[String]| {
        let recipe = TrainingRecipe::load(test.path("recipe.toml"), overrides).unwrap();
        MemoryEstimate::of(&recipe, DeviceTarget::Cpu, (1, 96)).weights
    };
    assert_eq!(weights(&[]), 3 * weights(&["stages.2.quantize=none".into()]));
}
