//! `thimble chat`, from a pipe.

use crate::setup::setup;
use serde_json::{Value, json};
use std::fs;

#[test]
fn chat_works_on_a_pipe() {
    let bench = setup("chat");
    let chat = ["chat", "tiny.thimble", "--max-tokens", "8", "--seed", "1"];
    let script = "/help\nhello 🙂\n\n/stats\n/system Be brief.\n/retry\n/save talk.json\n/reset\n/retry\n/load talk.json\n/rest\n/quit\nnever\n";
    let out = bench.run(&chat, script.as_bytes());
    // Everything was answered, but one of the inputs was no command.
    out.fails(1, "error: 1 input on stdin failed; the reason is above");
    for expected in ["/help", "1 turn,", "no message to answer", "loaded 1 turn)", "did you mean /reset?"] {
        assert!(out.stderr.contains(expected), "{expected}: {}", out.stderr);
    }
    let talk: Value = serde_json::from_slice(&fs::read(bench.path("talk.json")).unwrap()).unwrap();
    assert_eq!(talk["messages"][0], json!({"role": "system", "content": "Be brief."}));
    assert_eq!(talk["messages"][1], json!({"role": "user", "content": "hello 🙂"}));
    assert_eq!(talk["messages"].as_array().unwrap().len(), 3);
    bench.run(&chat, b"\xff\n").fails(1, "UTF-8");
}

#[test]
fn a_stop_text_ends_an_answer() {
    let bench = setup("chat-stop");
    let chat = ["chat", "tiny.thimble", "--max-tokens", "40", "--temperature", "1", "--seed", "3"];
    let whole = bench.run(&chat, b"hello\n");
    whole.succeeds();
    let text = whole.stdout.strip_suffix('\n').unwrap();
    // Two letters: the model's bytes are not all characters.
    let letters = |pair: &&[u8]| pair.iter().all(u8::is_ascii_graphic);
    let stop = std::str::from_utf8(text.as_bytes()[10..].windows(2).find(letters).unwrap()).unwrap();
    let cut = bench.run(&[&chat[..], &["--stop", stop]].concat(), b"hello\n");
    cut.succeeds();
    assert_eq!(cut.stdout.strip_suffix('\n').unwrap(), &text[..text.find(stop).unwrap()]);
    bench.run(&[&chat[..], &["--stop", ""]].concat(), b"").fails(2, "--stop");
}

#[test]
fn a_retry_that_fails_keeps_the_turn() {
    let bench = setup("chat-retry");
    let messages =
        json!([{"role": "user", "content": "x".repeat(500)}, {"role": "assistant", "content": "a"}]);
    fs::write(bench.path("long.json"), json!({ "messages": messages }).to_string()).unwrap();
    let chat = ["chat", "tiny.thimble", "--max-tokens", "4", "--context", "96"];
    let out = bench.run(&chat, b"hi\n/load long.json\n/retry\n/save after.json\n");
    out.fails(1, "1 input on stdin");
    assert!(out.stderr.contains("room for 95"), "{}", out.stderr);
    let after: Value = serde_json::from_slice(&fs::read(bench.path("after.json")).unwrap()).unwrap();
    assert_eq!(after["messages"], messages);
}

#[test]
fn a_message_longer_than_the_context_leaves_the_chat_alive() {
    let bench = setup("chat-long");
    let script = format!("hi\n{}\nhi again\n/stats\n", "x".repeat(1000));
    let chat = ["chat", "tiny.thimble", "--max-tokens", "4", "--context", "96"];
    let out = bench.run(&chat, script.as_bytes());
    out.fails(1, "1 input on stdin");
    assert!(
        out.stderr.contains("room for 95: shorten it, or allow more with --context N (up to 256"),
        "{}",
        out.stderr
    );
    assert!(out.stderr.contains("2 turns"), "{}", out.stderr);
    // Where the context is the model's own, nothing longer is advised.
    let out = bench.run(&["chat", "tiny.thimble"], format!("{}\n", "x".repeat(1000)).as_bytes());
    out.fails(1, "shorten it (256 is this model's maximum context)");
    let script = "a message of some length\n".repeat(8) + "/save all.json\n";
    let out = bench.run(&chat, script.as_bytes());
    out.succeeds();
    assert!(out.stderr.contains("the context is full: the oldest"), "{}", out.stderr);
    // What the context has no more room for is saved all the same.
    let all: Value = serde_json::from_slice(&fs::read(bench.path("all.json")).unwrap()).unwrap();
    assert_eq!(all["messages"].as_array().unwrap().len(), 16);
}

/// The token that ends an answer, as likely as can be: every answer is empty.
const SILENT: [&str; 6] = ["chat", "tiny.thimble", "--logit-bias", "258=1000", "--seed", "1"];

#[test]
fn an_empty_answer_comes_with_its_reason() {
    let bench = setup("chat-empty");
    let out = bench.run(&SILENT, b"hello\n");
    out.succeeds();
    assert_eq!(out.stdout, "\n");
    assert!(out.stderr.contains("an empty answer") && out.stderr.contains("/retry"), "{}", out.stderr);
    // White space is nothing to see either: here all of it is one line feed, and then the context is full.
    let blank = ["chat", "tiny.thimble", "--logit-bias", "10=1000", "--seed", "1", "--context", "96"];
    let message = format!("{}\n", "x".repeat(96 - "<>user\n<>\n<>assistant\n".len() - 2));
    let out = bench.run(&blank, message.as_bytes());
    out.succeeds();
    assert!(out.stdout.trim().is_empty(), "{}", out.stdout);
    assert!(out.stderr.contains("no room for an answer in the context of 96"), "{}", out.stderr);
    // One that says something needs no reason.
    let out =
        bench.run(&["chat", "tiny.thimble", "--logit-bias", "97=1000", "--max-tokens", "3"], b"hello\n");
    assert_eq!(out.stdout, "aaa\n");
    assert!(!out.stderr.contains("an empty answer"), "{}", out.stderr);
}

#[test]
fn a_file_is_replaced_only_where_that_is_asked_for() {
    let bench = setup("chat-save");
    fs::write(bench.path("talk.json"), "mine").unwrap();
    let out = bench.run(&SILENT, b"/save talk.json\n/save new.json\n");
    out.fails(1, "1 input on stdin");
    assert!(
        out.stderr.contains("talk.json exists already") && out.stderr.contains("/save! talk.json"),
        "{}",
        out.stderr
    );
    assert_eq!(fs::read(bench.path("talk.json")).unwrap(), b"mine");
    assert!(bench.path("new.json").exists());
    bench.run(&SILENT, b"/save! talk.json\n").succeeds();
    assert_ne!(fs::read(bench.path("talk.json")).unwrap(), b"mine");
}

#[test]
fn instructions_longer_than_the_context_are_an_error_at_the_start() {
    let bench = setup("chat-system");
    let long = "x".repeat(200);
    let chat = ["chat", "tiny.thimble", "--context", "96", "--logit-bias", "258=1000"];
    bench
        .run(&[&chat[..], &["--system", &long]].concat(), b"hello\n")
        .fails(1, "the system prompt with a message has");
    // Neither are they taken later on.
    let saved = json!({"messages": [{"role": "system", "content": long}]});
    fs::write(bench.path("long.json"), saved.to_string()).unwrap();
    let out = bench.run(&chat, format!("/system {long}\n/load long.json\n/system\nhello\n").as_bytes());
    out.fails(1, "2 inputs on stdin failed; the reasons are above");
    assert_eq!(out.stderr.matches("room for 95: shorten it").count(), 2, "{}", out.stderr);
    assert!(out.stderr.contains("(no system prompt"), "{}", out.stderr);
}

#[test]
fn a_base_model_is_told_from_one_that_answers() {
    let bench = setup("chat-base");
    let config = fs::read_to_string(bench.path("hf/tokenizer_config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config.as_object_mut().unwrap().remove("chat_template");
    fs::write(bench.path("hf/tokenizer_config.json"), config.to_string()).unwrap();
    bench.run(&["convert", "hf", "-o", "base.thimble"], b"").succeeds();
    let advice = "thimble run base.thimble \"Once upon a time\"";
    bench.run(&["chat", "base.thimble"], b"hello\n").fails(1, advice);
    bench.run(&["run", "base.thimble", "--chat", "--prompt", "hello"], b"").fails(1, advice);
    bench.run(&["run", "base.thimble", "Once upon a time", "--tokens", "2"], b"").succeeds();
}

#[test]
fn settings_change_between_messages() {
    let bench = setup("chat-set");
    let chat = ["chat", "tiny.thimble", "--logit-bias", "97=1000", "--max-tokens", "3"];
    let script = "hi\n/set max-tokens 2\nhi\n/set stop a\nhi\n/set stop default\n/set system Be brief.\nhi\n/set max-tokens 0\n/set \
                  nothing 1\n/set\n/save talk.json\n";
    let out = bench.run(&chat, script.as_bytes());
    out.fails(1, "2 inputs on stdin");
    assert_eq!(out.stdout, "aaa\naa\n\naa\n");
    for expected in
        ["(max-tokens is 2)", "at least 1", "no setting nothing", "repetition-penalty", "Be brief."]
    {
        assert!(out.stderr.contains(expected), "{expected}: {}", out.stderr);
    }
    let talk: Value = serde_json::from_slice(&fs::read(bench.path("talk.json")).unwrap()).unwrap();
    assert_eq!(talk["messages"][0]["content"], "Be brief.");
    // A chat from a pipe is kept only where a name is given.
    assert!(!bench.path("home/chats").exists());
    bench.run(&[&chat[..], &["--name", "piped"]].concat(), b"hi\n").succeeds();
    assert!(bench.path("home/chats/piped.json").exists());
    bench.run(&[&chat[..], &["--name", "piped"]].concat(), b"hi\n").fails(2, "--continue");
    bench.run(&[&chat[..], &["--name", "../x"]].concat(), b"hi\n").fails(2, "cannot name a conversation");
}

#[test]
fn files_go_into_a_message_and_into_the_instructions() {
    let bench = setup("chat-file");
    fs::write(bench.path("notes.txt"), "one\n").unwrap();
    fs::write(bench.path("rules"), "Be brief.\n").unwrap();
    let script = "sum up\nagain\n/file notes.txt\n/file none\n/file\nmore\n/save talk.json\n";
    let chat = [&SILENT[..], &["--file", "notes.txt", "--system-file", "rules"]].concat();
    let out = bench.run(&chat, script.as_bytes());
    out.fails(1, "1 input on stdin");
    assert!(out.stderr.contains("(with the next message: notes.txt (4 bytes))"), "{}", out.stderr);
    let talk: Value = serde_json::from_slice(&fs::read(bench.path("talk.json")).unwrap()).unwrap();
    let said: Vec<&str> = talk["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["content"].as_str().unwrap())
        .collect();
    let file = "notes.txt:\n\n```\none\n```\n\n";
    assert_eq!(said[0], "Be brief.");
    assert_eq!((said[1], said[3], said[5]), (&*format!("{file}sum up"), "again", &*format!("{file}more")));
    bench
        .run(&["chat", "tiny.thimble", "--system", "x", "--system-file", "rules"], b"")
        .fails(2, "--system-file");
    bench.run(&["chat", "tiny.thimble", "--file", "none"], b"").fails(1, "none");

    let ids = |arguments: &[&str]| {
        let run = ["run", "tiny.thimble", "--tokens", "1", "--json"];
        bench.json(&[&run[..], arguments].concat())["prompt_ids"].clone()
    };
    // A text to continue begins with the file's text, as it is.
    assert_eq!(ids(&["--file", "notes.txt", "--prompt", "hi"]), ids(&["--prompt", "one\nhi"]));
    assert_eq!(ids(&["--file", "notes.txt"]), ids(&["--prompt", "one\n"]));
    let message = format!("{file}hi");
    assert_eq!(
        ids(&["--chat", "--file", "notes.txt", "--prompt", "hi"]),
        ids(&["--chat", "--prompt", &message])
    );
    let brief = ids(&["--chat", "--system", "Be brief.", "--prompt", "hi"]);
    assert_eq!(ids(&["--chat", "--system-file", "rules", "--prompt", "hi"]), brief);
    bench.run(&["run", "tiny.thimble", "--system-file", "rules", "--prompt", "hi"], b"").fails(2, "--chat");
}

#[test]
fn another_model_continues_the_conversation() {
    let bench = setup("chat-model");
    fs::copy(bench.path("tiny.thimble"), bench.path("other.thimble")).unwrap();
    let script =
        "hi\n/model other.thimble\n/set max-tokens 2\nhi\n/model none\nhi\n/model\n/save talk.json\n";
    let out = bench
        .run(&["chat", "tiny.thimble", "--logit-bias", "97=1000", "--max-tokens", "3"], script.as_bytes());
    out.fails(1, "1 input on stdin");
    assert_eq!(out.stdout, "aaa\naa\naa\n");
    assert!(out.stderr.contains("no model is called \"none\""), "{}", out.stderr);
    let talk: Value = serde_json::from_slice(&fs::read(bench.path("talk.json")).unwrap()).unwrap();
    assert_eq!((&talk["model"], talk["messages"].as_array().unwrap().len()), (&json!("other"), 6));
}

#[test]
fn an_adapter_comes_and_goes_in_a_chat() {
    let bench = setup("chat-adapter");
    fs::create_dir(bench.path("lora")).unwrap();
    let config =
        json!({"peft_type": "LORA", "r": 1, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]});
    fs::write(bench.path("lora/adapter_config.json"), config.to_string()).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (matrix, shape) in [
        ("q_proj.lora_A", [1, 64]),
        ("q_proj.lora_B", [64, 1]),
        ("v_proj.lora_A", [1, 64]),
        ("v_proj.lora_B", [32, 1]),
    ] {
        let name = format!("base_model.model.model.layers.0.self_attn.{matrix}.weight");
        let start = data.len();
        (0..shape[0] * shape[1]).for_each(|at| data.extend((at as f32).sin().to_le_bytes()));
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    let header = Value::Object(header).to_string().into_bytes();
    let file = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    fs::write(bench.path("lora/adapter_model.safetensors"), file).unwrap();
    bench.run(&["convert", "lora", "-o", "x.adapter", "--base", "tiny.thimble"], b"").succeeds();

    let chat = ["chat", "tiny.thimble", "--temperature", "0", "--max-tokens", "12"];
    let plain = bench.run(&chat, b"hi\n");
    let adapted = bench.run(&[&chat[..], &["--adapter", "x.adapter"]].concat(), b"hi\n");
    assert_ne!(plain.stdout, adapted.stdout);
    let script = "hi\n/clear\n/adapter x.adapter\n/adapter\nhi\n/clear\n/adapter none\n/adapter -\nhi\n";
    let out = bench.run(&chat, script.as_bytes());
    out.fails(1, "1 input on stdin");
    assert_eq!(out.stdout, [&*plain.stdout, &*adapted.stdout, &*plain.stdout].concat());
    assert!(out.stderr.contains("x.adapter\n") && out.stderr.contains("cannot open none"), "{}", out.stderr);
}
