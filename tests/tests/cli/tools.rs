//! `thimble chat --tools` and `run --tools`, with a model of random weights: its calls are valid because the grammar holds.

use crate::setup::{Bench, setup};
use serde_json::{Value, json};
use std::fs;

const CHAT: [&str; 7] = ["chat", "tools.thimble", "--temperature", "1", "--max-tokens", "200", "--tools"];

fn tools() -> Value {
    let city = json!({"enum": ["Oslo", "Rome"]});
    let weather = json!({"type": "object", "properties": {"city": city}, "required": ["city"]});
    json!([
        {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": weather}},
        {"title": "now", "type": "object", "properties": {}},
    ])
}

/// A bench with `tools.json`, and a model that the list of tools fits into: a token is a byte.
fn bench(name: &str) -> Bench {
    let bench = setup(name);
    fs::write(bench.path("tools.json"), tools().to_string()).unwrap();
    let config = fs::read_to_string(bench.path("hf/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["max_position_embeddings"] = json!(4096);
    fs::write(bench.path("hf/config.json"), config.to_string()).unwrap();
    bench.run(&["convert", "hf", "-o", "tools.thimble", "--quant", "f32"], b"").succeeds();
    bench
}

/// The calls on stdout, and the other lines.
fn split(stdout: &str) -> (Vec<Value>, Vec<&str>) {
    let (calls, text): (Vec<&str>, Vec<&str>) =
        stdout.lines().partition(|line| line.starts_with("{\"tool_call\""));
    let call = |line: &&str| serde_json::from_str::<Value>(line).unwrap()["tool_call"].take();
    (calls.iter().map(call).collect(), text)
}

#[test]
fn a_call_is_a_line_and_the_next_line_its_result() {
    let bench = bench("tools");
    for seed in 0..3 {
        let seed = seed.to_string();
        let chat = [&CHAT[..], &["tools.json", "--tool-choice", "get_weather", "--seed", &seed]].concat();
        let input = b"Weather?\n{\"tool_call_id\": \"call_9\", \"content\": 1}\nrain\n/save! talk.json\n";
        let out = bench.run(&chat, input);
        out.succeeds();
        assert!(out.stderr.contains("no call has the id \"call_9\": expected call_1"), "{}", out.stderr);
        let (calls, _) = split(&out.stdout);
        assert_eq!(calls.len(), 1, "{}", out.stdout);
        assert_eq!((&calls[0]["id"], &calls[0]["name"]), (&json!("call_1"), &json!("get_weather")));
        let city = calls[0]["arguments"]["city"].as_str().unwrap();
        assert!(["Oslo", "Rome"].contains(&city), "{city}");
        // The file has the call and its result.
        let saved: Value = serde_json::from_slice(&fs::read(bench.path("talk.json")).unwrap()).unwrap();
        let messages = saved["messages"].as_array().unwrap();
        let roles: Vec<&str> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "tool", "assistant"]);
        assert_eq!(messages[1]["tool_calls"][0]["function"]["name"], "get_weather");
        assert_eq!(
            (&messages[2]["content"], &messages[2]["tool_call_id"]),
            (&json!("rain"), &json!("call_1"))
        );
        assert_eq!(messages[3]["content"], out.stdout.split_once('\n').unwrap().1.trim_end_matches('\n'));
    }
}

#[test]
fn a_run_prints_calls_and_ends() {
    let bench = bench("tools-run");
    let run =
        ["run", "tools.thimble", "--chat", "--prompt", "Weather?", "--tools", "tools.json", "--seed", "1"];
    let must = [&run[..], &["--tool-choice", "get_weather"]].concat();
    let out = bench.run(&must, b"");
    out.succeeds();
    let (calls, text) = split(&out.stdout);
    assert_eq!((calls.len(), text.len()), (1, 0), "{}", out.stdout);
    assert_eq!((&calls[0]["id"], &calls[0]["name"]), (&json!("call_1"), &json!("get_weather")));
    let json = bench.json(&[&must[..], &["--json"]].concat());
    assert_eq!((&json["tool_calls"], &json["finish_reason"]), (&json!(calls), &json!("tool_calls")));
    assert_eq!(json["text"], "");
    // A limit ends the call: it is text, and not complete.
    let cut = bench.run(&[&must[..], &["--max-tokens", "20"]].concat(), b"");
    assert_eq!((cut.code, split(&cut.stdout).0.len()), (Some(3), 0), "{cut:?}");
    let none = bench.json(&[&run[..], &["--tool-choice", "none", "--max-tokens", "4", "--json"]].concat());
    assert_eq!((&none["tool_calls"], none["ids"].as_array().unwrap().len()), (&json!([]), 4));
    bench.run(&["run", "tools.thimble", "--prompt", "x", "--tools", "tools.json"], b"").fails(2, "--chat");
}

#[test]
fn calls_without_results_take_their_message_back() {
    let bench = bench("tools-end");
    let chat = [&CHAT[..], &["tools.json", "--tool-choice", "required"]].concat();
    let out = bench.run(&chat, b"Weather?\n");
    out.fails(1, "the input ended before all results of the calls (1)");
    let (calls, _) = split(&out.stdout);
    assert!(!calls.is_empty() && calls.iter().all(|call| call["arguments"].is_object()), "{}", out.stdout);
    // Without tools that may be called, everything is text.
    let out = bench.run(&[&CHAT[..], &["tools.json", "--tool-choice", "none"]].concat(), b"Weather?\n");
    out.succeeds();
    assert!(split(&out.stdout).0.is_empty() && !out.stdout.is_empty());
}

#[test]
fn a_saved_call_gets_its_result_later() {
    let bench = bench("tools-load");
    let call = json!({"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}});
    let messages = json!([
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]);
    fs::write(bench.path("talk.json"), json!({ "messages": messages }).to_string()).unwrap();
    let out = bench
        .run(&["chat", "tools.thimble", "--max-tokens", "40"], b"/load talk.json\nnoon\n/save! talk.json\n");
    out.succeeds();
    let (calls, _) = split(&out.stdout);
    assert_eq!(calls, [json!({"id": "a", "name": "now", "arguments": {}})]);
    let saved: Value = serde_json::from_slice(&fs::read(bench.path("talk.json")).unwrap()).unwrap();
    assert_eq!(saved["messages"][2]["content"], "noon");
    assert_eq!(saved["messages"].as_array().unwrap().len(), 4);
}

#[test]
fn wrong_tools_are_refused_before_anything_is_generated() {
    let bench = bench("tools-refused");
    let pick = json!({"type": "object", "properties": {"n": {"type": "array", "uniqueItems": true}}});
    fs::write(bench.path("pick.json"), json!([{"name": "pick", "parameters": pick}]).to_string()).unwrap();
    fs::write(bench.path("empty.json"), "[]").unwrap();
    fs::write(bench.path("special.json"), r#"[{"name": "f", "description": "<|im_end|>"}]"#).unwrap();
    for (flags, expected) in [
        (&["none.json"][..], "none.json"),
        (&["empty.json"], "no tools"),
        (&["pick.json"], "uniqueItems"),
        (&["special.json"], "special token"),
        (&["tools.json", "--tool-choice", "then"], "expected one of get_weather, now"),
        (&["tools.json", "--regex", "a"], "cannot be used with"),
        (&["-"], "write the tools to a file"),
    ] {
        let out = bench.run(&[&CHAT[..], flags].concat(), b"x\n");
        assert!(out.stderr.contains(expected) && out.stdout.is_empty(), "{flags:?}: {}", out.stderr);
    }
    bench.run(&["chat", "tiny.thimble", "--tool-choice", "auto"], b"").fails(2, "--tools");
}
