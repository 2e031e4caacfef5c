//! The real command, as a user meets it: a tiny model is made and converted, and `thimble` is run.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "cli/backend.rs"]
mod backend;
#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/bos.rs"]
mod bos;
#[path = "cli/chat.rs"]
mod chat;
#[path = "cli/converted.rs"]
mod converted;
#[path = "cli/embed.rs"]
mod embed;
#[path = "cli/eval.rs"]
mod eval;
#[path = "cli/grammar.rs"]
mod grammar;
#[path = "cli/hub.rs"]
mod hub;
#[path = "cli/outputs.rs"]
mod outputs;
#[path = "cli/prompt.rs"]
mod prompt;
#[cfg(unix)]
#[path = "cli/pseudo_terminal.rs"]
mod pseudo_terminal;
#[path = "cli/pull.rs"]
mod pull;
#[path = "cli/report.rs"]
mod report;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/sampling.rs"]
mod sampling;
#[path = "cli/score.rs"]
mod score;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/setup.rs"]
mod setup;
#[path = "cli/sources.rs"]
mod sources;
#[path = "cli/store.rs"]
mod store;
#[cfg(unix)]
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/thinking.rs"]
mod thinking;
#[path = "cli/tools.rs"]
mod tools;

use serde_json::{Value, json};
use setup::setup;
use std::fs;

#[test]
fn wrong_files_are_told_apart() {
    let bench = setup("wrong-files");
    bench.run(&["run", "none.thimble", "--prompt", "x"], b"").fails(2, "there is no file none.thimble");
    bench.run(&["inspect", "none"], b"").fails(2, "no model is called");
    bench.run(&["run", ".", "--prompt", "x"], b"").fails(1, "is a folder");
    bench.run(&["run", "smollm2-70n", "--prompt", "x"], b"").fails(2, "did you mean smollm2-70m?");
    bench.run(&["pull", "smolm2-135m"], b"").fails(2, "did you mean smollm2-135m?");
    bench.run(&["verify", "smollm2-70m"], b"").fails(1, "thimble pull smollm2-70m");
    let whole = fs::read(bench.path("tiny.thimble")).unwrap();
    for length in [0, 3, 63, 64, 200, whole.len() / 2, whole.len() - 1] {
        fs::write(bench.path("cut.thimble"), &whole[..length]).unwrap();
        for command in [&["verify", "cut.thimble"][..], &["run", "cut.thimble", "--prompt", "x"]] {
            bench.run(command, b"").fails(1, "cut.thimble");
        }
    }
    let mut damaged = whole;
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(bench.path("damaged.thimble"), damaged).unwrap();
    bench.run(&["verify", "damaged.thimble"], b"").fails(1, "damaged");
    bench.run(&["verify", "damaged.thimble"], b"").fails(1, "; copy or convert the file again");
    fs::write(bench.path("other.thimble"), [b'x'; 64]).unwrap();
    bench.run(&["verify", "other.thimble"], b"").fails(1, "it is not a .thimble file; convert a GGUF file");
    bench.run(&["verify", "tiny.thimble"], b"").succeeds();
    fs::write(bench.path("m.gguf"), b"GGUF\x03\0\0\0").unwrap();
    bench.run(&["run", "m.gguf", "--prompt", "x"], b"").fails(1, "m.gguf");
    bench.run(&["verify", "m.gguf"], b"").fails(1, "thimble convert m.gguf");
    bench.run(&["convert", "m.gguf", "-o", "m.thimble"], b"").fails(1, "m.gguf");
    bench.run(&["convert", "none", "-o", "m.thimble"], b"").fails(2, "none");
    bench.run(&["convert", "hf", "-o", "m.thimble", "--quant", "q77"], b"").fails(2, "q77");
    bench.run(&["convert", "hf", "-o", "none/m.thimble"], b"").fails(1, "none");
    bench.run(&["convert", "hf", "-o", "."], b"").fails(1, "it exists and is not a file");
    assert!(!bench.path("m.thimble").exists());
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let bench = setup("usage");
    bench.run(&["run", "tiny.thimble", "--temperature", "hot", "--prompt", "x"], b"").fails(2, "temperature");
    bench.run(&["nonsense"], b"").fails(2, "nonsense");
    bench.run(&["run", "tiny.thimble", "--prompt", "x", "--kernels", "abacus"], b"").fails(2, "abacus");
    bench.run(&["run", "tiny.thimble", "--prompt", "x", "--context", "100000"], b"").fails(2, "100000");
    bench.run(&["run", "tiny.thimble", "--prompt", "x", "--threads", "257"], b"").fails(2, "257");
    bench.run(&["run", "tiny.thimble", "--prompt", "x", "--logit-bias", "9999=1"], b"").fails(2, "9999");
    let most = usize::MAX.to_string();
    bench.run(&["run", "tiny.thimble", "--prompt", "x", "--tokens", &most, "--json"], b"").succeeds();
    bench.run(&["--help"], b"").succeeds();
    bench.run(&["--version"], b"").succeeds();
}

#[test]
fn inspect_counts_every_byte() {
    let bench = setup("inspect");
    let out = bench.json(&["inspect", "tiny.thimble", "--json", "--context", "32"]);
    assert_eq!((&out["config"]["hidden"], &out["config"]["vocab"]), (&json!(64), &json!(260)));
    assert_eq!(out["memory"]["context"], 32);
    assert_eq!(out["bytes"].as_u64().unwrap(), fs::metadata(bench.path("tiny.thimble")).unwrap().len());
    let parts: u64 = out["parts"].as_array().unwrap().iter().map(|p| p["bytes"].as_u64().unwrap()).sum();
    assert!(parts < out["bytes"].as_u64().unwrap());
    assert!(out["bits_per_weight"].as_f64().unwrap() >= 32.0, "f32 with its padding");
    let more = bench.json(&["inspect", "tiny.thimble", "--json"]);
    assert!(more["memory"]["bytes"].as_u64() > out["memory"]["bytes"].as_u64());
    bench.run(&["inspect", "tiny.thimble"], b"").succeeds();
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let bench = setup("broken-pipe");
    // Far more than a pipe holds.
    let line = "{\"context\": \"a\", \"continuation\": \"b\"}\n";
    fs::write(bench.path("in.jsonl"), line.repeat(4000)).unwrap();
    let (code, stderr) = bench.run_and_leave(&["score", "tiny.thimble", "--input", "in.jsonl"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[test]
fn divergence_takes_files_and_folders() {
    let bench = setup("divergence");
    let text = "the cat sat on the mat and looked at the dog. ".repeat(8);
    fs::write(bench.path("text"), &text).unwrap();
    bench.run(&["convert", "hf", "-o", "q4.thimble", "--quant", "q4"], b"").succeeds();
    let of = |model: &str, reference: &str, more: &[&str]| {
        let run = ["divergence", model, "--against", reference, "--input", "text", "--window", "32"];
        let temporary = bench.path("temporary");
        let temporary = temporary.to_str().unwrap();
        bench.run_with(&[&run[..], more].concat(), &[("TMPDIR", temporary), ("TMP", temporary)])
    };
    fs::create_dir(bench.path("temporary")).unwrap();
    let json = |output: setup::Output| {
        output.succeeds();
        serde_json::from_str::<Value>(&output.stdout).unwrap()
    };
    let files = json(of("q4.thimble", "tiny.thimble", &["--exact", "--json"]));
    assert_eq!(files["positions"], files["windows"].as_u64().unwrap() * 31);
    assert!(files["kl"]["mean"].as_f64().unwrap() > 0.0);
    assert_eq!(json(of("q4.thimble", "hf", &["--exact", "--json"])), files);
    let both = json(of("hf", "hf", &["--exact", "--json", "--windows", "2"]));
    assert_eq!((&both["kl"]["maximum"], &both["windows"]), (&json!(0.0), &json!(2)));
    assert_eq!(fs::read_dir(bench.path("temporary")).unwrap().count(), 0, "nothing is left over");
    let text = of("q4.thimble", "tiny.thimble", &[]);
    text.succeeds();
    assert!(text.stdout.contains("KL divergence 0."), "{}", text.stdout);
    let long = of("q4.thimble", "tiny.thimble", &["--window", "100000"]);
    assert_eq!(long.code, Some(2), "{}", long.stderr);
    let empty = of("q4.thimble", "none", &[]);
    assert!(empty.stderr.contains("none"), "{}", empty.stderr);
}

#[test]
fn models_become_gguf_files_and_folders() {
    let bench = setup("gguf-out");
    let run = |arguments: &[&str]| bench.run(arguments, b"");
    run(&["convert", "hf", "-o", "a.gguf", "--type", "q8_0"]).succeeds();
    assert_eq!(fs::read(bench.path("a.gguf")).unwrap()[..4], *b"GGUF");
    let told = run(&["convert", "tiny.thimble", "-o", "b", "--to", "gguf", "--type", "Q4_0"]);
    told.succeeds();
    assert!(told.stderr.contains("Q4_0") && told.stderr.contains("the embedding is Q8_0"), "{}", told.stderr);
    run(&["convert", "b", "-o", "c.thimble"]).succeeds();
    run(&["run", "c.thimble", "--prompt", "hello", "--tokens", "3"]).succeeds();

    run(&["export", "tiny.thimble", "-o", "out"]).succeeds();
    run(&["convert", "out", "-o", "d.thimble", "--quant", "f32"]).succeeds();
    let ids = |model: &str| {
        bench.json(&["run", model, "--prompt", "hello", "--temperature", "0", "--tokens", "9", "--json"])["ids"].clone()
    };
    assert_eq!(ids("tiny.thimble"), ids("d.thimble"));
    let again = run(&["export", "tiny.thimble", "-o", "out"]);
    assert!(again.code == Some(1) && again.stderr.contains("exists already"), "{}", again.stderr);

    for (arguments, sentence) in [
        (["convert", "hf", "-o", "x.gguf", "--type", "Q4K"], "did you mean Q4_K?"),
        (["convert", "hf", "-o", "x.gguf", "--quant", "q8"], "GGUF files take --type"),
        (["convert", "hf", "-o", "x.thimble", "--type", "Q8_0"], "--type is for GGUF files"),
        (["export", "hf", "-o", "x", "--dtype", "f64"], "known: f32, bf16, f16"),
    ] {
        let out = run(&arguments);
        assert_eq!(out.code, Some(2), "{arguments:?}");
        assert!(out.stderr.contains(sentence), "{}", out.stderr);
    }
    run(&["export", "hf", "-o", "x", "--to", "onnx", "--dtype", "bf16"]).fails(2, "known: f32, f16, q4");
    assert!(!bench.path("x.gguf").exists() && !bench.path("x").exists());
    run(&["export", "tiny.thimble", "-o", "onnx", "--to", "onnx", "--dtype", "q4"]).succeeds();
    assert!(bench.path("onnx/onnx/model_q4.onnx_data").exists());
}

#[test]
fn a_name_of_the_catalogue_is_a_model_wherever_one_is_read() {
    let bench = setup("names");
    bench.install("smollm2-70m");
    fs::write(bench.path("text"), "the cat sat on the mat and looked at the dog. ".repeat(4)).unwrap();
    let run = |arguments: &[&str]| bench.run(arguments, b"");
    run(&["export", "smollm2-70m", "-o", "out"]).succeeds();
    run(&["convert", "SmolLM2-70M", "-o", "a.gguf", "--type", "q8_0"]).succeeds();
    run(&["convert", "smollm2-70m", "-o", "a.thimble", "--quant", "q4"]).succeeds();
    let divergence =
        ["divergence", "a.thimble", "--against", "smollm2-70m", "--input", "text", "--window", "32"];
    run(&divergence).succeeds();
    run(&["convert", "smollm2-70n", "-o", "b.thimble"]).fails(2, "did you mean smollm2-70m?");
    run(&["export", "smollm2-70n", "-o", "b"]).fails(2, "did you mean smollm2-70m?");
    // A folder of that name comes first: it is the better source.
    fs::rename(bench.path("hf"), bench.path("smollm2-70m")).unwrap();
    run(&["convert", "smollm2-70m", "-o", "b.thimble"]).succeeds();
    let provenance = bench.json(&["inspect", "b.thimble", "--json"])["provenance"].clone();
    assert_eq!(provenance["container"], "safetensors");
}
