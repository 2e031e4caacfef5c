//! Answers of a given shape, and calls of tools.

use crate::served::{NAME, serve, serve_long};
use serde_json::{Value, json};

fn question(more: Value) -> Value {
    let mut body = json!({ "model": NAME, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 200, "seed": 3,
                           "temperature": 1 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn an_answer_has_the_shape_that_was_asked_for() {
    let served = serve();
    let schema = json!({ "type": "object", "properties": { "a": { "enum": ["x", "y"] }, "b": { "type": "boolean" } },
                         "required": ["a", "b"], "additionalProperties": false });
    let format =
        json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema, "strict": true } });
    for more in [
        json!({ "response_format": format }),
        json!({ "guided_json": schema }),
        json!({ "structured_outputs": { "json": schema } }),
    ] {
        let answer = served.chat(&question(more));
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(content).unwrap();
        assert!(["x", "y"].contains(&value["a"].as_str().unwrap()) && value["b"].is_boolean(), "{content}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
    let answer = served.chat(&question(json!({ "guided_choice": ["yes", "no"] })));
    assert!(["yes", "no"].contains(&answer["choices"][0]["message"]["content"].as_str().unwrap()));
    let answer = served.chat(&question(json!({ "guided_regex": "[0-9]{3}" })));
    let digits = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits}");
    let answer = served.chat(&question(json!({ "guided_grammar": "root ::= \"a\" [bc]" })));
    assert!(["ab", "ac"].contains(&answer["choices"][0]["message"]["content"].as_str().unwrap()));
    let answer =
        served.chat(&question(json!({ "response_format": { "type": "json_object" }, "max_tokens": 3 })));
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().starts_with('{'));
}

fn tools() -> Value {
    let tool = |name: &str| {
        let parameters = json!({ "type": "object", "properties": { "city": { "enum": ["Rome", "Oslo"] } }, "required": ["city"] });
        json!({ "type": "function", "function": { "name": name, "description": "d", "parameters": parameters } })
    };
    json!([tool("weather"), tool("time")])
}

#[test]
fn tools_are_called_and_their_results_are_answered() {
    let served = serve_long(2, 2000, |_| {});
    let body = question(
        json!({ "tools": tools(), "tool_choice": { "type": "function", "function": { "name": "time" } } }),
    );
    let answer = served.chat(&body);
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let call = choice["message"]["tool_calls"][0].clone();
    assert_eq!(call["function"]["name"], "time");
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(["Rome", "Oslo"].contains(&arguments["city"].as_str().unwrap()));
    let events = served.stream("/v1/chat/completions", &body);
    let streamed =
        events.iter().find_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array()).unwrap();
    assert_eq!(streamed[0]["function"], call["function"]);
    assert_eq!(streamed[0]["index"], 0);
    let mut body = question(json!({ "tools": tools(), "max_tokens": 4 }));
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(choice["message"].clone());
    messages.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": "noon" }));
    assert!(served.chat(&body)["usage"]["completion_tokens"].as_u64().unwrap() <= 4);
    body["messages"][2]["tool_call_id"] = "other".into();
    let reply = served.post("/v1/chat/completions", &body);
    reply.fails(400, Some("messages[2].tool_call_id"), "no earlier message");
}

#[test]
fn one_call_is_enough_without_parallel_calls() {
    let served = serve_long(2, 2000, |_| {});
    let mut body =
        question(json!({ "tools": tools(), "tool_choice": "required", "temperature": 2, "max_tokens": 300 }));
    let several = (0..40).any(|seed| {
        body["seed"] = seed.into();
        served.chat(&body)["choices"][0]["message"]["tool_calls"].as_array().unwrap().len() > 1
    });
    assert!(several, "some seed makes several calls");
    body["parallel_tool_calls"] = false.into();
    let answer = served.chat(&body);
    assert_eq!(answer["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1);
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn a_value_ends_where_it_is_complete() {
    let served = serve();
    let body = json!({ "guided_regex": "[0-9]{2}", "ignore_eos": true, "max_tokens": 20, "logit_bias": { "2": 100 } });
    let answer = served.chat(&question(body));
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.len() == 2 && content.bytes().all(|byte| byte.is_ascii_digit()), "{content:?}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_call_that_the_limit_cuts_is_neither_call_nor_text() {
    let served = serve_long(2, 2000, |_| {});
    let body = json!({ "tools": tools(), "tool_choice": "required", "max_tokens": 12 });
    let answer = served.chat(&question(body));
    let (choice, message) = (&answer["choices"][0], &answer["choices"][0]["message"]);
    assert_eq!(choice["finish_reason"], "length");
    assert!(message["content"].as_str().is_none_or(str::is_empty), "{message}");
    assert!(message.get("tool_calls").is_none_or(Value::is_null), "{message}");
}

#[test]
fn what_cannot_be_enforced_is_refused() {
    let served = serve();
    let ask = |more: Value| served.post("/v1/chat/completions", &question(more));
    let format = |schema: Value| json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": schema } } });
    ask(format(json!({ "uniqueItems": true }))).fails(400, Some("response_format"), "uniqueItems");
    ask(json!({ "response_format": { "type": "json_schema" } })).fails(
        400,
        Some("response_format.json_schema.schema"),
        "missing",
    );
    ask(json!({ "response_format": { "type": "xml" } })).fails(400, Some("response_format.type"), "\"xml\"");
    ask(json!({ "guided_regex": "a", "guided_choice": ["b"] })).fails(
        400,
        Some("guided_choice"),
        "contradict",
    );
    // A text that ends the answer could cut the value.
    ask(json!({ "guided_regex": "ab", "stop": "a" })).fails(400, Some("stop"), "exclude each other");
    let body = json!({ "prompt": "a", "guided_choice": ["ab"], "stop": ["a"] });
    served.post("/v1/completions", &body).fails(400, Some("stop"), "guided_choice");
    ask(json!({ "guided_regex": "("  })).fails(400, Some("guided_regex"), "regular expression");
    ask(json!({ "tools": tools(), "guided_regex": "a" })).fails(400, Some("guided_regex"), "tool_choice");
    ask(json!({ "tool_choice": "required" })).fails(400, Some("tool_choice"), "requires tools");
    let unknown = json!({ "type": "function", "function": { "name": "none" } });
    ask(json!({ "tools": tools(), "tool_choice": unknown })).fails(400, Some("tool_choice"), "none");
    ask(json!({ "tools": tools(), "tool_choice": "maybe" })).fails(400, Some("tool_choice"), "\"maybe\"");
    ask(json!({ "tools": [{ "type": "function" }] })).fails(400, Some("tools"), "tool 1");
    let answer =
        served.chat(&question(json!({ "tools": tools(), "tool_choice": "none", "guided_regex": "a" })));
    assert_eq!(answer["choices"][0]["message"]["content"], "a");
}
