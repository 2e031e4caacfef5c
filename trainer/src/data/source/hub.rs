//! Data sets of the Hugging Face hub, through `hf-hub`: its cache, its resumed downloads, HF_ENDPOINT and HF_HOME.

use super::{HUB, Kind, ReadOptions, Source};
use crate::error::{Error, Result};
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Repo, RepoType};
use std::path::PathBuf;

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
pub(super) fn fetch(address: &str, options: &ReadOptions, sources: &mut Vec<Source>) -> Result<()> {
    let parsed = Address::parse(address).ok_or_else(|| {
        Error::Usage(format!("{HUB}{address}: expected {HUB}datasets/OWNER/NAME[@REVISION][/PATH]"))
    })?;
    let failed = |error: ApiError| {
        Error::Invalid(format!(
            "{HUB}{address}: the hub did not give it ({error}); check the name and the connection (HF_ENDPOINT names a \
             mirror, HF_TOKEN opens private data sets), or download the files and name them instead"
        ))
    };
    let api =
        ApiBuilder::from_env().with_progress(false).with_user_agent("thimble", env!("CARGO_PKG_VERSION"));
    let api = api.build().map_err(failed)?;
    let repo = Repo::with_revision(parsed.repository.clone(), RepoType::Dataset, parsed.revision.to_owned());
    let info = api.repo(repo.clone()).info().map_err(failed)?;
    let mut files: Vec<Source> = info
        .siblings
        .into_iter()
        .map(|sibling| sibling.rfilename)
        .filter(|file| parsed.holds(file))
        .filter_map(|file| Source::recognize(PathBuf::new(), file, options))
        .collect();
    if files.iter().any(|file| file.kind == Kind::Parquet) {
        files.retain(|file| file.kind == Kind::Parquet);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    // The commit, not the branch: what is downloaded stays one version.
    let repo = api.repo(Repo::with_revision(parsed.repository.clone(), RepoType::Dataset, info.sha));
    let count = files.len();
    for (number, mut file) in files.into_iter().enumerate() {
        eprintln!("file {} of {count}: {}", number + 1, file.name);
        file.path = repo.get(&file.name).map_err(failed)?;
        file.name = format!("{HUB}datasets/{}/{}", parsed.repository, file.name);
        sources.push(file);
    }
    Ok(())
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
