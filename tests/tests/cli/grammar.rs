//! Answers of a given shape, from a model with random weights: garbage unless the grammar holds.

use crate::setup::setup;
use serde_json::{Value, json};
use std::fs;

const HOT: [&str; 4] = ["--temperature", "1.5", "--max-tokens", "200"];

#[test]
fn the_answer_has_the_shape() {
    let bench = setup("grammar");
    let schema = json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 8},
        "legs": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["name", "legs"],
        "additionalProperties": false});
    fs::write(bench.path("cat.json"), schema.to_string()).unwrap();
    fs::write(bench.path("sum.gbnf"), "root ::= [1-9] (\"+\" [1-9]){1,3}\n").unwrap();
    fs::write(bench.path("sum.lark"), "start: /[1-9](\\+[1-9]){1,3}/\n").unwrap();
    for seed in 0..5 {
        let seed = seed.to_string();
        let answer = |shape: &[&str]| {
            let run = ["run", "tiny.thimble", "--chat", "--prompt", "hello", "--seed", &seed];
            let out = bench.run(&[&run[..], &HOT, shape].concat(), b"");
            out.succeeds();
            out.stdout
        };
        let cat: Value = serde_json::from_str(&answer(&["--schema", "cat.json"])).unwrap();
        assert!(cat["name"].as_str().unwrap().chars().count() <= 8 && cat["legs"].as_u64().unwrap() <= 99);
        assert!(["yes", "no", "not yet"].contains(&&*answer(&["--choices", "yes,no,not yet"])));
        let digits = answer(&["--regex", "[0-9]{4}"]);
        assert!(digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits}");
        for file in ["sum.gbnf", "sum.lark"] {
            let sum = answer(&["--grammar", file]);
            let terms: Vec<&str> = sum.split('+').collect();
            assert!((2..=4).contains(&terms.len()), "{sum}");
            assert!(
                terms.iter().all(|term| term.len() == 1 && *term != "0" && term.parse::<u8>().is_ok()),
                "{sum}"
            );
        }
    }
    // A schema from stdin, and the whole output as JSON.
    let run = ["run", "tiny.thimble", "--chat", "--prompt", "hi", "--schema", "-", "--json"];
    let out = bench.run(&[&run[..], &HOT].concat(), schema.to_string().as_bytes());
    out.succeeds();
    let whole: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(whole["finish_reason"], "stop");
    assert!(serde_json::from_str::<Value>(whole["text"].as_str().unwrap()).is_ok());
    // Every answer of a chat.
    let chat = ["chat", "tiny.thimble", "--choices", "left,right", "--temperature", "1.5"];
    let out = bench.run(&chat, b"one\ntwo\n");
    out.succeeds();
    let answers: Vec<&str> = out.stdout.lines().filter(|line| !line.is_empty()).collect();
    assert!(
        answers.len() == 2 && answers.iter().all(|answer| ["left", "right"].contains(answer)),
        "{answers:?}"
    );
}

#[test]
fn an_answer_that_a_limit_ends_says_so() {
    let bench = setup("grammar-limit");
    let run = ["run", "tiny.thimble", "--chat", "--prompt", "x", "--regex", "a{50}b+", "--max-tokens", "9"];
    let out = bench.run(&run, b"");
    out.fails(3, "not complete");
    assert!(!out.stdout.is_empty() && out.stdout.bytes().all(|byte| byte == b'a'), "{}", out.stdout);
    assert!(out.stderr.contains("--max-tokens"), "{}", out.stderr);
}

#[test]
fn wrong_shapes_are_refused_before_anything_is_generated() {
    let bench = setup("grammar-refused");
    fs::write(bench.path("not.json"), r#"{"type": "array", "items": {"not": {"type": "null"}}}"#).unwrap();
    fs::write(bench.path("a.txt"), "root ::= \"a\"").unwrap();
    for (shape, expected) in [
        (&["--schema", "not.json"][..], "`not` at #/items"),
        (&["--schema", "none.json"], "none.json"),
        (&["--regex", "("], "--regex"),
        (&["--grammar", "a.txt"], ".lark or a .gbnf"),
        (&["--choices", ""], "--choices"),
    ] {
        let out = bench.run(&[&["run", "tiny.thimble", "--chat", "--prompt", "x"][..], shape].concat(), b"");
        assert!(out.stderr.contains(expected) && out.stdout.is_empty(), "{shape:?}: {}", out.stderr);
    }
    let twice = ["run", "tiny.thimble", "--prompt", "x", "--regex", "a", "--choices", "b"];
    bench.run(&twice, b"").fails(2, "cannot be used with");
    let both = ["run", "tiny.thimble", "--prompt", "-", "--schema", "-"];
    bench.run(&both, b"{}").fails(2, "both read stdin");
}
