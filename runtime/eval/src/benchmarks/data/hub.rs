//! The tasks' data sets on the Hugging Face hub.

use super::parquet;
use super::table::Table;
use crate::benchmarks::error::{EvalError, Result};
use crate::benchmarks::task::Task;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use thimble_hub::{DownloadEvent, HubError, Repo, RepoType};
use thimble_runtime::format::checksum;

/// The hub, and the cache folder for its data sets.
#[derive(Clone, Debug)]
pub struct HubDatasets {
    /// The cache folder; cached files are not downloaded again.
    pub cache: PathBuf,
    /// The endpoint, if not that of HF_ENDPOINT.
    pub endpoint: Option<String>,
}

/// The branch with every data set as parquet files, `CONFIG/SPLIT/0000.parquet`.
const PARQUET: &str = "refs/convert/parquet";

/// The harness's data set and its configuration, if it has several.
fn data_set(task: Task) -> (&'static str, Option<&'static str>) {
    match task {
        Task::ArcEasy => ("allenai/ai2_arc", Some("ARC-Easy")),
        Task::ArcChallenge => ("allenai/ai2_arc", Some("ARC-Challenge")),
        Task::Boolq => ("aps/super_glue", Some("boolq")),
        Task::Hellaswag => ("Rowan/hellaswag", None),
        Task::Piqa => ("baber/piqa", None),
        Task::Sciq => ("allenai/sciq", None),
        Task::Winogrande => ("allenai/winogrande", Some("winogrande_xl")),
        Task::Truthfulqa => ("truthfulqa/truthful_qa", Some("multiple_choice")),
        Task::Openbookqa => ("allenai/openbookqa", Some("main")),
        Task::Mmlu => ("cais/mmlu", Some("all")),
        Task::Gsm8k => ("openai/gsm8k", Some("main")),
        Task::LambadaOpenai => ("EleutherAI/lambada_openai", Some("default")),
    }
}

/// The index of a downloaded split.
#[derive(Serialize, Deserialize)]
struct CachedSplit {
    /// The commit.
    revision: String,
    /// Files in the cache, in the order of their names.
    files: Vec<PathBuf>,
}

impl HubDatasets {
    /// The rows of a split, downloaded if they are not cached.
    pub(crate) fn table(&self, task: Task, split: &str) -> Result<Table> {
        let index = self.cache.join(format!("{}-{split}.json", task.name()));
        let fetched = match self.fetched(&index) {
            Some(fetched) => fetched,
            None => {
                let fetched = self.fetch(task, split)?;
                let text = serde_json::to_vec(&fetched).unwrap_or_default();
                thimble_files::write(&index, &text).map_err(EvalError::io("write", &index))?;
                fetched
            }
        };
        let (mut rows, mut sums) = (Vec::new(), Vec::new());
        for file in &fetched.files {
            parquet::append(file, &mut rows)?;
            let bytes = std::fs::read(file).map_err(EvalError::io("read", file))?;
            sums.extend(checksum(&bytes).to_le_bytes());
        }
        let name = fetched.files.first().cloned().unwrap_or(index);
        Table::values(name, checksum(&sums), rows)
    }

    fn fetched(&self, index: &Path) -> Option<CachedSplit> {
        let fetched: CachedSplit = serde_json::from_slice(&std::fs::read(index).ok()?).ok()?;
        fetched.files.iter().all(|file| file.is_file()).then_some(fetched)
    }

    fn fetch(&self, task: Task, split: &str) -> Result<CachedSplit> {
        let (repository, config) = data_set(task);
        std::fs::create_dir_all(&self.cache).map_err(EvalError::io("create the folder", &self.cache))?;
        self.download(repository, config, split).map_err(|error| {
            let remedy = match error {
                FetchError::Hub(HubError::Unreachable { .. } | HubError::Broken { .. }) => {
                    "; check the connection, or select a mirror with HF_ENDPOINT"
                }
                _ => "",
            };
            EvalError::Missing {
                reason: format!("cannot download {repository} from the hub: {error}{remedy}"),
            }
        })
    }

    fn download(
        &self,
        repository: &str,
        config: Option<&str>,
        split: &str,
    ) -> std::result::Result<CachedSplit, FetchError> {
        let mut hub = thimble_hub::Hub::from_env()?.with_cache(self.cache.clone());
        if let Some(endpoint) = &self.endpoint {
            hub = hub.with_endpoint(endpoint)?;
        }
        let at = |revision: &str| {
            let repo = Repo::with_revision(repository.to_string(), RepoType::Dataset, revision.to_string());
            hub.repository(repo)
        };
        let info = at(PARQUET).info()?;
        let mut files: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        files.retain(|file| wanted(file, config, split));
        files.sort();
        let mut configs: Vec<&str> = files.iter().filter_map(|file| file.split('/').next()).collect();
        configs.dedup();
        if configs.len() != 1 {
            let asked = config.unwrap_or("CONFIG");
            let found = configs.len();
            return Err(FetchError::Files(format!(
                "expected {asked}/{split}/*.parquet of one CONFIG, found {found} of them"
            )));
        }
        // The commit, not the branch: all files are of one version.
        let at_commit = at(&info.sha);
        let get = |file: &String| {
            let bar = bar(file);
            let path = at_commit.get(file, &mut |event| match event {
                DownloadEvent::Size { total, there } => {
                    bar.set_length(total.unwrap_or_default());
                    bar.set_position(there);
                }
                DownloadEvent::Read(bytes) => bar.inc(bytes),
                DownloadEvent::Waiting => {
                    bar.set_message(format!("waiting for another program that downloads {file}"))
                }
            });
            bar.finish_and_clear();
            path
        };
        let files = files.iter().map(get).collect::<std::result::Result<_, HubError>>()?;
        Ok(CachedSplit { revision: info.sha, files })
    }
}

/// Why a download failed.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The data set has unexpected files.
    #[error("{0}")]
    Files(String),
}

/// A progress line, on a terminal only.
fn bar(file: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{msg} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    bar.set_message(file.to_string());
    bar
}

/// Whether a file holds rows of the split.
fn wanted(file: &str, config: Option<&str>, split: &str) -> bool {
    let parts: Vec<&str> = file.split('/').collect();
    let [found, of, name] = parts[..] else { return false };
    of == split && name.ends_with(".parquet") && config.is_none_or(|config| config == found)
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
