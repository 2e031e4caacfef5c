//! A client of the Hugging Face hub for `thimble pull`, `thimble eval` and `thimble-train`.
//!
//! Endpoint (HF_ENDPOINT), token (HF_TOKEN, HF_TOKEN_PATH, or the file that `hf auth login` writes) and cache (HF_HOME)
//! are those of Hugging Face's own tools. The crate `hf-hub` provides the cache layout and the types of the hub's answers,
//! but not the downloads: `hf-hub` 0.5 sends the token to hosts that a file redirects to, and appends to a partial file
//! whatever the server answers.

mod download;
mod error;
mod http;
mod retry;
mod token;

pub use error::HubError;
pub use hf_hub::api::RepoInfo;
pub use hf_hub::{Repo, RepoType};

use hf_hub::Cache;
use http::{Client, HubResponse, escape};
use retry::{AttemptError, is_broken_connection, is_retryable, retried};
use std::path::{Component, Path, PathBuf};
use token::Token;

/// The default endpoint.
const ENDPOINT: &str = "https://huggingface.co";
/// The size limit of a listing; those of the largest data sets have some ten million bytes.
const MAX_LISTING_BYTES: u64 = 256 << 20;

/// The hub and its cache folder.
#[derive(Clone, Debug)]
pub struct Hub {
    client: Client,
    cache: Cache,
}

/// An event of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadEvent {
    /// A connection starts.
    Size {
        /// Bytes of the whole file, if known.
        total: Option<u64>,
        /// Bytes on the disk.
        there: u64,
    },
    /// So many more bytes arrived.
    Read(u64),
    /// Another process downloads the file; this one waits.
    Waiting,
}

impl Hub {
    /// The hub that the environment configures.
    ///
    /// # Errors
    /// [`HubError::Setting`] for an invalid endpoint or token, or a missing home folder.
    pub fn from_env() -> Result<Hub, HubError> {
        let endpoint = variable("HF_ENDPOINT");
        let home = token::home()?;
        Hub::new(endpoint.as_deref().unwrap_or(ENDPOINT), Token::from_env(&home)?, home.join("hub"))
    }

    fn new(endpoint: &str, token: Token, cache: PathBuf) -> Result<Hub, HubError> {
        Ok(Hub { client: Client::new(endpoint, token)?, cache: Cache::new(cache) })
    }

    /// The same hub with another cache folder.
    #[must_use]
    pub fn with_cache(self, cache: PathBuf) -> Hub {
        Hub { cache: Cache::new(cache), ..self }
    }

    /// The same hub at another endpoint, which gets the token.
    ///
    /// # Errors
    /// [`HubError::Setting`] for an invalid endpoint.
    pub fn with_endpoint(self, endpoint: &str) -> Result<Hub, HubError> {
        Ok(Hub { client: Client::new(endpoint, self.client.token)?, ..self })
    }

    /// A repository at one revision.
    pub fn repository(&self, repo: Repo) -> Repository {
        Repository { hub: self.clone(), repo }
    }
}

/// A repository at a revision.
#[derive(Clone, Debug)]
pub struct Repository {
    hub: Hub,
    repo: Repo,
}

impl Repository {
    /// The cached file, if there is one.
    pub fn cached(&self, file: &str) -> Option<PathBuf> {
        let file = is_contained(file).then_some(file)?;
        self.hub.cache.repo(self.repo.clone()).get(file)
    }

    /// The commit of the revision, and the names of its files.
    ///
    /// # Errors
    /// The hub is unreachable, refuses, or does not answer with a listing.
    pub fn info(&self) -> Result<RepoInfo, HubError> {
        let what = format!("the files of {}", self.name());
        let revision = self.repo.url_revision();
        let api = self.repo.api_url();
        let api = escape(api.strip_suffix(&format!("/revision/{revision}")).unwrap_or(&api));
        let url = format!("{}/api/{api}/revision/{}", self.hub.client.endpoint, self.revision());
        let body = retried(|| {
            let success = |status: u16| (200..300).contains(&status);
            let mut answer = self.checked(self.hub.client.get(&url, None), success, &what)?;
            let body = answer.response.body_mut().with_config().limit(MAX_LISTING_BYTES).read_to_vec();
            body.map_err(|error| {
                let broken = HubError::Broken { what: what.clone(), reason: error.to_string() };
                if is_broken_connection(&error) {
                    AttemptError::Transient(broken)
                } else {
                    AttemptError::Permanent(broken)
                }
            })
        })?;
        let info: RepoInfo = serde_json::from_slice(&body).map_err(|error| {
            self.not_a_hub(&what, format!("expected a listing of the repository in JSON: {error}"))
        })?;
        // It becomes a folder name.
        match is_safe_name(&info.sha) {
            true => Ok(info),
            false => {
                Err(self.not_a_hub(&what, format!("expected the hash of a commit, found {:?}", info.sha)))
            }
        }
    }

    /// The cached file, downloaded if it is not cached.
    ///
    /// # Errors
    /// As [`Repository::download`].
    pub fn get(&self, file: &str, progress: &mut dyn FnMut(DownloadEvent)) -> Result<PathBuf, HubError> {
        match self.cached(file) {
            Some(path) => Ok(path),
            None => self.download(file, progress),
        }
    }

    fn name(&self) -> String {
        self.repo.url()
    }

    /// The revision as one segment of a URL path.
    fn revision(&self) -> String {
        escape(self.repo.revision()).replace('/', "%2F")
    }

    /// The answer of one attempt, if `good` accepts its status.
    fn checked(
        &self,
        answer: Result<HubResponse, ureq::Error>,
        good: impl Fn(u16) -> bool,
        what: &str,
    ) -> Result<HubResponse, AttemptError> {
        let answer = answer.map_err(|error| {
            let unreachable = self.unreachable(&error);
            if is_broken_connection(&error) {
                AttemptError::Transient(unreachable)
            } else {
                AttemptError::Permanent(unreachable)
            }
        })?;
        match answer.response.status().as_u16() {
            status if good(status) => Ok(answer),
            status => {
                let refused = self.refused(&answer.response, what.to_owned());
                Err(if is_retryable(status) {
                    AttemptError::Transient(refused)
                } else {
                    AttemptError::Permanent(refused)
                })
            }
        }
    }

    fn not_a_hub(&self, what: &str, reason: String) -> HubError {
        HubError::NotAHub { endpoint: self.hub.client.endpoint.clone(), what: what.to_owned(), reason }
    }

    fn unreachable(&self, error: &ureq::Error) -> HubError {
        HubError::Unreachable { endpoint: self.hub.client.endpoint.clone(), reason: error.to_string() }
    }
}

/// An environment variable; an empty one counts as unset.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Whether a file name stays inside its folder.
fn is_contained(file: &str) -> bool {
    let normal = |part: Component<'_>| matches!(part, Component::Normal(_));
    !file.is_empty() && !file.contains(['\\', '\0']) && Path::new(file).components().all(normal)
}

/// Whether a word from the hub may become a file name.
fn is_safe_name(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=128).contains(&word.len()) && !word.starts_with('.') && word.bytes().all(plain)
}

#[cfg(test)]
mod tests;
