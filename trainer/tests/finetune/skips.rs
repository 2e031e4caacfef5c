//! Bad steps of a run on conversations.

use crate::kills::KilledRun;
use crate::setup::{GOLDEN, Home};
use std::fs;
use std::path::Path;
use thimble_trainer::report::recovery::SkippedStep;

/// At so high a learning rate, conversations of one step spoil others.
const FLAGS: [&str; 22] = [
    "--batch",
    "1",
    "--context",
    "96",
    "--epochs",
    "25",
    "--learning-rate",
    "1e-2",
    "--held-out",
    "0.25",
    "--set",
    "checkpoint.every=1",
    "--set",
    "guard.on_bad_step=skip",
    "--set",
    "guard.most_skipped=100",
    "--set",
    "guard.loss_spike=0.4",
    "--set",
    "guard.window=4",
    "--set",
    "objective.packing=false",
];

#[test]
fn kills_around_skipped_steps_change_nothing() {
    let home = Home::new();
    home.rows_of(Path::new(GOLDEN), "chats.jsonl");
    let model = Path::new(GOLDEN).join("model");
    let command = |run: &str, more: &[&str]| home.finetune(&model, run, &[&FLAGS[..], more].concat());
    KilledRun { home: &home.path(""), command: &command, kills: 6, while_writing: 1 }.ends_as_if_left_alone();
    let text = fs::read_to_string(home.path("killed/skipped.jsonl")).unwrap();
    let skipped: Vec<SkippedStep> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(skipped.len() > 1, "{skipped:?}");
    for step in &skipped {
        let [row] = step.data.as_slice() else { panic!("one conversation each: {step:?}") };
        assert!(
            row.starts_with("chats.jsonl, line ") && step.reason.contains("guard.loss_spike"),
            "{step:?}"
        );
    }
}
