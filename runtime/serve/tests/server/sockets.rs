//! Clients that misbehave: others are unharmed.

use crate::client::{connect, is_closed, raw, read_reply};
use crate::served::{LONGEST, NAME, Served, serve_long, serve_with};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";

fn body(max_tokens: usize, stream: bool) -> Value {
    json!({ "model": NAME, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": max_tokens, "stream": stream,
            "ignore_eos": true, "temperature": 0 })
}

fn chat_request(max_tokens: usize, stream: bool) -> Vec<u8> {
    let body = body(max_tokens, stream).to_string();
    raw("POST", CHAT, &[("content-type", "application/json")], body.as_bytes())
}

#[track_caller]
fn still_answers(served: &Served) {
    assert_eq!(served.chat(&body(3, false))["usage"]["completion_tokens"], 3);
}

#[test]
fn malformed_http_ends_its_own_connection_only() {
    let served = serve_with(1, |_| {});
    let header = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many: String = (0..200).map(|number| format!("x{number}: y\r\n")).collect();
    let many = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    let cases: [&[u8]; 9] = [
        b"\r\n\r\n\r\n\r\nnonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -4\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\n",
        header.as_bytes(),
        many.as_bytes(),
    ];
    for case in cases {
        let mut stream = connect(served.address);
        // The server may close it before all is written.
        let _ = stream.write_all(case);
        let _ = stream.shutdown(Shutdown::Write);
        assert!(is_closed(&mut stream), "{:?}", String::from_utf8_lossy(&case[..case.len().min(60)]));
    }
    let mut stream = connect(served.address);
    stream.write_all(b"GET /health HTTP/1.1\r\n\r\n").unwrap();
    read_reply(&mut stream).fails(400, None, "Host is missing");
    let mut stream = connect(served.address);
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil\r\n\r\n").unwrap();
    read_reply(&mut stream).fails(400, None, "not one name");
    let mut stream = connect(served.address);
    stream.write_all(b"GET http://evil.example/health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    read_reply(&mut stream).fails(403, None, "evil.example");
    still_answers(&served);
}

#[test]
fn a_huge_body_is_refused_before_it_is_read() {
    let served = serve_with(1, |options| options.max_body = 100_000);
    let mut stream = connect(served.address);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    stream.write_all(format!("{head}content-length: 1000000000\r\n\r\n").as_bytes()).unwrap();
    read_reply(&mut stream).fails(413, None, "100000 bytes");
    assert!(is_closed(&mut stream));
    // Without an announced length.
    let mut stream = connect(served.address);
    stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let chunk = [b"2000\r\n".as_slice(), &[b'x'; 0x2000], b"\r\n"].concat();
    for _ in 0..13 {
        // The server may answer and close before all is written.
        let _ = stream.write_all(&chunk);
    }
    read_reply(&mut stream).fails(413, None, "100000 bytes");
    still_answers(&served);
}

#[test]
fn slow_requests_end_and_hold_nobody_up() {
    let served = serve_with(1, |options| options.idle_time = Duration::from_millis(300));
    let mut head = connect(served.address);
    let mut slow = connect(served.address);
    head.write_all(b"GET /health HT").unwrap();
    let request = chat_request(2, false);
    let (begin, _) = request.split_at(request.len() - 5);
    slow.write_all(begin).unwrap();
    still_answers(&served);
    read_reply(&mut slow).fails(408, None, "in time");
    assert!(is_closed(&mut slow) && is_closed(&mut head));
    still_answers(&served);
}

#[test]
fn a_byte_at_a_time_is_answered_if_it_is_in_time() {
    let served = serve_with(1, |_| {});
    let mut stream = connect(served.address);
    for byte in chat_request(2, false) {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(read_reply(&mut stream).status, 200);
}

#[test]
fn idle_connections_give_way_to_new_ones() {
    let served = serve_with(1, |options| options.max_connections = 20);
    let mut idle: Vec<TcpStream> = (0..100).map(|_| connect(served.address)).collect();
    still_answers(&served);
    assert!(served.metric("connections") <= 20);
    assert!(is_closed(&mut idle[0]));
}

/// Reads until the first event of a stream has arrived.
fn wait_for_event(stream: &mut TcpStream) {
    let (mut seen, mut buffer) = (Vec::new(), [0; 512]);
    while !seen.windows(6).any(|found| found == b"data: ") {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0);
        seen.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn a_client_that_leaves_frees_its_slot() {
    let served = serve_long(1, LONGEST, |_| {});
    let clients = [(true, false), (false, false), (true, true), (false, true)];
    for (cancelled, (stream, half)) in (1..).zip(clients) {
        let mut client = connect(served.address);
        client.write_all(&chat_request(LONGEST, stream)).unwrap();
        match stream {
            true => wait_for_event(&mut client),
            false => served.wait_for("busy_slots", |busy| busy == 1),
        }
        match half {
            true => client.shutdown(Shutdown::Write).unwrap(),
            false => drop(client),
        }
        served.wait_for("cancelled_total", |found| found == cancelled);
        still_answers(&served);
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let served = serve_long(1, LONGEST, |_| {});
    let mut first = connect(served.address);
    first.write_all(&chat_request(LONGEST, true)).unwrap();
    wait_for_event(&mut first);
    let mut second = connect(served.address);
    second.write_all(&chat_request(LONGEST, true)).unwrap();
    served.wait_for("waiting_requests", |waiting| waiting == 1);
    drop(second);
    served.wait_for("waiting_requests", |waiting| waiting == 0);
    assert_eq!(served.metric("busy_slots"), 1);
    drop(first);
    still_answers(&served);
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let served = serve_long(2, LONGEST, |options| options.idle_time = Duration::from_millis(500));
    let mut client = connect(served.address);
    client.write_all(&chat_request(LONGEST, true)).unwrap();
    wait_for_event(&mut client);
    still_answers(&served);
    // The buffers of the connection are full at some time, and then its time is up.
    served.wait_for("cancelled_total", |found| found == 1);
    still_answers(&served);
    assert!(is_closed(&mut client));
}

#[test]
fn several_requests_use_one_connection() {
    let served = serve_with(1, |_| {});
    let mut stream = connect(served.address);
    for _ in 0..3 {
        stream.write_all(&chat_request(2, true)).unwrap();
        assert!(read_reply(&mut stream).text().ends_with("data: [DONE]\n\n"));
        stream.write_all(&raw("GET", "/v1/models", &[], b"")).unwrap();
        assert_eq!(read_reply(&mut stream).json()["data"][0]["id"], NAME);
    }
}
