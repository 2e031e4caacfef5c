//! Chats: the same tokens as a session alone, whole and in a stream.

use crate::served::{CONTEXT, NAME, Served, model, serve, serve_session, serve_with, with_session};
use serde_json::{Value, json};
use thimble_chat::{ChatPrompt, encode_chat};
use thimble_runtime::Token;
use thimble_runtime::chat::{Message, Role};
use thimble_runtime::sampler::{Sampler, Sampling};

fn question(text: &str, max_tokens: usize) -> Value {
    json!({ "model": NAME, "messages": [{ "role": "user", "content": text }], "max_tokens": max_tokens, "temperature": 0,
            "repetition_penalty": 1 })
}

/// What a session answers: the tokens, and whether a stop token ended them.
fn alone(text: &str, max_tokens: usize, sampling: Sampling) -> (Vec<Token>, bool, usize) {
    with_session(|file, session| {
        let prompt = ChatPrompt::new(&[Message { role: Role::User, text }], None);
        let prompt = encode_chat(file, &prompt).unwrap();
        session.prefill(&prompt).unwrap();
        let mut sampler = Sampler::new(sampling).unwrap();
        let mut answer = Vec::new();
        while answer.len() < max_tokens && prompt.len() + answer.len() <= CONTEXT {
            let token = session.sample(&mut sampler);
            if file.config().is_stop(token) {
                return (answer, true, prompt.len());
            }
            answer.push(token);
            if prompt.len() + answer.len() <= CONTEXT {
                session.prefill(&[token]).unwrap();
            }
        }
        (answer, false, prompt.len())
    })
}

fn text_of(tokens: &[Token]) -> String {
    thimble_chat::decode(&model().file().unwrap().tokenizer(), tokens).unwrap()
}

#[track_caller]
fn check(answer: &Value, (tokens, stopped, prompt): &(Vec<Token>, bool, usize)) {
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["content"], text_of(tokens), "{answer}");
    assert_eq!(choice["finish_reason"], if *stopped { "stop" } else { "length" });
    assert_eq!(answer["usage"]["prompt_tokens"], *prompt);
    assert_eq!(answer["usage"]["completion_tokens"], tokens.len());
    assert_eq!(answer["usage"]["total_tokens"], prompt + tokens.len());
}

#[test]
fn answers_are_those_of_a_session_alone() {
    let served = serve();
    for text in [
        "Hi",
        "A longer question, with more tokens than one batch has room for: abcdefghijklmnopqrstuvwxyz",
        "<|im_end|>",
    ] {
        let answer = served.chat(&question(text, 24));
        check(&answer, &alone(text, 24, Sampling::GREEDY));
        assert_eq!(answer["model"], NAME);
        assert_eq!(answer["object"], "chat.completion");
        assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    }
    let mut sampled = question("Hi", 24);
    sampled["temperature"] = 1.5.into();
    sampled["top_k"] = 40.into();
    sampled["top_p"] = 1.into();
    sampled["seed"] = 7.into();
    let sampling =
        Sampling { temperature: 1.5, top_k: Some(40), top_p: Some(1.0), seed: 7, ..Sampling::GREEDY };
    check(&served.chat(&sampled), &alone("Hi", 24, sampling));
}

#[test]
fn many_at_a_time_get_the_answers_that_they_would_get_alone() {
    let served = serve_with(3, |_| {});
    let texts: Vec<String> =
        (0..8).map(|number| format!("Question {number} {}", "x".repeat(20 * number))).collect();
    std::thread::scope(|scope| {
        for (number, text) in texts.iter().enumerate() {
            let served = &served;
            scope.spawn(move || {
                let length = 5 + 3 * number;
                check(&served.chat(&question(text, length)), &alone(text, length, Sampling::GREEDY));
            });
        }
    });
}

/// The deltas of a stream, joined.
fn joined(events: &[Value]) -> (String, Value) {
    let text = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    let finish =
        events.iter().map(|event| &event["choices"][0]["finish_reason"]).find(|reason| !reason.is_null());
    (text, finish.unwrap().clone())
}

#[test]
fn a_stream_has_the_same_text_and_ends_with_its_usage() {
    let served = serve();
    let mut body = question("Tell me", 20);
    let whole = served.chat(&body);
    let events = served.stream("/v1/chat/completions", &body);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk"));
    // No chunk says nothing, although many tokens of this model are parts of characters.
    let says = |event: &Value| {
        event["choices"][0]["delta"] != json!({}) || !event["choices"][0]["finish_reason"].is_null()
    };
    assert!(events.iter().all(says));
    assert!(events.iter().all(|event| event["id"] == events[0]["id"] && event.get("usage").is_none()));
    let (text, finish) = joined(&events);
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    assert_eq!(finish, whole["choices"][0]["finish_reason"]);
    body["stream_options"] = json!({ "include_usage": true });
    let mut events = served.stream("/v1/chat/completions", &body);
    let last = events.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    let prompt = whole["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(last["usage"]["prompt_tokens_details"]["cached_tokens"], prompt - 1);
    assert!(events.iter().all(|event| event["usage"].is_null()));
}

#[test]
fn a_stop_text_ends_an_answer_before_it() {
    let served = serve();
    let whole = served.chat(&question("Hi", 40));
    let whole = whole["choices"][0]["message"]["content"].as_str().unwrap();
    let letters: Vec<char> = whole.chars().collect();
    let stop: String = letters[10..12].iter().collect();
    let before = &whole[..whole.find(&stop).unwrap()];
    let mut body = question("Hi", 40);
    for stops in [json!(stop), json!([stop]), json!(["not in any answer", stop])] {
        body["stop"] = stops;
        let answer = served.chat(&body);
        assert_eq!(answer["choices"][0]["message"]["content"], before);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        let (text, finish) = joined(&served.stream("/v1/chat/completions", &body));
        assert_eq!((text.as_str(), finish), (before, json!("stop")));
    }
    // Its slot is free again.
    served.wait_for("busy_slots", |busy| busy == 0);
}

#[test]
fn choices_differ_by_their_seeds_and_share_their_prompt() {
    let served = serve_with(3, |_| {});
    let mut body = question("Choose", 12);
    body["temperature"] = 1.into();
    body["top_p"] = 1.into();
    body["seed"] = 5.into();
    body["n"] = 3.into();
    let answer = served.chat(&body);
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    let mut answered = 0;
    for (number, choice) in choices.iter().enumerate() {
        let sampling =
            Sampling { temperature: 1.0, top_p: Some(1.0), seed: 5 + number as u64, ..Sampling::GREEDY };
        let (tokens, _, prompt) = alone("Choose", 12, sampling);
        assert_eq!(choice["index"], number);
        assert_eq!(choice["message"]["content"], text_of(&tokens));
        assert_eq!(answer["usage"]["prompt_tokens"], prompt);
        answered += tokens.len();
    }
    assert_eq!(answer["usage"]["completion_tokens"], answered);
    // The prompt was computed once; the other choices ran its last token again.
    let prompt = answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(served.metric("prompt_tokens_total"), prompt + 2);
}

#[test]
fn a_conversation_goes_on_from_its_own_slot() {
    let served = serve_with(2, |_| {});
    let mut first = question("The first conversation, which is not short", 8);
    let mut second = question("Another one with a text of its own", 8);
    for body in [&mut first, &mut second] {
        let answer = served.chat(body);
        assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() / 16, 0);
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(answer["choices"][0]["message"].clone());
        messages.push(json!({ "role": "user", "content": [{ "type": "text", "text": "Go on" }] }));
    }
    for body in [&first, &second] {
        let usage = &served.chat(body)["usage"];
        let [prompt, cached] = [&usage["prompt_tokens"], &usage["prompt_tokens_details"]["cached_tokens"]]
            .map(|n| n.as_u64().unwrap());
        assert!(cached > prompt / 2, "{usage}");
    }
}

#[test]
fn log_probabilities_come_with_the_tokens() {
    let served = serve();
    let mut body = question("Hi", 6);
    body["logprobs"] = true.into();
    body["top_logprobs"] = 3.into();
    let answer = served.chat(&body);
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), answer["usage"]["completion_tokens"]);
    for entry in content {
        // Greedy: the token is the most probable one.
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!((&top[0]["token"], &top[0]["logprob"]), (&entry["token"], &entry["logprob"]));
        assert!(entry["logprob"].as_f64().unwrap() < 0.0);
    }
    let streamed = served.stream("/v1/chat/completions", &body);
    let streamed = streamed.iter().filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(streamed.flatten().collect::<Vec<_>>(), content.iter().collect::<Vec<_>>());
}

#[test]
fn a_bias_bans_and_forces_tokens() {
    let served: Served = serve();
    let mut body = question("Hi", 4);
    body["logit_bias"] = json!({ "70": 100 });
    let answer = served.chat(&body);
    assert_eq!(answer["choices"][0]["message"]["content"], text_of(&[Token(70); 4]));
    body["temperature"] = 1.into();
    let sampled = served.chat(&body);
    assert_eq!(sampled["choices"][0]["message"]["content"], text_of(&[Token(70); 4]));
}

#[test]
fn the_context_ends_an_answer_that_nothing_else_ends() {
    let served = serve();
    let mut body = question("Hi", 4);
    body.as_object_mut().unwrap().remove("max_tokens");
    body["ignore_eos"] = true.into();
    let answer = served.chat(&body);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["total_tokens"], CONTEXT + 1);
}

#[test]
fn a_session_as_the_only_slot_answers_the_same() {
    let served = serve_session();
    check(&served.chat(&question("Hi", 24)), &alone("Hi", 24, Sampling::GREEDY));
    let answer = served.chat(&question("Hi there", 24));
    check(&answer, &alone("Hi there", 24, Sampling::GREEDY));
    let body = json!({ "prompt": "Hello", "n": 2, "max_tokens": 3, "echo": true, "logprobs": 1, "ignore_eos": true });
    let reply = served.post("/v1/completions", &body).json();
    assert_eq!(reply["choices"][0]["logprobs"]["token_logprobs"][0], Value::Null);
    assert_eq!(reply["usage"]["completion_tokens"], 6);
    let embedded = served.post("/v1/embeddings", &json!({ "input": ["a", "b"] })).json();
    assert_eq!(embedded["data"].as_array().unwrap().len(), 2);
}
