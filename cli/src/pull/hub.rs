//! The Hugging Face hub, through `hf-hub` (its cache, its resumable downloads, HF_ENDPOINT and HF_HOME).

use super::sha256_file;
use crate::progress;
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo};
use indicatif::ProgressBar;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use thiserror::Error;

/// Why the hub gave no model.
#[derive(Debug, Error)]
pub(crate) enum HubError {
    /// No answer: offline, a firewall, a wrong HF_ENDPOINT.
    #[error("the Hugging Face hub cannot be reached ({reason})")]
    Unreachable {
        /// The network's answer.
        reason: String,
    },
    /// The hub answered with an error status.
    #[error("the hub answered {status} for {file} of {repository}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The file asked for.
        file: String,
        /// Its repository.
        repository: String,
    },
    /// A download broke off; what arrived is kept and resumed next time.
    #[error("the download of {file} from the hub broke off ({reason})")]
    Broken {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// The bytes are not those that the hub announced.
    #[error("{file} from the hub is damaged: its SHA-256 is {found}, the hub announced {expected}")]
    Damaged {
        /// The file.
        file: String,
        /// The hub's digest.
        expected: String,
        /// The digest of what arrived.
        found: String,
    },
    /// A file that is not what its name says.
    #[error("{file} from the hub is damaged: it is not JSON ({reason})")]
    NotJson {
        /// The file.
        file: String,
        /// The parser's sentence.
        reason: String,
    },
    /// All files came, but they do not make a model.
    #[error("the hub's copy cannot be converted ({reason}); `thimble pull {name} --force` fetches it again")]
    Unusable {
        /// The catalogue's name.
        name: &'static str,
        /// The converter's sentence.
        reason: String,
    },
    /// This machine could not store what came.
    #[error("the files cannot be stored on this machine: {0}")]
    Disk(io::Error),
}

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
/// Files that a repository may lack.
const OPTIONAL: [&str; 5] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
];
/// How long the first answer may take: whoever is offline shall not wait.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a download may stand still.
const STALL: Duration = Duration::from_secs(60);

/// Brings the files of `repository` into `staging/source` (links into the hub's cache) and returns that folder.
///
/// `refetch` downloads small files although they are in the cache; weights have a checksum that tells.
pub(super) fn fetch(repository: &str, staging: &Path, refetch: bool) -> Result<PathBuf, HubError> {
    let unreachable = |e: ApiError| HubError::Unreachable { reason: e.to_string() };
    let api = ApiBuilder::from_env().with_progress(false).with_user_agent("thimble", VERSION);
    let hub = Hub { api: api.build().map_err(unreachable)?, repository: repository.to_string(), refetch };
    let folder = staging.join("source");
    fs::create_dir_all(&folder).map_err(HubError::Disk)?;
    let place = |file: &str, path: &Path| link(path, &folder.join(file)).map_err(HubError::Disk);

    if refetch || hub.cached(CONFIG).is_none() {
        hub.probe(CONFIG)?;
    }
    place(CONFIG, &hub.get(CONFIG)?)?;
    place("tokenizer.json", &hub.get("tokenizer.json")?)?;
    for file in OPTIONAL {
        match hub.get(file) {
            Ok(path) => place(file, &path)?,
            Err(HubError::Status { status: 404, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    match hub.get(WEIGHTS) {
        Ok(path) => place(WEIGHTS, &path)?,
        Err(HubError::Status { status: 404, .. }) => {
            let index = hub.get(WEIGHTS_INDEX)?;
            for shard in shards(&index)? {
                place(&shard, &hub.get(&shard)?)?;
            }
            place(WEIGHTS_INDEX, &index)?;
        }
        Err(error) => return Err(error),
    }
    Ok(folder)
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

struct Hub {
    api: Api,
    repository: String,
    refetch: bool,
}

impl Hub {
    fn repo(&self) -> ApiRepo {
        self.api.model(self.repository.clone())
    }

    fn cached(&self, file: &str) -> Option<PathBuf> {
        Cache::from_env().repo(Repo::model(self.repository.clone())).get(file)
    }

    /// Asks for the first byte of `file` with short time limits, which `hf-hub` has not.
    fn probe(&self, file: &str) -> Result<(), HubError> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(2 * CONNECT))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .into();
        let answer = agent.get(self.repo().url(file)).header("Range", "bytes=0-0").call();
        let answer = answer.map_err(|error| HubError::Unreachable { reason: error.to_string() })?;
        match answer.status().as_u16() {
            status @ 400.. => Err(self.status(status, file)),
            _ => Ok(()),
        }
    }

    /// The file in the hub's cache, downloaded where it is not there yet or damaged.
    fn get(&self, file: &str) -> Result<PathBuf, HubError> {
        let refetch = self.refetch && !file.ends_with(".safetensors");
        if let Some(path) = self.cached(file).filter(|_| !refetch) {
            match check(file, &path) {
                // What was damaged is not in the cache any more.
                Err(HubError::Damaged { .. } | HubError::NotJson { .. }) => self.probe(file)?,
                checked => return checked.map(|()| path),
            }
        }
        let path = self.download(file)?;
        check(file, &path)?;
        Ok(path)
    }

    /// Downloads on a thread of its own, so that a server that falls silent cannot hold us for ever.
    fn download(&self, file: &str) -> Result<PathBuf, HubError> {
        let (events, received) = sync_channel(64);
        let (repo, name) = (self.repo(), file.to_string());
        std::thread::spawn(move || {
            let result = repo.download_with_progress(&name, Events(events.clone()));
            // Nobody listens any more after a stall.
            let _ = events.send(Event::Done(result));
        });
        let broken = |reason: &str| HubError::Broken { file: file.to_string(), reason: reason.to_string() };
        let mut bar: Option<ProgressBar> = None;
        loop {
            match received.recv_timeout(STALL) {
                Ok(Event::Size(size)) => {
                    bar.get_or_insert_with(|| progress::bytes(file, size)).set_length(size);
                }
                Ok(Event::Read(bytes)) => {
                    if let Some(bar) = &bar {
                        bar.inc(bytes);
                    }
                }
                Ok(Event::Done(result)) => {
                    if let Some(bar) = &bar {
                        bar.finish_and_clear();
                    }
                    return result.map_err(|error| self.explain(error, file));
                }
                Err(RecvTimeoutError::Timeout) => return Err(broken("nothing arrived for a minute")),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(broken("the answer could not be understood"));
                }
            }
        }
    }

    fn status(&self, status: u16, file: &str) -> HubError {
        HubError::Status { status, file: file.to_string(), repository: self.repository.clone() }
    }

    fn explain(&self, error: ApiError, file: &str) -> HubError {
        match error {
            ApiError::RequestError(error) => match *error {
                ureq::Error::StatusCode(status) => self.status(status, file),
                other => HubError::Broken { file: file.to_string(), reason: other.to_string() },
            },
            ApiError::IoError(error) if is_ours(&error) => HubError::Disk(error),
            other => HubError::Broken { file: file.to_string(), reason: other.to_string() },
        }
    }
}

/// Checks a file of the cache against the SHA-256 that the hub announced, which it does for large files, and
/// that JSON is JSON. A damaged file is removed: or the next attempt would find it in the cache again.
fn check(file: &str, path: &Path) -> Result<(), HubError> {
    // The cache names a blob after its ETag, and the ETag of a large file is its SHA-256.
    let blob = fs::canonicalize(path).map_err(HubError::Disk)?;
    let announced = blob.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let damage = if announced.len() == 64 && announced.bytes().all(|b| b.is_ascii_hexdigit()) {
        let found = sha256_file(&blob).map_err(HubError::Disk)?;
        let (file, expected) = (file.to_string(), announced.to_string());
        (found != expected).then_some(HubError::Damaged { file, expected, found })
    } else if file.ends_with(".json") {
        let text = fs::read(&blob).map_err(HubError::Disk)?;
        let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&text);
        parsed.err().map(|e| HubError::NotJson { file: file.to_string(), reason: e.to_string() })
    } else {
        None
    };
    let Some(damage) = damage else { return Ok(()) };
    let _ = fs::remove_file(path).and(fs::remove_file(&blob));
    Err(damage)
}

/// Whether an error while downloading comes from this machine's disk rather than from the network.
fn is_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), NotFound | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

enum Event {
    Size(u64),
    Read(u64),
    Done(Result<PathBuf, ApiError>),
}

struct Events(SyncSender<Event>);

impl Progress for Events {
    fn init(&mut self, size: usize, _filename: &str) {
        let _ = self.0.send(Event::Size(size as u64));
    }

    fn update(&mut self, size: usize) {
        let _ = self.0.send(Event::Read(size as u64));
    }

    fn finish(&mut self) {}
}

/// The weight files that an index names. Names with a path in them are refused: they would be written outside.
fn shards(index: &Path) -> Result<BTreeSet<String>, HubError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let broken = |reason: String| HubError::Broken { file: WEIGHTS_INDEX.to_string(), reason };
    let text = fs::read(index).map_err(HubError::Disk)?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    match shards.iter().find(|name| name.contains(['/', '\\']) || !name.ends_with(".safetensors")) {
        Some(name) => Err(broken(format!("expected names of .safetensors files, found {name:?}"))),
        None => Ok(shards),
    }
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(fs::canonicalize(from)?, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    let from = fs::canonicalize(from)?;
    fs::hard_link(&from, to).or_else(|_| fs::copy(&from, to).map(drop))
}

#[cfg(test)]
mod tests {
    use super::shards;

    #[test]
    fn an_index_cannot_name_a_file_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.json");
        let names = |shard: &str| {
            let text = format!(r#"{{"weight_map": {{"a": "{shard}", "b": "{shard}"}}}}"#);
            std::fs::write(&path, text).unwrap();
            shards(&path)
        };
        assert_eq!(names("model-1.safetensors").unwrap().len(), 1);
        for wrong in ["../x.safetensors", "/etc/x.safetensors", "config.json"] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
        std::fs::write(&path, "[]").unwrap();
        assert!(shards(&path).is_err());
    }
}
