//! Data sets of the Hugging Face hub.

use super::text_source::{ReadOptions, SourceKind, TextSource};
use crate::error::{CurateError, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::PathBuf;
use thimble_hub::{DownloadEvent, Hub, HubError, Repo, RepoType, Repository};

/// Prefix of an address on the hub.
pub(super) const HUB: &str = "hf://";

/// `datasets/OWNER/NAME[@REVISION][/PATH]`.
#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    repository: String,
    revision: &'a str,
    path: &'a str,
}

impl<'a> Address<'a> {
    fn parse(address: &'a str) -> Option<Address<'a>> {
        let mut parts = address.strip_prefix("datasets/")?.splitn(3, '/');
        let (owner, name, path) = (parts.next()?, parts.next()?, parts.next().unwrap_or(""));
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let good = |part: &str| !part.is_empty() && !part.starts_with('.');
        if !good(owner) || !good(name) || !good(revision) {
            return None;
        }
        Some(Address { repository: format!("{owner}/{name}"), revision, path: path.trim_end_matches('/') })
    }

    /// Whether `file` is the path, or lies in it.
    fn holds(&self, file: &str) -> bool {
        match file.strip_prefix(self.path) {
            Some(rest) => self.path.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

/// Downloads the files with text at `address` and appends them to `sources`, sorted by name. Where there are parquet
/// files, they are taken alone: many data sets hold the same text in several forms.
pub(super) fn fetch(address: &str, options: &ReadOptions, sources: &mut Vec<TextSource>) -> Result<()> {
    let parsed = Address::parse(address).ok_or_else(|| {
        CurateError::Usage(format!("{HUB}{address}: expected {HUB}datasets/OWNER/NAME[@REVISION][/PATH]"))
    })?;
    let failed = |error: HubError| {
        let remedy = match error {
            HubError::Unreachable { .. } | HubError::Broken { .. } => {
                "; check the connection, select a mirror with HF_ENDPOINT, or download the files and pass their paths instead"
            }
            _ => "",
        };
        CurateError::Invalid(format!("{HUB}{address}: {error}{remedy}"))
    };
    let hub = Hub::from_env().map_err(failed)?;
    let at = |revision: &str| {
        let name = parsed.repository.clone();
        hub.repository(Repo::with_revision(name, RepoType::Dataset, revision.to_owned()))
    };
    let info = at(parsed.revision).info().map_err(failed)?;
    let mut files: Vec<TextSource> = info
        .siblings
        .into_iter()
        .map(|sibling| sibling.rfilename)
        .filter(|file| parsed.holds(file))
        // Unless it is asked for, a plain .json describes the data set.
        .filter(|file| file == parsed.path || !file.to_ascii_lowercase().ends_with(".json"))
        .filter_map(|file| TextSource::recognize(PathBuf::new(), file, options))
        .collect();
    if files.iter().any(|file| file.kind == SourceKind::Parquet) {
        files.retain(|file| file.kind == SourceKind::Parquet);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    // The commit, not the branch: what is downloaded stays one version.
    let repository = at(&info.sha);
    let count = files.len();
    for (number, mut file) in files.into_iter().enumerate() {
        eprintln!("file {} of {count}: {}", number + 1, file.name);
        file.path = get(&repository, &file.name).map_err(failed)?;
        file.name = format!("{HUB}datasets/{}/{}", parsed.repository, file.name);
        sources.push(file);
    }
    Ok(())
}

/// The file in the hub's cache, downloaded with a bar on a terminal.
fn get(repository: &Repository, file: &str) -> std::result::Result<PathBuf, HubError> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        bar.set_style(style);
    }
    let path = repository.get(file, &mut |event| match event {
        DownloadEvent::Size { total, there } => {
            bar.set_length(total.unwrap_or_default());
            bar.set_position(there);
        }
        DownloadEvent::Read(bytes) => bar.inc(bytes),
        DownloadEvent::Waiting => eprintln!("another program is downloading {file}: waiting for it"),
    });
    bar.finish_and_clear();
    path
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn addresses_are_read() {
        let parsed = Address::parse("datasets/own/set@v1/data/en/").unwrap();
        assert_eq!((parsed.repository.as_str(), parsed.revision, parsed.path), ("own/set", "v1", "data/en"));
        assert!(parsed.holds("data/en/a.parquet") && parsed.holds("data/en"));
        assert!(!parsed.holds("data/english/a.parquet") && !parsed.holds("README.md"));
        let whole = Address::parse("datasets/own/set").unwrap();
        assert!(whole.revision == "main" && whole.holds("anything"));
        for wrong in ["", "own/set", "datasets/own", "datasets//set", "datasets/own/@v1", "datasets/../set"] {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }
}
