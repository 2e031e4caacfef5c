//! A run that is stopped in any way goes on to the same end, bit for bit.

use crate::kills::KilledRun;
use crate::setup::{TestFolder, assert_same_end, assert_same_run, refused, said, succeeds, wait_for};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use thimble_trainer::report::metrics::MetricsEvent;

/// A longer run, so that it has room for the kills.
const LONG: [&str; 4] = ["--set", "stages.0.length={steps=30}", "--set", "stages.1.length={steps=120}"];

#[test]
fn ten_kills_change_nothing() {
    let test = TestFolder::new();
    let command = |run: &str, more: &[&str]| test.pretrain(run, &[&LONG[..], &["--quiet"], more].concat());
    let run = KilledRun { home: &test.path(""), command: &command, kills: 10, while_writing: 3 };
    run.ends_as_if_left_alone();
    let steps = test.metrics("killed").into_iter().filter_map(|event| match event {
        MetricsEvent::Step(step) => Some(step.step),
        _ => None,
    });
    assert_eq!(steps.collect::<Vec<_>>(), (1..=150).collect::<Vec<_>>());
}

/// As a kill leaves it between the folder of a checkpoint and the file that calls it the best: it must not be taken for
/// an old one later, although nothing better comes.
#[test]
fn the_name_of_the_best_is_mended() {
    let test = TestFolder::new();
    let worse = ["--quiet", "--set", "stages.1.schedule.peak=0.5"];
    succeeds(test.pretrain("whole", &worse));
    let best = test.path("killed/checkpoints/best");
    let mut child = test.pretrain("killed", &worse).spawn().unwrap();
    assert!(wait_for(&mut child, || test.steps("killed") > 24));
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(&best).unwrap();
    succeeds(test.pretrain("killed", &[&worse[..], &["--resume"]].concat()));
    assert!(fs::read_to_string(&best).unwrap().as_str() > "step-00000024");
    let of_first = fs::read_to_string(test.path("killed/checkpoints/best-stage-0")).unwrap();
    assert_eq!(of_first, "step-00000020\n");
    assert_same_run(&test, "whole", "killed");
}

#[test]
fn a_signal_ends_the_run_with_a_checkpoint() {
    let test = TestFolder::new();
    let rare = [&LONG[..], &["--set", "checkpoint.every=1000", "--set", "validation.every=1000"]].concat();
    succeeds(test.pretrain("whole", &[&rare[..], &["--quiet"]].concat()));
    for (signal, more) in [("-TERM", &[][..]), ("-INT", &["--resume"])] {
        let before = test.steps("stopped");
        let mut child = test.pretrain("stopped", &[&rare[..], more].concat()).spawn().unwrap();
        assert!(wait_for(&mut child, || test.steps("stopped") > before + 3));
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        let said = said(&output);
        let step = test.steps("stopped");
        assert!(step < 150, "it was too fast for the signal");
        assert_eq!(output.status.code(), Some(130), "{said}");
        let go_on = "thimble-train pretrain stopped/recipe.toml --run stopped --resume";
        assert!(said.contains(&format!("stopped after step {step}; to continue: {go_on}\n")), "{said}");
        assert!(!said.contains("error: "), "{said}");
        assert!(said.contains(&format!("{step} of 150 steps done")), "{said}");
        assert_eq!(test.newest("stopped"), Some(format!("step-{step:08}")));
    }
    // Without the overrides it is another recipe; what is told to type goes on.
    let refused = refused(test.pretrain("stopped", &["--quiet", "--resume"]), 1);
    let typed = refused.split('`').nth(1).unwrap().strip_prefix("thimble-train ").unwrap();
    succeeds(test.command(&typed.split(' ').collect::<Vec<_>>()));
    assert_same_end(&test, "whole", "stopped");
    // A finished run has nothing left to do, and says so.
    let said = succeeds(test.pretrain("stopped", &[&rare[..], &["--resume"]].concat()));
    assert!(said.contains("150 of 150 steps done"), "{said}");
}

/// From the last step of the one, from the first of the other: context, rotary base, mixture and optimizer change
/// between.
#[test]
fn a_run_goes_on_on_both_sides_of_a_stage() {
    let test = TestFolder::new();
    let keep_all = ["--quiet", "--set", "checkpoint.last=100"];
    succeeds(test.pretrain("whole", &keep_all));
    assert_eq!(test.checkpoints("whole").len(), 40);
    for step in [0, 1, 23, 24, 25, 39] {
        let run = format!("from-{step}");
        crate::setup::copy(&test.path("whole"), &test.path(&run));
        for later in step + 1..=40 {
            fs::remove_dir_all(test.path(&run).join(format!("checkpoints/step-{later:08}"))).unwrap();
        }
        // What is kept may change.
        let rare = ["--quiet", "--resume", "--set", "checkpoint.every=1000"];
        succeeds(test.pretrain(&run, &rare));
        assert_same_end(&test, "whole", &run);
    }
    // The moments began anew, and so did AdamW's count.
    let state = |step| -> serde_json::Value {
        serde_json::from_slice(&test.kept("whole", &format!("step-{step:08}"), "state.json")).unwrap()
    };
    assert_eq!(state(24)["optimizer_step"], 24);
    assert_eq!(state(25)["optimizer_step"], 1);
    assert_eq!((&state(25)["position"]["stage"], &state(24)["position"]["stage"]), (&1.into(), &0.into()));
    let losses = test.metrics("whole").into_iter().filter_map(|event| match event {
        MetricsEvent::Step(step) => Some(step.loss),
        _ => None,
    });
    let losses: Vec<f64> = losses.collect();
    assert!((losses[0] - 300f64.ln()).abs() < 0.2 && losses[39] < 4.5, "{losses:?}");
}

#[test]
fn the_newest_and_the_best_stay() {
    let test = TestFolder::new();
    // The second stage makes it worse, so that the best one is old.
    let more = [
        "--quiet",
        "--set",
        "stages.1.schedule.peak=0.5",
        "--set",
        "checkpoint.every=3",
        "--set",
        "checkpoint.last=2",
        "--set",
        "validation.every=4",
    ];
    succeeds(test.pretrain("run", &more));
    let measured: Vec<(u64, f64)> = test
        .metrics("run")
        .iter()
        .filter_map(|event| match event {
            MetricsEvent::Validation(point) => Some((point.step, point.loss)),
            _ => None,
        })
        .collect();
    assert_eq!(
        measured.iter().map(|(step, _)| *step).collect::<Vec<_>>(),
        (1..=10).map(|x| x * 4).collect::<Vec<_>>()
    );
    let best_of = |steps: std::ops::RangeInclusive<u64>| {
        let of_stage = measured.iter().filter(|(step, _)| steps.contains(step));
        let best = of_stage.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        (format!("step-{:08}", best.0), best.1)
    };
    let [(first, low), (second, high)] = [best_of(1..=24), best_of(25..=40)];
    assert!(low < high, "the first stage's best is better, and still not the run's: {measured:?}");
    let kept: BTreeSet<String> = test.checkpoints("run").into_iter().collect();
    let expected = [first.as_str(), second.as_str(), "step-00000039", "step-00000040"];
    assert_eq!(kept, expected.map(String::from).into());
    let name = |file: &str| fs::read_to_string(test.path("run/checkpoints").join(file)).unwrap();
    let found = ["best-stage-0", "best", "last"].map(|file| name(file).trim().to_owned());
    assert_eq!(found, [first.as_str(), second.as_str(), "step-00000040"]);
    // A run that is killed and gone on with keeps the same ones.
    let mut child = test.pretrain("killed", &more).spawn().unwrap();
    assert!(wait_for(&mut child, || test.steps("killed") >= 30));
    child.kill().unwrap();
    child.wait().unwrap();
    succeeds(test.pretrain("killed", &[&more[..], &["--resume"]].concat()));
    assert_same_run(&test, "run", "killed");
}
