//! `thimble tokenize`, `score` and `perplexity`.

use crate::setup::setup;
use serde_json::{Value, json};
use std::fs;

#[test]
fn tokens_go_there_and_back() {
    let bench = setup("tokens");
    let text = "Água 🙂\r\n\0 end\n";
    let ids = bench.run(&["tokens", "tiny.thimble"], text.as_bytes());
    ids.succeeds();
    let back = bench.run(&["tokens", "tiny.thimble", "--decode"], ids.stdout.as_bytes());
    assert_eq!(back.stdout, text);
    let json = bench.run(&["tokens", "tiny.thimble", "--json"], text.as_bytes());
    let back = bench.run(&["tokens", "tiny.thimble", "--decode"], json.stdout.as_bytes());
    assert_eq!(back.stdout, text);
    bench.run(&["tokens", "tiny.thimble", "--decode"], b"1\n9999").fails(1, "line 2");
    bench.run(&["tokens", "tiny.thimble"], b"\xc3(").fails(1, "UTF-8");
}

#[test]
fn score_gives_each_line_back_with_its_figures() {
    let bench = setup("score");
    let lines = [
        json!({"context": "ab", "continuation": " c", "id": 7}),
        json!({"context": "ab ", "continuation": "c"}),
        json!({"context": "", "continuation": "c"}),
        json!({"context": "x".repeat(500), "continuation": "yz"}),
    ];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(bench.path("in.jsonl"), input).unwrap();
    let out = bench.run(&["score", "tiny.thimble", "--input", "in.jsonl", "--exact"], b"");
    out.succeeds();
    let scored: Vec<Value> = out.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(scored.len(), 4);
    assert_eq!((&scored[0]["id"], &scored[0]["tokens"]), (&json!(7), &json!(2)));
    assert_eq!(scored[0]["loglikelihood"], scored[1]["loglikelihood"], "the space moves");
    assert_eq!(scored[2]["tokens"], 1);
    for line in &scored {
        assert!(line["loglikelihood"].as_f64().unwrap() < 0.0 && line["greedy"].is_boolean());
    }
    fs::write(bench.path("in.jsonl"), "{\"context\": \"a\", \"continuation\": \"b\"}\n{\"context\": 1}\n")
        .unwrap();
    bench.run(&["score", "tiny.thimble", "--input", "in.jsonl"], b"").fails(1, "line 2");
}

#[test]
fn perplexity_agrees_with_score() {
    let bench = setup("perplexity");
    fs::write(bench.path("text"), "abcdefghabcdefgX").unwrap();
    let input = ["perplexity", "tiny.thimble", "--input", "text", "--window", "5", "--exact", "--json"];
    let out = bench.json(&input);
    assert_eq!((&out["tokens"], &out["windows"], &out["window"]), (&json!(16), &json!(3), &json!(5)));
    let nll = out["nll_per_token"].as_f64().unwrap();
    assert!((out["perplexity"].as_f64().unwrap() / nll.exp() - 1.0).abs() < 1e-9);
    let windows = [("a", "bcde"), ("f", "ghab"), ("c", "defg")];
    let lines =
        windows.map(|(context, rest)| format!("{}\n", json!({"context": context, "continuation": rest})));
    fs::write(bench.path("in.jsonl"), lines.concat()).unwrap();
    let scored = bench.run(&["score", "tiny.thimble", "--input", "in.jsonl", "--exact"], b"").stdout;
    let sum: f64 = scored
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["loglikelihood"].as_f64().unwrap())
        .sum();
    assert!((nll + sum / 12.0).abs() < 1e-5, "{nll} {sum}");
    bench
        .run(&["perplexity", "tiny.thimble", "--input", "text", "--window", "17"], b"")
        .fails(1, "16 tokens");
    bench.run(&["perplexity", "tiny.thimble", "--input", "text", "--window", "9999"], b"").fails(2, "9999");
}

#[test]
fn the_default_window_is_as_long_as_a_short_context() {
    let bench = setup("perplexity-window");
    let context = bench.json(&["inspect", "tiny.thimble", "--json"])["config"]["context"].as_u64().unwrap();
    assert!(context < 1024, "{context}");
    fs::write(bench.path("text"), "abcdefg ".repeat(context as usize)).unwrap();
    let run = ["perplexity", "tiny.thimble", "--input", "text", "--json"];
    let out = bench.json(&run);
    assert_eq!((&out["window"], &out["windows"]), (&context.into(), &8.into()));
    let given = bench.json(&[&run[..], &["--window", &context.to_string()]].concat());
    assert_eq!(out["nll_per_token"], given["nll_per_token"]);
    assert_eq!(bench.json(&[&run[..], &["--context", "16"]].concat())["window"], 16);
    bench.run(&[&run[..], &["--context", "1"]].concat(), b"").fails(2, "use 2 or more");
    let longer = ["--context", "16", "--window", "17"];
    bench.run(&[&run[..], &longer].concat(), b"").fails(2, "--window 17 is longer than the context of 16");
}
