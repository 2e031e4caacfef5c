//! `--backend` and `thimble devices`. Tests that need an adapter are skipped, and say so, where there is none.

use crate::setup::{Bench, setup};
use conformance::{Need, skip};
use serde_json::{Value, json};

/// No driver is found with these.
const NONE: [(&str, &str); 2] = [("WGPU_BACKEND", "vulkan"), ("VK_DRIVER_FILES", "/dev/null")];

const RUN: [&str; 9] =
    ["run", "tiny.thimble", "--prompt", "hello there", "--temperature", "0", "--tokens", "20", "--json"];

const BENCH: [&str; 8] = ["bench", "tiny.thimble", "--test", "decode", "--tokens", "3", "--depth", "0"];

fn ids(bench: &Bench, more: &[&str], environment: &[(&str, &str)]) -> (Value, Value, String) {
    let out = bench.run_with(&[&RUN[..], more].concat(), environment);
    out.succeeds();
    let json: Value = serde_json::from_str(&out.stdout).unwrap();
    (json["ids"].clone(), json["stats"]["backend"].clone(), out.stderr)
}

/// Whether there is any; `devices` says so.
fn adapter(bench: &Bench) -> bool {
    let found = !bench.json(&["devices", "--json"])["adapters"].as_array().unwrap().is_empty();
    if !found {
        skip(Need::Adapter, "`thimble devices` shows no adapter");
    }
    found
}

#[test]
fn without_an_adapter_gpu_is_refused_and_auto_is_the_cpu() {
    let bench = setup("backend-none");
    let (expected, cpu, _) = ids(&bench, &[], &[]);
    for command in [&RUN[..], &BENCH] {
        let refused = bench.run_with(&[command, &["--backend", "gpu"]].concat(), &NONE);
        refused.fails(1, "no GPU adapter was found");
        assert_eq!(refused.stderr.trim_end().lines().count(), 1, "one sentence: {}", refused.stderr);
    }
    for _ in 0..2 {
        let (found, backend, said) = ids(&bench, &["--backend", "auto"], &NONE);
        assert_eq!((found, backend, said.as_str()), (expected.clone(), cpu.clone(), ""));
    }
    let devices = bench.run_with(&["devices"], &NONE);
    devices.succeeds();
    for part in ["no GPU adapter was found", "auto: cpu for tiny"] {
        assert!(devices.stdout.contains(part), "{}", devices.stdout);
    }
    let forgot = bench.run_with(&["devices", "--forget"], &NONE);
    assert!(forgot.stdout.contains("nothing has been chosen yet"), "{}", forgot.stdout);
}

/// The Vulkan loader writes pages to stderr when it is told to, as drivers do unasked.
#[test]
fn what_drivers_print_is_shown_only_where_no_adapter_is_found() {
    let bench = setup("backend-noise");
    let noisy = [("VK_LOADER_DEBUG", "all")];
    let devices = bench.run_with(&["devices", "--json"], &noisy);
    devices.succeeds();
    let found: Value = serde_json::from_str(&devices.stdout).unwrap();
    let none = found["adapters"].as_array().unwrap().is_empty();
    let ours = |said: &str| said.lines().all(|line| line.starts_with("driver: "));
    assert!(if none { ours(&devices.stderr) } else { devices.stderr.is_empty() }, "{}", devices.stderr);
    let devices = bench.run_with(&["devices"], &[&NONE[..], &noisy].concat());
    devices.succeeds();
    assert!(ours(&devices.stderr), "{}", devices.stderr);
    // The same where a command opens the GPU.
    for backend in ["gpu", "auto"] {
        let run = bench.run_with(&[&RUN[..], &["--backend", backend]].concat(), &noisy);
        let mut lines: Vec<&str> = run.stderr.lines().filter(|line| !line.starts_with("driver: ")).collect();
        lines.retain(|line| !(line.starts_with("auto: ") || none && line.starts_with("error: ")));
        assert!(lines.is_empty() && (none || !run.stderr.contains("driver: ")), "{}", run.stderr);
    }
}

#[test]
fn the_environment_names_a_backend_and_a_flag_overrules_it() {
    let bench = setup("backend-names");
    let gpu = [&NONE[..], &[("THIMBLE_BACKEND", "gpu")]].concat();
    bench.run_with(&RUN, &gpu).fails(1, "no GPU adapter was found");
    ids(&bench, &["--backend", "cpu"], &gpu);
    bench.run_with(&RUN, &[("THIMBLE_BACKEND", "cuda")]).fails(2, "unknown backend 'cuda'");
    bench.run(&[&RUN[..], &["--backend", "cuda"]].concat(), b"").fails(2, "unknown backend 'cuda'");
}

#[test]
fn the_gpu_gives_the_text_of_the_cpu() {
    let bench = setup("backend-gpu");
    if !adapter(&bench) {
        return;
    }
    let (expected, _, _) = ids(&bench, &["--exact"], &[]);
    for (backend, says) in [("gpu", "gpu"), ("gpu+cpu", "gpu+"), ("cpu+gpu", "+gpu")] {
        let (found, processors, said) = ids(&bench, &["--exact", "--backend", backend], &[]);
        assert_eq!((&found, said.as_str()), (&expected, ""));
        assert!(processors.as_str().unwrap().contains(says), "{processors}");
    }
    // What scores, evaluates and times takes it too.
    std::fs::write(bench.path("text.txt"), "the quick brown fox jumps over the lazy dog".repeat(4)).unwrap();
    let perplexity = |backend| {
        let run =
            ["perplexity", "tiny.thimble", "--input", "text.txt", "--window", "64", "--exact", "--json"];
        bench.json(&[&run[..], &["--backend", backend]].concat())["perplexity"].as_f64().unwrap()
    };
    let (cpu, gpu) = (perplexity("cpu"), perplexity("gpu"));
    assert!((cpu / gpu - 1.0).abs() < 1e-4, "{cpu} and {gpu}");
    let more = ["--threads", "1", "--rounds", "1", "--backend", "gpu", "--json"];
    let speeds = bench.json(&[&BENCH[..], &more].concat());
    assert_eq!(speeds[0]["processors"], "gpu");
}

#[test]
fn a_gpu_of_software_is_never_chosen() {
    let bench = setup("backend-auto");
    let devices = bench.json(&["devices", "--json"]);
    let adapters = devices["adapters"].as_array().unwrap();
    if adapters.is_empty() {
        return skip(Need::Adapter, "`thimble devices` shows no adapter");
    }
    if adapters.iter().any(|adapter| adapter["software"] == json!(false)) {
        return skip(Need::AdapterFeature, "the adapter is not a software renderer");
    }
    let (expected, cpu, _) = ids(&bench, &[], &[]);
    let (found, backend, said) = ids(&bench, &["--backend", "auto"], &[]);
    assert_eq!((found, backend, said.as_str()), (expected, cpu, ""));
    let chosen = &bench.json(&["devices", "--json"])["choices"][0];
    assert_eq!((&chosen["backend"], &chosen["measured"]), (&json!("cpu"), &Value::Null));
    assert!(chosen["why"].as_str().unwrap().contains("software"), "{chosen}");
    assert_eq!(chosen["model"], "tiny");
}

#[test]
fn one_that_is_named_is_timed_and_remembered() {
    let bench = setup("backend-timed");
    let adapters = bench.json(&["devices", "--json"])["adapters"].clone();
    let Some(adapter) = adapters.as_array().and_then(|all| all.first()) else {
        return skip(Need::Adapter, "`thimble devices` shows no adapter");
    };
    let named = [("THIMBLE_ADAPTER", adapter["name"].as_str().unwrap())];
    let (expected, _, _) = ids(&bench, &["--exact"], &[]);
    let (found, _, said) = ids(&bench, &["--exact", "--backend", "auto"], &named);
    assert_eq!(found, expected);
    assert!(said.starts_with("auto: comparing ") && said.lines().count() == 2, "{said}");
    let chosen = bench.json(&["devices", "--json"])["choices"][0].clone();
    let speed = |processor, what| chosen["measured"][processor][what].as_f64().unwrap();
    for processor in ["cpu", "gpu"] {
        assert!(speed(processor, "prompt") > 0.0 && speed(processor, "token") > 0.0, "{chosen}");
    }
    assert!(adapter["products"].as_array().unwrap().contains(&chosen["products"]), "{chosen}");
    assert_eq!(chosen["products"], json!("plain"), "no other one is exact");
    let shown = bench.run_with(&["devices"], &[]).stdout;
    let products = chosen["products"].as_str().unwrap();
    for part in [format!("{products} products"), "prompts: GPU".into(), "auto: ".into()] {
        assert!(shown.contains(&part), "{shown}");
    }
    // The second time nothing is timed, also where the choice has the GPU do it all.
    let book = bench.path("home/backends.json");
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&book).unwrap()).unwrap();
    json["choices"][0]["backend"] = json!("gpu");
    std::fs::write(&book, json.to_string()).unwrap();
    let (found, backend, said) = ids(&bench, &["--exact", "--backend", "auto"], &named);
    assert_eq!((found, backend, said.as_str()), (expected, json!("gpu"), ""));
    // Who names no adapter asks something else.
    let before = json["choices"].as_array().unwrap().len();
    ids(&bench, &["--exact", "--backend", "auto"], &[]);
    assert_eq!(bench.json(&["devices", "--json"])["choices"].as_array().unwrap().len(), before + 1);
}

#[test]
fn a_remembered_choice_is_followed() {
    let bench = setup("backend-book");
    // Nothing of the kind is asked for where a choice is remembered, not even whether there is an adapter.
    let before = bench.run_with(&[&RUN[..], &["--backend", "auto"]].concat(), &NONE);
    before.succeeds();
    let book = bench.path("home/backends.json");
    let text = std::fs::read_to_string(&book).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["choices"].as_array().unwrap().len(), 1);
    json["choices"][0]["why"] = json!("a test says so");
    std::fs::write(&book, json.to_string()).unwrap();
    bench.run_with(&[&RUN[..], &["--backend", "auto"]].concat(), &NONE).succeeds();
    assert_eq!(std::fs::read_to_string(&book).unwrap(), json.to_string(), "nothing was measured");
    // A GPU that is no longer there, and a damaged file: measured anew.
    json["choices"][0]["backend"] = json!("gpu");
    json["choices"][0]["adapter"] = json!("one that was sold");
    for content in [json.to_string(), "{".to_owned()] {
        std::fs::write(&book, content).unwrap();
        let (_, _, said) = ids(&bench, &["--backend", "auto"], &NONE);
        assert_eq!(said, "");
        assert!(std::fs::read_to_string(&book).unwrap().contains("no GPU adapter"));
    }
    // Another setting is another question.
    ids(&bench, &["--backend", "auto", "--exact"], &NONE);
    assert_eq!(bench.json(&["devices", "--json"])["choices"].as_array().unwrap().len(), 2);
}
