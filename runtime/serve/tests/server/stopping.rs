//! The end of a server.

use crate::client::{connect, is_closed, raw, read_reply};
use crate::served::{LONGEST, NAME, serve_long, serve_with};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use thimble_serve::{ApiKey, OptionsError, ServeError, ServeOptions, Server};

fn begin(address: std::net::SocketAddr, max_tokens: usize) -> TcpStream {
    let mut stream = connect(address);
    let body = json!({ "model": NAME, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": max_tokens,
                       "stream": true, "ignore_eos": true });
    let body = body.to_string();
    stream
        .write_all(&raw(
            "POST",
            "/v1/chat/completions",
            &[("content-type", "application/json")],
            body.as_bytes(),
        ))
        .unwrap();
    stream
}

#[test]
fn answers_in_progress_are_finished_and_idle_connections_closed() {
    let served = serve_with(1, |options| options.grace_time = Duration::from_secs(60));
    let mut idle = connect(served.address);
    let mut client = begin(served.address, 50);
    let mut first = [0; 1];
    client.read_exact(&mut first).unwrap();
    served.stop();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"finish_reason\":\"length\"") && rest.contains("data: [DONE]"), "{rest}");
    assert!(is_closed(&mut idle));
}

#[test]
fn without_time_answers_end_with_what_they_have() {
    let served = serve_long(1, LONGEST, |options| options.grace_time = Duration::ZERO);
    let mut client = begin(served.address, LONGEST);
    let mut first = [0; 1];
    client.read_exact(&mut first).unwrap();
    let address = served.address;
    served.stop();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"finish_reason\":\"length\""), "{rest}");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_request_has_a_limit_of_time() {
    let served = serve_with(1, |options| options.request_time = Duration::ZERO);
    let mut client = begin(served.address, 3);
    assert_eq!(read_reply(&mut client).status, 200);
    let body = json!({ "input": "a" });
    served.post("/v1/embeddings", &body).fails(503, None, "time was up");
}

#[test]
fn nothing_listens_wider_than_asked() {
    let refused = |change: fn(&mut ServeOptions)| {
        let mut options = ServeOptions::new("127.0.0.1:0".parse().unwrap());
        change(&mut options);
        match Server::bind(options) {
            Err(ServeError::Options(error)) => error,
            other => panic!("{:?}", other.map(|server| server.address())),
        }
    };
    let open = refused(|options| options.address = "0.0.0.0:0".parse().unwrap());
    assert_eq!(open, OptionsError::NoKey("0.0.0.0".parse().unwrap()));
    assert_eq!(refused(|options| options.api_keys = vec![ApiKey(String::new())]), OptionsError::Key);
    assert!(matches!(
        refused(|options| options.cors_origins = vec!["a".to_owned()]),
        OptionsError::Origin(_)
    ));
    assert!(matches!(
        refused(|options| options.allowed_hosts = vec!["a:1".to_owned()]),
        OptionsError::Host(_)
    ));
    let mut options = ServeOptions::new("127.0.0.1:0".parse().unwrap());
    let first = Server::bind(options.clone()).unwrap();
    options.address = first.address();
    assert!(matches!(Server::bind(options), Err(ServeError::Listen { .. })));
}
