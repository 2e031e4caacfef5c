//! GSM8K: ends a worked solution, extracts its number and compares it, as the harness does.

use crate::request::is_blank;
use regex::Regex;
use std::sync::LazyLock;
use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;
use thimble_runtime::stop::{StopMatcher, StopStatus};

/// Generation stops before these texts.
pub const STOPS: [&str; 3] = ["Question:", "</s>", "<|im_end|>"];
/// The limit of generated tokens.
pub const MAX_TOKENS: usize = 256;
/// The result for an answer without a number.
const INVALID: &str = "[invalid]";

/// Takes a token that the model chose. Whether the answer ends before it.
pub(crate) fn ends_answer(
    file: &ModelFile<'_>,
    token: Token,
    matcher: &mut StopMatcher<'_>,
    text: &mut Vec<u8>,
) -> bool {
    let tokenizer = file.tokenizer();
    if file.config().is_stop(token) || STOPS.iter().any(|stop| tokenizer.special(stop) == Some(token)) {
        return true;
    }
    // The harness decodes without special tokens.
    !tokenizer.is_special(token)
        && matcher.push(tokenizer.token_bytes(token), &mut |bytes| text.extend_from_slice(bytes))
            == StopStatus::Stopped
}

static STRICT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"#### (\-?[0-9\.,]+)").ok());
static FLEXIBLE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(-?[$0-9.,]{2,})|(-?[0-9]+)").ok());

/// The number after the first `#### `.
pub fn strict(text: &str) -> &str {
    let found = STRICT.as_ref().and_then(|regex| regex.captures(text)?.get(1));
    found.map_or(INVALID, |found| found.as_str().trim_matches(is_blank))
}

/// The last number.
pub fn flexible(text: &str) -> &str {
    let found = FLEXIBLE.as_ref().and_then(|regex| regex.find_iter(text).last());
    found.map_or(INVALID, |found| found.as_str().trim_matches(is_blank))
}

/// In lower case, without commas, dollar signs, everything up to the last `#### `, and a final full stop.
pub fn normalized(text: &str) -> String {
    let text = text.replace([',', '$'], "");
    let text = text.rsplit_once("#### ").map_or(&text[..], |(_, rest)| rest);
    // Python's `$` also matches before a final line feed.
    let text = match text.strip_suffix('\n').and_then(|text| text.strip_suffix('.')) {
        Some(text) => format!("{text}\n"),
        None => text.strip_suffix('.').unwrap_or(text).to_string(),
    };
    text.to_lowercase()
}

/// Whether an extracted number equals that of the data set's answer.
pub fn matches(extracted: &str, answer: &str) -> bool {
    normalized(extracted) == normalized(answer)
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
