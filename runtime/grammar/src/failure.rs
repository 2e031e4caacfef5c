//! What `llguidance` says of a failure, as errors.

use crate::error::GrammarError;
use crate::source::GrammarSource;
use llguidance::Matcher;
use llguidance::api::StopReason;
use thimble_chat::ConstraintError;

/// Why the matcher failed.
pub(crate) fn failure(matcher: &Matcher) -> ConstraintError {
    let reason = match matcher.stop_reason() {
        StopReason::LexerTooComplex => "the limit of lexer states or of their work was reached".to_string(),
        StopReason::ParserTooComplex => "the limit of parser items was reached".to_string(),
        StopReason::NoExtensionBias => return ConstraintError::NoToken,
        _ => first_line(&matcher.get_error().unwrap_or_default()),
    };
    ConstraintError::TooComplex { reason }
}

/// The first line of a message of `llguidance`: a dump of its state may follow.
pub(crate) fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_string()
}

/// A message of `llguidance` as an error: a keyword of JSON Schema by name, a limit, or a fault in the source.
pub(crate) fn refused(source: &GrammarSource, message: &str) -> GrammarError {
    let language = source.language();
    let reason = first_line(message);
    if matches!(source, GrammarSource::JsonSchema(_)) {
        let known = [
            (
                "oneOf constraints",
                "oneOf",
                "the alternatives may overlap: use anyOf, or give each a `const` that differs",
            ),
            (
                "min/maxProperties",
                "minProperties",
                "it counts optional properties: make them required, or leave it out",
            ),
            (
                "patternProperty regexes",
                "patternProperties",
                "the patterns may overlap: use patterns that exclude each other",
            ),
            (
                "not present in a registry",
                "$ref",
                "it is in another document, and nothing is fetched: put it under $defs",
            ),
            (
                "regex parse error",
                "pattern",
                "expected a regular expression without look-around and back-references",
            ),
            ("nchor '", "$ref", "nothing has this anchor"),
            ("'multipleOf'", "multipleOf", "it has too many digits"),
            ("$dynamicRef", "$dynamicRef", "use $ref"),
            (
                "circular references",
                "$ref",
                "it refers to itself next to other keywords: move them into the definition",
            ),
        ];
        for (text, keyword, reason) in known {
            if message.contains(text) {
                let (keyword, reason) = (keyword.to_string(), reason.to_string());
                return GrammarError::Keyword { keyword, at: "#".to_string(), reason };
            }
        }
    }
    let limits = ["too large", "too complex", "fuel", "too big", "limit", "exceeded", "size"];
    if message.contains("nsatisfiable") {
        GrammarError::Empty { language, reason }
    } else if limits.iter().any(|limit| message.contains(limit)) {
        GrammarError::TooComplex { language, reason }
    } else {
        GrammarError::Syntax { language, reason }
    }
}
