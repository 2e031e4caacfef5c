//! What an app asks of one answer.

use crate::ApiError;

/// The form that an answer must have. Sampling excludes every token that would break it, so a complete answer has the form;
/// [`crate::Reply::complete`] tells whether it is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, uniffi::Enum)]
pub enum AnswerFormat {
    /// A JSON value that validates against a JSON Schema (draft 2020-12). A keyword that is not supported is an error before
    /// anything is generated.
    JsonSchema {
        /// The schema, as JSON.
        schema: String,
    },
    /// A text that a regular expression matches as a whole.
    Regex {
        /// The expression, in the syntax of the Rust crate `regex`.
        pattern: String,
    },
    /// One of these texts.
    Choices {
        /// At least one, none of them empty.
        choices: Vec<String>,
    },
    /// A text of a grammar in Lark's notation, from its rule `start`.
    Lark {
        /// The grammar.
        grammar: String,
    },
    /// A text of a grammar in llama.cpp's GBNF, from its rule `root`.
    Gbnf {
        /// The grammar.
        grammar: String,
    },
}

/// Whether an answer calls tools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, uniffi::Enum)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// The answer is one call or several.
    Required,
    /// The answer is a call of this tool.
    Named {
        /// The tool's name.
        name: String,
    },
    /// The answer is text, though the model knows of the tools.
    Disabled,
}

/// What an app asks of one answer, beyond the options of its chat.
#[derive(Clone, Debug, Default, PartialEq, Eq, uniffi::Record)]
pub struct AnswerOptions {
    /// The form that the answer must have; any text unless set.
    #[uniffi(default = None)]
    pub format: Option<AnswerFormat>,
    /// Longest answer in tokens; what the chat's options say unless set.
    #[uniffi(default = None)]
    pub max_tokens: Option<u32>,
    /// Texts that end this answer, besides those of the chat.
    #[uniffi(default = [])]
    pub stop: Vec<String>,
    /// Whether the answer calls the chat's tools; the model decides unless set.
    #[uniffi(default = None)]
    pub tool_choice: Option<ToolChoice>,
    /// Reports the log-probability of each token, with this many of the likeliest tokens in its place, at most 20; 0 reports
    /// the token alone. Nothing is reported unless set.
    #[uniffi(default = None)]
    pub log_probabilities: Option<u32>,
}

impl AnswerOptions {
    /// Checks what needs no model.
    ///
    /// # Errors
    /// A stop text is empty, or there are too many alternatives.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        check_stops(&self.stop)?;
        self.log_probabilities.map_or(Ok(()), |most| checked_alternatives(most).map(drop))
    }
}

/// Refuses a stop text that every answer contains.
///
/// # Errors
/// One of them is empty.
pub(crate) fn check_stops(stops: &[String]) -> Result<(), ApiError> {
    match stops.iter().any(String::is_empty) {
        true => Err(ApiError::other("a stop string is empty: expected at least one character")),
        false => Ok(()),
    }
}

/// Most alternatives of a token.
const MOST_ALTERNATIVES: u32 = 20;

/// Checks a number of alternatives.
///
/// # Errors
/// It is too large.
pub(crate) fn checked_alternatives(alternatives: u32) -> Result<usize, ApiError> {
    if alternatives > MOST_ALTERNATIVES {
        return Err(ApiError::other(format!(
            "{alternatives} alternatives of each token were requested, expected at most {MOST_ALTERNATIVES}"
        )));
    }
    Ok(alternatives as usize)
}
