//! Errors, with a code by which the package chooses a class.

use thimble_chat::ChatError;
use thimble_runtime::format::FormatError;
use wasm_bindgen::JsValue;

/// What a page can do about an error: the names of the other bindings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Code {
    NotAModel,
    Damaged,
    TooLarge,
    ContextFull,
    Other,
}

/// An error for the page: a JavaScript `Error` whose name is the code.
#[derive(Debug)]
pub struct WebError {
    code: Code,
    message: String,
}

impl WebError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> WebError {
        WebError { code, message: message.into() }
    }

    pub(crate) fn other(error: impl std::fmt::Display) -> WebError {
        WebError::new(Code::Other, error.to_string())
    }
}

impl From<FormatError> for WebError {
    fn from(error: FormatError) -> WebError {
        let code = match error {
            FormatError::BadMagic { .. } | FormatError::TooShort { .. } => Code::NotAModel,
            // Undamaged, but for another version: to download it again would not help.
            FormatError::Version { .. } | FormatError::UnknownSection { .. } => Code::Other,
            _ => Code::Damaged,
        };
        WebError::new(code, error.to_string())
    }
}

impl From<ChatError> for WebError {
    fn from(error: ChatError) -> WebError {
        let code = if matches!(error, ChatError::TooLong { .. }) { Code::ContextFull } else { Code::Other };
        WebError::new(code, error.to_string())
    }
}

impl From<WebError> for JsValue {
    fn from(error: WebError) -> JsValue {
        let js = js_sys::Error::new(&error.message);
        js.set_name(&format!("{:?}", error.code));
        js.into()
    }
}
