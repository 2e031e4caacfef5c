//! `thimble-train plan`, and the warnings that it, `pretrain` and `tokenize` give.

use crate::setup::{TestFolder, said, succeeds};
use std::fs;

#[test]
fn a_speed_that_is_not_told_is_measured() {
    let test = TestFolder::new();
    let plan = |more: &[&str]| {
        let output = test.command(&[&["plan", "recipe.toml"], more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        (String::from_utf8(output.stdout.clone()).unwrap(), said(&output))
    };
    let (text, words) = plan(&[]);
    assert!(words.contains("measuring this machine's speed"), "{words}");
    // The whole micro-batch of a stage with most of the tokens.
    assert!(text.contains("Speed measured on this machine: passes over 3 x 32 random tokens"), "{text}");
    assert!(text.contains("Time at ") && text.contains("seconds"), "{text}");
    let (json, _) = plan(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["measured"]["flops_per_second"].as_f64().unwrap() > 0.0, "{json}");
    assert!(json["stages"][1]["tokens_per_second"].as_f64().unwrap() > 0.0 && json["hours"].is_f64());
    let (text, words) = plan(&["--tokens-per-second", "1000"]);
    assert!(text.contains("Time at 1,000 tokens/s") && !text.contains("measured"), "{text}");
    assert!(!words.contains("measuring"), "{words}");
    // Another machine's GPU.
    if !cfg!(feature = "cuda") {
        let (text, words) = plan(&["--device", "cuda", "--memory", "46GB"]);
        assert!(text.contains("give --tokens-per-second") && !words.contains("measuring"), "{text}");
    }
    // What does not fit is refused, not tried.
    let output = test.command(&["plan", "recipe.toml", "--memory", "10kB"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!said(&output).contains("measuring"), "{}", said(&output));
}

/// The model is a real one, so that its template makes the examples.
#[test]
fn the_length_of_tuning_is_read_from_the_examples() {
    let test = TestFolder::new();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train/sft/model");
    let row = serde_json::json!({"prompt": "Hi", "completion": "Hello."});
    fs::write(test.path("chats.jsonl"), format!("{row}\n").repeat(9)).unwrap();
    let more = ["--set", "model=none", "--set", "objective.packing=false", "--set", "data.held_out=none"];
    let context = ["--set", "stages.0.context=64", "--tokens-per-second", "1000", "--json"];
    let model = format!("init_from={model:?}");
    let plan = |file: &str| -> serde_json::Value {
        let data = format!("data.files=[{file:?}]");
        let keys = ["--set", &model, "--set", &data, "--set", "validation=none"];
        let output =
            test.command(&[&["plan", "laptop-lora"], &keys[..], &more, &context].concat()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let read = plan("chats.jsonl");
    // Three epochs of nine rows, four in a step.
    assert_eq!((&read["steps"], &read["examples_missing"]), (&9.into(), &serde_json::Value::Null), "{read}");
    assert!(read["tokens"].as_u64().is_some_and(|tokens| tokens % 27 == 0 && tokens > 27 * 4), "{read}");
    let unread = plan("elsewhere.jsonl");
    assert_eq!((&unread["steps"], &unread["tokens"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!(unread["examples_missing"], "elsewhere.jsonl is not there");
}

#[test]
fn little_held_out_text_and_repeated_text_are_warned_of() {
    let test = TestFolder::new();
    // 20 steps of 64 tokens are less than one pass; 20,000 are many.
    let long = ["--set", "stages.0.length={steps=20000}"];
    for (command, more) in
        [("plan", &["--tokens-per-second", "1000"][..]), ("plan", &["--tokens-per-second", "1000", "--json"])]
    {
        let words = succeeds(test.command(&[&[command, "recipe.toml"], more, &long[..]].concat()));
        assert!(words.contains("warning: stage `short` reads set `train`"), "{words}");
        assert!(words.contains(" times; at most 4 is advisable"), "{words}");
    }
    let few = "hold out more text for validation set `held`";
    let words = succeeds(test.command(&["plan", "recipe.toml", "--tokens-per-second", "1000"]));
    assert!(!words.contains("advisable") && words.contains(few), "{words}");
    let short = ["--set", "stages.*.length={steps=4}"];
    let words = succeeds(test.pretrain("run", &short));
    assert!(words.contains(few), "{words}");
    assert!(!succeeds(test.pretrain("quiet", &[&short[..], &["--quiet"]].concat())).contains("warning"));

    let source = test.tokens().join("train.jsonl");
    let tokenizer = test.tokens().join("tokenizer");
    let tokenize = |set: &str, share: &str| {
        let held = format!("{set}-held");
        let [source, tokenizer] = [&source, &tokenizer].map(|path| path.to_str().unwrap());
        let command = ["tokenize", source, "--tokenizer", tokenizer, "-o", set];
        succeeds(test.command(&[&command[..], &["--holdout", share, "--holdout-output", &held]].concat()))
    };
    let words = tokenize("little", "5");
    assert!(words.contains("tokens are held out") && words.contains("raise --holdout"), "{words}");
    assert!(!tokenize("enough", "150").contains("tokens are held out"));
}

#[test]
fn resuming_nothing_says_that_a_run_begins() {
    let test = TestFolder::new();
    let short = ["--set", "stages.*.length={steps=4}"];
    let words = succeeds(test.pretrain("whole", &short));
    assert!(!words.contains("--resume"), "{words}");
    // Not there at all, and there without a checkpoint; said with --quiet too.
    fs::create_dir(test.path("empty")).unwrap();
    for (run, more) in [("misspelled", &["--resume"][..]), ("empty", &["--resume", "--quiet"])] {
        let words = succeeds(test.pretrain(run, &[&short[..], more].concat()));
        let warning =
            format!("warning: --resume found no checkpoint in {run}: a new run begins there at step 0");
        assert!(words.contains(&warning), "{words}");
        assert_eq!(test.newest(run), test.newest("whole"));
        let words = succeeds(test.pretrain(run, &[&short[..], more].concat()));
        assert!(!words.contains("found no checkpoint"), "{words}");
    }
}
