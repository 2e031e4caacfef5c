//! `thimble run`: what it prints, and when it ends.

use crate::setup::setup;
use serde_json::json;

#[test]
fn a_completion_has_the_promised_fields() {
    let bench = setup("run-json");
    let run = ["run", "tiny.thimble", "--prompt", "hello", "--temperature", "0", "--tokens", "5", "--json"];
    let out = bench.json(&run);
    assert_eq!(out["prompt_ids"], json!([104, 101, 108, 108, 111]));
    assert_eq!(out["ids"].as_array().unwrap().len(), 5);
    assert_eq!(out["finish_reason"], "length");
    assert!(out["text"].is_string());
    let stats = &out["stats"];
    assert_eq!((&stats["prefill_tokens"], &stats["decode_tokens"]), (&json!(5), &json!(5)));
    for field in ["prefill_seconds", "decode_seconds", "first_token_seconds", "plan_bytes", "threads"] {
        assert!(stats[field].as_f64().unwrap() > 0.0, "{field}");
    }
    if cfg!(target_os = "linux") {
        assert!(stats["peak_resident_bytes"].as_u64().unwrap() > 100_000);
    }
    assert!(!stats["backend"].as_str().unwrap().is_empty());
    assert_eq!(bench.json(&run)["ids"], out["ids"], "greedy is the same every time");
}

#[test]
fn the_text_goes_to_stdout_and_statistics_to_stderr() {
    let bench = setup("run-text");
    let run = ["run", "tiny.thimble", "--prompt", "hello", "--temperature", "0", "--tokens", "5"];
    let plain = bench.run(&run, b"");
    plain.succeeds();
    let json = bench.json(&[&run[..], &["--json"]].concat());
    assert_eq!(plain.stdout, json["text"].as_str().unwrap());
    assert!(plain.stderr.contains("prompt 5 tokens"), "{}", plain.stderr);
}

#[test]
fn threads_do_not_change_the_text_and_neither_does_the_seed_twice() {
    let bench = setup("run-threads");
    let ids = |threads: &str, seed: &str| {
        let run = ["run", "tiny.thimble", "--prompt", "hello there", "--temperature", "1", "--tokens", "20"];
        bench.json(&[&run[..], &["--json", "--threads", threads, "--seed", seed]].concat())["ids"].clone()
    };
    assert_eq!(ids("1", "7"), ids("3", "7"));
    assert_ne!(ids("1", "7"), ids("1", "8"));
}

#[test]
fn the_context_ends_a_completion() {
    let bench = setup("run-context");
    let run = ["run", "tiny.thimble", "--prompt", "hello", "--tokens", "50", "--context", "16", "--json"];
    let out = bench.json(&run);
    assert_eq!(out["finish_reason"], "context");
    // Eleven positions behind the prompt, and the token chosen at the last of them.
    assert_eq!(out["ids"].as_array().unwrap().len(), 12);
    let long = "x".repeat(100);
    let refused = bench.run(&["run", "tiny.thimble", "--prompt", &long, "--context", "16"], b"");
    refused.fails(1, "100 tokens");
}

#[test]
fn a_stop_text_ends_a_completion_and_is_not_shown() {
    let bench = setup("run-stop");
    let run =
        ["run", "tiny.thimble", "--prompt", "hi", "--temperature", "1", "--seed", "1", "--tokens", "40"];
    let whole = bench.json(&[&run[..], &["--json"]].concat());
    let text = whole["text"].as_str().unwrap();
    let stop: String = text.chars().skip(10).take(2).collect();
    let cut = bench.json(&[&run[..], &["--json", "--stop", &stop]].concat());
    assert_eq!(cut["finish_reason"], "stop");
    assert_eq!(cut["text"].as_str().unwrap(), &text[..text.find(&stop).unwrap()]);
}

#[test]
fn log_probabilities_are_the_models_own() {
    let bench = setup("run-logprobs");
    let run = |more: &[&str]| {
        let run =
            ["run", "tiny.thimble", "--prompt", "hi", "--tokens", "6", "--json", "--exact", "--seed", "1"];
        bench.json(&[&run[..], more].concat())
    };
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let out = run(&["--logprobs", "5", "--temperature", "1.5", "--logit-bias", "\"AB\"=20"]);
    let (ids, tokens) = (out["ids"].as_array().unwrap(), out["logprobs"].as_array().unwrap());
    assert_eq!((ids.len(), tokens.len()), (6, 6));
    assert!(ids.iter().all(|id| *id == json!(65) || *id == json!(66)), "{ids:?}");
    let mut context = "hi".to_string();
    for (id, token) in ids.iter().zip(tokens) {
        assert_eq!(token["id"], *id);
        let bytes: Vec<u8> = serde_json::from_value(token["bytes"].clone()).unwrap();
        assert_eq!(token["token"], *String::from_utf8_lossy(&bytes));
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 5);
        assert!(top.is_sorted_by(|a, b| number(&a["logprob"]) >= number(&b["logprob"])));
        let own = top.iter().find(|likely| likely["id"] == *id);
        assert!(own.is_none_or(|own| own["logprob"] == token["logprob"]));
        // Without bias and temperature, as `score` has it.
        let line = json!({"context": context, "continuation": token["token"]}).to_string();
        let scored = bench.run(&["score", "tiny.thimble", "--exact", "--input", "-"], line.as_bytes()).stdout;
        let scored: serde_json::Value = serde_json::from_str(&scored).unwrap();
        let difference = number(&scored["loglikelihood"]) - number(&token["logprob"]);
        assert!(difference.abs() < 1e-5, "{token}: {scored}");
        context += token["token"].as_str().unwrap();
    }
    let alone = run(&["--logprobs", "0"]);
    assert_eq!(alone["logprobs"][0]["top_logprobs"], json!([]));
    assert!(run(&[])["logprobs"].is_null());
    let refused =
        |bias: &str| bench.run(&["run", "tiny.thimble", "--prompt", "a", "--logit-bias", bias], b"");
    refused("9999=1").fails(2, "expected token ids below");
    refused("\"\"=1").fails(2, "has no tokens");
}

#[test]
fn special_tokens_are_read_or_escaped() {
    let bench = setup("specials");
    let parsed = bench.run(&["tokens", "tiny.thimble"], b"<|im_start|>a");
    assert_eq!(parsed.stdout, "257 97\n");
    let escaped = bench.run(&["tokens", "tiny.thimble", "--escape"], b"<|im_end|>");
    assert_eq!(escaped.stdout.split_whitespace().count(), 10);
}
