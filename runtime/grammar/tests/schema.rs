//! JSON Schemas: instances of our own cases, keywords that are refused, and schemas that would cost too much.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

mod check;

use check::{Verdict, accepts, narrowing, verdict};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use thimble_chat::TokenConstraint;
use thimble_grammar::{Grammar, GrammarError, GrammarLimits, GrammarSource, Vocabulary};

fn compile(source: &GrammarSource) -> Result<Grammar, GrammarError> {
    let limits = GrammarLimits { compile_time: Duration::from_secs(60), ..GrammarLimits::default() };
    Grammar::compile(&Vocabulary::of_bytes()?, source, &limits)
}

fn schema(schema: &Value) -> Result<Grammar, GrammarError> {
    compile(&GrammarSource::JsonSchema(schema.to_string()))
}

#[test]
fn instances_are_accepted_if_they_are_valid() {
    let groups: Vec<Value> = serde_json::from_str(include_str!("cases/schema.json")).unwrap();
    let mut checked = 0;
    for group in &groups {
        let grammar = schema(&group["schema"]).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let expected = if test["valid"] == true { Verdict::Accepted } else { Verdict::Rejected };
            let found = verdict(&grammar, &test["data"]).unwrap();
            assert_eq!(found, expected, "{}: {}", group["description"], test["description"]);
            checked += 1;
        }
    }
    assert!(checked > 30);
}

#[test]
fn an_answer_has_one_spelling() {
    let grammar =
        schema(&json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
        "required": ["a", "b"], "additionalProperties": {"type": "string"}}))
        .unwrap();
    assert!(accepts(&grammar, r#"{"a":1,"b":"x"}"#).unwrap());
    assert!(accepts(&grammar, r#"{"a":-10,"b":"x"}"#).unwrap());
    assert!(accepts(&grammar, r#"{"a":0,"b":"x"}"#).unwrap());
    for other in [
        r#"{"b":"x","a":1}"#,
        r#"{ "a":1,"b":"x"}"#,
        "{\"a\":1,\n\"b\":\"x\"}",
        r#"{"a":1.0,"b":"x"}"#,
        r#"{"a":01,"b":"x"}"#,
        r#"{"a":-0,"b":"x"}"#,
        r#"{"a":9007199254740992,"b":"x"}"#,
        // A spelling of `a`, which would replace its value in most parsers.
        r#"{"a":1,"b":"x","\u0061":"x"}"#,
        r#"{"a":1,"b":"\u0078"}"#,
        r#"{"a":1,"b":"x"},"#,
        r#"{"a":1,"b":"x"} "#,
        r#"{"a":1,"b":"x""#,
        "",
    ] {
        assert!(!accepts(&grammar, other).unwrap(), "{other}");
    }
    let value = json!({"a": 1e300});
    assert!(narrowing(&json!({}), &value).is_some() && narrowing(&json!({}), &json!([1])).is_none());
}

#[test]
fn what_is_not_enforced_is_refused_by_name() {
    let text = || json!({"type": "string"});
    let keywords = [
        ("not", json!({"not": text()})),
        ("if", json!({"if": text()})),
        ("contains", json!({"contains": text()})),
        ("uniqueItems", json!({"uniqueItems": true})),
        ("propertyNames", json!({"propertyNames": text()})),
        ("dependentRequired", json!({"dependentRequired": {"a": ["b"]}})),
        ("dependencies", json!({"dependencies": {"a": ["b"]}})),
        ("unevaluatedProperties", json!({"unevaluatedProperties": false})),
        ("$dynamicRef", json!({"$dynamicRef": "#node"})),
        ("format", json!({"format": "idn-email"})),
        ("minProperties", json!({"type": "object", "minProperties": 3})),
        ("maxProperties", json!({"type": "object", "properties": {"a": {}, "b": {}}, "maxProperties": 1})),
        ("pattern", json!({"type": "string", "pattern": "(?=a)b"})),
        ("multipleOf", json!({"type": "number", "multipleOf": 0})),
        ("const", json!({"const": "a\u{1}"})),
        ("enum", json!({"enum": [9_007_199_254_740_993_u64]})),
        ("oneOf", json!({"oneOf": [{"type": "integer"}, {"type": "number"}]})),
    ];
    for (keyword, part) in keywords {
        // Deep inside, and behind a reference.
        let place =
            json!({"type": "array", "items": {"$ref": "#/$defs/part"}, "$defs": {"part": part.clone()}});
        for (schema_with, pointer) in [
            (part.clone(), "#"),
            (json!({"type": "array", "items": part}), "#/items"),
            (place, "#/$defs/part"),
        ] {
            let Err(error) = schema(&schema_with) else { panic!("{schema_with} is accepted") };
            let GrammarError::Keyword { keyword: found, at, reason } = &error else {
                panic!("{schema_with}: {error}");
            };
            assert_eq!(found, keyword, "{error}");
            assert_eq!(at, pointer, "{keyword}");
            assert!(!reason.is_empty());
        }
        // What nothing refers to is not asked for.
        assert!(schema(&json!({"type": "null", "$defs": {"unused": part_of(keyword)}})).is_ok());
    }
    let Err(GrammarError::Keyword { keyword, reason, .. }) =
        schema(&json!({"$ref": "https://example.com/a.json"}))
    else {
        panic!("nothing is fetched");
    };
    assert!(keyword == "$ref" && reason.contains("example.com"), "{reason}");
    // With itself only, an answer never ends.
    let endless = schema(&json!({"$ref": "#"}));
    assert!(matches!(endless, Err(GrammarError::Empty { .. })), "{endless:?}");
    let refused = compile(&GrammarSource::Regex("(?=a)b".to_string())).unwrap_err().to_string();
    assert!(refused.contains("look-around"), "{refused}");
}

fn part_of(keyword: &str) -> Value {
    json!({ keyword: {"type": "string"} })
}

#[test]
fn options_inside_a_schema_are_not_obeyed() {
    let grammar =
        schema(&json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
        "additionalProperties": false, "x-guidance": {"lenient": true, "whitespace_flexible": true}}))
        .unwrap();
    assert!(accepts(&grammar, r#"{"a":1}"#).unwrap());
    assert!(!accepts(&grammar, r#"{ "a": 1 }"#).unwrap());
}

#[test]
fn what_is_no_schema_says_so() {
    for (text, expected) in [
        ("{", "expected JSON"),
        ("[]", "expected an object or a boolean"),
        ("{\"items\": 3}", "#/items"),
        ("{\"type\": \"text\"}", "Invalid type"),
        ("false", "no answer"),
        ("{\"type\": \"integer\", \"minimum\": 2, \"maximum\": 1}", "no answer"),
    ] {
        let error = compile(&GrammarSource::JsonSchema(text.to_string())).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(compile(&GrammarSource::JsonSchema("true".to_string())).is_ok());
}

/// Refuses `source`, or compiles it and computes some masks, within the limit of time and some seconds for a busy machine;
/// whether it refused.
fn is_refused_in_time(name: &str, source: &GrammarSource) -> bool {
    let limits = GrammarLimits::default();
    let start = Instant::now();
    let compiled = Grammar::compile(&Vocabulary::of_bytes().unwrap(), source, &limits);
    let refused = compiled.is_err();
    if let Ok(grammar) = &compiled {
        let mut constraint = grammar.constraint().unwrap();
        for _ in 0..20 {
            let Ok(Some(token)) = constraint.mask().map(|mask| mask.first(256)) else { break };
            if constraint.accept(token).is_err() {
                break;
            }
        }
    }
    let took = start.elapsed();
    assert!(took < limits.compile_time + Duration::from_secs(8), "{name} took {took:?}");
    refused
}

#[test]
fn grammar_bombs_are_refused_in_time() {
    let nested = |levels: usize| "(".repeat(levels) + &")".repeat(levels);
    let deep = (0..200).fold(json!({"type": "null"}), |inner, _| json!({"type": "array", "items": inner}));
    let next = |i: usize| json!({"$ref": format!("#/$defs/d{}", i + 1)});
    let mut doubling: serde_json::Map<String, Value> = (0..30)
        .map(|i| (format!("d{i}"), json!({"allOf": [{"anyOf": [next(i), next(i)]}, next(i)]})))
        .collect();
    doubling.insert("d30".to_string(), json!({"anyOf": [{"type": "object"}, {"type": "array"}]}));
    let option = |i: usize| {
        let text = json!({"type": "string", "pattern": format!("(a|b)*a(a|b){{{i}}}")});
        json!({"type": "object", "properties": {format!("p{i}"): text}})
    };
    let options = json!({"anyOf": (0..30).map(option).collect::<Vec<_>>()});
    let products = json!({"allOf": vec![options; 6]});
    let repeated = "((((a{1,1000}){1,1000}){1,1000}b?){1,1000}){1,1000}";
    let schema = |schema: Value| GrammarSource::JsonSchema(schema.to_string());
    for (name, source) in [
        ("brackets", GrammarSource::Lark(format!("start: {}", nested(1000)))),
        ("a long source", GrammarSource::Regex("a".repeat(2 << 20))),
        ("a deep schema", schema(deep)),
        ("products of alternatives", schema(products)),
        ("definitions that double", schema(json!({"$ref": "#/$defs/d0", "$defs": doubling}))),
    ] {
        assert!(is_refused_in_time(name, &source), "{name} is accepted");
    }
    // What is only large, or what costs a bounded amount for each token, may compile.
    for (name, source) in [
        ("repetitions of repetitions", GrammarSource::Regex(repeated.to_string())),
        ("an exponential automaton", GrammarSource::Regex("(a|b)*a(a|b){3000}c".to_string())),
        ("a long text", schema(json!({"type": "string", "maxLength": 100_000}))),
    ] {
        is_refused_in_time(name, &source);
    }
}
