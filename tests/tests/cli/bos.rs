//! A model whose tokenizer begins texts with a begin-of-text token, in every command that reads a text.

use crate::setup::{Bench, setup};
use serde_json::{Value, json};
use std::fs;

/// `bos.thimble`, like `tiny.thimble` with the post-processor of Llama 3 for `<|im_start|>`, which is 257.
fn with_bos(name: &str) -> Bench {
    let bench = setup(name);
    let path = bench.path("hf/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let bos = "<|im_start|>";
    tokenizer["post_processor"] = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        {"type": "TemplateProcessing", "pair": [],
         "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
         "special_tokens": {bos: {"id": bos, "ids": [257], "tokens": [bos]}}},
    ]});
    fs::write(&path, tokenizer.to_string()).unwrap();
    bench.run(&["convert", "hf", "-o", "bos.thimble", "--quant", "f32"], b"").succeeds();
    bench
}

#[test]
fn prompts_begin_with_it_and_messages_do_not() {
    let bench = with_bos("bos-run");
    let prompt_ids = |arguments: &[&str]| {
        let run = ["run", "bos.thimble", "--temperature", "0", "--tokens", "1", "--json", "--prompt"];
        bench.json(&[&run[..], arguments].concat())["prompt_ids"].clone()
    };
    assert_eq!(prompt_ids(&["hi"]), json!([257, 104, 105]));
    assert_eq!(prompt_ids(&[""]), json!([257]));
    assert_eq!(prompt_ids(&["<|im_start|>a"]), json!([257, 257, 97]), "as transformers does");
    assert_eq!(prompt_ids(&["<|im_end|>", "--escape"]).as_array().unwrap().len(), 11);
    let tiny =
        ["run", "tiny.thimble", "--temperature", "0", "--tokens", "1", "--json", "--chat", "--prompt", "hi"];
    assert_eq!(prompt_ids(&["hi", "--chat"]), bench.json(&tiny)["prompt_ids"]);
    // The ids of a text are those of the text alone: they become the same text again.
    assert_eq!(bench.run(&["tokens", "bos.thimble"], b"hi").stdout, "104 105\n");
}

#[test]
fn texts_are_scored_behind_it() {
    let bench = with_bos("bos-score");
    let score = |model: &str, context: &str, continuation: &str| {
        let line = json!({"context": context, "continuation": continuation}).to_string();
        fs::write(bench.path("in.jsonl"), line).unwrap();
        let out = bench.run(&["score", model, "--input", "in.jsonl", "--exact"], b"");
        out.succeeds();
        let scored: Value = serde_json::from_str(&out.stdout).unwrap();
        (scored["loglikelihood"].as_f64().unwrap(), scored["tokens"].as_u64().unwrap())
    };
    let spelled = score("tiny.thimble", "<|im_start|>ab", " c");
    assert_eq!(score("bos.thimble", "ab", " c"), spelled);
    assert_eq!(score("bos.thimble", "<|im_start|>ab", " c"), spelled, "as the harness: not twice");
    assert_ne!(score("tiny.thimble", "ab", " c"), spelled);
    assert_eq!(score("bos.thimble", "", "c"), score("tiny.thimble", "<|im_start|>", "c"));

    fs::write(bench.path("text"), "abcdefghabcdefg").unwrap();
    let perplexity = ["perplexity", "bos.thimble", "--input", "text", "--window", "16", "--exact", "--json"];
    let found = bench.json(&perplexity);
    assert_eq!((&found["tokens"], &found["windows"]), (&json!(16), &json!(1)));
    let sum = score("bos.thimble", "", "abcdefghabcdefg").0;
    assert!((found["nll_per_token"].as_f64().unwrap() + sum / 15.0).abs() < 1e-5, "{found} {sum}");
    let divergence =
        ["divergence", "bos.thimble", "--against", "bos.thimble", "--input", "text", "--window", "8"];
    let found = bench.json(&[&divergence[..], &["--exact", "--json"]].concat());
    assert_eq!((&found["tokens"], &found["windows"]), (&json!(16), &json!(2)));
}
