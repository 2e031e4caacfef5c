//! Completions, embeddings, and what is said about the server.

use crate::client::request;
use crate::served::{CONTEXT, NAME, model, serve, with_session};
use serde_json::{Value, json};
use thimble_chat::encode_text;
use thimble_host::{embed, encode_prompt_text};
use thimble_runtime::embedding::Pooling;
use thimble_runtime::tokenizer::Specials;

fn complete(served: &crate::served::Served, body: &Value) -> Value {
    let reply = served.post("/v1/completions", body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[test]
fn a_prompt_can_be_text_tokens_and_lists_of_both() {
    let served = serve();
    let file = model().file().unwrap();
    let ids = |text: &str| -> Vec<u32> {
        encode_prompt_text(&file, text).unwrap().iter().map(|token| token.0).collect()
    };
    let body = |prompt: Value| json!({ "prompt": prompt, "max_tokens": 5, "temperature": 0 });
    let first = complete(&served, &body("Hello".into()));
    let second = complete(&served, &body("Good day".into()));
    let text = |answer: &Value, at: usize| answer["choices"][at]["text"].as_str().unwrap().to_owned();
    assert_eq!(text(&first, 0), text(&complete(&served, &body(ids("Hello").into())), 0));
    for prompt in [json!(["Hello", "Good day"]), json!([ids("Hello"), ids("Good day")])] {
        let both = complete(&served, &body(prompt));
        assert_eq!([text(&both, 0), text(&both, 1)], [text(&first, 0), text(&second, 0)]);
        let tokens = ids("Hello").len() + ids("Good day").len();
        assert_eq!(both["usage"]["prompt_tokens"], tokens);
    }
    let mut twice = body(json!(["Hello", "Good day"]));
    twice["n"] = 2.into();
    let twice = complete(&served, &twice);
    let expected = [text(&first, 0), text(&first, 0), text(&second, 0), text(&second, 0)];
    assert_eq!([0, 1, 2, 3].map(|at| text(&twice, at)), expected);
    let default = complete(&served, &json!({ "prompt": "Hello", "ignore_eos": true }));
    assert_eq!(default["usage"]["completion_tokens"], 16);
}

#[test]
fn an_echo_scores_the_prompt_as_a_session_does() {
    let served = serve();
    let text =
        "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog again.";
    let (ids, expected) = with_session(|file, session| {
        let tokens = encode_prompt_text(file, text).unwrap();
        let mut scores = Vec::new();
        session.score(&tokens, 1, &mut |scored| scores.push(scored.log_probability as f32)).unwrap();
        (tokens, scores)
    });
    assert!(ids.len() > 64, "the prompt has to be longer than a batch");
    let body = json!({ "prompt": text, "max_tokens": 0, "echo": true, "logprobs": 2 });
    let answer = complete(&served, &body);
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], text);
    let scores = choice["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(scores[0], Value::Null);
    let found: Vec<f32> = scores[1..].iter().map(|score| score.as_f64().unwrap() as f32).collect();
    assert_eq!(found, expected);
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    let tops = choice["logprobs"]["top_logprobs"].as_array().unwrap();
    assert!(tops[1..].iter().all(|top| top.as_object().unwrap().len() == 2));
    let offsets = choice["logprobs"]["text_offset"].as_array().unwrap();
    let tokens = choice["logprobs"]["tokens"].as_array().unwrap();
    assert_eq!(offsets.len(), ids.len());
    for (offset, token) in offsets.iter().zip(tokens) {
        let rest: String = text.chars().skip(offset.as_u64().unwrap() as usize).collect();
        assert!(rest.starts_with(token.as_str().unwrap()));
    }
    // With tokens behind it, and in a stream.
    let body = json!({ "prompt": text, "max_tokens": 3, "echo": true, "logprobs": 0, "temperature": 0, "ignore_eos": true });
    let whole = complete(&served, &body);
    let count = whole["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len();
    assert_eq!(count, ids.len() + 3);
    let events = served.stream("/v1/completions", &body);
    let joined: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(joined, whole["choices"][0]["text"]);
    let one = complete(
        &served,
        &json!({ "prompt": [70], "max_tokens": 1, "echo": true, "logprobs": 1, "ignore_eos": true }),
    );
    assert_eq!(one["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), 2);
}

#[test]
fn embeddings_are_those_of_the_host() {
    let served = serve();
    let texts = [
        "A text",
        "Another text, which is longer than a batch: abcdefghijklmnopqrstuvwxyz, abcdefghijklmnopqrstuvwxyz",
    ];
    let expected = |pooling: Pooling| {
        with_session(|file, session| {
            texts.map(|text| {
                let tokens = encode_text(&file.tokenizer(), file.config(), text, Specials::Escape).unwrap();
                embed(session, &tokens, pooling).unwrap()
            })
        })
    };
    let ask = |body: Value| {
        let reply = served.post("/v1/embeddings", &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    };
    for (pooling, name) in [(Pooling::Mean, "mean"), (Pooling::Last, "last")] {
        let answer = ask(json!({ "model": NAME, "input": texts, "pooling": name }));
        for (number, expected) in expected(pooling).iter().enumerate() {
            assert_eq!(answer["data"][number]["index"], number);
            let found: Vec<f32> =
                serde_json::from_value(answer["data"][number]["embedding"].clone()).unwrap();
            assert_eq!(found, *expected, "{name} {number}");
        }
    }
    let answer = ask(json!({ "input": texts[0], "encoding_format": "base64" }));
    let found = answer["data"][0]["embedding"].as_str().unwrap();
    let bytes: Vec<u8> = expected(Pooling::Mean)[0].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(decode_base64(found), bytes);
    let tokens = with_session(|file, _| {
        encode_text(&file.tokenizer(), file.config(), texts[0], Specials::Escape).unwrap()
    });
    let ids: Vec<u32> = tokens.iter().map(|token| token.0).collect();
    assert_eq!(ask(json!({ "input": ids, "encoding_format": "base64" }))["data"], answer["data"]);
    assert_eq!(answer["usage"], json!({ "prompt_tokens": ids.len(), "total_tokens": ids.len() }));
    // More texts than slots, and than the queue has places.
    let many: Vec<String> = (0..300).map(|number| format!("Text {number}")).collect();
    let together = ask(json!({ "input": many, "encoding_format": "base64" }));
    for number in [0, 7, 299] {
        let single = ask(json!({ "input": many[number], "encoding_format": "base64" }));
        assert_eq!(together["data"][number]["embedding"], single["data"][0]["embedding"]);
    }
    served.post("/v1/embeddings", &json!({ "input": "" })).fails(400, Some("input"), "at least one token");
    served.post("/v1/embeddings", &json!({ "input": texts[0], "dimensions": 8 })).fails(
        400,
        Some("dimensions"),
        "96",
    );
}

/// The bytes of a text that has no other characters than base64 and its padding.
fn decode_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} is no digit"),
    };
    let digits = text.trim_end_matches('=');
    let bits = digits.bytes().flat_map(|byte| (0..6).rev().map(move |bit| digit(byte) >> bit & 1));
    let bits: Vec<u8> = bits.collect();
    bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}

#[test]
fn models_health_metrics_and_the_page_are_there() {
    let served = serve();
    let models = served.get("/v1/models").json();
    assert_eq!(models["object"], "list");
    assert_eq!(models["data"][0]["id"], NAME);
    assert_eq!(models["data"][0]["max_model_len"], CONTEXT);
    assert_eq!(served.get("/v1/models/tiny").json(), models["data"][0]);
    served.get("/v1/models/other").fails(404, Some("model"), "\"tiny\"");
    assert_eq!(served.get("/health").json(), json!({ "status": "ok" }));
    assert_eq!(served.metric("slots"), 2);
    let page = served.get("/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let head = request(served.address, "GET", "/style.css", &[], b"");
    assert_eq!(head.header("content-type"), Some("text/css; charset=utf-8"));
}
