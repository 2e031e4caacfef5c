//! What sampling falls back on: flags, then the model's file, then the defaults.

use crate::setup::setup;
use serde_json::Value;
use std::fs;
use thimble_runtime::sampler::Sampling;

#[test]
fn flags_come_before_the_file_and_the_file_before_the_defaults() {
    let bench = setup("sampling");
    let ids = |model: &str, flags: &[&str]| -> Value {
        let run = ["run", model, "--chat", "--prompt", "hello", "--max-tokens", "40", "--json"];
        bench.json(&[&run[..], flags].concat())["ids"].clone()
    };
    let convert = |name: &str, json: &str| {
        fs::write(bench.path("hf/generation_config.json"), json).unwrap();
        bench.run(&["convert", "hf", "-o", name, "--quant", "f32"], b"").succeeds();
    };
    convert("greedy.thimble", r#"{"do_sample": false, "repetition_penalty": 1.3}"#);
    convert("warm.thimble", r#"{"do_sample": true, "temperature": 1.5, "top_p": 1.0}"#);
    let explicit = ["--temperature", "0", "--repetition-penalty", "1.3"];
    let expected = ids("tiny.thimble", &explicit);
    for seed in ["1", "2"] {
        assert_eq!(ids("greedy.thimble", &["--seed", seed]), expected, "the file's");
        assert_eq!(ids("warm.thimble", &[&explicit[..], &["--seed", seed]].concat()), expected, "the flags'");
    }
    let warm = ["--temperature", "1.5", "--top-p", "1", "--seed", "3"];
    assert_eq!(
        ids("warm.thimble", &["--seed", "3"]),
        ids("tiny.thimble", &warm),
        "and a default beside the file's"
    );
    let provenance = bench.json(&["inspect", "warm.thimble", "--json"])["provenance"].clone();
    assert_eq!(provenance["sampling"], serde_json::json!({"temperature": 1.5, "top_p": 1.0}));
}

#[test]
fn a_chat_and_one_message_of_a_run_are_answered_alike() {
    let bench = setup("sampling-alike");
    for flags in [&["--seed", "5"][..], &["--temperature", "0"]] {
        let run = ["run", "tiny.thimble", "--chat", "--prompt", "hello", "--max-tokens", "30"];
        let run = bench.run(&[&run[..], flags].concat(), b"");
        let chat = ["chat", "tiny.thimble", "--max-tokens", "30"];
        let chat = bench.run(&[&chat[..], flags].concat(), b"hello\n");
        run.succeeds();
        chat.succeeds();
        assert_eq!(run.stdout, chat.stdout.strip_suffix('\n').unwrap(), "{flags:?}");
    }
}

#[test]
fn help_shows_the_defaults() {
    let bench = setup("sampling-help");
    let (answer, text) = (Sampling::ANSWER, Sampling::CONTINUATION);
    let expected = [
        (answer.temperature, text.temperature),
        (answer.top_p.unwrap(), text.top_p.unwrap()),
        (answer.repetition_penalty, text.repetition_penalty),
    ];
    for command in ["run", "chat"] {
        let help = bench.run(&[command, "--help"], b"").stdout;
        let words: Vec<&str> = help.split_whitespace().collect();
        let help = words.join(" ");
        for (answer, text) in expected {
            let sentence = format!("[default: {answer} for an answer, {text} for a continued text]");
            assert!(help.contains(&sentence), "{command}: {sentence}\n{help}");
        }
    }
}
