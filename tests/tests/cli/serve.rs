//! `thimble serve` against `thimble run`, and what it refuses to start with.

use crate::setup::{Bench, setup};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr};

/// A server that is killed when it is dropped.
struct Served {
    child: Child,
    stderr: BufReader<ChildStderr>,
    address: SocketAddr,
}

impl Served {
    fn start(bench: &Bench, flags: &[&str]) -> Served {
        let mut child = bench.spawn(&[&["serve", "tiny.thimble", "--port", "0"], flags].concat());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once(": "));
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}")).0.parse().unwrap();
        Served { child, stderr, address }
    }

    /// Posts JSON, and returns the JSON of the response.
    fn post(&self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        );
        stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn greedy_answers_are_those_of_run() {
    let bench = setup("serve");
    let served = Served::start(&bench, &["--name", "mine"]);
    for text in ["Hi", "What is the capital of France?"] {
        let limits = ["--temperature", "0", "--max-tokens", "20", "--json"];
        let chat = bench.json(&[&["run", "tiny.thimble", "--chat", "--prompt", text], &limits[..]].concat());
        let messages = json!([{ "role": "user", "content": text }]);
        let body = json!({ "model": "mine", "messages": messages, "temperature": 0, "max_tokens": 20 });
        let answer = served.post("/v1/chat/completions", &body);
        assert_eq!(answer["choices"][0]["message"]["content"], chat["text"]);
        assert_eq!(answer["choices"][0]["finish_reason"], chat["finish_reason"]);
        assert_eq!(answer["usage"]["completion_tokens"], chat["ids"].as_array().unwrap().len());
        let run = bench.json(&[&["run", "tiny.thimble", "--prompt", text], &limits[..]].concat());
        let body = json!({ "prompt": text, "temperature": 0, "max_tokens": 20 });
        assert_eq!(served.post("/v1/completions", &body)["choices"][0]["text"], run["text"]);
    }
}

#[test]
#[cfg(unix)]
fn sigterm_ends_it_and_each_request_has_a_line() {
    let bench = setup("serve-end");
    let mut served = Served::start(&bench, &[]);
    served.post("/v1/embeddings", &json!({ "input": "Hi" }));
    let mut line = String::new();
    served.stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("POST /v1/embeddings 200 prompt "), "{line}");
    let id = served.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_would_open_more_than_was_meant_is_refused() {
    let bench = setup("serve-refused");
    let refused = |flags: &[&str], word: &str| {
        bench.run(&[&["serve", "tiny.thimble", "--port", "0"], flags].concat(), b"").fails(2, word);
    };
    refused(&["--host", "0.0.0.0"], "--api-key");
    refused(&["--host", "::"], "--api-key");
    refused(&["--cors", "example.org"], "--cors");
    refused(&["--allowed-host", "http://a.example"], "--allowed-host");
    refused(&["--host", "0.0.0.0", "--api-key", ""], "--api-key");
    std::fs::write(bench.path("keys"), "\n  \n").unwrap();
    refused(&["--api-key-file", "keys"], "keys has no key");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    bench.run(&["serve", "tiny.thimble", "--port", &port], b"").fails(1, "cannot listen at");
}
