//! The Hugging Face hub, as `thimble pull`, `thimble eval` and `thimble-train` use it.
//!
//! Endpoint (HF_ENDPOINT), token (HF_TOKEN, HF_TOKEN_PATH, or the file that `hf auth login` writes) and cache (HF_HOME)
//! are those of Hugging Face's own tools; the cache's layout and the form of the hub's answers come from `hf-hub`. Its
//! downloads do not: `hf-hub` 0.5 sends the token on to the host that a file's address redirects to, and appends to
//! what is there whatever a server answers.

mod download;
mod error;
mod http;
mod retry;
mod token;

pub use error::HubError;
pub use hf_hub::api::RepoInfo;
pub use hf_hub::{Repo, RepoType};

use hf_hub::Cache;
use http::{Answer, Client, escape};
use retry::{Trouble, broke, busy, retried};
use std::path::{Component, Path, PathBuf};
use token::Token;

/// Where the hub is unless HF_ENDPOINT names a mirror.
const ENDPOINT: &str = "https://huggingface.co";
/// Most bytes of a listing; that of the largest data sets has some ten million.
const MOST_LISTING_BYTES: u64 = 256 << 20;

/// The hub, and the folder that keeps what comes from it.
#[derive(Clone, Debug)]
pub struct Hub {
    client: Client,
    cache: Cache,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadEvent {
    /// Bytes of the whole file where the hub says so, and those that are there already. Comes again after a broken
    /// connection.
    Size {
        /// Of the whole file.
        total: Option<u64>,
        /// On the disk.
        there: u64,
    },
    /// So many more bytes have arrived.
    Read(u64),
    /// Another process downloads the file: this one waits for it.
    Waiting,
}

impl Hub {
    /// The hub of the environment.
    ///
    /// # Errors
    /// [`HubError::Setting`] for an endpoint that is no address, a token that cannot be one, or no home folder.
    pub fn from_env() -> Result<Hub, HubError> {
        let endpoint = variable("HF_ENDPOINT");
        let home = token::home()?;
        Hub::new(endpoint.as_deref().unwrap_or(ENDPOINT), Token::from_env(&home)?, home.join("hub"))
    }

    fn new(endpoint: &str, token: Token, cache: PathBuf) -> Result<Hub, HubError> {
        Ok(Hub { client: Client::new(endpoint, token)?, cache: Cache::new(cache) })
    }

    /// The same with another folder for what comes from it.
    #[must_use]
    pub fn with_cache(self, cache: PathBuf) -> Hub {
        Hub { cache: Cache::new(cache), ..self }
    }

    /// The same at another address, which gets the token.
    ///
    /// # Errors
    /// [`HubError::Setting`] for what is no address.
    pub fn with_endpoint(self, endpoint: &str) -> Result<Hub, HubError> {
        Ok(Hub { client: Client::new(endpoint, self.client.token)?, ..self })
    }

    /// One of its repositories, at one revision.
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
    /// The file in the cache; none where it has not been downloaded.
    pub fn cached(&self, file: &str) -> Option<PathBuf> {
        let file = inside(file).then_some(file)?;
        self.hub.cache.repo(self.repo.clone()).get(file)
    }

    /// The commit of the revision, and the names of its files.
    ///
    /// # Errors
    /// The hub cannot be reached, refuses, or answers with something else than a listing.
    pub fn info(&self) -> Result<RepoInfo, HubError> {
        let what = format!("the files of {}", self.name());
        let revision = self.repo.url_revision();
        let api = self.repo.api_url();
        let api = escape(api.strip_suffix(&format!("/revision/{revision}")).unwrap_or(&api));
        let url = format!("{}/api/{api}/revision/{}", self.hub.client.endpoint, self.revision());
        let body = retried(|| {
            let success = |status: u16| (200..300).contains(&status);
            let mut answer = self.checked(self.hub.client.get(&url, None), success, &what)?;
            let body = answer.response.body_mut().with_config().limit(MOST_LISTING_BYTES).read_to_vec();
            body.map_err(|error| {
                let broken = HubError::Broken { what: what.clone(), reason: error.to_string() };
                if broke(&error) { Trouble::Passing(broken) } else { Trouble::Final(broken) }
            })
        })?;
        let info: RepoInfo = serde_json::from_slice(&body).map_err(|error| {
            self.foreign(&what, format!("expected a listing of the repository in JSON: {error}"))
        })?;
        // It becomes the name of a folder.
        match name(&info.sha) {
            true => Ok(info),
            false => Err(self.foreign(&what, format!("expected the hash of a commit, found {:?}", info.sha))),
        }
    }

    /// The file in the cache, downloaded where it is not there yet.
    ///
    /// # Errors
    /// As [`Repository::download`].
    pub fn get(&self, file: &str, watch: &mut dyn FnMut(DownloadEvent)) -> Result<PathBuf, HubError> {
        match self.cached(file) {
            Some(path) => Ok(path),
            None => self.download(file, watch),
        }
    }

    fn name(&self) -> String {
        self.repo.url()
    }

    /// As a single part of an address's path.
    fn revision(&self) -> String {
        escape(self.repo.revision()).replace('/', "%2F")
    }

    /// One attempt's answer, where its status is one that `good` accepts.
    fn checked(
        &self,
        answer: Result<Answer, ureq::Error>,
        good: impl Fn(u16) -> bool,
        what: &str,
    ) -> Result<Answer, Trouble> {
        let answer = answer.map_err(|error| {
            let unreachable = self.unreachable(&error);
            if broke(&error) { Trouble::Passing(unreachable) } else { Trouble::Final(unreachable) }
        })?;
        match answer.response.status().as_u16() {
            status if good(status) => Ok(answer),
            status => {
                let refused = self.refused(&answer.response, what.to_owned());
                Err(if busy(status) { Trouble::Passing(refused) } else { Trouble::Final(refused) })
            }
        }
    }

    fn foreign(&self, what: &str, reason: String) -> HubError {
        HubError::Foreign { endpoint: self.hub.client.endpoint.clone(), what: what.to_owned(), reason }
    }

    fn unreachable(&self, error: &ureq::Error) -> HubError {
        HubError::Unreachable { endpoint: self.hub.client.endpoint.clone(), reason: error.to_string() }
    }
}

/// A variable of the environment; one that is set to nothing is not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Whether a repository's file has a name that stays inside of a folder.
fn inside(file: &str) -> bool {
    let normal = |part: Component<'_>| matches!(part, Component::Normal(_));
    !file.is_empty() && !file.contains(['\\', '\0']) && Path::new(file).components().all(normal)
}

/// Whether a word of the hub's may become the name of a file.
fn name(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=128).contains(&word.len()) && !word.starts_with('.') && word.bytes().all(plain)
}

#[cfg(test)]
mod tests;
