//! What `llguidance` says of a failure, as errors.

use crate::error::GrammarError;
use crate::source::GrammarSource;
use llguidance::Matcher;
use llguidance::api::StopReason;
use serde_json::Value;
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
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    // Errors of the crate `regex` show the pattern before the reason.
    match lines.find_map(|line| line.strip_prefix("error: ")) {
        Some(reason) if first.ends_with(':') => format!("{first} {reason}"),
        _ => first.to_string(),
    }
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
                COUNTS,
                "it counts optional properties: make them required, or leave it out",
            ),
            (
                "patternProperty regexes",
                "patternProperties",
                "the patterns may overlap: use patterns that exclude each other",
            ),
            ("meta-schema", "$schema", "it names an unknown draft: leave it out, or name 2020-12"),
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
                let (keyword, at) = place(source, keyword);
                return GrammarError::Keyword { keyword, at, reason: reason.to_string() };
            }
        }
    }
    let limits = ["too large", "too complex", "fuel", "too big", "limit", "exceeded", "size"];
    if message.contains("nsatisfiable") || message.contains("NoExtensionBias") {
        GrammarError::Empty { language, reason }
    } else if limits.iter().any(|limit| message.contains(limit)) {
        GrammarError::TooComplex { language, reason }
    } else {
        GrammarError::Syntax { language, reason }
    }
}

/// Either keyword that counts properties.
const COUNTS: &str = "minProperties/maxProperties";

/// Most parts of a schema that wait to be searched.
const MOST_PLACES: usize = 10_000;

/// The keyword that is meant, and its place as a JSON pointer: `#` where several places may be meant.
fn place(source: &GrammarSource, keyword: &str) -> (String, String) {
    let root = match source {
        GrammarSource::JsonSchema(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        _ => Value::Null,
    };
    let mut found = Vec::new();
    let mut open = vec![(&root, "#".to_string())];
    while let Some((value, pointer)) = open.pop() {
        // Two are enough to know that it is not the only one; a place that is long to say does not help.
        if found.len() > 1 || open.len() > MOST_PLACES || pointer.len() > 1000 {
            found.clear();
            break;
        }
        match value {
            Value::Object(map) => {
                let named = keyword.split('/').filter(|name| map.contains_key(*name));
                found.extend(named.map(|name| (name.to_string(), pointer.clone())));
                open.extend(
                    map.iter().take(MOST_PLACES).map(|(name, value)| (value, format!("{pointer}/{name}"))),
                );
            }
            Value::Array(items) => {
                open.extend(
                    items
                        .iter()
                        .enumerate()
                        .take(MOST_PLACES)
                        .map(|(i, value)| (value, format!("{pointer}/{i}"))),
                );
            }
            _ => {}
        }
    }
    match found.as_slice() {
        [only] => only.clone(),
        _ => (keyword.to_string(), "#".to_string()),
    }
}
