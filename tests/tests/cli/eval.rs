//! `thimble eval` and `thimble compare`.

use crate::hub;
use crate::setup::{Bench, setup};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Made-up items of every task.
fn data() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/hub/folder").to_str().unwrap().to_string()
}

/// Tasks whose items fit the tiny model's context of 256 bytes, from whose left end the rest is dropped.
const TASKS: &str = "arc_easy,piqa,mmlu,lambada_openai";

#[test]
fn a_table_a_result_samples_and_a_comparison() {
    let bench = setup("eval");
    let data = data();
    let eval = |more: &[&str]| {
        let run = ["eval", "tiny.thimble", "--data", &data, "--tasks", TASKS];
        bench.run(&[&run[..], more].concat(), b"")
    };
    let out = eval(&["-o", "a.json", "--samples", "a.jsonl"]);
    out.succeeds();
    for word in ["arc_easy", "acc_norm", "perplexity", "±", "no average"] {
        assert!(out.stdout.contains(word), "{word}: {}", out.stdout);
    }
    assert!(out.stderr.contains("predicted"), "{}", out.stderr);
    assert!(!bench.path("a.json.partial").exists());
    let result: Value = serde_json::from_slice(&fs::read(bench.path("a.json")).unwrap()).unwrap();
    assert_eq!(result["name"], "tiny");
    assert_eq!(result["of"]["model"]["bytes"], fs::metadata(bench.path("tiny.thimble")).unwrap().len());
    assert!(result["seconds"]["predicted"].is_f64() && result["seconds"]["actual"].is_f64());
    let samples = fs::read_to_string(bench.path("a.jsonl")).unwrap();
    let samples: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(samples.len(), 3 + 1 + 2 + 2);
    assert_eq!(samples[0]["continuations"][1], " rain");
    assert_eq!(samples[0]["log_likelihoods"].as_array().unwrap().len(), 3);
    assert_eq!((&samples[0]["gold"], &samples[0]["tokens"][0]), (&1.into(), &5.into()));

    let json = eval(&["--json", "--exact", "--limit", "1", "--offset", "1"]);
    assert_eq!(json.code, Some(1), "piqa has one row: {json:?}");
    assert!(json.stderr.contains("--offset 1 skips the only row: lower it"), "{}", json.stderr);
    let json = eval(&["--json", "--exact", "--limit", "1", "-o", "b.json"]);
    json.succeeds();
    let second: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(second["tasks"][0]["n"], 1);

    let out = bench.run(&["compare", "a.json", "a.json"], b"");
    out.succeeds();
    assert!(out.stdout.contains("+0.00") && out.stdout.contains("B - A"), "{}", out.stdout);
    let out = bench.run(&["compare", "a.json", "b.json"], b"");
    out.succeeds();
    for note in ["A and B ran different items", "settings differ", "exact mode"] {
        assert!(out.stdout.contains(note), "{note}: {}", out.stdout);
    }
    bench.run(&["compare", "a.json", "none.json"], b"").fails(1, "none.json");
    bench.run(&["compare", "a.json", "a.jsonl"], b"").fails(1, "is not a result of `thimble eval`");
}

#[test]
fn what_cannot_be_evaluated_is_said() {
    let bench = setup("eval-refusals");
    let data = data();
    bench.run(&["eval", "tiny.thimble", "--tasks", "hellaswog"], b"").fails(2, "did you mean hellaswag?");
    bench.run(&["eval", "tiny.thimble", "--tasks", ","], b"").fails(2, "at least one task");
    let run = ["eval", "tiny.thimble", "--tasks", "gsm8k", "--data", &data];
    bench.run(&run, b"").fails(1, "256 tokens are generated, but the context has 256 positions");

    fs::create_dir_all(bench.path("data/piqa")).unwrap();
    fs::copy(Path::new(&data).join("piqa/validation.jsonl"), bench.path("data/piqa/validation.jsonl"))
        .unwrap();
    let out = bench.run_with(&["eval", "tiny.thimble", "--tasks", "sciq,piqa"], &[("THIMBLE_DATA", "data")]);
    out.fails(1, "no data for sciq (there is no file data/sciq/test.jsonl)");
    assert!(out.stdout.contains("piqa") && out.stdout.contains("no data"), "{}", out.stdout);

    // A port where nobody listens.
    let hub = [("HF_ENDPOINT", "http://127.0.0.1:9"), ("THIMBLE_DATA", "")];
    bench.run_with(&["eval", "tiny.thimble", "--tasks", "piqa"], &hub).fails(1, "baber/piqa");

    fs::write(bench.path("out.json.partial"), "something else\n").unwrap();
    let run = ["eval", "tiny.thimble", "--tasks", "piqa", "--data", "data", "-o", "out.json"];
    bench.run(&run, b"").fails(1, "out.json.partial: line 1 is damaged");
    assert_eq!(fs::read_to_string(bench.path("out.json.partial")).unwrap(), "something else\n");
}

#[test]
fn the_hub_gets_its_token_from_an_evaluation() {
    let bench = setup("eval-token");
    let parquet = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/hub/parquet/baber/piqa");
    let config = fs::read_dir(parquet).unwrap().next().unwrap().unwrap().path();
    let hub = hub::Hub::data(&config.join("validation/0000.parquet"), "baber/piqa", "validation", "hf_good");
    let endpoint = hub.endpoint();
    let eval = |token: &str| {
        let environment = [("HF_ENDPOINT", endpoint.as_str()), ("THIMBLE_DATA", ""), ("HF_TOKEN", token)];
        bench.run_with(&["eval", "tiny.thimble", "--tasks", "piqa", "--limit", "2"], &environment)
    };
    eval("").fails(1, "set HF_TOKEN");
    eval("hf_other").fails(1, "the token from HF_TOKEN is not valid");
    eval("hf_good").succeeds();
}

/// A folder with more items than are done at once.
fn many(bench: &Bench) -> PathBuf {
    let line = |i: usize| {
        let goal = "how ".repeat(20 + i % 7);
        format!(
            "{{\"goal\": \"{goal} {i}\", \"sol1\": \"one {i}\", \"sol2\": \"another {i}\", \"label\": {}}}\n",
            i % 2
        )
    };
    fs::create_dir_all(bench.path("many/piqa")).unwrap();
    fs::write(bench.path("many/piqa/validation.jsonl"), (0..3000).map(line).collect::<String>()).unwrap();
    bench.path("many")
}

/// Of a result what does not depend on when and how fast it came to be.
fn numbers(path: &Path) -> Value {
    let result: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let task = &result["tasks"][0];
    serde_json::json!([result["of"], task["task"], task["n"], task["metrics"]])
}

#[test]
fn a_killed_evaluation_goes_on() {
    let bench = setup("eval-kill");
    let data = many(&bench);
    let data = data.to_str().unwrap();
    let eval = ["eval", "tiny.thimble", "--tasks", "piqa", "--data", data, "--threads", "2", "-o"];
    bench.run(&[&eval[..], &["whole.json"]].concat(), b"").succeeds();

    let killed = [&eval[..], &["killed.json"]].concat();
    let partial = bench.path("killed.json.partial");
    let lines = || fs::read(&partial).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count());
    let (mut seen, begin) = (0, Instant::now());
    for kill in 1..=2 {
        let mut child = bench.start(&killed);
        // Until it has done something that it had not done before.
        while lines() < seen + 50 && begin.elapsed() < Duration::from_secs(120) {
            assert!(child.try_wait().unwrap().is_none(), "it was done before it could be killed");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!bench.path("killed.json").exists());
        assert!(lines() > seen, "kill {kill}");
        seen = lines();
    }
    // A line that is whole JSON and yet not the item's.
    let damaged = fs::read_to_string(&partial).unwrap().replacen("\"tokens\":[", "\"tokens\":[7,", 1);
    fs::write(bench.path("damaged.json.partial"), &damaged).unwrap();
    bench.run(&[&eval[..], &["damaged.json"]].concat(), b"").fails(1, "of piqa is damaged");
    assert!(fs::read_to_string(bench.path("damaged.json.partial")).unwrap().starts_with(&damaged));

    let out = bench.run(&killed, b"");
    out.succeeds();
    assert!(out.stderr.contains("resuming:"), "{}", out.stderr);
    assert!(!partial.exists());
    assert_eq!(numbers(&bench.path("killed.json")), numbers(&bench.path("whole.json")));
    let result: Value = serde_json::from_slice(&fs::read(bench.path("killed.json")).unwrap()).unwrap();
    assert_eq!(result["seconds"]["sittings"], 3);
}
