//! A data set on the hub, which a server on this machine plays.

use crate::setup::{TestFolder, parquet};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

const COMMIT: &str = "0123456789012345678901234567890123456789";
/// Without it nothing is given.
const TOKEN: &str = "hf_good";

#[test]
fn a_data_set_of_the_hub_is_tokenized() {
    let test = TestFolder::new(120);
    let rows: Vec<Option<String>> = test.documents.iter().cloned().map(Some).collect();
    let files = [
        ("README.md", b"read me".to_vec()),
        ("data/en/part-0.parquet", parquet(&rows[..50], 20)),
        ("data/en/part-1.parquet", parquet(&rows[50..], 20)),
        ("data/de/part-0.parquet", parquet(&rows[..1], 20)),
        ("data/en/part-0.jsonl", b"the same text once more".to_vec()),
    ];
    let files: HashMap<String, Vec<u8>> =
        files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    let endpoint = serve(files);
    let tokenize_with = |address: &str, token: &str| {
        let mut command = test.command(&["tokenize", address, "--tokenizer", "tokenizer", "-o", "set"]);
        command.env("HF_ENDPOINT", &endpoint).env("HF_HOME", test.path("home")).env("HF_TOKEN", token);
        command.output().unwrap()
    };
    let tokenize = |address: &str| tokenize_with(address, TOKEN);
    for (token, word) in [("", "set HF_TOKEN"), ("hf_other", "the token from HF_TOKEN is not valid")] {
        let output = tokenize_with("hf://datasets/own/set/data/en", token);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(word), "{error}");
    }
    let output = tokenize("hf://datasets/own/none");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("404") && error.contains("check the name"), "{error}");
    let output = tokenize("hf://datasets/own/set/data/en");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    test.tokenize("text.jsonl", "plain", &[]);
    assert_eq!(test.shards("set"), test.shards("plain"));
    let manifest = fs::read_to_string(test.path("set/manifest.json")).unwrap();
    assert!(manifest.contains("hf://datasets/own/set/data/en/part-1.parquet"), "{manifest}");
}

/// Serves `files` as the data set own/set; returns the address. The thread ends with the process.
fn serve(files: HashMap<String, Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let files = Arc::new(files);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let files = Arc::clone(&files);
            // Whoever hangs up early has said all that it wanted.
            std::thread::spawn(move || drop(answer(stream, &files)));
        }
    });
    address
}

fn answer(mut stream: TcpStream, files: &HashMap<String, Vec<u8>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut range, mut token) = (None, String::new());
    for line in lines {
        let line = line?;
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => {
                range = Some(value.trim().to_owned())
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                token = value.trim().to_owned()
            }
            Some(_) => {}
            None => break,
        }
    }
    if token != format!("Bearer {TOKEN}") {
        return stream
            .write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if path == "/api/datasets/own/set/revision/main" {
        let names = files.keys().map(|name| serde_json::json!({ "rfilename": name }));
        let info = serde_json::json!({ "sha": COMMIT, "siblings": names.collect::<Vec<_>>() }).to_string();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{info}",
            info.len()
        );
    }
    let prefix = format!("/datasets/own/set/resolve/{COMMIT}/");
    let Some(file) = path.strip_prefix(&prefix).and_then(|name| files.get(name)) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let range = range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (first, last) = range.unwrap_or(("0", ""));
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(file.len() - 1).min(file.len() - 1);
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nETag: \"{}-{}\"\r\nx-repo-commit: {COMMIT}\r\n\
         Content-Range: bytes {first}-{last}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        file.len(),
        path.len(),
        file.len(),
        last + 1 - first
    )?;
    stream.write_all(&file[first..=last])
}
