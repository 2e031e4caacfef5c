//! What an answer may be, as its author writes it.

use crate::error::GrammarError;
use crate::limits::GrammarLimits;
use crate::{gbnf, schema};
use llguidance::api::TopLevelGrammar;
use std::fmt::Write;

/// What an answer may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GrammarSource {
    /// A JSON Schema, draft 2020-12 or the one that its `$schema` names. The answer is JSON without spaces, properties in the
    /// order of the schema.
    JsonSchema(String),
    /// A regular expression that the whole answer matches, in the syntax of the crate `regex`, without look-around.
    Regex(String),
    /// One of these texts.
    Choices(Vec<String>),
    /// A Lark grammar, in the dialect of `llguidance`; it begins with the rule `start`.
    Lark(String),
    /// A grammar in the notation of llama.cpp; it begins with the rule `root`.
    Gbnf(String),
}

impl GrammarSource {
    /// The language, in words.
    pub fn language(&self) -> &'static str {
        match self {
            GrammarSource::JsonSchema(_) => "JSON Schema",
            GrammarSource::Regex(_) => "regular expression",
            GrammarSource::Choices(_) => "list of choices",
            GrammarSource::Lark(_) => "Lark grammar",
            GrammarSource::Gbnf(_) => "GBNF grammar",
        }
    }

    /// The source as `llguidance` takes it, checked for what that would accept and not enforce.
    pub(crate) fn grammar(&self, limits: &GrammarLimits) -> Result<TopLevelGrammar, GrammarError> {
        self.check_size(limits)?;
        Ok(match self {
            GrammarSource::JsonSchema(text) => TopLevelGrammar::from_json_schema(schema::prepare(text)?),
            GrammarSource::Regex(text) => TopLevelGrammar::from_regex(without_anchors(text)),
            GrammarSource::Choices(choices) => {
                if choices.is_empty() || choices.iter().any(String::is_empty) {
                    let reason = "expected at least one choice, none of them empty".to_string();
                    return Err(GrammarError::Syntax { language: self.language(), reason });
                }
                let choices: Vec<String> = choices.iter().map(|choice| escaped(choice)).collect();
                TopLevelGrammar::from_regex(&choices.join("|"))
            }
            GrammarSource::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
            GrammarSource::Gbnf(text) => TopLevelGrammar::from_lark(gbnf::to_lark(text)?),
        })
    }

    fn texts(&self) -> &[String] {
        match self {
            GrammarSource::Choices(choices) => choices,
            GrammarSource::JsonSchema(text)
            | GrammarSource::Regex(text)
            | GrammarSource::Lark(text)
            | GrammarSource::Gbnf(text) => std::slice::from_ref(text),
        }
    }

    /// Length of the source, bytes.
    pub(crate) fn text_bytes(&self) -> usize {
        self.texts().iter().map(String::len).sum()
    }

    /// Refuses long and deeply nested sources: parsers recurse.
    fn check_size(&self, limits: &GrammarLimits) -> Result<(), GrammarError> {
        let too_complex =
            |reason: String| Err(GrammarError::TooComplex { language: self.language(), reason });
        let bytes = self.text_bytes();
        if bytes > limits.source_bytes {
            return too_complex(format!("it has {bytes} bytes, the limit is {}", limits.source_bytes));
        }
        if matches!(self, GrammarSource::Choices(_)) {
            return Ok(());
        }
        let mut depth = 0_usize;
        for byte in self.texts().iter().flat_map(|text| text.bytes()) {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > limits.nesting {
                return too_complex(format!("brackets are nested more than {} levels deep", limits.nesting));
            }
        }
        Ok(())
    }
}

/// A regular expression for the whole answer: anchors at its ends say nothing more.
fn without_anchors(regex: &str) -> &str {
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    match regex.strip_suffix('$') {
        Some(rest) if rest.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 0 => rest,
        _ => regex,
    }
}

/// A regular expression for `text`.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        escape(letter, &mut out);
    }
    out
}

/// Appends a regular expression for `letter`, inside a class or outside.
pub(crate) fn escape(letter: char, out: &mut String) {
    if letter.is_ascii_alphanumeric() {
        out.push(letter);
    } else {
        // Writing to a string does not fail.
        let _ = write!(out, "\\x{{{:X}}}", u32::from(letter));
    }
}

#[cfg(test)]
mod tests {
    use super::{escaped, without_anchors};

    #[test]
    fn anchors_at_the_ends_go() {
        for (typed, expected) in
            [("^a$", "a"), ("a\\$", "a\\$"), ("a\\\\$", "a\\\\"), ("^", ""), ("a|b", "a|b"), ("", "")]
        {
            assert_eq!(without_anchors(typed), expected, "{typed}");
        }
    }

    #[test]
    fn every_character_that_is_not_a_letter_is_escaped() {
        assert_eq!(escaped("a1/."), "a1\\x{2F}\\x{2E}");
        assert_eq!(escaped("\u{1F600}"), "\\x{1F600}");
    }
}
