//! Chat sessions in which a scripted model calls tools.

use super::tests::{Parrot, session};
use super::{ChatEvent, ChatSession, End, Turn};
use crate::template::ToolFormat;
use crate::tools::{ToolChoice, ToolDefinition};
use crate::{ChatError, Toolset};
use std::sync::atomic::AtomicBool;
use thimble_runtime::Token;
use thimble_runtime::chat::{ChatTemplate, Literals};

const CALL: &str = r#"<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>"#;

fn calling(context: usize, script: &str) -> ChatSession<Parrot> {
    let format = ToolFormat::of(&ChatTemplate::Literal(Literals::default())).unwrap();
    let tools = ToolDefinition::read(r#"[{"name": "f"}]"#).unwrap();
    let tools = Toolset::with_format(format, tools, ToolChoice::Auto).unwrap();
    ChatSession { tools: Some(tools), ..session(context, script) }
}

/// What was shown: text, and calls as `[id name arguments]`.
fn shown(events: &mut String) -> impl FnMut(ChatEvent<'_>) -> Result<(), ChatError> {
    |event| {
        match event {
            ChatEvent::Text(text) => events.push_str(text),
            ChatEvent::Call(call) => *events += &format!("[{} {} {}]", call.id, call.name, call.arguments),
            ChatEvent::InvalidCall(_) => events.push_str("[invalid]"),
            _ => {}
        }
        Ok(())
    }
}

fn cached(talk: &ChatSession<Parrot>) -> String {
    talk.model.cache.iter().map(|token| token.0 as u8 as char).collect()
}

#[test]
fn calls_wait_for_their_results_and_the_answer_follows() {
    let mut talk = calling(400, &format!("Let me see.\n{CALL}\n{CALL}${CALL}$It is 3.$more$"));
    let (go, mut text) = (AtomicBool::new(false), String::new());
    let answer = talk.answer("1+2?", &go, &mut shown(&mut text)).unwrap();
    assert_eq!((answer.end, answer.calls, answer.remembered), (End::Stop, 2, true));
    assert_eq!(text, r#"Let me see.[call_1 f {"a":1}][call_2 f {"a":1}]"#);
    assert!(talk.conversation.turns[0].waits());
    let early = talk.answer::<ChatError>("hurry", &go, &mut |_| Ok(()));
    assert!(matches!(early, Err(ChatError::CallsWait)));
    let few = talk.answer_results::<ChatError>(&["1".to_string()], &go, &mut |_| Ok(()));
    assert!(matches!(few, Err(ChatError::Results { expected: 2, found: 1 })));
    // The results lead to another call, with a new id, and that one to the answer.
    text.clear();
    let results = ["one".to_string(), "two".to_string()];
    let answer = talk.answer_results(&results, &go, &mut shown(&mut text)).unwrap();
    assert_eq!((answer.calls, text.as_str()), (1, r#"[call_3 f {"a":1}]"#));
    text.clear();
    let answer = talk.answer_results(&["three".to_string()], &go, &mut shown(&mut text)).unwrap();
    assert_eq!((answer.calls, text.as_str()), (0, "It is 3."));
    let prompt = "U1+2?;ALet me see.<call_1><call_2>;Tone;Ttwo;A<call_3>;Tthree;AIt is 3.";
    assert_eq!(cached(&talk), prompt);
    let turn = &talk.conversation.turns[0];
    assert_eq!((turn.rounds.len(), turn.answer.as_str(), turn.waits()), (2, "It is 3.", false));
    let none = talk.answer_results::<ChatError>(&[], &go, &mut |_| Ok(()));
    assert!(matches!(none, Err(ChatError::NoCalls)));
    talk.answer("more", &go, &mut shown(&mut text)).unwrap();
    assert_eq!(cached(&talk), format!("{prompt};Umore;Amore"));
}

#[test]
fn results_without_an_answer_leave_the_calls_waiting() {
    let mut talk = calling(400, &format!("{CALL}$done$"));
    let mut text = String::new();
    talk.answer("q", &AtomicBool::new(false), &mut shown(&mut text)).unwrap();
    let before = talk.conversation.clone();
    let results = ["r".to_string()];
    let stopped = AtomicBool::new(true);
    let answer = talk.answer_results(&results, &stopped, &mut shown(&mut text)).unwrap();
    assert!(answer.end == End::Interrupted && !answer.remembered && talk.conversation == before);
    text.clear();
    talk.answer_results(&results, &AtomicBool::new(false), &mut shown(&mut text)).unwrap();
    assert_eq!((text.as_str(), talk.conversation.turns[0].answer.as_str()), ("done", "done"));
}

#[test]
fn an_answer_that_goes_on_elsewhere_knows_the_calls_before() {
    let mut talk = calling(400, "1}}</tool_call>$");
    let begun = &CALL[..CALL.len() - "1}}</tool_call>".len()];
    let mut tokens: Vec<Token> = begun.bytes().map(|byte| Token(byte.into())).collect();
    let mut text = String::new();
    talk.continue_answer("q", &mut tokens, &AtomicBool::new(false), &mut shown(&mut text)).unwrap();
    assert_eq!(text, r#"[call_1 f {"a":1}]"#);
    assert_eq!(talk.conversation.turns[0].rounds[0].calls.len(), 1);
}

#[test]
fn a_wrong_call_is_an_answer_and_tools_may_be_off() {
    let wrong = "<tool_call>f(1)</tool_call>";
    let mut talk = calling(400, &format!("{wrong}${CALL}$"));
    let (go, mut text) = (AtomicBool::new(false), String::new());
    let answer = talk.answer("q", &go, &mut shown(&mut text)).unwrap();
    assert_eq!((answer.calls, text), (0, format!("[invalid]{wrong}")));
    assert_eq!(talk.conversation.turns[0].answer, wrong);
    talk.tools = None;
    let mut text = String::new();
    talk.answer("q", &go, &mut shown(&mut text)).unwrap();
    assert_eq!(text, CALL, "without tools, everything is text");
}

#[test]
fn old_turns_go_with_their_calls() {
    let script = format!("{CALL}$done$").repeat(20);
    let mut talk = calling(300, &script);
    let (go, mut text) = (AtomicBool::new(false), String::new());
    for number in 0..20 {
        talk.answer(&format!("question {number}"), &go, &mut shown(&mut text)).unwrap();
        talk.answer_results(&["r".repeat(20)], &go, &mut shown(&mut text)).unwrap();
    }
    let turns: &[Turn] = &talk.conversation.turns;
    assert!(turns.len() < 19 && turns.iter().all(|turn| turn.rounds.len() == 1 && turn.answer == "done"));
    assert_eq!(turns.last().unwrap().rounds[0].calls[0].id, "call_20");
}
