//! `thimble chat` in a terminal: keys, wrapping, styles, and what is kept.

use crate::pseudo_terminal::PseudoTerminal;
use crate::setup::{Bench, setup};
use serde_json::{Value, json};
use std::fs;

/// The letter a, as likely as can be: an answer of a known length.
const LETTERS: [&str; 6] = ["chat", "tiny.thimble", "--logit-bias", "97=1000", "--max-tokens", "3"];
/// The token that ends an answer.
const SILENT: [&str; 4] = ["chat", "tiny.thimble", "--logit-bias", "258=1000"];

fn saved(bench: &Bench, name: &str) -> Value {
    serde_json::from_slice(&fs::read(bench.path(name)).unwrap()).unwrap()
}

fn kept(bench: &Bench) -> Vec<Value> {
    let out = bench.run(&["chats", "--json"], b"");
    out.succeeds();
    serde_json::from_str(&out.stdout).unwrap()
}

#[test]
fn several_lines_are_one_message() {
    let bench = setup("terminal-lines");
    let mut chat = PseudoTerminal::start(&bench, &LETTERS, 80, &[]);
    // As a terminal pastes, Alt-Enter, quotes around a line that is no command, and a line alone.
    chat.at_prompt("\x1b[200~one\rtwo\x1b[201~\r");
    chat.wait_for("aaa");
    chat.at_prompt("three\x1b\rfour\r");
    chat.wait_for("aaa");
    chat.at_prompt("\"\"\"\r/quit\rfive\"\"\"\r");
    chat.wait_for("aaa");
    chat.at_prompt("six\r");
    chat.wait_for("aaa");
    chat.at_prompt("/save talk.json\r");
    chat.wait_for("(saved");
    chat.at_prompt("\x04");
    assert_eq!(chat.end().0, Some(0));
    let talk = saved(&bench, "talk.json");
    let said: Vec<&Value> =
        talk["messages"].as_array().unwrap().iter().step_by(2).map(|m| &m["content"]).collect();
    assert_eq!(said, ["one\ntwo", "three\nfour", "/quit\nfive", "six"]);
}

#[test]
fn tab_completes_commands_and_settings() {
    let bench = setup("terminal-tab");
    let mut chat = PseudoTerminal::start(&bench, &SILENT, 80, &[]);
    chat.at_prompt("/set te\t 0.25\r");
    chat.wait_for("(temperature is 0.25)");
    chat.at_prompt("/sta\t\r");
    chat.wait_for("0 turns");
    chat.at_prompt("/set top-p 7\r");
    chat.wait_for("from 0 to 1");
    chat.at_prompt("/set max-tokens default\r");
    chat.wait_for("(max-tokens is 1024)");
    chat.at_prompt("/quit\r");
    assert_eq!(chat.end().0, Some(0));
}

/// An answer with most of what is formatted.
const ANSWER: &str = "# Title\nSome **bold words that wrap** and `code`.\n\n```\nlet a = *b* + c + d + e + f + g;\n```\n- 日本語日本語日本語日本語\n";

/// What a terminal of 24 columns shows of a loaded answer.
fn shown(bench: &Bench, flags: &[&str], environment: &[(&str, &str)]) -> String {
    let messages = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": ANSWER}]);
    fs::write(bench.path("talk.json"), json!({ "messages": messages }).to_string()).unwrap();
    let mut chat = PseudoTerminal::start(bench, &[&SILENT, flags].concat(), 24, environment);
    chat.at_prompt("/load talk.json\r");
    chat.wait_for("(loaded 1 turn)");
    chat.wait_for("> q\r\n");
    let shown = chat.wait_for("> ");
    chat.type_in("/quit\r");
    assert_eq!(chat.end().0, Some(0));
    shown.replace("\r\n", "\n")
}

#[test]
fn answers_are_formatted_and_wrapped_as_the_terminal_allows() {
    let bench = setup("terminal-markdown");
    let coloured = shown(&bench, &[], &[]);
    assert!(coloured.contains("\x1b[0;1;4mTitle\x1b[0m\n"), "{coloured:?}");
    let wrapped = "Some \x1b[0;1mbold words that\x1b[0m\n\x1b[0;1mwrap\x1b[0m and \x1b[0;36mcode\x1b[0m.\n";
    assert!(coloured.contains(wrapped), "{coloured:?}");
    // Code keeps its characters, and wide ones fill their two columns.
    assert!(coloured.contains("let a = *b* + c + d + e + f + g;"), "{coloured:?}");
    assert!(coloured.contains("• 日本語日本語日本語日本\n  語\n"), "{coloured:?}");
    let without = shown(&bench, &[], &[("NO_COLOR", "1")]);
    assert!(without.contains("\x1b[0;1mbold") && without.contains("`code`"), "{without:?}");
    assert!(!without.contains("\x1b[0;36m") && !without.contains("\x1b[0;2m"), "{without:?}");
    let plain = shown(&bench, &["--plain"], &[]);
    let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<String>();
    assert!(words(&plain).contains(&words(ANSWER)), "{plain:?}");
    // A terminal without escape sequences.
    let dumb = shown(&bench, &[], &[("TERM", "dumb")]);
    assert!(!dumb.contains('\x1b') && dumb.contains("**bold"), "{dumb:?}");
}

#[test]
fn an_interrupted_answer_ends_and_the_chat_goes_on() {
    let bench = setup("terminal-interrupt");
    let config = fs::read_to_string(bench.path("hf/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    // Room for an answer that is far longer than the terminal's buffer: it cannot end before the interruption.
    config["max_position_embeddings"] = json!(32768);
    fs::write(bench.path("hf/config.json"), config.to_string()).unwrap();
    bench.run(&["convert", "hf", "-o", "long.thimble", "--quant", "f32"], b"").succeeds();
    let letters =
        ["chat", "long.thimble", "--logit-bias", "97=1000", "--context", "32768", "--max-tokens", "32000"];
    let mut chat = PseudoTerminal::start(&bench, &letters, 80, &[]);
    chat.at_prompt("hello\r");
    chat.wait_for("aaaa");
    chat.interrupt();
    chat.wait_for("(stopped)");
    chat.at_prompt("/set max-tokens 2\r");
    chat.at_prompt("/retry\r");
    chat.wait_for("(stopped after 2 tokens");
    chat.at_prompt("/stats\r");
    chat.wait_for("1 turn,");
    chat.at_prompt("/quit\r");
    assert_eq!(chat.end().0, Some(0));
}

#[test]
fn ctrl_c_clears_a_line_and_a_private_chat_is_not_kept() {
    let bench = setup("terminal-private");
    let mut chat = PseudoTerminal::start(&bench, &[&LETTERS[..], &["--private"]].concat(), 80, &[]);
    chat.at_prompt("hello\r");
    chat.wait_for("aaa");
    chat.at_prompt("half\x03");
    chat.wait_for("press Ctrl-D");
    chat.at_prompt("/name\r");
    chat.wait_for("is not kept");
    chat.at_prompt("/quit\r");
    assert_eq!(chat.end().0, Some(0));
    assert!(kept(&bench).is_empty());
}

#[test]
fn conversations_are_kept_listed_continued_and_deleted() {
    let bench = setup("terminal-kept");
    let mut chat = PseudoTerminal::start(&bench, &LETTERS, 80, &[]);
    chat.at_prompt("Good morning!\r");
    chat.wait_for("aaa");
    // It is on disk while the chat goes on, and another chat at the same time has a file of its own.
    chat.wait_for("> ");
    let mut second = PseudoTerminal::start(&bench, &LETTERS, 80, &[]);
    second.at_prompt("Good morning!\r");
    second.wait_for("aaa");
    second.at_prompt("/quit\r");
    assert_eq!(second.end().0, Some(0));
    let mut names: Vec<String> =
        kept(&bench).iter().map(|row| row["name"].as_str().unwrap().to_string()).collect();
    names.sort();
    assert_eq!(names, ["good-morning", "good-morning-2"]);
    bench.run(&["chats", "rm", "good-morning"], b"").fails(1, "open in another chat");
    chat.type_in("/name mine\r");
    chat.wait_for("(kept as mine)");
    chat.at_prompt("/quit\r");
    assert_eq!(chat.end().0, Some(0));

    // Without a model: the conversation says it. From a pipe, too.
    let out = bench
        .run(&["chat", "--continue", "mine", "--logit-bias", "97=1000", "--max-tokens", "2"], b"again\n");
    out.succeeds();
    assert_eq!(out.stdout, "aa\n");
    let rows = kept(&bench);
    assert_eq!(
        (&rows[0]["name"], &rows[0]["turns"], &rows[0]["first"]),
        (&json!("mine"), &json!(2), &json!("Good morning!"))
    );
    let mut last = PseudoTerminal::start(&bench, &["chat", "--continue"], 80, &[]);
    last.wait_for("> Good morning!");
    last.wait_for("aaa");
    last.wait_for("> again");
    last.at_prompt("/clear\r");
    last.wait_for("(conversation cleared)");
    last.at_prompt("/quit\r");
    assert_eq!(last.end().0, Some(0));
    let listed = bench.run(&["chats"], b"");
    assert!(listed.stdout.contains("mine") && listed.stdout.contains("tiny.thimble"), "{}", listed.stdout);
    bench.run(&["chats", "rm", "mine", "good-morning-2"], b"").succeeds();
    assert!(kept(&bench).is_empty());
    bench.run(&["chat", "--continue"], b"").fails(2, "no conversation to continue");
    bench.run(&["chat", "--continue", "mine"], b"").fails(2, "no conversation is called \"mine\"");
}

#[test]
fn a_chat_goes_on_with_another_model() {
    let bench = setup("terminal-model");
    bench.run(&["cp", "tiny.thimble", "other"], b"").succeeds();
    let mut chat = PseudoTerminal::start(&bench, &LETTERS, 80, &[]);
    chat.at_prompt("hello\r");
    chat.wait_for("aaa");
    chat.at_prompt("/model oth\t\r");
    chat.wait_for("other | context");
    chat.at_prompt("/model none.thimble\r");
    chat.wait_for("there is no file none.thimble");
    chat.at_prompt("more\r");
    chat.wait_for("aaa");
    chat.at_prompt("/stats\r");
    chat.wait_for("2 turns");
    chat.at_prompt("/quit\r");
    assert_eq!(chat.end().0, Some(0));
    assert_eq!(kept(&bench)[0]["model"], "other");
}
