//! A model's files on the Hugging Face hub, and whether they arrive undamaged.

use super::sha256_file;
use crate::{progress, terminal};
use indicatif::ProgressBar;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thimble_converter::ConvertError;
use thimble_converter::read::Sections;
use thimble_converter::read::names::{CONFIG_JSON, OPTIONAL, TOKENIZER_JSON, WEIGHTS, WEIGHTS_INDEX};
use thimble_hub::{DownloadEvent, Hub, HubError, Repo, Repository};
use thiserror::Error;

/// Why the hub's model cannot be used.
#[derive(Debug, Error)]
pub(super) enum SourceError {
    /// A request to the hub failed.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The bytes differ from what the hub announced.
    #[error("{file} from the hub is damaged: its SHA-256 is {found}, the hub announced {expected}")]
    Damaged {
        /// The file.
        file: String,
        /// The hub's digest.
        expected: String,
        /// The digest of the downloaded bytes.
        found: String,
    },
    /// A .json file that is not JSON.
    #[error("{file} from the hub is damaged: it is not JSON ({reason})")]
    NotJson {
        /// The file.
        file: String,
        /// The parser's sentence.
        reason: String,
    },
    /// An index of weights that names no weights.
    #[error("{file} from the hub is not an index of weights: {reason}")]
    NotIndex {
        /// The file.
        file: &'static str,
        /// What was expected and found.
        reason: String,
    },
    /// All files arrived, but cannot be converted.
    #[error("the hub's copy cannot be converted ({reason})")]
    Unusable {
        /// The converter's sentence.
        reason: String,
    },
    /// A model that this version cannot run, found before its weights are downloaded.
    #[error("the model in {repository} cannot be used ({reason}); nothing of its weights was downloaded")]
    Unsupported {
        /// The repository.
        repository: String,
        /// The converter's sentence.
        reason: String,
    },
    /// The files could not be stored.
    #[error("the files cannot be stored on this machine: {0}")]
    Disk(io::Error),
}

impl SourceError {
    /// Whether the files could not be stored.
    pub(super) fn is_disk(&self) -> bool {
        matches!(self, SourceError::Disk(_) | SourceError::Hub(HubError::Disk { .. }))
    }
}

/// Fetches the files of the repository `name` into `staging/source`, as links into the hub's cache, and returns that folder.
///
/// `refetch` downloads files even if they are in the cache, except weights, which have a checksum.
pub(super) fn fetch(name: &str, staging: &Path, refetch: bool) -> Result<PathBuf, SourceError> {
    let repository = Hub::from_env()?.repository(Repo::model(name.to_string()));
    let hub = Source { repository, refetch };
    let folder = staging.join("source");
    fs::create_dir_all(&folder).map_err(SourceError::Disk)?;
    let place = |file: &str, path: &Path| link(path, &folder.join(file)).map_err(SourceError::Disk);

    let config = hub.get(CONFIG_JSON)?;
    check_family(name, &config)?;
    place(CONFIG_JSON, &config)?;
    place(TOKENIZER_JSON, &hub.get(TOKENIZER_JSON)?)?;
    for file in OPTIONAL {
        match hub.get(file) {
            Ok(path) => place(file, &path)?,
            Err(SourceError::Hub(HubError::Refused { status: 404, .. })) => {}
            Err(error) => return Err(error),
        }
    }
    check_texts(name, &folder)?;
    match hub.get(WEIGHTS) {
        Ok(path) => place(WEIGHTS, &path)?,
        Err(SourceError::Hub(HubError::Refused { status: 404, .. })) => {
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

/// Refuses a model of another family, or an option that is not supported, before the weights are downloaded.
fn check_family(repository: &str, config: &Path) -> Result<(), SourceError> {
    let text = fs::read(config).map_err(SourceError::Disk)?;
    let json = serde_json::from_slice(&text)
        .map_err(|error| SourceError::NotJson { file: CONFIG_JSON.to_string(), reason: error.to_string() })?;
    let checked = thimble_converter::config::read_config_json(&json);
    checked.map(drop).map_err(|error| unsupported(repository, &error))
}

/// Refuses a tokenizer or a chat template that cannot be converted, before the weights are downloaded.
fn check_texts(repository: &str, folder: &Path) -> Result<(), SourceError> {
    let model = thimble_converter::read::open_without_weights(folder);
    let sections = model.and_then(|model| Sections::of(&model));
    sections.map(drop).map_err(|error| unsupported(repository, &error))
}

fn unsupported(repository: &str, error: &ConvertError) -> SourceError {
    SourceError::Unsupported { repository: repository.to_string(), reason: error.to_string() }
}

struct Source {
    repository: Repository,
    refetch: bool,
}

impl Source {
    /// The file in the hub's cache, downloaded if missing or damaged.
    fn get(&self, file: &str) -> Result<PathBuf, SourceError> {
        let refetch = self.refetch && !file.ends_with(".safetensors");
        if let Some(path) = self.repository.cached(file).filter(|_| !refetch) {
            match check(file, &path) {
                // A damaged file has been removed from the cache.
                Err(SourceError::Damaged { .. } | SourceError::NotJson { .. }) => {}
                checked => return checked.map(|()| path),
            }
        }
        let mut bar: Option<ProgressBar> = None;
        let path = self.repository.download(file, &mut |event| match event {
            DownloadEvent::Size { total, there } => {
                let total = total.unwrap_or_default();
                bar.get_or_insert_with(|| progress::bytes(file, total)).set_position(there);
            }
            DownloadEvent::Read(bytes) => bar.iter().for_each(|bar| bar.inc(bytes)),
            DownloadEvent::Waiting => {
                terminal::note(&format!("another program is downloading {file}: waiting for it"));
            }
        });
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let path = path?;
        check(file, &path)?;
        Ok(path)
    }
}

/// Checks a cached file against the SHA-256 that the hub announces for large files, and parses JSON. Removes a damaged
/// file, so that the next attempt downloads it again.
fn check(file: &str, path: &Path) -> Result<(), SourceError> {
    // The cache names a blob after its ETag, and the ETag of a large file is its SHA-256.
    let blob = fs::canonicalize(path).map_err(SourceError::Disk)?;
    let announced = blob.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let damage = if announced.len() == 64 && announced.bytes().all(|b| b.is_ascii_hexdigit()) {
        let found = sha256_file(&blob).map_err(SourceError::Disk)?;
        let (file, expected) = (file.to_string(), announced.to_string());
        (found != expected).then_some(SourceError::Damaged { file, expected, found })
    } else if file.ends_with(".json") {
        let text = fs::read(&blob).map_err(SourceError::Disk)?;
        let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&text);
        parsed.err().map(|e| SourceError::NotJson { file: file.to_string(), reason: e.to_string() })
    } else {
        None
    };
    let Some(damage) = damage else { return Ok(()) };
    let _ = fs::remove_file(path).and(fs::remove_file(&blob));
    Err(damage)
}

/// The weight files that an index names. Names with a path are refused: they would be written outside the folder.
fn shards(index: &Path) -> Result<BTreeSet<String>, SourceError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let broken = |reason: String| SourceError::NotIndex { file: WEIGHTS_INDEX, reason };
    let text = fs::read(index).map_err(SourceError::Disk)?;
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
