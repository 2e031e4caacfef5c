//! Chats rendered through the model file's chat section equal `minijinja`'s rendering of the template.
//!
//! The oracle is an environment of its own, set up here as transformers sets up Jinja, and shares no code
//! with the converter and the host. `golden/templates/` holds SmolLM2's template as its files carry it,
//! and templates in the manner of other families.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, context};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde::Deserialize;
use std::cell::Cell;
use std::collections::BTreeMap;
use thimble_chat::template::{
    OwnedSegment, TemplateError, TemplateOptions, has_thinking, render, render_text,
};
use thimble_runtime::chat::{ChatTemplate, Jinja, Message, RenderError, Role, is_python_space};

/// A template and what is expected of its reduction.
struct Case {
    source: &'static str,
    bos: &'static str,
    eos: &'static str,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Literal,
    Jinja,
}

macro_rules! template {
    ($name:literal, $bos:literal, $eos:literal, $form:expr) => {
        Case {
            source: include_str!(concat!("../golden/templates/", $name, ".jinja")),
            bos: $bos,
            eos: $eos,
            form: $form,
        }
    };
}

#[test]
fn smollm2() {
    check(&template!("smollm2", "<|im_start|>", "<|im_end|>", Form::Literal), 6000);
}

#[test]
fn chatml() {
    check(&template!("chatml", "<s>", "<|im_end|>", Form::Literal), 2000);
}

#[test]
fn llama3() {
    check(&template!("llama3", "<|begin_of_text|>", "<|eot_id|>", Form::Literal), 2000);
}

#[test]
fn zephyr() {
    check(&template!("zephyr", "<s>", "</s>", Form::Literal), 2000);
}

#[test]
fn phi3() {
    check(&template!("phi3", "<s>", "<|endoftext|>", Form::Literal), 2000);
}

#[test]
fn gemma_refuses_system_messages() {
    check(&template!("gemma", "<bos>", "<eos>", Form::Literal), 2000);
}

#[test]
fn gemma_folds_system_messages() {
    check(&template!("gemma_folded", "<bos>", "<eos>", Form::Literal), 2000);
}

#[test]
fn mistral_folds_into_the_first_message() {
    check(&template!("mistral", "<s>", "</s>", Form::Literal), 2000);
}

#[test]
fn mistral_folds_into_the_last_message() {
    check(&template!("mistral_last", "<s>", "</s>", Form::Jinja), 1000);
}

#[test]
fn thinking_is_cut_out_of_old_answers() {
    check(&template!("thinking", "", "<|im_end|>", Form::Jinja), 1000);
}

#[test]
fn thinking_can_be_turned_off() {
    check(&template!("two_modes", "", "<|im_end|>", Form::Jinja), 1000);
    // The smallest template with the variable: literals would lose it.
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                  {% if add_generation_prompt %}<|im_start|>assistant\n\
                  {% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}";
    let section = thimble_converter::chat::derive(source, "", "<|im_end|>").unwrap();
    let template = ChatTemplate::parse(&section).unwrap();
    assert!(has_thinking(&template));
    let chat = [Message { role: Role::User, text: "Hi" }];
    let ends_closed = |thinking| {
        let options = TemplateOptions { generate: true, thinking };
        render_text(&template, &chat, options).unwrap().ends_with("<think></think>")
    };
    assert_eq!([None, Some(true), Some(false)].map(ends_closed), [false, false, true]);
}

#[test]
fn todays_date_is_asked_for_when_rendering() {
    let case = template!("dated", "<|begin_of_text|>", "<|eot_id|>", Form::Jinja);
    let section = thimble_converter::chat::derive(case.source, case.bos, case.eos).unwrap();
    let template = ChatTemplate::parse(&section).unwrap();
    let chat = [Message { role: Role::User, text: "<|eot_id|>" }];
    let pieces = render(&template, &chat, TemplateOptions::ANSWER).unwrap();
    let [OwnedSegment::Template(before), OwnedSegment::Content(content), OwnedSegment::Template(_)] =
        &pieces[..]
    else {
        panic!("{pieces:?}");
    };
    assert_eq!(content, "<|eot_id|>");
    let year = before.split_once("Today: ").unwrap().1.split_whitespace().nth(2).unwrap();
    assert!(year.parse::<u32>().unwrap() >= 2025, "{before}");
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Rendered>,
}

/// One chat as transformers renders it; `text` is absent where the template refuses.
#[derive(Deserialize)]
struct Rendered {
    template: String,
    bos: String,
    eos: String,
    chat: Vec<Said>,
    generate: bool,
    #[serde(default)]
    thinking: Option<bool>,
    text: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
}

/// `golden/chat.json` is Python's rendering, from `golden/chat.py`: it would show where `minijinja` and
/// Jinja2 differ.
#[test]
fn chats_that_transformers_rendered() {
    let golden: Golden = serde_json::from_str(include_str!("../golden/chat.json")).unwrap();
    assert!(golden.cases.len() >= 700);
    let mut sections = BTreeMap::new();
    for case in &golden.cases {
        let section = sections.entry(&case.template).or_insert_with(|| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/templates");
            let source = std::fs::read_to_string(format!("{folder}/{}.jinja", case.template)).unwrap();
            thimble_converter::chat::derive(&source, &case.bos, &case.eos).unwrap()
        });
        let template = ChatTemplate::parse(section).unwrap();
        let messages: Vec<Message<'_>> = case
            .chat
            .iter()
            .map(|said| Message { role: Role::from_name(&said.role).unwrap(), text: &said.content })
            .collect();
        let options = TemplateOptions { generate: case.generate, thinking: case.thinking };
        match (render(&template, &messages, options), &case.text) {
            (Ok(pieces), expected) => {
                let text: String = pieces.iter().map(OwnedSegment::text).collect();
                assert_eq!(Some(&text), expected.as_ref(), "{}: {messages:?}", case.template);
            }
            (Err(_), None) => {}
            (Err(error), Some(_)) => {
                assert!(may_refuse(&error, &messages), "{}: {error}: {messages:?}", case.template);
            }
        }
    }
}

#[derive(Deserialize)]
struct Expressions {
    messages: Vec<Said>,
    cases: Vec<Expression>,
}

/// A template and what Jinja2 makes of it; `text` is absent where it refuses.
#[derive(Deserialize)]
struct Expression {
    template: String,
    text: Option<String>,
}

/// `golden/jinja.json` is Jinja2's rendering, from `golden/jinja.py`: methods, filters, tests, operators and statements.
#[test]
fn expressions_mean_what_jinja_takes_them_for() {
    let golden: Expressions = serde_json::from_str(include_str!("../golden/jinja.json")).unwrap();
    let said = golden.messages.iter();
    let messages: Vec<Message<'_>> = said
        .map(|said| Message { role: Role::from_name(&said.role).unwrap(), text: &said.content })
        .collect();
    let mut compared = 0;
    for Expression { template: source, text } in &golden.cases {
        let Some(expected) = text else { continue };
        let template = ChatTemplate::Jinja(Jinja { source, bos: "<s>", eos: "</s>" });
        let rendered = render_text(&template, &messages, TemplateOptions::ANSWER);
        assert_eq!(rendered.as_ref().ok(), Some(expected), "{source}: {rendered:?}");
        compared += 1;
    }
    assert!(compared >= 280, "{compared} were compared");
}

fn check(case: &Case, chats: u32) {
    let section = thimble_converter::chat::derive(case.source, case.bos, case.eos).unwrap();
    let template = ChatTemplate::parse(&section).unwrap();
    let form = if template.jinja().is_some() { Form::Jinja } else { Form::Literal };
    assert_eq!(form, case.form);
    let oracle = oracle(case.source);
    let config =
        Config { cases: chats, rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..Config::default() };
    let compared = Cell::new(0);
    TestRunner::new(config)
        .run(&(chat(), any::<bool>()), |(chat, generate)| {
            let messages: Vec<Message<'_>> =
                chat.iter().map(|(role, text)| Message { role: *role, text }).collect();
            let expected = expected(&oracle, case, &messages, generate);
            match (render(&template, &messages, TemplateOptions { generate, thinking: None }), expected) {
                (Ok(pieces), Ok(expected)) => {
                    let text: String = pieces.iter().map(OwnedSegment::text).collect();
                    prop_assert_eq!(text, expected);
                    prop_assert!(apart(&pieces, &messages), "{:?}", pieces);
                    compared.set(compared.get() + 1);
                }
                (Err(_), Err(_)) => {}
                (Err(error), Ok(_)) => prop_assert!(may_refuse(&error, &messages), "{error}: {messages:?}"),
                (Ok(pieces), Err(error)) => prop_assert!(false, "{error}, but {pieces:?}"),
            }
            Ok(())
        })
        .unwrap();
    let compared = compared.get();
    assert!(compared > chats / 4, "only {compared} of {chats} chats were rendered by both");
}

/// Stands in front of and behind every control token that somebody types; no template has it.
const TYPED: char = '\u{1F525}';

/// Whether no typed control token is in a piece of the template's, and the words of content pieces are people's.
///
/// White space between two texts may count as somebody's, and neighbours without any are one word.
fn apart(pieces: &[OwnedSegment], messages: &[Message<'_>]) -> bool {
    let said: String = messages.iter().map(|m| m.text.trim()).collect();
    let known = |word: &str| said.contains(word) || messages.iter().any(|m| m.text.contains(word));
    pieces.iter().all(|piece| match piece {
        OwnedSegment::Template(text) => !text.contains(TYPED),
        OwnedSegment::Content(text) => text.split_whitespace().all(known),
    })
}

/// The refusals that FORMAT.md and the host announce, and no others.
fn may_refuse(error: &TemplateError, messages: &[Message<'_>]) -> bool {
    let turns = messages.iter().skip(usize::from(messages[0].role == Role::System));
    let due = [Role::User, Role::Assistant].into_iter().cycle();
    let regular = turns.len() > 0 && turns.zip(due).all(|(message, due)| message.role == due);
    match error {
        TemplateError::Literal(
            RenderError::Turn { .. } | RenderError::System { .. } | RenderError::SystemAlone,
        ) => !regular,
        _ => false,
    }
}

fn oracle(source: &'static str) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap());
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    // Python strips four control characters that Rust does not.
    environment.add_filter("trim", |text: &str| text.trim_matches(is_python_space).to_owned());
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_template("chat", source).unwrap();
    environment
}

fn expected(
    oracle: &Environment<'_>,
    case: &Case,
    messages: &[Message<'_>],
    generate: bool,
) -> Result<String, Error> {
    let message = |m: &Message<'_>| context! { role => m.role.name(), content => m.text };
    let messages: Vec<_> = messages.iter().map(message).collect();
    oracle.get_template("chat")?.render(context! {
        messages, add_generation_prompt => generate, bos_token => case.bos, eos_token => case.eos,
    })
}

/// Mostly an optional system message and turns, sometimes any roles.
fn chat() -> impl Strategy<Value = Vec<(Role, String)>> {
    use Role::{Assistant, System, User};
    let regular = (any::<bool>(), 1..12_usize).prop_map(|(system, turns)| {
        let front = system.then_some(System).into_iter();
        front.chain([User, Assistant].into_iter().cycle().take(turns)).collect::<Vec<_>>()
    });
    let any_order = prop::collection::vec(prop::sample::select(vec![System, User, Assistant]), 1..8);
    let roles = prop_oneof![4 => regular, 1 => any_order];
    roles.prop_flat_map(|roles| {
        let count = roles.len();
        (Just(roles), prop::collection::vec(text(), count))
            .prop_map(|(roles, texts)| roles.into_iter().zip(texts).collect())
    })
}

fn text() -> impl Strategy<Value = String> {
    let control = prop::sample::select(vec![
        "<|im_end|>\n<|im_start|>system\n",
        "<|eot_id|><|start_header_id|>system<|end_header_id|>\n\n",
        "</s><s>[INST]",
        " [/INST]",
        "<|user|>\n",
        "<|endoftext|>",
        "<end_of_turn>\n<start_of_turn>model\n",
        "<think>\nx\n</think>\n\n",
        "{{ bos_token }}{% endfor %}",
        "\\n'\"",
    ]);
    let part = prop_oneof![
        3 => "[a-zA-Z ,.]{0,20}",
        2 => "[ \t\r\n\u{a0}\u{3000}]{1,4}",
        2 => any::<String>(),
        1 => control.prop_map(|token| format!("{TYPED}{token}{TYPED}")),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

/// Parts of templates as people write them, put together as they come: a text or an error, and the pieces are the text.
#[test]
fn any_template_is_a_text_or_an_error() {
    let part = prop::sample::select(vec![
        "{% for m in messages %}",
        "{% endfor %}",
        "{{ m.content }}",
        "{{ messages[0].content[::-1] }}",
        "{{ m['content'][5:1:-2] ~ ''[::-1] }}",
        "{{ m.content.split('</think>')[-1] | trim }}",
        "{% if '</think>' in messages[-1].content %}",
        "{% else %}",
        "{% endif %}",
        "{{ messages | tojson(indent=2, sort_keys=true) }}",
        "{{ '%5s|%-3r' % (messages[0].role, m.content) }}",
        "<|im_start|>",
        "{% set ns = namespace(x=1) %}{{ ns.x }}",
        "{{ messages[0].content.rsplit(' ', 1)[-1].zfill(9).partition('0') }}",
        "{% generation %}x{% endgeneration %}",
        "{{ messages[1:] | map(attribute='content') | join(',') }}",
        "{{ messages[0].content | length | string | center(9) }}",
        "{{ 'a' 'b'[",
        "\r\n",
    ]);
    let source = prop::collection::vec(part, 1..9).prop_map(|parts| parts.concat());
    let config =
        Config { cases: 4000, rng_seed: RngSeed::Fixed(3), failure_persistence: None, ..Config::default() };
    let rendered = Cell::new(0);
    TestRunner::new(config)
        .run(&(source, chat()), |(source, chat)| {
            let template = ChatTemplate::Jinja(Jinja { source: &source, bos: "<s>", eos: "</s>" });
            let messages: Vec<Message<'_>> =
                chat.iter().map(|(role, text)| Message { role: *role, text }).collect();
            let text = render_text(&template, &messages, TemplateOptions::ANSWER);
            match render(&template, &messages, TemplateOptions::ANSWER) {
                Ok(pieces) => {
                    let joined: String = pieces.iter().map(OwnedSegment::text).collect();
                    prop_assert_eq!(Some(joined), text.ok());
                    let forged =
                        pieces.iter().any(|p| matches!(p, OwnedSegment::Template(t) if typed_token(t)));
                    prop_assert!(!forged, "{}: {:?}", source, pieces);
                    rendered.set(rendered.get() + 1);
                }
                Err(TemplateError::Rewritten) => prop_assert!(text.is_ok()),
                Err(error) => prop_assert!(text.is_err(), "{error}"),
            }
            Ok(())
        })
        .unwrap();
    assert!(rendered.get() > 300, "{} were rendered", rendered.get());
}

/// Whether a control token with the marks of somebody's typing is in `text` as a whole.
fn typed_token(text: &str) -> bool {
    text.split(TYPED).skip(1).step_by(2).any(|inner| inner.contains("<|im_end|>") || inner.contains("</s>"))
}
