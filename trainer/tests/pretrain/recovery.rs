//! Bad steps are skipped or end the run, and a resumed run may change what is safe to change.

use crate::kills::KilledRun;
use crate::setup::{TestFolder, copy, numbers, refused, succeeds};
use std::fs;
use thimble_trainer::recipe::TrainingRecipe;
use thimble_trainer::report::metrics::MetricsEvent;
use thimble_trainer::report::recovery::{RecipeChange, SkippedStep, read_history};

/// A set of random letters, which a model of sentences finds hard, and the flags that mix some of it in.
struct Odd(Vec<String>);

impl Odd {
    fn new(test: &TestFolder) -> Odd {
        let mut next = numbers(11);
        let mut document = || (0..400).map(|_| char::from(b'a' + next(26) as u8)).collect::<String>();
        let lines: Vec<String> =
            (0..20).map(|_| serde_json::json!({ "text": document() }).to_string()).collect();
        fs::write(test.path("odd.jsonl"), lines.join("\n")).unwrap();
        let tokenizer = test.tokens().join("tokenizer").display().to_string();
        succeeds(test.command(&["tokenize", "odd.jsonl", "--tokenizer", &tokenizer, "-o", "odd"]));
        let sets = [
            "data.sets.odd=odd",
            "stages.1.mixture={train=0.85, odd=0.15}",
            "stages.1.micro_batch=1",
            "stages.1.reset_optimizer=false",
            "guard.loss_spike=0.8",
            "guard.window=5",
        ];
        Odd(sets.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]).collect())
    }

    /// The flags, and more.
    fn with<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.0.iter().map(String::as_str).chain(["--quiet"]).chain(more.iter().copied()).collect()
    }
}

const SKIP: [&str; 2] = ["--set", "guard.on_bad_step=skip"];

fn skipped(test: &TestFolder, run: &str) -> Vec<SkippedStep> {
    let text = fs::read_to_string(test.path(run).join("skipped.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_bad_step_is_skipped_by_policy_and_its_data_are_logged() {
    let test = TestFolder::new();
    let odd = Odd::new(&test);
    succeeds(test.pretrain("run", &[&odd.with(&SKIP)[..], &["--set", "checkpoint.last=100"]].concat()));
    let skipped = skipped(&test, "run");
    assert!((1..10).contains(&skipped.len()), "{skipped:?}");
    for step in &skipped {
        assert!(step.reason.contains("more than guard.loss_spike = 0.8 above the mean"), "{step:?}");
        assert!(step.stage == "long" && step.data.len() == 1, "{step:?}");
        assert!(step.data[0].contains("set `odd`") && step.data[0].contains("document"), "{step:?}");
        let kept = |step: u64, file: &str| test.kept("run", &format!("step-{step:08}"), file);
        for file in ["model.safetensors", "optimizer.safetensors"] {
            assert!(kept(step.step, file) == kept(step.step - 1, file), "{file} of step {}", step.step);
        }
        let state =
            |step| -> serde_json::Value { serde_json::from_slice(&kept(step, "state.json")).unwrap() };
        let (before, after) = (state(step.step - 1), state(step.step));
        assert_eq!(before["optimizer_step"], after["optimizer_step"]);
        let samples = |state: &serde_json::Value| match state["position"]["stage"].as_u64() {
            Some(1) => state["position"]["samples"].as_u64().unwrap(),
            _ => 0,
        };
        assert_eq!(samples(&after), samples(&before) + 1, "the position moves on");
    }
    // Every step is there once, trained or skipped.
    let (mut trained, mut left_out) = (Vec::new(), Vec::new());
    for event in test.metrics("run") {
        match event {
            MetricsEvent::Step(step) => trained.push(step.step),
            MetricsEvent::Skipped(step) => left_out.push(step.step),
            _ => {}
        }
    }
    assert_eq!(left_out, skipped.iter().map(|step| step.step).collect::<Vec<_>>());
    trained.extend(left_out);
    trained.sort_unstable();
    assert_eq!(trained, (1..=40).collect::<Vec<_>>());
}

#[test]
fn kills_around_skipped_steps_change_nothing() {
    let test = TestFolder::new();
    let odd = Odd::new(&test);
    let rare = ["--set", "checkpoint.every=7", "--set", "stages.1.length={steps=60}"];
    let flags = [&odd.with(&SKIP)[..], &rare].concat();
    let command = |run: &str, more: &[&str]| test.pretrain(run, &[&flags[..], more].concat());
    KilledRun { home: &test.path(""), command: &command, kills: 6, while_writing: 0 }.ends_as_if_left_alone();
    assert!(!skipped(&test, "killed").is_empty());
}

/// A run that stops at each bad step and goes on by hand ends as one that skips by itself.
#[test]
fn a_stopped_run_goes_on_without_its_bad_step() {
    let test = TestFolder::new();
    let odd = Odd::new(&test);
    succeeds(test.pretrain("skipping", &odd.with(&SKIP)));
    let expected = skipped(&test, "skipping");
    let rare = ["--set", "checkpoint.every=1000", "--set", "checkpoint.last=1"];
    let mut command = test.pretrain("stopping", &[&odd.with(&[])[..], &rare].concat());
    for (number, step) in expected.iter().enumerate() {
        let said = refused(command, 1);
        assert!(said.contains(&format!("step {} of stage `long`", step.step)), "{said}");
        assert!(said.contains(&format!("the checkpoint of step {} is intact", step.step - 1)), "{said}");
        assert!(said.contains(&step.data[0]), "{said}");
        let newest = format!("step-{:08}", step.step - 1);
        assert_eq!(test.newest("stopping"), Some(newest.clone()));
        // Resumed without the flag it comes to the same end, and writes nothing over.
        if number == 0 {
            let again = refused(
                test.command(&["pretrain", "stopping/recipe.toml", "--run", "stopping", "--resume"]),
                1,
            );
            assert!(again.contains(&format!("step {} of stage `long`", step.step)), "{again}");
        }
        let typed = said.split('`').find(|part| part.ends_with("--resume --skip-step")).unwrap();
        let typed: Vec<&str> = typed.strip_prefix("thimble-train ").unwrap().split(' ').collect();
        command = test.command(&[&typed[..], &["--quiet"]].concat());
    }
    succeeds(command);
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let last = |run| test.kept(run, "step-00000040", file);
        assert!(last("stopping") == last("skipping"), "{file} differs");
    }
    let found = skipped(&test, "stopping");
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!((found.step, &found.data), (expected.step, &expected.data));
        assert_eq!(found.reason, "--skip-step");
    }
    // There is nothing to skip in a run that has not begun.
    let said = refused(test.pretrain("new", &odd.with(&["--resume", "--skip-step"])), 2);
    assert!(said.contains("--skip-step: expected a run that has stopped"), "{said}");
}

#[test]
fn too_many_bad_steps_in_a_row_end_the_run() {
    let test = TestFolder::new();
    let more = [
        "--quiet",
        "--set",
        "stages.1.schedule.peak=3.0",
        "--set",
        "guard.loss_spike=1.0",
        "--set",
        "guard.window=5",
        "--set",
        "guard.most_skipped=3",
        "--set",
        "checkpoint.every=1000",
    ];
    let said = refused(test.pretrain("run", &[&more[..], &SKIP].concat()), 1);
    assert!(said.contains("the 3 steps before it were skipped too (guard.most_skipped)"), "{said}");
    let skipped = skipped(&test, "run");
    let last = skipped.last().unwrap().step;
    assert_eq!(test.newest("run"), Some(format!("step-{last:08}")));
    // The count is part of the state: a resumed run does not skip three more.
    let again = refused(test.pretrain("run", &[&more[..], &SKIP, &["--resume"]].concat()), 1);
    assert!(again.contains(&format!("step {} of stage `long`", last + 1)), "{again}");
    assert_eq!(self::skipped(&test, "run"), skipped);
}

#[test]
fn a_resumed_run_may_change_its_learning_rate_and_says_so() {
    let test = TestFolder::new();
    succeeds(test.pretrain("whole", &["--quiet", "--set", "checkpoint.last=100"]));
    for run in ["changed", "killed"] {
        copy(&test.path("whole"), &test.path(run));
        for later in 21..=40 {
            fs::remove_dir_all(test.path(run).join(format!("checkpoints/step-{later:08}"))).unwrap();
        }
    }
    let rare = ["--quiet", "--resume", "--set", "checkpoint.every=1000"];
    let change = [
        "--set",
        "stages.*.schedule.peak=2e-3",
        "--set",
        "stages.0.schedule.floor=0",
        "--set",
        "optimizer.clip=none",
    ];
    // Without --set, another value is another recipe.
    let recipe = fs::read_to_string(test.path("recipe.toml")).unwrap();
    fs::write(test.path("other.toml"), recipe.replace("peak = 3e-3", "peak = 2e-3")).unwrap();
    let other = ["pretrain", "other.toml", "--run", "changed"];
    let said = refused(test.command(&[&other[..], &rare].concat()), 1);
    assert!(said.contains("- stages.1.schedule.peak = 0.003\n+ stages.1.schedule.peak = 0.002"), "{said}");

    succeeds(test.pretrain("changed", &[&rare[..], &change].concat()));
    let changes = read_history(&test.path("changed")).unwrap();
    let shown =
        |change: &RecipeChange| format!("{} {} {} {}", change.step, change.key, change.from, change.to);
    let expected = [
        "20 optimizer.clip 1.0 none",
        "20 stages.0.schedule.floor 0.001 0.0",
        "20 stages.0.schedule.peak 0.01 0.002",
        "20 stages.1.schedule.peak 0.003 0.002",
    ];
    assert_eq!(changes.iter().map(shown).collect::<Vec<_>>(), expected);
    assert!(changes.iter().all(|change| change.time > 1_700_000_000));
    for place in ["changed", "changed/checkpoints/step-00000040"] {
        let recipe = TrainingRecipe::load(test.path(place).join("recipe.toml"), &[]).unwrap();
        assert_eq!((recipe.stages[1].schedule.peak, recipe.optimizer.clip), (2e-3, None), "{place}");
    }
    let rates = |run: &str| -> Vec<f64> {
        let events = test.metrics(run).into_iter();
        events
            .filter_map(|e| if let MetricsEvent::Step(s) = e { Some(s.learning_rate) } else { None })
            .collect()
    };
    let (before, after) = (rates("whole"), rates("changed"));
    assert!(before[..20] == after[..20] && after[20..].iter().all(|rate| *rate <= 2e-3), "{after:?}");

    // Killed before the next checkpoint, the run's own recipe has the change.
    let mut child = test.pretrain("killed", &[&rare[..], &change].concat()).spawn().unwrap();
    // The metrics have all steps of `whole` until the run goes on.
    assert!(crate::setup::wait_for(&mut child, || (22..40).contains(&test.steps("killed"))));
    child.kill().unwrap();
    child.wait().unwrap();
    let own = ["pretrain", "killed/recipe.toml", "--run", "killed", "--resume", "--quiet"];
    succeeds(test.command(&own));
    crate::setup::assert_same_end(&test, "changed", "killed");
    assert_eq!(read_history(&test.path("killed")).unwrap().len(), 4);
}
