//! Against servers on this machine that answer as a test wants.

use crate::token::Token;
use crate::{DownloadEvent, Hub, HubError, Repo, Repository, is_contained, is_safe_name};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789012345678901234567890123456789";

/// What a client asked for.
#[derive(Clone, Debug, Default)]
struct RecordedRequest {
    path: String,
    range: Option<String>,
    token: Option<String>,
}

impl RecordedRequest {
    /// The first byte of the range, as far as it has no end.
    fn first(&self) -> usize {
        let range = self.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.strip_suffix('-')).map_or(0, |first| first.parse().unwrap())
    }

    fn is_probe(&self) -> bool {
        self.range.as_deref() == Some("bytes=0-0")
    }
}

struct Server {
    address: String,
    log: Arc<Mutex<Vec<RecordedRequest>>>,
}

impl Server {
    /// Sends what `answer` gives for a request, its head included, and hangs up. The thread ends with the process.
    fn new(answer: impl Fn(&RecordedRequest) -> Vec<u8> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let Some(asked) = read(&stream) else { continue };
                kept.lock().unwrap().push(asked.clone());
                // Whoever hangs up early has said all that it wanted.
                let _ = stream.write_all(&answer(&asked));
            }
        });
        Server { address, log }
    }

    fn log(&self) -> Vec<RecordedRequest> {
        self.log.lock().unwrap().clone()
    }

    fn repository(&self, cache: &Path, token: Option<&str>) -> Repository {
        let token = match token {
            Some(token) => Token::new(token.into(), "HF_TOKEN".into()).unwrap(),
            None => Token::Absent,
        };
        Hub::new(&self.address, token, cache.to_owned()).unwrap().repository(Repo::model("own/model".into()))
    }
}

fn read(stream: &TcpStream) -> Option<RecordedRequest> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut asked = RecordedRequest { path, ..RecordedRequest::default() };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        let value = Some(value.trim().to_owned());
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.range = value,
            "authorization" => asked.token = value,
            _ => {}
        }
    }
    Some(asked)
}

fn status(line: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

/// A hub's answer with the asked-for part of `file`, of which `sent` bytes at most arrive.
fn part(file: &[u8], asked: &RecordedRequest, sent: usize) -> Vec<u8> {
    let first = asked.first();
    let last = if asked.is_probe() { 0 } else { file.len() - 1 };
    let (line, range) = match asked.range {
        Some(_) => ("206 Partial Content", format!("Content-Range: bytes {first}-{last}/{}\r\n", file.len())),
        None => ("200 OK", String::new()),
    };
    let body = &file[first..=last];
    let head = format!(
        "HTTP/1.1 {line}\r\nETag: \"e7ag\"\r\nX-Repo-Commit: {COMMIT}\r\n{range}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body[..sent.min(body.len())]].concat()
}

/// A hub's answer with the listing of a repository without files.
fn listing(commit: &str) -> Vec<u8> {
    let body = format!(r#"{{"sha": "{commit}", "siblings": []}}"#);
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn content() -> Vec<u8> {
    (0..10_000u32).flat_map(u32::to_le_bytes).collect()
}

/// Downloads `weights`; returns the bytes and what was seen on the way.
fn download(repository: &Repository) -> (Result<Vec<u8>, HubError>, Vec<DownloadEvent>) {
    let mut events = Vec::new();
    let path = repository.download("weights", &mut |event| events.push(event));
    (path.map(|path| fs::read(path).unwrap()), events)
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_it_redirects_to() {
    let store = Server::new(|asked| part(&content(), asked, usize::MAX));
    let elsewhere = store.address.clone();
    let hub = Server::new(move |asked| match asked.token.as_deref() {
        _ if asked.path.contains("/moved/") => status(
            "302 Found",
            &format!(
                "Location: {elsewhere}/signed?key=1\r\nX-Linked-ETag: \"1inked\"\r\nX-Repo-Commit: {COMMIT}\r\n"
            ),
        ),
        Some("Bearer hf_good") => {
            status("307 Temporary Redirect", &format!("Location: /moved{}\r\n", asked.path))
        }
        _ => status("401 Unauthorized", ""),
    });
    let cache = tempfile::tempdir().unwrap();
    let repository = hub.repository(cache.path(), Some("hf_good"));
    assert_eq!(download(&repository).0.unwrap(), content());
    assert!(
        hub.log().len() >= 4
            && hub.log().iter().all(|asked| asked.token.as_deref() == Some("Bearer hf_good"))
    );
    assert!(
        store.log().len() >= 2 && store.log().iter().all(|asked| asked.token.is_none()),
        "{:?}",
        store.log()
    );
    // The file goes by the hub's name for it, where hf-hub itself finds it.
    let cached =
        hf_hub::Cache::new(cache.path().to_owned()).model("own/model".into()).get("weights").unwrap();
    assert!(fs::canonicalize(cached).unwrap().ends_with("blobs/1inked"));
    assert_eq!(repository.cached("weights").map(|path| fs::read(path).unwrap()), Some(content()));
}

#[test]
fn what_a_broken_connection_left_is_resumed() {
    let hub = Server::new(|asked| part(&content(), asked, 12_345));
    let cache = tempfile::tempdir().unwrap();
    let (bytes, events) = download(&hub.repository(cache.path(), None));
    assert_eq!(bytes.unwrap(), content());
    let firsts: Vec<usize> =
        hub.log().iter().filter(|asked| !asked.is_probe()).map(RecordedRequest::first).collect();
    assert_eq!(firsts, [0, 12_345, 24_690, 37_035]);
    let sizes: Vec<_> = events.iter().filter(|event| matches!(event, DownloadEvent::Size { .. })).collect();
    assert_eq!(sizes[3], &DownloadEvent::Size { total: Some(40_000), there: 37_035 });
    let read: u64 =
        events.iter().map(|event| if let DownloadEvent::Read(bytes) = event { *bytes } else { 0 }).sum();
    assert_eq!(read, 40_000, "no byte came twice");
}

#[test]
fn a_hub_that_is_busy_once_or_hangs_up_once_is_asked_again() {
    for trouble in [status("503 Service Unavailable", ""), status("429 Too Many Requests", ""), Vec::new()] {
        let count = Mutex::new(0);
        let hub = Server::new(move |asked| {
            *count.lock().unwrap() += 1;
            match (*count.lock().unwrap(), asked.path.starts_with("/api/")) {
                (1 | 3, _) => trouble.clone(),
                (_, false) => part(&content(), asked, usize::MAX),
                (_, true) => listing(COMMIT),
            }
        });
        let cache = tempfile::tempdir().unwrap();
        let repository = hub.repository(cache.path(), None);
        assert_eq!(repository.info().unwrap().sha, COMMIT);
        assert_eq!(download(&repository).0.unwrap(), content());
        assert_eq!(hub.log().len(), 5);
    }
    // What another attempt does not change is asked for once.
    for line in ["401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let hub = Server::new(move |_| status(line, ""));
        let cache = tempfile::tempdir().unwrap();
        assert!(download(&hub.repository(cache.path(), None)).0.is_err());
        assert_eq!(hub.log().len(), 1, "{line}");
    }
}

#[test]
fn bytes_that_cannot_be_gone_on_with_are_not_said_to_be_kept() {
    let cut = |head: &str| format!("HTTP/1.1 {head}\r\nETag: \"e7ag\"\r\nX-Repo-Commit: {COMMIT}\r\n");
    // A server without parts, and one that does not know the length.
    let whole = cut("200 OK") + "Content-Length: 9\r\n\r\nabc";
    let endless = cut("200 OK") + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for answer in [whole, endless] {
        let hub = Server::new(move |_| answer.clone().into_bytes());
        let cache = tempfile::tempdir().unwrap();
        let said = download(&hub.repository(cache.path(), None)).0.unwrap_err().to_string();
        assert!(said.contains("was interrupted") && !said.contains("kept"), "{said}");
    }
}

#[test]
fn another_process_goes_on_with_what_the_first_one_left() {
    let hub = Server::new(|asked| match asked.first() {
        0 => part(&content(), asked, 30_000),
        _ => status("503 Service Unavailable", ""),
    });
    let cache = tempfile::tempdir().unwrap();
    let said = download(&hub.repository(cache.path(), None)).0.unwrap_err().to_string();
    assert!(said.contains("503") && said.contains("try again later"), "{said}");
    let hub = Server::new(|asked| part(&content(), asked, usize::MAX));
    assert_eq!(download(&hub.repository(cache.path(), None)).0.unwrap(), content());
    assert_eq!(hub.log()[1].first(), 30_000);
}

#[test]
fn a_server_without_ranges_and_leftovers_of_other_files_do_no_harm() {
    // The first one answers every range with the whole, cut off twice.
    let count = Mutex::new(0);
    let forgetful = Server::new(move |asked| {
        *count.lock().unwrap() += 1;
        let sent = if *count.lock().unwrap() < 4 { 20_000 } else { usize::MAX };
        part(&content(), &RecordedRequest { range: None, ..asked.clone() }, sent)
    });
    // The second one has another part than the one asked for, once.
    let count = Mutex::new(0);
    let confused = Server::new(move |asked| {
        *count.lock().unwrap() += 1;
        match (*count.lock().unwrap(), asked.range.clone()) {
            (2, Some(_)) => part(
                &content(),
                &RecordedRequest { range: Some("bytes=5-".into()), ..asked.clone() },
                usize::MAX,
            ),
            _ => part(&content(), asked, usize::MAX),
        }
    });
    for (server, leftover) in [(forgetful, 0), (confused, 100)] {
        for leftover in [leftover, 50_000] {
            let cache = tempfile::tempdir().unwrap();
            let blobs = cache.path().join("models--own--model/blobs");
            fs::create_dir_all(&blobs).unwrap();
            fs::write(blobs.join("e7ag.part"), &[content(), content()].concat()[..leftover]).unwrap();
            assert_eq!(download(&server.repository(cache.path(), None)).0.unwrap(), content(), "{leftover}");
        }
    }
}

#[test]
fn a_connection_that_brings_nothing_new_is_given_up_and_what_is_there_is_kept() {
    let hub = Server::new(|asked| part(&content()[..], asked, if asked.first() == 0 { 7 } else { 0 }));
    let cache = tempfile::tempdir().unwrap();
    let said = download(&hub.repository(cache.path(), None)).0.unwrap_err().to_string();
    assert!(said.contains("weights of own/model") && said.contains("7 bytes are kept"), "{said}");
    let kept = fs::read(cache.path().join("models--own--model/blobs/e7ag.part")).unwrap();
    assert_eq!(kept, content()[..7]);
}

#[test]
fn refusals_say_what_to_do() {
    let said = |line: &'static str, code: &'static str, token: Option<&str>| {
        let hub = Server::new(move |_| status(line, code));
        let cache = tempfile::tempdir().unwrap();
        let repository = hub.repository(cache.path(), token);
        let said = download(&repository).0.unwrap_err().to_string();
        let listing = repository.info().unwrap_err().to_string();
        assert!(listing.contains(&line[..3]), "{listing}");
        assert!(!said.contains("hf_secret") && said.contains("weights of own/model"), "{said}");
        said.replace(&hub.address, "HUB")
    };
    let none = said("401 Unauthorized", "", None);
    assert!(
        none.contains("HUB/own/model")
            && none.contains("set HF_TOKEN")
            && none.contains("HUB/settings/tokens")
    );
    assert!(said("403 Forbidden", "", None).contains("set HF_TOKEN"));
    assert!(said("401 Unauthorized", "", Some("hf_secret")).contains("the token from HF_TOKEN is not valid"));
    let gated = said("401 Unauthorized", "X-Error-Code: GatedRepo\r\n", Some("hf_secret"));
    assert!(gated.contains("accept the licence at HUB/own/model"), "{gated}");
    assert!(said("403 Forbidden", "", Some("hf_secret")).contains("accept the licence"));
    assert!(said("404 Not Found", "", None).contains("check the name"));
    assert!(said("429 Too Many Requests", "", None).contains("wait"));
    assert!(said("500 Internal Server Error", "", None).contains("try again later"));
}

#[test]
fn a_hub_that_answers_nonsense_writes_nothing_elsewhere() {
    let head = |headers: &str| {
        format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/1\r\n{headers}Content-Length: 1\r\nConnection: close\r\n\r\nx"
        )
    };
    let commit = format!("X-Repo-Commit: {COMMIT}\r\n");
    for (answer, word) in [
        (head(&format!("ETag: \"../../../x\"\r\n{commit}")), "ETag"),
        (head(&format!("ETag: \"\"\r\n{commit}")), "ETag"),
        (head(&commit), "no ETag"),
        (head("ETag: \"a\"\r\nX-Repo-Commit: ../../../x\r\n"), "X-Repo-Commit"),
        (head("ETag: \"a\"\r\n"), "no X-Repo-Commit"),
        ("nonsense".to_owned(), "cannot be reached"),
        (String::new(), "cannot be reached"),
        (
            "HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "cannot be reached",
        ),
        ("HTTP/1.1 302 Found\r\nLocation: ://\r\nContent-Length: 0\r\n\r\n".to_owned(), "cannot be reached"),
    ] {
        let sent = answer.clone();
        let hub = Server::new(move |_| sent.clone().into_bytes());
        let folder = tempfile::tempdir().unwrap();
        let said = download(&hub.repository(&folder.path().join("a/b/c"), None)).0.unwrap_err().to_string();
        assert!(said.contains(word), "{answer}: {said}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{answer}");
    }
    let hub = Server::new(|_| listing("../../x"));
    let cache = tempfile::tempdir().unwrap();
    let repository = hub.repository(cache.path(), None);
    assert!(repository.info().unwrap_err().to_string().contains("hash of a commit"));
    let said = repository.download("../x", &mut |_| {}).unwrap_err().to_string();
    assert!(said.contains("name of a file"), "{said}");
}

#[test]
fn empty_files_and_odd_names_come_too() {
    let hub = Server::new(|asked| match asked.path.as_str() {
        "/own/model/resolve/main/a%20b/%C3%A9%23%3F%25.txt" if asked.range.is_some() => status(
            "416 Range Not Satisfiable",
            &format!("ETag: W/\"3mpty\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes */0\r\n"),
        ),
        _ => status("404 Not Found", ""),
    });
    let cache = tempfile::tempdir().unwrap();
    let repository = hub.repository(cache.path(), None);
    let path = repository.get("a b/\u{e9}#?%.txt", &mut |_| {}).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
    let asked = hub.log().len();
    assert_eq!(repository.get("a b/\u{e9}#?%.txt", &mut |_| {}).unwrap(), path);
    assert_eq!(hub.log().len(), asked, "what is in the cache is not asked for");
}

#[test]
fn what_is_no_address_is_said_at_once() {
    for wrong in ["", "huggingface.co", "ftp://x", "http://", "not an address"] {
        let said = Hub::new(wrong, Token::Absent, "cache".into()).unwrap_err().to_string();
        assert!(said.contains("HF_ENDPOINT: expected an address"), "{wrong}: {said}");
    }
    let hub = Hub::new(" https://a.b/hub/ ", Token::Absent, "cache".into()).unwrap();
    assert_eq!(hub.client.endpoint, "https://a.b/hub");
}

#[test]
fn names_from_the_hub_stay_inside_of_the_cache() {
    for good in ["a.json", "data/en/part 1.parquet", "..a/b..c"] {
        assert!(is_contained(good), "{good}");
    }
    for wrong in ["", "/etc/x", "../x", "a/../../x", "a\\..\\x", "a\0b"] {
        assert!(!is_contained(wrong), "{wrong:?}");
    }
    assert!(is_safe_name("0123abc-7_a.b") && is_safe_name(&"f".repeat(64)));
    for wrong in ["", ".", "..", "a/b", "..\\a", "a b", "\u{e9}", &"f".repeat(129)] {
        assert!(!is_safe_name(wrong), "{wrong:?}");
    }
}

#[test]
fn whoever_waits_for_another_process_takes_what_that_one_brought() {
    let hub = Server::new(|asked| part(&content(), asked, usize::MAX));
    let cache = tempfile::tempdir().unwrap();
    let blobs = cache.path().join("models--own--model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let other = fs::File::create(blobs.join("e7ag.lock")).unwrap();
    other.lock().unwrap();
    let repository = hub.repository(cache.path(), None);
    let mut other = Some(other);
    let path = repository.download("weights", &mut |event| {
        assert_eq!(event, DownloadEvent::Waiting);
        fs::write(blobs.join("e7ag"), "of the other process").unwrap();
        drop(other.take());
    });
    assert_eq!(fs::read(path.unwrap()).unwrap(), b"of the other process");
    assert!(hub.log().iter().all(RecordedRequest::is_probe));
}
