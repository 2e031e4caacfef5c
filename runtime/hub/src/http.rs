//! HTTP requests that follow redirects and send the token to the hub alone.

use crate::error::HubError;
use crate::token::Token;
use std::time::Duration;
use ureq::http::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

/// Timeout of DNS and connection: offline users must not wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a metadata request.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of each read.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The limit of redirects.
const MAX_REDIRECTS: usize = 10;
const USER_AGENT: &str = concat!("thimble/", env!("CARGO_PKG_VERSION"));

/// An address and a token.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    agent: Agent,
    /// Without a slash at its end.
    pub(crate) endpoint: String,
    pub(crate) token: Token,
}

/// A response, with the metadata that the hub sent on the way to it.
pub(crate) struct HubResponse {
    pub(crate) response: Response<Body>,
    /// The file's ETag without quotes: a SHA-256 for large files.
    pub(crate) etag: Option<String>,
    /// The commit of the revision.
    pub(crate) commit: Option<String>,
    /// Bytes of the whole file.
    pub(crate) size: Option<u64>,
}

impl Client {
    pub(crate) fn new(endpoint: &str, token: Token) -> Result<Client, HubError> {
        let endpoint = endpoint.trim().trim_end_matches('/');
        let uri = endpoint.parse::<Uri>().ok();
        if !uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
        {
            return Err(HubError::Setting {
                name: "HF_ENDPOINT".to_owned(),
                reason: format!("expected an address such as https://huggingface.co, found {endpoint:?}"),
            });
        }
        let config = Agent::config_builder()
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(STALL_TIMEOUT))
            .http_status_as_error(false)
            // Followed here, to keep the token from other hosts.
            .max_redirects(0)
            .user_agent(USER_AGENT)
            // A compressed answer could not be resumed.
            .accept_encoding("identity");
        Ok(Client { agent: config.build().into(), endpoint: endpoint.to_owned(), token })
    }

    /// Requests `url`, or a range of its bytes.
    pub(crate) fn get(&self, url: &str, range: Option<&str>) -> Result<HubResponse, ureq::Error> {
        self.send(url, range, STALL_TIMEOUT)
    }

    /// Requests the first byte of `url`, to get the file's metadata.
    pub(crate) fn probe(&self, url: &str) -> Result<HubResponse, ureq::Error> {
        self.send(url, Some("bytes=0-0"), PROBE_TIMEOUT)
    }

    fn send(&self, url: &str, range: Option<&str>, timeout: Duration) -> Result<HubResponse, ureq::Error> {
        let mut url = url.to_owned();
        let (mut etag, mut commit, mut size) = (None, None, None);
        for _ in 0..=MAX_REDIRECTS {
            let ours = same_origin(&self.endpoint, &url);
            let request = self.agent.get(&url).config().timeout_recv_response(Some(timeout));
            let mut request = request.build();
            if let Some(range) = range {
                request = request.header(RANGE, range);
            }
            if ours && let Some(token) = self.token.value() {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|error| ureq::Error::Http(error.into()))?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let response = request.call()?;
            let headers = response.headers();
            let linked = text(headers, "x-linked-etag");
            // The hub's ETag wins: the storage behind it has another one.
            let found = linked.or_else(|| text(headers, "etag"));
            etag = if ours { found.or(etag) } else { etag.or(found) };
            let found = text(headers, "x-repo-commit");
            commit = if ours { found.or(commit) } else { commit.or(found) };
            size = size.or_else(|| text(headers, "x-linked-size")?.parse().ok());
            let redirect = matches!(response.status().as_u16(), 301..=303 | 307 | 308);
            match headers.get(LOCATION).and_then(|to| to.to_str().ok()).filter(|_| redirect) {
                Some(to) => url = resolve(&url, to),
                None => {
                    let etag = etag.map(|etag| etag.trim_start_matches("W/").replace('"', ""));
                    let commit = commit.map(|commit| commit.trim().to_owned());
                    return Ok(HubResponse { response, etag, commit, size });
                }
            }
        }
        Err(ureq::Error::TooManyRedirects)
    }
}

pub(crate) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Whether `url` has the endpoint's scheme, host and port; an upgrade from http to https is allowed.
fn same_origin(endpoint: &str, url: &str) -> bool {
    let (Ok(endpoint), Ok(url)) = (endpoint.parse::<Uri>(), url.parse::<Uri>()) else { return false };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    let port = |uri: &Uri| match uri.scheme_str() {
        Some("https") => uri.port_u16().unwrap_or(443),
        _ => uri.port_u16().unwrap_or(80),
    };
    let scheme = |uri: &Uri| uri.scheme_str().map(str::to_owned);
    let upgraded = scheme(&endpoint).as_deref() == Some("http")
        && scheme(&url).as_deref() == Some("https")
        && (port(&endpoint), port(&url)) == (80, 443);
    host(&endpoint) == host(&url)
        && (upgraded || (scheme(&endpoint) == scheme(&url) && port(&endpoint) == port(&url)))
}

/// Resolves a Location against `base` (RFC 3986, 5.2), without the fragment, which is not sent.
fn resolve(base: &str, to: &str) -> String {
    let [base, to] = [base, to].map(|address| address.split_once('#').map_or(address, |(sent, _)| sent));
    if to.is_empty() {
        return base.to_owned();
    }
    if to.split_once("://").is_some_and(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric())) {
        return to.to_owned();
    }
    let scheme_end = base.find("://").map_or(0, |at| at + 3);
    if to.starts_with("//") {
        return format!("{}{to}", &base[..scheme_end.saturating_sub(2)]);
    }
    let path_start = base[scheme_end..].find(['/', '?']).map_or(base.len(), |at| scheme_end + at);
    if to.starts_with('/') {
        return format!("{}{to}", &base[..path_start]);
    }
    let path_end = base[path_start..].find('?').map_or(base.len(), |at| path_start + at);
    if to.starts_with('?') {
        return format!("{}{to}", &base[..path_end]);
    }
    let folder = base[path_start..path_end].rfind('/').map_or(path_end, |at| path_start + at);
    format!("{}/{to}", &base[..folder])
}

/// Percent-encodes `text` for a URL path, except for slashes.
pub(crate) fn escape(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::{escape, resolve, same_origin};

    #[test]
    fn the_token_is_for_one_origin() {
        let hub = "https://huggingface.co";
        for same in ["https://huggingface.co/a", "https://HuggingFace.co:443/a?b", "https://huggingface.co?x"]
        {
            assert!(same_origin(hub, same), "{same}");
        }
        for other in [
            "http://huggingface.co/a",
            "https://huggingface.co:444/a",
            "https://cdn.huggingface.co/a",
            "https://huggingface.co.example.org/a",
            "https://huggingface.co@example.org/a",
            "https://huggingface.co:443@example.org/a",
            "//huggingface.co/a",
            "nonsense",
            "",
        ] {
            assert!(!same_origin(hub, other), "{other}");
        }
        assert!(
            same_origin("http://mirror", "https://mirror/a")
                && !same_origin("http://mirror", "https://mirror:8/a")
        );
        assert!(same_origin("http://127.0.0.1:81", "http://127.0.0.1:81/a"));
        assert!(!same_origin("http://127.0.0.1:81", "http://127.0.0.1:82/a"));
        assert!(!same_origin("http://127.0.0.1:81", "http://localhost:81/a"));
    }

    #[test]
    fn locations_are_resolved() {
        let base = "https://a.b:1/x/y?q=https://c/d";
        for (to, url) in [
            ("https://c.d/e", "https://c.d/e"),
            ("//c.d/e", "https://c.d/e"),
            ("/e?f=http://g", "https://a.b:1/e?f=http://g"),
            ("e", "https://a.b:1/x/e"),
            ("?e", "https://a.b:1/x/y?e"),
            ("", base),
            ("#e", base),
            ("e#f?g", "https://a.b:1/x/e"),
            ("https://c.d/e#f", "https://c.d/e"),
        ] {
            assert_eq!(resolve(base, to), url, "{to}");
        }
        assert_eq!(resolve("https://a.b", "e"), "https://a.b/e");
        assert_eq!(resolve("https://a.b?q", "/e"), "https://a.b/e");
        assert_eq!(escape("a b/c#d%e\u{e9}.json"), "a%20b/c%23d%25e%C3%A9.json");
    }
}
