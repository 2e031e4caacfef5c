//! `thimble bench`.

use crate::setup::setup;
use serde_json::{Value, json};

#[test]
fn speeds_come_as_asked_for() {
    let bench = setup("bench");
    let run = ["bench", "tiny.thimble", "--test", "decode,prefill", "--tokens", "5", "--depth", "0,7"];
    let list = bench.json(&[&run[..], &["--threads", "1,2", "--rounds", "2", "--json"]].concat());
    let list = list.as_array().unwrap();
    let mut cases: Vec<[Value; 4]> = Vec::new();
    for entry in list {
        let speed = |name: &str| entry["tokens_per_second"][name].as_f64().unwrap();
        assert!(0.0 < speed("min") && speed("min") <= speed("median") && speed("median") <= speed("max"));
        cases.push(["test", "tokens", "depth", "threads"].map(|name| entry[name].clone()));
    }
    assert_eq!(cases.len(), 8);
    for test in ["decode", "prefill"] {
        for (depth, threads) in [(0, 1), (7, 1), (0, 2), (7, 2)] {
            let case = [json!(test), json!(5), json!(depth), json!(threads)];
            assert!(cases.contains(&case), "{case:?} is missing in {cases:?}");
        }
    }
}

#[test]
fn the_default_tests_are_those_that_fit_and_a_start() {
    let bench = setup("bench-table");
    let out = bench.run(&["bench", "tiny.thimble", "--rounds", "1", "--threads", "1"], b"");
    out.succeeds();
    assert!(out.stderr.contains("skipped") && out.stderr.contains("2048"), "{}", out.stderr);
    for line in ["prefill", "decode", "process start to exit"] {
        assert!(out.stdout.contains(line), "{}", out.stdout);
    }
    let start = bench.json(&[
        "bench",
        "tiny.thimble",
        "--test",
        "start",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--json",
    ]);
    assert_eq!((&start[0]["test"], start.as_array().unwrap().len()), (&json!("start"), 1));
    assert!(start[0]["seconds"]["median"].as_f64().unwrap() > 0.0);
}

#[test]
fn what_cannot_be_timed_is_refused() {
    let bench = setup("bench-bad");
    for (arguments, says) in [
        (&["--tokens", "100000"][..], "do not fit the model's context"),
        (&["--tokens", "0"], "at least 1"),
        (&["--test", "training"], "possible values"),
        (&["--kernels", "mmx"], "unknown kernels"),
    ] {
        let out = bench.run(&[&["bench", "tiny.thimble"], arguments].concat(), b"");
        assert_eq!(out.code, Some(2), "{arguments:?}: {}", out.stderr);
        assert!(out.stderr.contains(says), "{arguments:?}: {}", out.stderr);
    }
}
