//! Against a hub on this machine that serves `tests/golden/hub/parquet`: see `tests/golden/hub.py`.

use super::{HubDatasets, wanted};
use crate::benchmarks::data::{DataSource, Selection};
use crate::benchmarks::error::EvalError;
use crate::benchmarks::task::Task;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/hub")
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Serves the data sets of `root`; counts its answers. The thread ends with the process.
fn serve(root: PathBuf) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answers = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answers);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            // Whoever hangs up early has said all that it wanted.
            let _ = answer(stream, &root);
        }
    });
    (address, answers)
}

fn answer(mut stream: TcpStream, root: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap()?;
    let path = request.split(' ').nth(1).unwrap().to_string();
    let mut range = (0, None);
    for line in lines {
        let line = line?.to_lowercase();
        if let Some((first, last)) =
            line.strip_prefix("range: bytes=").and_then(|range| range.split_once('-'))
        {
            range = (first.trim().parse().unwrap(), last.trim().parse().ok());
        }
        if line.is_empty() {
            break;
        }
    }
    let found = match path.strip_prefix("/api/datasets/") {
        Some(rest) => listing(root, rest.split("/revision/refs%2Fconvert%2Fparquet").next().unwrap()),
        None => path.strip_prefix("/datasets/").and_then(|rest| {
            let (repository, file) = rest.split_once(&format!("/resolve/{COMMIT}/"))?;
            std::fs::read(root.join(repository).join(file)).ok()
        }),
    };
    let Some(body) = found else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let (first, last): (usize, Option<usize>) = range;
    let last = last.unwrap_or(body.len() - 1).min(body.len() - 1);
    let part = &body[first..=last];
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nETag: \"{:x}\"\r\nx-repo-commit: {COMMIT}\r\n\
         Content-Range: bytes {first}-{last}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        thimble_runtime::format::checksum(path.as_bytes()),
        body.len(),
        part.len()
    )?;
    stream.write_all(part)
}

fn listing(root: &Path, repository: &str) -> Option<Vec<u8>> {
    let mut files = vec!["README.md".to_string(), "other/test/0000.json".to_string()];
    for config in std::fs::read_dir(root.join(repository)).ok()?.flatten() {
        for split in std::fs::read_dir(config.path()).ok()?.flatten() {
            let names = [config.file_name(), split.file_name()].map(|name| name.into_string().unwrap());
            files.push(format!("{}/{}/0000.parquet", names[0], names[1]));
        }
    }
    let siblings: Vec<_> = files.iter().map(|file| serde_json::json!({ "rfilename": file })).collect();
    Some(serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string().into_bytes())
}

#[test]
fn the_hub_gives_the_items_of_the_folder() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, answers) = serve(golden().join("parquet"));
    let hub = HubDatasets { cache: cache.path().join("data"), endpoint: Some(endpoint) };
    let folder = DataSource::Folder(golden().join("folder"));
    for task in Task::ALL {
        let [hub, folder] = [&DataSource::Hub(hub.clone()), &folder]
            .map(|source| source.load(task, Selection::default()).unwrap());
        assert_eq!(hub.items, folder.items, "{}", task.name());
        assert_eq!(hub.rows, folder.rows);
    }
    let before = answers.load(Ordering::SeqCst);
    assert!(before > 0);
    let again = DataSource::Hub(HubDatasets { endpoint: Some("http://127.0.0.1:9".to_string()), ..hub });
    for task in Task::ALL {
        again.load(task, Selection::default()).unwrap();
    }
    assert_eq!(answers.load(Ordering::SeqCst), before, "what is in the cache is not asked for");
}

#[test]
fn a_hub_that_cannot_be_reached_is_missing_data() {
    let cache = tempfile::tempdir().unwrap();
    let hub =
        HubDatasets { cache: cache.path().to_path_buf(), endpoint: Some("http://127.0.0.1:9".to_string()) };
    let error = DataSource::Hub(hub).load(Task::Piqa, Selection::default()).unwrap_err();
    assert!(matches!(error, EvalError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("baber/piqa"), "{error}");
}

#[test]
fn a_damaged_file_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let file = cache.path().join("0000.parquet");
    std::fs::write(&file, b"PAR1 and no more").unwrap();
    let index = serde_json::json!({ "revision": "x", "files": [file] });
    std::fs::write(cache.path().join("piqa-validation.json"), index.to_string()).unwrap();
    let hub = HubDatasets { cache: cache.path().to_path_buf(), endpoint: None };
    let error = DataSource::Hub(hub).load(Task::Piqa, Selection::default()).unwrap_err().to_string();
    assert!(error.contains("0000.parquet") && error.contains("whole parquet file"), "{error}");
}

#[test]
fn files_of_a_split_are_found() {
    assert!(wanted("main/test/0000.parquet", Some("main"), "test"));
    assert!(wanted("plain_text/test/0001.parquet", None, "test"));
    for file in ["main/train/0000.parquet", "socratic/test/0000.parquet", "main/test/x.json", "README.md"] {
        assert!(!wanted(file, Some("main"), "test"), "{file}");
    }
}
