//! Answers that call tools, under the grammar of the tools.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

mod check;

use check::accepts;
use check::monkey::Monkey;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use thimble_chat::template::ToolFormat;
use thimble_chat::tools::{CallSyntax, ToolChoice, ToolDefinition};
use thimble_chat::{ChatError, ChatEvent, ChatSession, Conversation, End, Toolset};
use thimble_grammar::{Grammar, GrammarError, GrammarLimits, Vocabulary, tool_grammar};
use thimble_runtime::chat::{ChatTemplate, Jinja, Literals};

const TOOLS: &str = r##"[
    {"name": "get", "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "maxLength": 8}, "unit": {"enum": ["C", "F"]}}, "required": ["city"]}},
    {"name": "get_all", "parameters": {"type": "object", "properties": {"at": {"$ref": "#/$defs/point"}},
        "required": ["at"], "$defs": {"point": {"type": "object", "properties": {"x": {"type": "integer",
        "minimum": 0, "maximum": 99}}, "required": ["x"], "additionalProperties": false}}}},
    {"name": "now"}
]"##;

fn toolset(syntax: CallSyntax, tools: &str, choice: ToolChoice) -> Toolset {
    let source = include_str!("../../../tests/golden/templates/tools_bare.jinja");
    let template = match syntax {
        CallSyntax::Tagged => ChatTemplate::Literal(Literals::default()),
        CallSyntax::Bare => ChatTemplate::Jinja(Jinja { source, bos: "", eos: "" }),
    };
    let format = ToolFormat::of(&template).unwrap();
    assert_eq!(format.syntax, syntax);
    Toolset::with_format(format, ToolDefinition::read(tools).unwrap(), choice).unwrap()
}

fn compile(tools: &Toolset) -> Result<Grammar, GrammarError> {
    let limits = GrammarLimits { compile_time: Duration::from_secs(60), ..GrammarLimits::default() };
    Grammar::compile(&Vocabulary::of_bytes()?, &tool_grammar(tools)?.unwrap(), &limits)
}

#[track_caller]
fn check(syntax: CallSyntax, choice: ToolChoice, good: &[&str], bad: &[&str]) {
    let grammar = compile(&toolset(syntax, TOOLS, choice.clone())).unwrap();
    for (texts, allowed) in [(good, true), (bad, false)] {
        for text in texts {
            assert_eq!(accepts(&grammar, text).unwrap(), allowed, "{syntax:?}, {choice:?}: {text:?}");
        }
    }
}

const PARIS: &str =
    "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"city\": \"Paris\", \"unit\": \"C\"}}\n</tool_call>";
const NOW: &str = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
const POINT: &str = "<tool_call>\n{\"name\": \"get_all\", \"arguments\": {\"at\": {\"x\": 7}}}\n</tool_call>";

#[test]
fn from_its_mark_on_a_call_is_valid() {
    let good = [
        "",
        "Hello <tool, </tool_call>!\n",
        PARIS,
        NOW,
        POINT,
        &format!("Let me look.\n{PARIS}\n{NOW}\nThat was {{it}}."),
        &format!("<think>\nhm\n</think>\n\n{POINT}"),
    ];
    let bad = [
        "<tool_call>",
        "<tool_call>\n",
        &PARIS[..PARIS.len() - 1],
        &PARIS.replace("get", "fetch"),
        &PARIS.replace("get", "get_"),
        &PARIS.replace("\"C\"", "\"K\""),
        &PARIS.replace("city", "town"),
        &PARIS.replace("Paris", "Saarbr\u{fc}cken"),
        &PARIS.replace(", \"unit\": \"C\"", ", \"when\": 1"),
        &POINT.replace('7', "700"),
        &NOW.replace("{}", "[]"),
        "<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>",
        "<tool_call>\n[]\n</tool_call>",
        "Well <tool_call> I think",
    ];
    check(CallSyntax::Tagged, ToolChoice::Auto, &good, &bad);
}

#[test]
fn a_call_can_be_required() {
    let both = format!("{PARIS}\n{NOW}");
    check(
        CallSyntax::Tagged,
        ToolChoice::Required,
        &[PARIS, NOW, &both],
        &["", "Hello", &format!("Hi {NOW}")],
    );
    let named = ToolChoice::Named("now".to_string());
    check(CallSyntax::Tagged, named, &[NOW], &["", "Hello", PARIS, &format!("{NOW}\n{NOW}")]);
    let off = toolset(CallSyntax::Tagged, TOOLS, ToolChoice::None);
    assert_eq!(tool_grammar(&off).unwrap(), None);
}

#[test]
fn a_bare_call_is_the_whole_answer() {
    let now = r#"{"name": "now", "parameters": {}}"#;
    let paris = r#"{"name": "get", "parameters": {"city": "Paris"}}"#;
    let good = ["", "Hello {you}", " < 3", "<b>", "\n\n", now, paris];
    let more = format!("{now}{now}");
    let bad = [
        "{",
        " {\"name\": \"now\", \"parameters\": {}}",
        &more,
        &paris.replace("Paris", "Saarbr\u{fc}cken"),
        &now.replace("now", "then"),
        "<|python_tag|>{\"name\": \"then\", \"parameters\": {}}",
    ];
    check(CallSyntax::Bare, ToolChoice::Auto, &good, &bad);
    check(CallSyntax::Bare, ToolChoice::Required, &[now, paris], &["", "Hello", &more]);
    check(CallSyntax::Bare, ToolChoice::Named("now".to_string()), &[now], &["Hello", paris]);
}

#[test]
fn a_keyword_that_is_not_enforced_is_refused_with_its_tool() {
    let tools = r#"[{"name": "now"}, {"name": "pick", "parameters": {"type": "object",
        "properties": {"n": {"type": "array", "uniqueItems": true}}}}]"#;
    let error = compile(&toolset(CallSyntax::Tagged, tools, ToolChoice::Auto)).unwrap_err().to_string();
    assert!(error.contains("pick") && error.contains("uniqueItems"), "{error}");
}

/// Whether the arguments match the schemas above; written by hand, to depend on no validator.
fn is_valid(name: &str, arguments: &serde_json::Value) -> bool {
    let keys: Vec<&str> = arguments.as_object().unwrap().keys().map(String::as_str).collect();
    match name {
        "now" => true,
        "get" => {
            let unit = arguments.get("unit").is_none_or(|unit| unit == "C" || unit == "F");
            let city = arguments["city"].as_str().is_some_and(|city| city.chars().count() <= 8);
            city && unit && keys.iter().all(|key| ["city", "unit"].contains(key))
        }
        "get_all" => {
            let point = arguments["at"].as_object().unwrap();
            let x = point["x"].as_u64().is_some_and(|x| x < 100);
            x && point.len() == 1 && keys == ["at"]
        }
        _ => false,
    }
}

#[test]
fn a_hundred_calls_of_a_monkey_are_valid() {
    let tools = toolset(CallSyntax::Tagged, TOOLS, ToolChoice::Required);
    let grammar = compile(&tools).unwrap();
    let (mut calls, mut cut) = (0, 0);
    for seed in 0.. {
        let mut session = ChatSession {
            model: Monkey::new(seed, 4000),
            conversation: Conversation::default(),
            thinking: Some(true),
            max_tokens: Some(1500),
            stops: Vec::new(),
            tools: Some(tools.clone()),
            constraint: Some(Box::new(grammar.constraint().unwrap())),
        };
        let answer = session.answer::<ChatError>("question", &AtomicBool::new(false), &mut |event| {
            match event {
                ChatEvent::Call(call) => {
                    assert!(is_valid(&call.name, &call.arguments), "{call:?}");
                    calls += 1;
                }
                ChatEvent::InvalidCall(error) => panic!("{error}"),
                ChatEvent::Text(text) => panic!("{text:?} is no call"),
                _ => {}
            }
            Ok(())
        });
        // An answer of calls without end is cut.
        cut += usize::from(answer.unwrap().end != End::Stop);
        if calls >= 100 {
            break;
        }
    }
    assert!(cut == 0, "{cut} answers were cut");
}
