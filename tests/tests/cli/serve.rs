//! `thimble serve` against `thimble run`, and what it refuses to start with.

use crate::setup::{Bench, setup};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr};
use std::thread;

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

/// A PEFT folder `lora` with adapters of rank 1 for the model `hf`, and the file `mine.adapter` that `convert` makes of it.
fn write_adapter(bench: &Bench) {
    fs::create_dir(bench.path("lora")).unwrap();
    let config = json!({ "peft_type": "LORA", "r": 1, "lora_alpha": 8, "target_modules": ["down_proj"] });
    fs::write(bench.path("lora/adapter_config.json"), config.to_string()).unwrap();
    let whole = fs::read(bench.path("hf/model.safetensors")).unwrap();
    let model = SafeTensors::deserialize(&whole).unwrap();
    let down = "model.layers.0.mlp.down_proj";
    let shape = model.tensor(&format!("{down}.weight")).unwrap().shape().to_vec();
    let ones = |count: usize| -> Vec<u8> {
        (0..count).flat_map(|at| ((at % 7) as f32 - 3.0).to_le_bytes()).collect()
    };
    let (a, b) = (ones(shape[1]), ones(shape[0]));
    let view = |shape: [usize; 2], bytes| TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
    let tensors = [
        (format!("base_model.model.{down}.lora_A.weight"), view([1, shape[1]], &a)),
        (format!("base_model.model.{down}.lora_B.weight"), view([shape[0], 1], &b)),
    ];
    fs::write(bench.path("lora/adapter_model.safetensors"), serialize(tensors, None).unwrap()).unwrap();
    bench.run(&["convert", "lora", "-o", "mine.adapter", "--base", "hf"], b"").succeeds();
}

#[test]
fn adapters_are_those_of_run_for_several_clients_at_once() {
    let bench = setup("serve-adapter");
    write_adapter(&bench);
    let adapter = ["--adapter", "mine.adapter:0.5"];
    let served = Served::start(&bench, &[&adapter[..], &["--parallel", "3"]].concat());
    thread::scope(|scope| {
        for text in ["Hi", "What is the capital of France?", "Three"] {
            let (bench, served, adapter) = (&bench, &served, &adapter);
            scope.spawn(move || {
                let run = [
                    "run",
                    "tiny.thimble",
                    "--prompt",
                    text,
                    "--temperature",
                    "0",
                    "--max-tokens",
                    "20",
                    "--json",
                ];
                let plain = bench.json(&run);
                let adapted = bench.json(&[&run[..], adapter].concat());
                assert_ne!(plain["text"], adapted["text"], "the adapter changes nothing");
                let body = json!({ "prompt": text, "temperature": 0, "max_tokens": 20 });
                assert_eq!(served.post("/v1/completions", &body)["choices"][0]["text"], adapted["text"]);
            });
        }
    });
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
    fs::write(bench.path("keys"), "\n  \n").unwrap();
    refused(&["--api-key-file", "keys"], "keys has no key");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    bench.run(&["serve", "tiny.thimble", "--port", &port], b"").fails(1, "cannot listen at");
}
