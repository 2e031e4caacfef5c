//! The page to chat in: static files in the program, which load nothing from elsewhere.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, type and content of each file.
const FILES: [(&str, &str, &[u8]); 11] = [
    ("/", HTML, include_bytes!("../../page/index.html")),
    ("/icon.svg", SVG, include_bytes!("../../page/icon.svg")),
    ("/style.css", CSS, include_bytes!("../../page/style.css")),
    ("/theme.js", JAVASCRIPT, include_bytes!("../../page/theme.js")),
    ("/page.js", JAVASCRIPT, include_bytes!("../../page/page.js")),
    ("/api.js", JAVASCRIPT, include_bytes!("../../page/api.js")),
    ("/markdown.js", JAVASCRIPT, include_bytes!("../../page/markdown.js")),
    ("/messages.js", JAVASCRIPT, include_bytes!("../../page/messages.js")),
    ("/render.js", JAVASCRIPT, include_bytes!("../../page/render.js")),
    ("/settings.js", JAVASCRIPT, include_bytes!("../../page/settings.js")),
    ("/store.js", JAVASCRIPT, include_bytes!("../../page/store.js")),
];

/// Nothing but these files and this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file at a path.
pub(crate) fn file(path: &str) -> Option<Response> {
    let (_, kind, content) = FILES.into_iter().find(|(known, ..)| *known == path)?;
    let mut response = content.into_response();
    let headers = response.headers_mut();
    let values: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in values {
        // The values are ASCII.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    Some(response)
}
