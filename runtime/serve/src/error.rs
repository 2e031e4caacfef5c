//! Errors as OpenAI's API reports them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::fmt::Display;

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    /// Seconds after which a repetition makes sense.
    retry_after: Option<u32>,
    /// Whether the connection is closed: the request was not read to its end.
    closes: bool,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> ApiError {
        let message = message.into();
        ApiError { status, kind, code: None, param: None, message, retry_after: None, closes: false }
    }

    fn with_code(self, code: &'static str) -> ApiError {
        ApiError { code: Some(code), ..self }
    }

    fn retry(self) -> ApiError {
        ApiError { retry_after: Some(1), ..self }
    }

    fn closing(self) -> ApiError {
        ApiError { closes: true, ..self }
    }

    /// A request that says something impossible, about the field `param`.
    pub(crate) fn invalid(param: Option<&str>, message: impl Into<String>) -> ApiError {
        let error = ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
        ApiError { param: param.map(str::to_owned), ..error }
    }

    /// A prompt that is longer than the context.
    pub(crate) fn too_long(param: &str, found: usize, room: usize) -> ApiError {
        let message = format!("{param} has {found} tokens, but the context has room for {room}: shorten it");
        ApiError::invalid(Some(param), message).with_code("context_length_exceeded")
    }

    /// A missing or wrong API key.
    pub(crate) fn key(message: &'static str) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", message).with_code("invalid_api_key")
    }

    /// A host or origin that this server does not serve.
    pub(crate) fn forbidden(message: String) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "permission_error", message).closing()
    }

    /// A model that is not served.
    pub(crate) fn no_model(found: &str, expected: &str) -> ApiError {
        let message = format!("the model {found:?} is not served here; expected {expected:?}");
        let error = ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        ApiError { param: Some("model".to_owned()), ..error }.with_code("model_not_found")
    }

    /// A path without a meaning.
    pub(crate) fn no_route(path: &str) -> ApiError {
        let message = format!("there is nothing at {path}; the API is under /v1, the page at /");
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message).with_code("unknown_url")
    }

    /// Another method than the path has.
    pub(crate) fn method(method: &str, path: &str) -> ApiError {
        let message = format!("{path} does not take the method {method}");
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
            .with_code("method_not_allowed")
    }

    /// A body that is longer than allowed.
    pub(crate) fn too_large(limit: usize) -> ApiError {
        let message =
            format!("the body has more than {limit} bytes; --max-body of `thimble serve` allows more");
        let error = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message);
        error.with_code("request_too_large").closing()
    }

    /// A body of another kind.
    pub(crate) fn media_type(found: &str) -> ApiError {
        let message = format!("the Content-Type is {found:?}, expected application/json");
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message)
            .with_code("unsupported_media_type")
            .closing()
    }

    /// A body that does not arrive in time.
    pub(crate) fn slow_body() -> ApiError {
        let message = "the body did not arrive in time";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message).closing()
    }

    /// A body whose values take more memory than all bodies may.
    pub(crate) fn too_many_values() -> ApiError {
        let message = "the body has too many values for its length limit: send fewer lists and objects, or texts instead of tokens";
        let error = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message);
        error.with_code("request_too_large")
    }

    /// A full queue.
    pub(crate) fn queue_full(limit: usize) -> ApiError {
        let message = format!("{limit} requests, or as many tokens, wait already: try again later");
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
            .with_code("queue_full")
            .retry()
    }

    /// More bodies at a time than there is memory for.
    pub(crate) fn busy() -> ApiError {
        let message = "too many requests arrive at the same time: try again later";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message).retry().closing()
    }

    /// A server that is about to end.
    pub(crate) fn stopping() -> ApiError {
        let message = "the server is stopping";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
            .with_code("stopping")
            .retry()
            .closing()
    }

    /// A request whose time was up before it began.
    pub(crate) fn waited_too_long() -> ApiError {
        let message = "the request's time was up before there was an answer: try again later";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message).with_code("timeout").retry()
    }

    /// A client that reads more slowly than the model writes.
    pub(crate) fn slow_reader() -> ApiError {
        let message = "the answer was dropped, because it was read too slowly";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message).with_code("slow_reader")
    }

    /// A failure that the client cannot prevent.
    pub(crate) fn internal(error: &dyn Display) -> ApiError {
        let message = format!("the request failed: {error}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The object `{"error": ...}`.
    pub(crate) fn to_json(&self) -> Value {
        let ApiError { kind, code, param, message, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.to_json().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
