//! Who may ask: the names of this host, the origins of pages, and keys.

use crate::error::ApiError;
use crate::options::ServeOptions;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// What [`ServeOptions`] say about requests.
#[derive(Debug)]
pub(crate) struct Guard {
    address: IpAddr,
    hosts: Vec<String>,
    origins: Vec<String>,
    /// SHA-256 of each key: digests are compared in constant time, whatever the length of a key.
    keys: Vec<[u8; 32]>,
}

impl Guard {
    /// The guard of a server.
    pub(crate) fn new(options: &ServeOptions) -> Guard {
        Guard {
            address: options.address.ip().to_canonical(),
            hosts: options.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            origins: options.cors_origins.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
            keys: options.api_keys.iter().map(|key| Sha256::digest(&key.0).into()).collect(),
        }
    }

    /// Refuses a request that does not name this host: a page from elsewhere, whose name was made to point here (DNS
    /// rebinding), or that comes from a page that may not ask.
    pub(crate) fn check_source<B>(&self, request: &Request<B>) -> Result<(), ApiError> {
        let mut named = request.headers().get_all(header::HOST).iter();
        let host = match (named.next(), named.next()) {
            (Some(host), None) => host.to_str().ok(),
            (None, _) => return Err(ApiError::invalid(None, "the header Host is missing")),
            (Some(_), Some(_)) => None,
        };
        let Some(host) = host else {
            return Err(ApiError::invalid(None, "the header Host is not one name"));
        };
        // An absolute target counts before the header (RFC 9112, section 3.2.2).
        let target = request.uri().authority().map(|authority| authority.as_str());
        for name in [Some(host), target].into_iter().flatten() {
            if !self.serves(name) {
                return Err(ApiError::forbidden(format!(
                    "this server is not called {name:?}; --allowed-host of `thimble serve` allows another name"
                )));
            }
        }
        match request.headers().get(header::ORIGIN) {
            Some(origin) if !self.allows(origin, host) => Err(ApiError::forbidden(
                "pages of this origin may not use the API; --cors of `thimble serve` allows them".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a request without a valid key; returns the number of its key, 0 if none is needed.
    pub(crate) fn check_key(&self, headers: &HeaderMap) -> Result<usize, ApiError> {
        if self.keys.is_empty() {
            return Ok(0);
        }
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let Some(given) = given else {
            return Err(ApiError::key("an API key is required: send the header Authorization: Bearer KEY"));
        };
        let key = match given.split_at_checked(7) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => key.trim_ascii(),
            _ => &[],
        };
        let digest: [u8; 32] = Sha256::digest(key).into();
        let mut found = None;
        for (number, known) in self.keys.iter().enumerate() {
            if bool::from(known.ct_eq(&digest)) {
                found = Some(number);
            }
        }
        found.ok_or_else(|| ApiError::key("the API key is wrong"))
    }

    /// The answer to the question whether a page may ask (CORS preflight); `None` if this is none.
    pub(crate) fn preflight<B>(&self, request: &Request<B>) -> Option<Response> {
        let headers = request.headers();
        let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if request.method() != Method::OPTIONS || !self.is_cross(headers.get(header::ORIGIN)?) {
            return None;
        }
        let mut response = StatusCode::NO_CONTENT.into_response();
        let out = response.headers_mut();
        out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, asked.clone());
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let wanted = wanted.unwrap_or_else(|| HeaderValue::from_static("authorization, content-type"));
        out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
        out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        Some(response)
    }

    /// Allows a page from elsewhere to read the response.
    pub(crate) fn add_cors(&self, origin: Option<&HeaderValue>, response: &mut Response) {
        if self.origins.is_empty() {
            return;
        }
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin.filter(|origin| self.is_cross(origin)) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
    }

    /// Whether an origin is one of those that `--cors` allows.
    fn is_cross(&self, origin: &HeaderValue) -> bool {
        let origin = origin.as_bytes().to_ascii_lowercase();
        self.origins.iter().any(|known| known == "*" || known.as_bytes() == origin)
    }

    /// Whether a page of this origin may ask a server that it calls `host`.
    fn allows(&self, origin: &HeaderValue, host: &str) -> bool {
        let own = |scheme: &str| origin.as_bytes().eq_ignore_ascii_case(format!("{scheme}{host}").as_bytes());
        own("http://") || own("https://") || self.is_cross(origin)
    }

    /// Whether this server goes by a name, with or without a port.
    fn serves(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            let address = address.to_canonical();
            // No page can make its own name an address: rebinding needs a name.
            return address == self.address || address.is_loopback() || self.address.is_unspecified();
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        host == "localhost" || self.hosts.contains(&host)
    }
}

/// The host of an authority without its port; `None` if it is malformed.
fn host_of(authority: &str) -> Option<&str> {
    if authority.contains('@') {
        return None;
    }
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at_checked(end)?;
    let digits = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (digits && !host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::Guard;
    use crate::options::{ApiKey, ServeOptions};
    use axum::http::{Request, header};

    fn guard(address: &str, change: impl FnOnce(&mut ServeOptions)) -> Guard {
        let mut options = ServeOptions::new(address.parse().unwrap());
        change(&mut options);
        Guard::new(&options)
    }

    #[test]
    fn only_names_of_this_host_are_served() {
        let local = guard("127.0.0.1:8080", |options| options.allowed_hosts.push("Model.Example".to_owned()));
        let known = [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]:8080",
            "127.9.9.9",
            "[::ffff:127.0.0.1]",
            "model.example:443",
        ];
        for name in known {
            assert!(local.serves(name), "{name}");
        }
        let others = [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "evil.example:8080",
            "10.0.0.1",
            "[::1",
            "[fe80::1]",
            "localhost:http",
            "localhost:99999",
            "a@localhost",
            "localhost, evil.example",
            "127.0.0.1.evil.example",
        ];
        for name in others {
            assert!(!local.serves(name), "{name}");
        }
        let open = guard("0.0.0.0:8080", |_| {});
        assert!(open.serves("192.168.0.7:8080") && !open.serves("evil.example:8080"));
        let lan = guard("192.168.0.7:8080", |_| {});
        assert!(lan.serves("192.168.0.7") && !lan.serves("192.168.0.8"));
    }

    #[test]
    fn pages_of_other_origins_need_permission() {
        let request = |origin: Option<&str>| {
            let mut request = Request::builder().header(header::HOST, "localhost:8080");
            if let Some(origin) = origin {
                request = request.header(header::ORIGIN, origin);
            }
            request.body(()).unwrap()
        };
        let closed = guard("127.0.0.1:8080", |_| {});
        let some =
            guard("127.0.0.1:8080", |options| options.cors_origins.push("http://a.example".to_owned()));
        let all = guard("127.0.0.1:8080", |options| options.cors_origins.push("*".to_owned()));
        for (origin, by_default, by_some) in [
            (None, true, true),
            (Some("http://localhost:8080"), true, true),
            (Some("http://a.example"), false, true),
            (Some("http://localhost:9090"), false, false),
            (Some("null"), false, false),
            (Some("http://b.example"), false, false),
        ] {
            assert_eq!(closed.check_source(&request(origin)).is_ok(), by_default, "{origin:?}");
            assert_eq!(some.check_source(&request(origin)).is_ok(), by_some, "{origin:?}");
            assert!(all.check_source(&request(origin)).is_ok(), "{origin:?}");
        }
        let twice =
            Request::builder().header("host", "localhost").header("host", "localhost").body(()).unwrap();
        assert!(closed.check_source(&twice).is_err());
        assert!(closed.check_source(&Request::builder().body(()).unwrap()).is_err());
        let absolute = Request::builder().uri("http://evil.example/v1/models").header("host", "localhost");
        assert!(closed.check_source(&absolute.body(()).unwrap()).is_err());
    }

    #[test]
    fn keys_are_told_apart() {
        let guard = guard("127.0.0.1:8080", |options| {
            options.api_keys = ["one", "two"].map(|key| ApiKey(key.to_owned())).into()
        });
        let check = |value: Option<&str>| {
            let mut request = Request::builder();
            if let Some(value) = value {
                request = request.header(header::AUTHORIZATION, value);
            }
            guard.check_key(request.body(()).unwrap().headers()).ok()
        };
        assert_eq!(check(Some("Bearer one")), Some(0));
        assert_eq!(check(Some("bearer two ")), Some(1));
        for wrong in [
            None,
            Some(""),
            Some("one"),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer on"),
            Some("Basic one"),
        ] {
            assert_eq!(check(wrong), None, "{wrong:?}");
        }
    }
}
