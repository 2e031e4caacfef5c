//! Regular expressions, choices, Lark and GBNF; and a chat with a model that says anything.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

mod check;

use check::accepts;
use check::monkey::Monkey;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use thimble_chat::{ChatError, ChatSession, ConstraintError, Conversation, End, TokenConstraint};
use thimble_grammar::{Grammar, GrammarError, GrammarLimits, GrammarSource, Vocabulary};
use thimble_runtime::Token;

fn compile(source: GrammarSource) -> Result<Grammar, GrammarError> {
    let limits = GrammarLimits { compile_time: Duration::from_secs(60), ..GrammarLimits::default() };
    Grammar::compile(&Vocabulary::of_bytes()?, &source, &limits)
}

fn check(source: GrammarSource, good: &[&str], bad: &[&str]) {
    let grammar = compile(source.clone()).unwrap_or_else(|error| panic!("{source:?}: {error}"));
    for text in good {
        assert!(accepts(&grammar, text).unwrap(), "{source:?} should allow {text:?}");
    }
    for text in bad {
        assert!(!accepts(&grammar, text).unwrap(), "{source:?} should not allow {text:?}");
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

#[test]
fn regular_expressions_match_the_whole_answer() {
    let regex = |text: &str| GrammarSource::Regex(text.to_string());
    check(regex("[0-9]{3}-[a-z]+"), &["123-a", "000-zz"], &["12-a", "123-", "123-a1", " 123-a", ""]);
    check(regex("^yes|no$"), &["yes", "no"], &["yes no", "ye"]);
    check(regex("(?i)ok/\u{e9}+"), &["OK/\u{e9}", "oK/\u{e9}\u{c9}"], &["ok/", "ok"]);
    for wrong in ["(", "a(?=b)", "[z-a]"] {
        assert!(matches!(compile(regex(wrong)), Err(GrammarError::Syntax { .. })), "{wrong}");
    }
}

#[test]
fn choices_are_whole_texts() {
    let choices = GrammarSource::Choices(texts(&["red", "reddish", "a|b", "\u{1F600}", "</s>"]));
    check(choices, &["red", "reddish", "a|b", "\u{1F600}", "</s>"], &["", "re", "redd", "a", "blue"]);
    for wrong in [&[][..], &["a", ""]] {
        assert!(matches!(compile(GrammarSource::Choices(texts(wrong))), Err(GrammarError::Syntax { .. })));
    }
}

#[test]
fn lark_grammars_are_rules() {
    let lark = "start: item (\",\" item)*\nitem: NAME | \"(\" start \")\"\nNAME: /[a-z]+/\n";
    check(GrammarSource::Lark(lark.to_string()), &["a", "a,(b,(c)),d"], &["", "a,", "(a", "a b"]);
    let error = compile(GrammarSource::Lark("start: missing".to_string())).unwrap_err();
    assert!(matches!(&error, GrammarError::Syntax { language: "Lark grammar", .. }), "{error}");
}

#[test]
fn gbnf_grammars_are_translated() {
    let gbnf = |text: &str| GrammarSource::Gbnf(text.to_string());
    let arithmetic =
        "root ::= term ([-+*/] term)* # a sum\nterm ::= number | \"(\" root \")\"\nnumber ::= [0-9]{1,3}\n";
    check(gbnf(arithmetic), &["1", "1+23*(4-5)/(6)"], &["", "1+", "1234", "(1", "1 + 2"]);
    let json = r##"
root   ::= object
value  ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws ::= | " " | "\n" [ \t]{0,20}
"##;
    check(
        gbnf(json),
        &[r#"{"a": [1, -2.5e3, {"b\n\u00e9": ""}]}"#, "{}", "{\n  \"a\":1}"],
        &["[]", "{\"a\"}", "{\"a\":1", "{\"a\": 01}"],
    );
    check(gbnf("root ::= \"\\u00e9\" \"\\x41\"? ."), &["\u{e9}A\n", "\u{e9}x", "\u{e9}A"], &["\u{e9}", "A"]);
}

#[test]
fn compiled_grammars_are_kept() {
    let vocabulary = Vocabulary::of_bytes().unwrap();
    let source = GrammarSource::Regex("[a-z]{1,40}".to_string());
    let limits = GrammarLimits { compile_time: Duration::from_secs(60), ..GrammarLimits::default() };
    let first = Grammar::compile(&vocabulary, &source, &limits).unwrap();
    // With no time at all, only a grammar that is kept is there.
    let none = GrammarLimits { compile_time: Duration::ZERO, ..limits };
    assert!(Grammar::compile(&vocabulary, &source, &none).is_err());
    let again = Grammar::compile(&vocabulary, &source, &limits).unwrap();
    assert!(accepts(&first, "abc").unwrap() && accepts(&again, "abc").unwrap());
}

#[test]
fn a_constraint_says_when_it_is_complete_and_when_it_must_end() {
    let grammar = compile(GrammarSource::Regex("ab+c?".to_string())).unwrap();
    let mut constraint = grammar.constraint().unwrap();
    let state = |constraint: &dyn TokenConstraint| (constraint.is_complete(), constraint.must_end());
    assert_eq!(state(&constraint), (false, false));
    assert!(!constraint.mask().unwrap().allows(Token(256)), "the stop token only where it is complete");
    let mut forced = Vec::new();
    constraint.forced(9, &mut forced).unwrap();
    assert_eq!(forced, [Token(b'a'.into()), Token(b'b'.into())]);
    assert_eq!(state(&constraint), (true, false));
    let mask = constraint.mask().unwrap();
    let allowed: Vec<u32> = (0..300).filter(|&token| mask.allows(Token(token))).collect();
    assert_eq!(allowed, [u32::from(b'b'), u32::from(b'c'), 256]);
    assert_eq!(constraint.accept(Token(b'x'.into())), Err(ConstraintError::Refused { found: b'x'.into() }));
    constraint.accept(Token(b'c'.into())).unwrap();
    assert_eq!(state(&constraint), (true, true));
    constraint.forced(9, &mut forced).unwrap();
    assert_eq!(forced.len(), 2, "nothing follows");
    assert!(constraint.accept(Token(7000)).is_err());
    // At most so many tokens are forced.
    let mut constraint = compile(GrammarSource::Regex("abcdef".to_string())).unwrap().constraint().unwrap();
    forced.clear();
    constraint.forced(4, &mut forced).unwrap();
    assert_eq!((forced.len(), constraint.is_complete()), (4, false));
}

#[test]
fn what_a_monkey_types_is_valid_or_says_that_it_is_cut() {
    let schema = r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["cat", "caterpillar"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 1000},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}},
        "required": ["name", "kind", "legs"], "additionalProperties": false}"#;
    let grammar = compile(GrammarSource::JsonSchema(schema.to_string())).unwrap();
    let (mut ended, mut cut, mut dropped) = (0, 0, 0);
    for seed in 0..150 {
        let model = Monkey::new(seed, 160);
        let mut session = ChatSession {
            model,
            conversation: Conversation::default(),
            thinking: Some(true),
            max_tokens: Some(if seed % 3 == 0 { 60 } else { 300 }),
            stops: vec!["a".to_string(), "\"".to_string()],
            tools: None,
            constraint: None,
        };
        for _ in 0..3 {
            session.constraint = Some(Box::new(grammar.constraint().unwrap()));
            let mut shown = String::new();
            let answered = session.answer::<ChatError>("question", &AtomicBool::new(false), &mut |event| {
                match event {
                    thimble_chat::ChatEvent::Text(text) => shown.push_str(text),
                    thimble_chat::ChatEvent::Dropped { .. } => dropped += 1,
                    event => assert!(matches!(event, thimble_chat::ChatEvent::Prefill { .. })),
                }
                Ok(())
            });
            let end = answered.unwrap().end;
            assert!(session.constraint.is_none(), "it was for one answer");
            let whole = session.conversation.turns.last().unwrap().answer.clone();
            assert_eq!(shown, whole);
            match end {
                End::Stop => {
                    ended += 1;
                    let value: serde_json::Value = serde_json::from_str(&whole).unwrap();
                    assert!(value["name"].as_str().unwrap().chars().count() <= 12, "{whole}");
                    assert!(["cat", "caterpillar"].contains(&value["kind"].as_str().unwrap()), "{whole}");
                    assert!((0..=1000).contains(&value["legs"].as_i64().unwrap()), "{whole}");
                    let known = ["name", "kind", "legs", "tags"];
                    assert!(value.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())));
                }
                End::Length => {
                    cut += 1;
                    assert!(
                        serde_json::from_str::<serde_json::Value>(&whole).is_err(),
                        "{whole} is complete"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(ended > 100 && cut > 20 && dropped > 20, "{ended} ended, {cut} cut, {dropped} turns dropped");
}

/// An answer of random tokens, of which `ahead` says before which forward passes a mask is asked for; and its masks.
fn walk(grammar: &Grammar, seed: u64, ahead: &dyn Fn(u64) -> bool) -> (Vec<u32>, Vec<Vec<u32>>) {
    let mut constraint = grammar.constraint().unwrap();
    let (mut answer, mut masks, mut random) = (Vec::new(), Vec::new(), seed);
    while !constraint.must_end() && answer.len() < 60 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mask = constraint.mask().unwrap();
        let allowed: Vec<u32> = (0..256).filter(|&token| mask.allows(Token(token))).collect();
        let Some(&token) = allowed.get((random >> 33) as usize % allowed.len().max(1)) else { break };
        masks.push(allowed);
        answer.push(token);
        if ahead(random >> 40) {
            // Asked for and not used, then for the state that is.
            constraint.prepare();
        }
        constraint.accept(Token(token)).unwrap();
        if ahead(random >> 45) {
            constraint.prepare();
            constraint.prepare();
        }
    }
    (answer, masks)
}

#[test]
fn masks_that_are_computed_ahead_are_those_of_the_state() {
    let source =
        r#"{"type": "array", "items": {"enum": ["cat", "caterpillar", 12, 120, null]}, "minItems": 2}"#;
    let grammar = compile(GrammarSource::JsonSchema(source.to_string())).unwrap();
    for seed in 0..60 {
        let expected = walk(&grammar, seed, &|_| false);
        assert!(!expected.0.is_empty());
        assert_eq!(walk(&grammar, seed, &|_| true), expected);
        assert_eq!(walk(&grammar, seed, &|bits| bits % 3 == 0), expected);
    }
    // One that is away is left behind.
    let mut constraint = grammar.constraint().unwrap();
    constraint.prepare();
    drop(constraint);
}
