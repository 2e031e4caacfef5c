//! Requests that get no answer, and why.

use crate::client::{connect, raw, request};
use crate::served::{LONGEST, NAME, Served, serve, serve_long, serve_with};
use serde_json::{Value, json};
use std::io::Write;
use thimble_serve::ApiKey;

const CHAT: &str = "/v1/chat/completions";

fn post(served: &Served, headers: &[(&str, &str)], body: &str) -> crate::client::Reply {
    request(served.address, "POST", CHAT, headers, body.as_bytes())
}

#[test]
fn a_wrong_field_is_named() {
    let served = serve();
    let with = |field: &str, value: Value| {
        let mut body =
            json!({ "model": NAME, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 1 });
        body[field] = value;
        body
    };
    let image = json!([{ "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "image_url", "image_url": {} }] }]);
    let cases = [
        ("model", json!("gpt"), 404, "model", "\"tiny\""),
        ("messages", json!([]), 400, "messages", "at least one"),
        ("messages", json!("x"), 400, "messages", "expected a list"),
        ("messages", json!([{ "role": "robot", "content": "x" }]), 400, "messages[0].role", "robot"),
        ("messages", json!([{ "role": "user" }]), 400, "messages[0].content", "missing"),
        (
            "messages",
            json!([{ "role": "user", "content": 3 }]),
            400,
            "messages[0].content",
            "expected a string",
        ),
        ("messages", image, 400, "messages[0].content[1]", "text only"),
        ("temperature", json!("hot"), 400, "temperature", "invalid type"),
        ("temperature", json!(-1), 400, "temperature", "expected 0"),
        ("top_p", json!(2), 400, "top_p", "at most 1"),
        ("min_p", json!(-1), 400, "min_p", "0 to 1"),
        ("top_k", json!(-5), 400, "top_k", "at least 0"),
        ("n", json!(0), 400, "n", "expected 1"),
        ("stop", json!(["a", "b", "c", "d", "e"]), 400, "stop", "up to 4"),
        ("stop", json!(""), 400, "stop", "empty"),
        ("max_tokens", json!(0), 400, "max_tokens", "at least 1"),
        ("max_tokens", json!(-1), 400, "max_tokens", "invalid value"),
        ("max_completion_tokens", json!(0), 400, "max_completion_tokens", "at least 1"),
        ("top_logprobs", json!(3), 400, "top_logprobs", "requires logprobs"),
        ("top_logprobs", json!(21), 400, "top_logprobs", "0 to 20"),
        ("logit_bias", json!({ "cat": 1 }), 400, "logit_bias", "\"cat\""),
        ("logit_bias", json!({ "9999": 1 }), 400, "logit_bias", "below 300"),
        ("functions", json!([]), 400, "functions", "use tools"),
        ("modalities", json!(["audio"]), 400, "modalities", "text only"),
        ("stream_options", json!(1), 400, "stream_options", "invalid type"),
    ];
    for (field, value, status, param, word) in cases {
        served.post(CHAT, &with(field, value)).fails(status, Some(param), word);
    }
    // Unknown fields, and those that are null, mean nothing.
    for (field, value) in
        [("user", json!("me")), ("store", json!(true)), ("stop", Value::Null), ("n", Value::Null)]
    {
        assert_eq!(served.post(CHAT, &with(field, value)).status, 200);
    }
    let long = with("messages", json!([{ "role": "user", "content": "long ".repeat(500) }]));
    let reply = served.post(CHAT, &long);
    reply.fails(400, Some("messages"), "the context has room for");
    assert_eq!(reply.json()["error"]["code"], "context_length_exceeded");
    let body = json!({ "prompt": [1, 2, 300] });
    served.post("/v1/completions", &body).fails(400, Some("prompt"), "below 300");
    served.post("/v1/completions", &json!({ "prompt": [[1], ["a"]] })).fails(
        400,
        Some("prompt"),
        "list of lists",
    );
    served.post("/v1/completions", &json!({ "prompt": "a", "suffix": "b" })).fails(
        400,
        Some("suffix"),
        "end only",
    );
}

#[test]
fn a_body_that_is_no_request_is_refused() {
    let served = serve_with(1, |options| options.max_body = 1000);
    let json = [("content-type", "application/json")];
    for body in ["", "{", "[1]", "{\"messages\": [}", "\u{0}", "{}{}", "nul"] {
        post(&served, &json, body).fails(400, None, "the body is not");
    }
    post(&served, &json, &"[".repeat(900)).fails(400, None, "recursion");
    post(&served, &json, "{}").fails(400, None, "messages");
    post(&served, &[("content-type", "text/plain")], "{}").fails(415, None, "application/json");
    let long = format!("{{\"x\": \"{}\"}}", "y".repeat(1000));
    post(&served, &json, &long).fails(413, None, "1000 bytes");
    served.get("/v2").fails(404, None, "/v2");
    served.get(CHAT).fails(405, None, "GET");
    request(served.address, "DELETE", "/health", &[], b"").fails(404, None, "/health");
}

#[test]
fn a_key_is_required_where_there_is_one() {
    let served = serve_with(1, |options| options.api_keys = vec![ApiKey("secret".to_owned())]);
    let get = |headers: &[(&str, &str)]| request(served.address, "GET", "/v1/models", headers, b"");
    get(&[]).fails(401, None, "required");
    let wrong = get(&[("authorization", "Bearer secre")]);
    wrong.fails(401, None, "wrong");
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer"));
    assert!(!wrong.text().contains("secre"));
    assert_eq!(get(&[("authorization", "Bearer secret")]).status, 200);
    request(served.address, "GET", "/metrics", &[], b"").fails(401, None, "required");
    // What shows nothing of the model.
    assert_eq!(served.get("/health").status, 200);
    assert_eq!(served.get("/").status, 200);
}

#[test]
fn other_hosts_and_origins_are_refused() {
    let closed = serve();
    let ask = |served: &Served, headers: &[(&str, &str)]| {
        request(served.address, "GET", "/v1/models", headers, b"")
    };
    assert_eq!(ask(&closed, &[("host", "127.0.0.1:80")]).status, 200);
    ask(&closed, &[("host", "evil.example")]).fails(403, None, "evil.example");
    ask(&closed, &[("origin", "http://evil.example")]).fails(403, None, "--cors");
    let own = ask(&closed, &[("origin", "http://localhost")]);
    assert_eq!(own.status, 200);
    assert_eq!(own.header("access-control-allow-origin"), None);
    request(closed.address, "GET", "/", &[("host", "evil.example")], b"").fails(403, None, "evil.example");
    let open = serve_with(1, |options| options.cors_origins = vec!["http://app.example".to_owned()]);
    let allowed = ask(&open, &[("origin", "http://app.example")]);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("http://app.example"));
    ask(&open, &[("origin", "http://evil.example")]).fails(403, None, "--cors");
    let preflight = [
        ("origin", "http://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-stainless-os"),
    ];
    let preflight = request(open.address, "OPTIONS", CHAT, &preflight, b"");
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization,x-stainless-os"));
    assert_eq!(preflight.header("access-control-allow-origin"), Some("http://app.example"));
}

#[test]
fn a_full_queue_refuses_more() {
    let served = serve_long(1, LONGEST, |options| options.queue = 2);
    let body =
        json!({ "prompt": "a", "max_tokens": LONGEST, "stream": true, "ignore_eos": true }).to_string();
    let json = [("content-type", "application/json")];
    let mut clients = Vec::new();
    for number in 0..3 {
        let mut client = connect(served.address);
        client.write_all(&raw("POST", "/v1/completions", &json, body.as_bytes())).unwrap();
        clients.push(client);
        served.wait_for("busy_slots", |busy| busy == 1);
        served.wait_for("waiting_requests", |waiting| waiting == number);
    }
    let reply = served.post("/v1/completions", &json!({ "prompt": "a" }));
    reply.fails(429, None, "2 requests");
    assert_eq!(reply.header("retry-after"), Some("1"));
    drop(clients);
    served.wait_for("waiting_requests", |waiting| waiting == 0);
    assert_eq!(
        served.post("/v1/completions", &json!({ "prompt": "a", "n": 3, "max_tokens": 2 })).status,
        200
    );
}
