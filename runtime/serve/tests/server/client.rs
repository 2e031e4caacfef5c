//! A small HTTP client that shows every byte.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        self.text_ref().to_owned()
    }

    pub(crate) fn text_ref(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It is an error in OpenAI's form, with this status, code, parameter, and a message that contains `word`.
    #[track_caller]
    pub(crate) fn fails(&self, status: u16, param: Option<&str>, word: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        let error = &self.json()["error"];
        assert_eq!(error["param"].as_str(), param, "{error}");
        assert!(error["type"].is_string() && error.get("code").is_some(), "{error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
}

/// A connection; reads that take too long fail the test.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// A request as it is written.
pub(crate) fn raw(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    let mut add = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
    if headers.iter().all(|(name, _)| *name != "host") {
        add("host", "localhost");
    }
    headers.iter().for_each(|(name, value)| add(name, value));
    if !body.is_empty() {
        add("content-length", &body.len().to_string());
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// Sends a request on a connection of its own.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut stream = connect(address);
    let headers = [headers, &[("connection", "close")]].concat();
    stream.write_all(&raw(method, path, &headers, body)).unwrap();
    read_reply(&mut stream)
}

/// Reads one response.
#[track_caller]
pub(crate) fn read_reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        read_more(stream, &mut bytes);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let headers: Vec<(String, String)> = lines.filter(|line| !line.is_empty()).map(header).collect();
    let mut reply = Reply { status, headers, body: bytes.split_off(end) };
    let mut body = std::mem::take(&mut reply.body);
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = read_chunks(stream, body);
        return reply;
    }
    let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        read_more(stream, &mut body);
    }
    reply.body = body;
    reply
}

fn read_chunks(stream: &mut TcpStream, mut bytes: Vec<u8>) -> Vec<u8> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = bytes[at..].windows(2).position(|end| end == b"\r\n") else {
            read_more(stream, &mut bytes);
            continue;
        };
        let size = std::str::from_utf8(&bytes[at..at + line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let start = at + line + 2;
        while bytes.len() < start + size + 2 {
            read_more(stream, &mut bytes);
        }
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[start..start + size]);
        at = start + size + 2;
    }
}

#[track_caller]
fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer).unwrap();
    assert!(count > 0, "the connection closed after {:?}", String::from_utf8_lossy(bytes));
    bytes.extend_from_slice(&buffer[..count]);
}

/// Whether the server has closed a connection, whatever it said before.
pub(crate) fn is_closed(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
