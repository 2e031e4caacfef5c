//! Answers with calls, in pieces of every length.

use super::{CallParser, CallPiece, CallSyntax, ToolCall};
use crate::tools::ToolDefinition;
use proptest::prelude::*;
use std::sync::Arc;

/// What a whole answer holds: its text, its calls as JSON, and how many parts were no calls.
#[derive(Debug, Default, PartialEq)]
struct Parsed {
    text: String,
    calls: Vec<(String, String)>,
    invalid: Vec<String>,
}

fn tools() -> Arc<[ToolDefinition]> {
    ToolDefinition::read(r#"[{"name": "f"}, {"name": "g"}]"#).unwrap().into()
}

fn parse<'p>(syntax: CallSyntax, pieces: impl Iterator<Item = &'p str>) -> Parsed {
    let mut parsed = Parsed::default();
    let mut parser = CallParser::new(syntax, tools());
    let mut emit = |piece: CallPiece<'_>| match piece {
        CallPiece::Text(text) => parsed.text.push_str(text),
        CallPiece::Call(ToolCall { name, arguments, .. }) => parsed.calls.push((name, arguments.to_string())),
        CallPiece::Invalid(error) => parsed.invalid.push(error.to_string()),
    };
    pieces.for_each(|piece| parser.push(piece, &mut emit));
    parser.finish(&mut emit);
    parsed
}

/// Parses in pieces of every length; asserts that they do not matter.
#[track_caller]
fn whole(syntax: CallSyntax, text: &str) -> Parsed {
    let whole = parse(syntax, [text].into_iter());
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    for length in 1..ends.len() {
        let cuts: Vec<usize> = ends.iter().copied().step_by(length).chain([text.len()]).collect();
        let pieces = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]);
        assert_eq!(parse(syntax, pieces), whole, "pieces of {length}");
    }
    whole
}

#[track_caller]
fn check(syntax: CallSyntax, answer: &str, text: &str, calls: &[(&str, &str)], invalid: &[&str]) {
    let found = whole(syntax, answer);
    let pairs: Vec<(&str, &str)> = found.calls.iter().map(|(name, json)| (&**name, &**json)).collect();
    assert_eq!((found.text.as_str(), &pairs[..]), (text, calls), "{answer:?}");
    assert_eq!(found.invalid.len(), invalid.len(), "{answer:?}: {:?}", found.invalid);
    for (sentence, expected) in found.invalid.iter().zip(invalid) {
        assert!(sentence.contains(expected), "{answer:?}: {sentence}");
    }
}

#[test]
fn tagged_calls_are_told_from_text() {
    let check = |answer: &str, text: &str, calls: &[(&str, &str)], invalid: &[&str]| {
        check(CallSyntax::Tagged, answer, text, calls, invalid);
    };
    let f = ("f", r#"{"a":1}"#);
    let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>";
    check("", "", &[], &[]);
    check("Hello \n", "Hello \n", &[], &[]);
    check("a < b <tool", "a < b <tool", &[], &[]);
    check(call, "", &[f], &[]);
    check(&format!("Let me look.\n{call}"), "Let me look.", &[f], &[]);
    check(&format!("one\n{call}\n{call}\n"), "one", &[f, f], &[]);
    check(&format!("{call}{call} two "), " two ".trim_start(), &[f, f], &[]);
    check(&format!("one\n\n{call}\n\ntwo"), "one\ntwo", &[f], &[]);
    // SmolLM2's list, other spellings, and no arguments.
    let list = r#"<tool_call>[{"name":"f","arguments":{"a":1}},{"name":"g","parameters":{}}]</tool_call>"#;
    check(list, "", &[f, ("g", "{}")], &[]);
    check(r#"<tool_call>{"name": "g"}</tool_call>"#, "", &[("g", "{}")], &[]);
    check(r#"<tool_call>[]</tool_call>nothing"#, "nothing", &[], &[]);
    let quoted = r#"<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>"#;
    check(quoted, "", &[f], &[]);
    let openai =
        r#"<tool_call>{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}</tool_call>"#;
    check(openai, "", &[f], &[]);
    // The order of arguments stays, and a mark in a string does not end the call.
    let marked =
        r#"<tool_call>{"name": "f", "arguments": {"z": "</tool_call>", "a": "<tool_call>"}}</tool_call>"#;
    check(marked, "", &[("f", r#"{"z":"</tool_call>","a":"<tool_call>"}"#)], &[]);
    // The model ended its answer without the mark.
    check(r#"<tool_call>{"name": "f", "arguments": {"a": 1}}"#, "", &[f], &[]);
    // Reasoning may talk about calls.
    let thinks = format!("<think>\nmaybe {call}\n</think>\n\n{call}");
    check(&thinks, &format!("<think>\nmaybe {call}\n</think>"), &[f], &[]);
}

#[test]
fn what_is_no_call_stays_text() {
    let check = |answer: &str, invalid: &[&str]| check(CallSyntax::Tagged, answer, answer, &[], invalid);
    check(r#"<tool_call>{"name": "f", "arg"#, &["EOF"]);
    check("<tool_call>", &["EOF"]);
    check("x <tool_call>f(1)</tool_call> y", &["cannot be read"]);
    check(r#"<tool_call>{"name": 1}</tool_call>"#, &["name"]);
    check(r#"<tool_call>{"name": "f", "arguments": [1]}</tool_call>"#, &["object as arguments"]);
    check(r#"<tool_call>{"name": "f", "arguments": "{"}</tool_call>"#, &["object as arguments"]);
    check(r#"<tool_call>{"name": "h"}</tool_call>"#, &["expected one of f, g"]);
    check("</tool_call>", &[]);
}

#[test]
fn bare_calls_are_whole_answers() {
    let check = |answer: &str, text: &str, calls: &[(&str, &str)], invalid: &[&str]| {
        check(CallSyntax::Bare, answer, text, calls, invalid);
    };
    let f = ("f", r#"{"a":1}"#);
    check(r#"{"name": "f", "parameters": {"a": 1}}"#, "", &[f], &[]);
    check("<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "", &[f], &[]);
    check(r#"{"type": "function", "name": "f", "parameters": {"a": 1}}"#, "", &[f], &[]);
    check(
        r#"{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}"#,
        "",
        &[f, ("g", "{}")],
        &[],
    );
    check("{\"name\": \"f\", \"parameters\": {\"a\": 1}}\n\nDone.", "Done.", &[f], &[]);
    // JSON that is no call, and text that begins like a tag.
    check(r#" {"city": "Paris"}"#, r#" {"city": "Paris"}"#, &[], &[]);
    check("{x}", "{x}", &[], &[]);
    check("<|py", "<|py", &[], &[]);
    check("Yes {\"name\": \"f\"}", "Yes {\"name\": \"f\"}", &[], &[]);
    let tagged = r#"<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>"#;
    check(tagged, tagged, &[], &[]);
    let cut = r#"{"name": "f", "parameters": {"a"#;
    check(cut, cut, &[], &["EOF"]);
    check("<|python_tag|>print(1)", "<|python_tag|>print(1)", &[], &["expected"]);
    let unknown = r#"{"name": "h", "parameters": {}}"#;
    check(unknown, unknown, &[], &["is no tool"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any sequence of fragments: no panic, the same however it is cut, and nothing is lost without a call.
    #[test]
    fn any_answer_is_split_in_the_same_way(
        parts in proptest::collection::vec(prop::sample::select(vec![
            "<tool_call>", "</tool_call>", "<think>", "</think>", "<|python_tag|>", "{", "}", "[", "]", "\"", "\\", " ", "\n",
            "{\"name\": \"f\"}", "\"name\"", ":", ",", ";", "é", "x", "<", "<tool", "🙂",
        ]), 0..12),
        bare in any::<bool>(),
    ) {
        let syntax = if bare { CallSyntax::Bare } else { CallSyntax::Tagged };
        let answer = parts.concat();
        let found = whole(syntax, &answer);
        if found.calls.is_empty() && (bare || !answer.contains("<tool_call>")) {
            prop_assert_eq!(found.text, answer);
        }
    }
}
