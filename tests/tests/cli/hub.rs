//! A hub on this machine with one repository.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The server; its thread ends with the process.
pub(crate) struct Hub {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// By the path of their address.
    files: HashMap<String, Vec<u8>>,
    /// Path and range of every request.
    log: Mutex<Vec<(String, Option<String>)>>,
    /// Without which nothing is given.
    token: Option<&'static str>,
    damage: AtomicBool,
    cut: AtomicBool,
}

const COMMIT: &str = "0000000000000000000000000000000000000007";

impl Hub {
    /// Serves the files of `folder` as the main branch of `repository`.
    pub(crate) fn serve(folder: &Path, repository: &str) -> Hub {
        Hub::start(model(folder, repository), None)
    }

    /// The same for whoever has the token.
    pub(crate) fn gated(folder: &Path, repository: &str, token: &'static str) -> Hub {
        Hub::start(model(folder, repository), Some(token))
    }

    /// Serves a data set's `split`, which is the file `parquet`, for whoever has the token.
    pub(crate) fn data(parquet: &Path, repository: &str, split: &str, token: &'static str) -> Hub {
        let name = format!("default/{split}/0000.parquet");
        let listing = serde_json::json!({ "sha": COMMIT, "siblings": [{ "rfilename": name }] });
        let files = [
            (
                format!("/api/datasets/{repository}/revision/refs%2Fconvert%2Fparquet"),
                listing.to_string().into_bytes(),
            ),
            (format!("/datasets/{repository}/resolve/{COMMIT}/{name}"), fs::read(parquet).unwrap()),
        ];
        Hub::start(files.into_iter().collect(), Some(token))
    }

    fn start(files: HashMap<String, Vec<u8>>, token: Option<&'static str>) -> Hub {
        let shared = Arc::new(Shared {
            files,
            log: Mutex::default(),
            token,
            damage: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                // Whoever hangs up early has said all that it wanted.
                std::thread::spawn(move || drop(served.answer(stream)));
            }
        });
        Hub { address, shared }
    }

    /// For HF_ENDPOINT.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on large files arrive with a wrong last byte.
    pub(crate) fn damage(&self) {
        self.shared.damage.store(true, Ordering::SeqCst);
    }

    /// From now on a connection breaks after some bytes of a large file.
    pub(crate) fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.shared.log.lock().unwrap().len()
    }

    /// How often a file was asked for, other than for its first byte.
    pub(crate) fn downloads(&self, file: &str) -> usize {
        let log = self.shared.log.lock().unwrap();
        let whole = |range: &Option<String>| range.as_deref() != Some("bytes=0-0");
        log.iter().filter(|(path, range)| path.ends_with(file) && whole(range)).count()
    }
}

fn model(folder: &Path, repository: &str) -> HashMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (format!("/{repository}/resolve/main/{name}"), fs::read(entry.path()).unwrap())
    });
    files.collect()
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let path = request.split(' ').nth(1).unwrap_or_default().to_string();
        let (mut range, mut token) = (None, None);
        for line in lines {
            let line = line?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("range") => {
                    range = Some(value.trim().to_string())
                }
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                    token = value.trim().strip_prefix("Bearer ").map(str::to_string)
                }
                Some(_) => {}
                None => break,
            }
        }
        self.log.lock().unwrap().push((path.clone(), range.clone()));
        if self.token.is_some() && self.token != token.as_deref() {
            return stream
                .write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        let Some(file) = self.files.get(&path) else {
            return stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let range = range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let (first, last) = range.unwrap_or(("0", ""));
        let first: usize = first.parse().unwrap();
        let last = last.parse().unwrap_or(file.len() - 1).min(file.len() - 1);
        // The ETag of a large file is its SHA-256, that of a small one a git hash.
        let large = path.ends_with(".safetensors");
        let digest: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
        let etag = if large { digest } else { digest[..40].to_string() };
        let mut body = file[first..=last].to_vec();
        if large && self.damage.load(Ordering::SeqCst) {
            *body.last_mut().unwrap() ^= 1;
        }
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nETag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\n\
             Content-Range: bytes {first}-{last}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            file.len(),
            body.len()
        )?;
        if large && self.cut.load(Ordering::SeqCst) {
            body.truncate(file.len() / 3);
        }
        stream.write_all(&body)
    }
}
