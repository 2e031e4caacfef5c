//! Errors of the hub, with advice.

use crate::Repository;
use std::io;
use std::path::PathBuf;
use thiserror::Error;
use ureq::Body;
use ureq::http::Response;

/// Why a request to the hub failed.
#[derive(Debug, Error)]
pub enum HubError {
    /// An invalid setting.
    #[error("{name}: {reason}")]
    Setting {
        /// The variable, or the token's file.
        name: String,
        /// What was expected, and what to do.
        reason: String,
    },
    /// No answer: offline, a firewall, a wrong HF_ENDPOINT.
    #[error("the Hugging Face hub cannot be reached at {endpoint} ({reason})")]
    Unreachable {
        /// The hub's address.
        endpoint: String,
        /// The network error.
        reason: String,
    },
    /// The hub answered with an error status.
    #[error("the hub answered {status} for {what}{}{advice}", if .advice.is_empty() { "" } else { ": " })]
    Refused {
        /// HTTP status.
        status: u16,
        /// The requested file and its repository.
        what: String,
        /// What to do.
        advice: String,
    },
    /// An interrupted answer. Downloads resume if the hub supports ranges.
    #[error("the download of {what} from the hub was interrupted ({reason})")]
    Broken {
        /// What was asked for.
        what: String,
        /// Why.
        reason: String,
    },
    /// An answer that is not a hub's: from another server, or a proxy.
    #[error(
        "{endpoint} does not answer as a hub for {what} ({reason}); check that HF_ENDPOINT is the address of a hub, and that no \
         proxy answers instead"
    )]
    NotAHub {
        /// The hub's address.
        endpoint: String,
        /// What was asked for.
        what: String,
        /// What was expected and found.
        reason: String,
    },
    /// A file name that would lead out of the cache.
    #[error("expected the name of a file in {repository}, found {file:?}")]
    FileName {
        /// Owner and name.
        repository: String,
        /// The name.
        file: String,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Repository {
    /// The error for an answer with an error status.
    pub(crate) fn refused(&self, response: &Response<Body>, what: String) -> HubError {
        let status = response.status().as_u16();
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok());
        HubError::Refused { status, what, advice: self.advice(status, code.unwrap_or_default()) }
    }

    fn advice(&self, status: u16, code: &str) -> String {
        let client = &self.hub.client;
        let endpoint = &client.endpoint;
        let page = format!("{endpoint}/{}", self.name());
        match (status, client.token.origin()) {
            (401 | 403, None) => {
                let unreadable = client.token.unreadable().map(|why| format!(" ({why})")).unwrap_or_default();
                format!(
                    "it is private or gated, or there is no such repository; check the name, accept its licence at {page} \
                     if it asks for that, and set HF_TOKEN to a token from {endpoint}/settings/tokens that may read \
                     it{unreadable}"
                )
            }
            (401, Some(origin)) if code != "GatedRepo" => format!(
                "the token from {origin} is not valid, or there is no such repository; check the name, and remove \
                 the token, or replace it with one from {endpoint}/settings/tokens"
            ),
            (401 | 403, Some(origin)) => format!(
                "the token from {origin} may not read it; accept the licence at {page} with the token's account, and let \
                 the token read gated repositories at {endpoint}/settings/tokens"
            ),
            (404, None) => {
                "there is no such file, revision or repository; check the name, and set HF_TOKEN if the \
                            repository is private"
                    .to_owned()
            }
            (404, Some(_)) => "there is no such file, revision or repository; check the name".to_owned(),
            (429, None) => {
                "too many requests from this address; wait a few minutes, or set HF_TOKEN, which raises the limit"
                    .to_owned()
            }
            (429, Some(_)) => "too many requests from this address; wait a few minutes".to_owned(),
            (500.., _) => "the hub reported an internal error; try again later".to_owned(),
            _ => String::new(),
        }
    }
}
