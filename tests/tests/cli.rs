//! The real command, as a user meets it: a tiny model is made and converted, and `thimble` is run.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "cli/backend.rs"]
mod backend;
#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/chat.rs"]
mod chat;
#[path = "cli/eval.rs"]
mod eval;
#[path = "cli/hub.rs"]
mod hub;
#[path = "cli/outputs.rs"]
mod outputs;
#[path = "cli/prompt.rs"]
mod prompt;
#[path = "cli/pull.rs"]
mod pull;
#[path = "cli/report.rs"]
mod report;
#[path = "cli/sampling.rs"]
mod sampling;
#[path = "cli/setup.rs"]
mod setup;
#[path = "cli/sources.rs"]
mod sources;

use serde_json::{Value, json};
use setup::setup;
use std::fs;

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
fn special_tokens_are_read_or_escaped() {
    let bench = setup("specials");
    let parsed = bench.run(&["tokens", "tiny.thimble"], b"<|im_start|>a");
    assert_eq!(parsed.stdout, "257 97\n");
    let escaped = bench.run(&["tokens", "tiny.thimble", "--escape"], b"<|im_end|>");
    assert_eq!(escaped.stdout.split_whitespace().count(), 10);
}

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
    bench.run(&[&run[..], &["--context", "1"]].concat(), b"").fails(2, "at least 2 positions");
    let longer = ["--context", "16", "--window", "17"];
    bench.run(&[&run[..], &longer].concat(), b"").fails(2, "--window 17 is longer than the context of 16");
}

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
    bench.run(&["verify", "tiny.thimble"], b"").succeeds();
    fs::write(bench.path("m.gguf"), b"GGUF\x03\0\0\0").unwrap();
    bench.run(&["run", "m.gguf", "--prompt", "x"], b"").fails(1, "thimble convert m.gguf");
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
fn a_source_is_never_written_over() {
    let bench = setup("over-source");
    fs::write(bench.path("m.gguf"), b"GGUF\x03\0\0\0").unwrap();
    bench.run(&["convert", "m.gguf", "-o", "./m.gguf"], b"").fails(2, "belongs to the source");
    assert_eq!(fs::read(bench.path("m.gguf")).unwrap().len(), 8);
    bench.run(&["convert", "hf", "-o", "hf/model.safetensors"], b"").fails(2, "belongs to the source");
    bench.run(&["convert", "hf", "-o", "hf/m.thimble"], b"").succeeds();
    bench.run(&["convert", "hf", "-o", "hf/m.thimble"], b"").succeeds();
}

#[cfg(target_os = "linux")]
#[test]
fn links_survive_and_devices_are_refused() {
    let bench = setup("links");
    std::os::unix::fs::symlink("real.thimble", bench.path("link.thimble")).unwrap();
    for _ in ["absent", "there"] {
        bench.run(&["convert", "hf", "-o", "link.thimble"], b"").succeeds();
        assert!(fs::symlink_metadata(bench.path("link.thimble")).unwrap().is_symlink());
        bench.run(&["verify", "real.thimble"], b"").succeeds();
    }
    bench.run(&["convert", "hf", "-o", "/dev/stdout"], b"").fails(1, "not a file");
}

#[test]
fn a_damaged_model_is_fetched_again() {
    let bench = setup("heal-model");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    bench.install("smollm2-70m");
    let path = bench.path("home/models/smollm2-70m.thimble");
    let whole = fs::read(&path).unwrap();
    for length in [whole.len() / 2, 0] {
        fs::write(&path, &whole[..length]).unwrap();
        bench.run(&["verify", "smollm2-70m"], b"").fails(1, "thimble pull smollm2-70m --force");
        bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", &hub.endpoint())]).succeeds();
        bench.run(&["verify", "smollm2-70m"], b"").succeeds();
    }
}

#[test]
fn a_damaged_file_in_the_hubs_cache_is_fetched_again() {
    let bench = setup("heal-cache");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    let endpoint = hub.endpoint();
    let pull = |more: &[&str]| {
        bench.run_with(&[&["pull", "smollm2-70m"], more].concat(), &[("HF_ENDPOINT", &endpoint)])
    };
    pull(&[]).succeeds();
    // Cut off, and another one that is still JSON: only a new download helps against that.
    let repository = bench.path("hub-cache/hub/models--codelion--SmolLM2-70M");
    let snapshot = fs::read_dir(repository.join("snapshots")).unwrap().next().unwrap().unwrap().path();
    fs::write(snapshot.join("tokenizer.json"), "{\"version\":").unwrap();
    pull(&["--quant", "f32"]).succeeds();
    assert_eq!(hub.downloads("tokenizer.json"), 2);
    fs::write(snapshot.join("config.json"), "{}").unwrap();
    pull(&["--quant", "f32"]).fails(1, "--force");
    pull(&["--force"]).succeeds();
    assert_eq!(hub.downloads("model.safetensors"), 1, "weights that match their checksum are kept");
}

#[test]
fn list_shows_what_is_there() {
    let bench = setup("list");
    let rows = bench.json(&["list", "--json"]);
    assert!(rows.as_array().unwrap().iter().all(|row| row["path"].is_null()));
    bench.install("smollm2-70m");
    let rows = bench.json(&["list", "--json"]);
    assert_eq!(rows[0]["name"], "smollm2-70m");
    assert!(rows[0]["bytes"].as_u64().unwrap() > 0);
    bench.run(&["verify", "smollm2-70m"], b"").succeeds();
    bench.run(&["list"], b"").succeeds();
}

#[cfg(unix)]
#[test]
fn a_home_that_cannot_be_written_is_named() {
    let bench = setup("read-only");
    fs::write(bench.path("home"), "a file where the folder should be").unwrap();
    bench.run(&["pull", "smollm2-70m"], b"").fails(1, "home");
}

#[test]
fn pull_takes_a_model_from_the_hub() {
    let bench = setup("hub");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    let pulled = bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", &hub.endpoint())]);
    pulled.succeeds();
    assert!(fs::metadata(pulled.stdout.trim()).unwrap().len() > 0);
    bench.run(&["verify", "smollm2-70m"], b"").succeeds();
    let provenance = bench.json(&["inspect", "smollm2-70m", "--json"])["provenance"].clone();
    assert_eq!(provenance["source"], "codelion/SmolLM2-70M");
    // It is there now: the hub is not asked again, and neither is it for a conversion from its cache.
    let before = hub.requests();
    bench.run(&["pull", "smollm2-70m"], b"").succeeds();
    assert_eq!(hub.requests(), before);
    assert_eq!(bench.staging(), 0, "nothing is left behind");
}

#[test]
fn two_pulls_at_once_fetch_once() {
    let bench = setup("hub-twice");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    let endpoint = hub.endpoint();
    let pull = || bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", &endpoint)]);
    let outputs =
        std::thread::scope(|scope| [scope.spawn(pull), scope.spawn(pull)].map(|t| t.join().unwrap()));
    for out in &outputs {
        out.succeeds();
    }
    assert_eq!(hub.downloads("model.safetensors"), 1);
}

#[test]
fn damage_on_the_way_is_found() {
    let bench = setup("hub-damage");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    hub.damage();
    let pulled = bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", &hub.endpoint())]);
    pulled.fails(1, "damaged");
    assert_eq!(bench.staging(), 0);
}

#[test]
fn offline_is_one_clear_sentence() {
    let bench = setup("offline");
    // A port where nobody listens.
    let pulled = bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", "http://127.0.0.1:9")]);
    pulled.fails(1, "cannot be reached");
    assert_eq!(pulled.stderr.lines().filter(|line| line.starts_with("error:")).count(), 1);
    assert!(pulled.stderr.contains("HF_ENDPOINT"), "{}", pulled.stderr);
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
    assert!(!bench.path("x.gguf").exists() && !bench.path("x").exists());
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
