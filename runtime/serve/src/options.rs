//! What a server is told when it starts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use thiserror::Error;

/// Where a server listens, whom it serves, and its limits.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where it listens.
    pub address: SocketAddr,
    /// Keys, one of which a request has to have; none is needed if there are none, which only a loopback address allows.
    pub api_keys: Vec<ApiKey>,
    /// Names that a request may call this server by, beside those of its address.
    pub allowed_hosts: Vec<String>,
    /// Origins of pages that may use the API, such as `http://localhost:3000`, or `*` for all.
    pub cors_origins: Vec<String>,
    /// Requests that may wait for a slot.
    pub queue: usize,
    /// Longest body, bytes.
    pub max_body: usize,
    /// Most connections at a time.
    pub max_connections: usize,
    /// How long a request may take.
    pub request_time: Duration,
    /// How long a connection may be idle, a header or a body may take to arrive, and a client may not read.
    pub idle_time: Duration,
    /// How long answers may take to end after the server was told to stop.
    pub grace_time: Duration,
    /// Whether a line for each request goes to stderr.
    pub logs: bool,
}

/// A secret that requests have to know. Its debug form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(pub String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(...)")
    }
}

/// Why options are refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// Other machines could use the model.
    #[error("the address {0} is open to other machines, which requires a key")]
    NoKey(IpAddr),
    /// A key that no header can have.
    #[error("a key is empty or has characters other than visible ASCII")]
    Key,
    /// No origin.
    #[error("{0:?} is no origin: expected a scheme and a host, such as http://localhost:3000, or *")]
    Origin(String),
    /// No name of a host.
    #[error("{0:?} is no name of a host: expected one without scheme, port and path, such as model.example")]
    Host(String),
}

impl ServeOptions {
    /// A server on this address, with the default limits.
    pub fn new(address: SocketAddr) -> ServeOptions {
        ServeOptions {
            address,
            api_keys: Vec::new(),
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            queue: 256,
            max_body: 4 << 20,
            max_connections: 512,
            request_time: Duration::from_secs(600),
            idle_time: Duration::from_secs(30),
            grace_time: Duration::from_secs(5),
            logs: true,
        }
    }

    /// Checks that the options do not open more than was meant.
    ///
    /// # Errors
    /// [`OptionsError`].
    pub fn check(&self) -> Result<(), OptionsError> {
        if !self.address.ip().to_canonical().is_loopback() && self.api_keys.is_empty() {
            return Err(OptionsError::NoKey(self.address.ip()));
        }
        let visible =
            |ApiKey(key): &ApiKey| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.api_keys.iter().all(visible) {
            return Err(OptionsError::Key);
        }
        let is_origin = |origin: &&String| {
            let behind = origin.split_once("://").map(|(_, host)| host);
            *origin == "*" || behind.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' ', ',']))
        };
        if let Some(other) = self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(OptionsError::Origin(other.clone()));
        }
        let is_host = |host: &&String| !host.is_empty() && !host.contains(['/', ':', ' ', '@', '*']);
        match self.allowed_hosts.iter().find(|host| !is_host(host)) {
            Some(other) => Err(OptionsError::Host(other.clone())),
            None => Ok(()),
        }
    }
}
