//! The access token and its sources.

use crate::error::HubError;
use crate::variable;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Bytes read of a token file.
const MAX_BYTES: u64 = 4096;

/// An access token, if there is one. It is never shown.
#[derive(Clone)]
pub(crate) enum Token {
    Found {
        value: String,
        /// `HF_TOKEN`, or the token file.
        origin: String,
    },
    /// A token file that cannot be read, and why.
    Unreadable(String),
    Absent,
}

impl Token {
    /// HF_TOKEN, else the file that HF_TOKEN_PATH names, else `token` in `home`.
    pub(crate) fn from_env(home: &Path) -> Result<Token, HubError> {
        if let Some(value) = variable("HF_TOKEN") {
            return Token::new(value, "HF_TOKEN".to_owned());
        }
        let files = match variable("HF_TOKEN_PATH") {
            Some(path) => vec![PathBuf::from(path)],
            None => {
                std::iter::once(home.to_owned()).chain(other_home()).map(|home| home.join("token")).collect()
            }
        };
        let mut unreadable = None;
        for file in files {
            match read_start(&file) {
                Ok(bytes) => {
                    let value = String::from_utf8_lossy(&bytes).trim().to_owned();
                    if !value.is_empty() {
                        return Token::new(value, file.display().to_string());
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // Most files of the hub need no token.
                Err(error) => unreadable = Some(format!("{} cannot be read: {error}", file.display())),
            }
        }
        Ok(unreadable.map_or(Token::Absent, Token::Unreadable))
    }

    /// A token of `origin`.
    ///
    /// # Errors
    /// [`HubError::Setting`] for a value that cannot be sent in a header.
    pub(crate) fn new(value: String, origin: String) -> Result<Token, HubError> {
        // The message omits the value: it may be a secret with a typo.
        match value.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Token::Found { value, origin }),
            false => Err(HubError::Setting {
                name: origin,
                reason: "expected a token of letters, digits and signs (hf_...), found a space or another character; \
                         copy the token again"
                    .to_owned(),
            }),
        }
    }

    pub(crate) fn value(&self) -> Option<&str> {
        match self {
            Token::Found { value, .. } => Some(value),
            Token::Unreadable(_) | Token::Absent => None,
        }
    }

    /// Where the token comes from.
    pub(crate) fn origin(&self) -> Option<&str> {
        match self {
            Token::Found { origin, .. } => Some(origin),
            Token::Unreadable(_) | Token::Absent => None,
        }
    }

    /// Why the token file cannot be read.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        match self {
            Token::Unreadable(why) => Some(why),
            Token::Found { .. } | Token::Absent => None,
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token from {}", self.origin().unwrap_or("nowhere"))
    }
}

/// The first bytes of a file: a token has about forty, but the variable may name any file.
fn read_start(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// HF_HOME, else `.cache/huggingface` in the home folder.
pub(crate) fn home() -> Result<PathBuf, HubError> {
    if let Some(home) = variable("HF_HOME") {
        return Ok(home.into());
    }
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    let home = home.ok_or_else(|| HubError::Setting {
        name: "HF_HOME".to_owned(),
        reason: "this user has no home folder: set HF_HOME to a folder for downloads".to_owned(),
    })?;
    Ok(home.join(".cache").join("huggingface"))
}

/// The folder of Hugging Face's Python tools if XDG_CACHE_HOME is set.
fn other_home() -> Option<PathBuf> {
    match variable("HF_HOME") {
        Some(_) => None,
        None => Some(PathBuf::from(variable("XDG_CACHE_HOME")?).join("huggingface")),
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn what_cannot_be_a_token_is_refused_and_no_token_is_shown() {
        let token = Token::new("hf_secret".into(), "HF_TOKEN".into()).unwrap();
        assert_eq!(
            (token.value(), token.origin(), token.unreadable()),
            (Some("hf_secret"), Some("HF_TOKEN"), None)
        );
        assert!(!format!("{token:?}").contains("secret"));
        for wrong in ["hf_se cret", "hf_se\ncret", "hf_s\u{e9}cret", "hf_se\u{0}cret"] {
            let error = Token::new(wrong.into(), "HF_TOKEN".into()).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(said.contains("HF_TOKEN") && !said.contains("hf_s"), "{said}");
        }
    }
}
