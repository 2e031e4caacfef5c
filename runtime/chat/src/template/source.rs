//! Rewrites a template so that it means in `minijinja` what it means in Jinja2.
//!
//! Rewritten are line ends; the escapes of Python's string literals, and adjacent literals; slices and the formatting operator
//! `%` after a literal, which become method calls; the tags `generation` and `endgeneration`. What cannot be parsed here stays
//! as it is: `minijinja` reports the error.

use super::lexer::{Lexeme, lex};
use std::fmt::Write;

/// The method that replaces slices.
pub(super) const SLICE: &str = "__slice__";
/// The method that replaces the operator `%` after a literal.
pub(super) const FORMAT: &str = "__mod__";

/// A rewritten template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    /// The source for `minijinja`.
    pub(super) source: String,
    /// The distinct string literals of its expressions.
    pub(super) literals: Vec<String>,
}

/// Rewrites `source`.
pub(super) fn rewrite(source: &str) -> Rewritten {
    // As Jinja2's lexer does in all of the source, string literals included.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = Rewritten { source: String::with_capacity(source.len()), literals: Vec::new() };
    let mut rest = source.as_str();
    while let Some(at) = rest.find('{') {
        let opened = rest.get(at..at + 2).unwrap_or("");
        let end = match opened {
            "{#" => rest[at + 2..].find("#}").map(|end| at + end + 4),
            "{{" | "{%" => match tag(&rest[at..], &mut out.literals) {
                Some(Tag { len, text }) => {
                    out.source.push_str(&rest[..at]);
                    out.source.push_str(&text);
                    rest = &rest[at + len..];
                    if is_raw(&text) {
                        let end = raw_end(rest);
                        out.source.push_str(&rest[..end]);
                        rest = &rest[end..];
                    }
                    continue;
                }
                None => None,
            },
            _ => Some(at + 1),
        };
        let Some(end) = end else { break };
        out.source.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    out.source.push_str(rest);
    out.literals.sort();
    out.literals.dedup();
    out
}

/// A rewritten tag with its delimiters.
struct Tag {
    /// Bytes of the original.
    len: usize,
    /// The new text.
    text: String,
}

/// Rewrites the tag at the beginning of `source`; `None` if it does not end.
fn tag(source: &str, literals: &mut Vec<String>) -> Option<Tag> {
    let (open, body) = source.split_at(2);
    let close = if open == "{%" { "%}" } else { "}}" };
    let (lexemes, len) = lex(body, close, literals)?;
    let word = lexemes.iter().find_map(|lexeme| match lexeme {
        Lexeme::Word(word) => Some(word.as_str()),
        _ => None,
    });
    // The body has its own scope, as in transformers, where the tag is a call block.
    let renamed = match word.filter(|_| close == "%}") {
        Some("generation") => Some("with"),
        Some("endgeneration") => Some("endwith"),
        _ => None,
    };
    let mut text = open.to_owned();
    match renamed {
        Some(renamed) => {
            for lexeme in lexemes {
                match lexeme {
                    Lexeme::Word(_) => text.push_str(renamed),
                    other => other.write(&mut text),
                }
            }
        }
        None => expression(&joined(lexemes), &mut text),
    }
    text.push_str(close);
    Some(Tag { len: open.len() + len + close.len(), text })
}

/// Joins adjacent string literals.
fn joined(lexemes: Vec<Lexeme>) -> Vec<Lexeme> {
    let mut out: Vec<Lexeme> = Vec::with_capacity(lexemes.len());
    for lexeme in lexemes {
        let space = matches!(out.last(), Some(Lexeme::Space(_)));
        let place = out.len().checked_sub(1 + usize::from(space));
        match (&lexeme, place.and_then(|place| out.get_mut(place))) {
            (Lexeme::Literal(text), Some(Lexeme::Literal(before))) => {
                before.push_str(text);
                out.truncate(out.len() - usize::from(space));
            }
            _ => out.push(lexeme),
        }
    }
    out
}

/// Writes an expression with its slices and formatting operators as method calls.
fn expression(lexemes: &[Lexeme], out: &mut String) {
    let mut before: Option<&Lexeme> = None;
    let mut at = 0;
    while let Some(lexeme) = lexemes.get(at) {
        match lexeme {
            Lexeme::Symbol('[') if before.is_some_and(ends_operand) => {
                if let Some(len) = bracketed(&lexemes[at..])
                    && let parts = parts(&lexemes[at + 1..at + len - 1])
                    && parts.len() > 1
                {
                    let _ = write!(out, ".{SLICE}(");
                    for (place, part) in parts.iter().enumerate() {
                        out.push_str(if place > 0 { ", " } else { "" });
                        let blank = part.iter().all(|lexeme| matches!(lexeme, Lexeme::Space(_)));
                        if blank { out.push_str("none") } else { expression(part, out) }
                    }
                    out.push(')');
                    before = lexemes.get(at + len - 1);
                    at += len;
                    continue;
                }
            }
            Lexeme::Symbol('%') if matches!(before, Some(Lexeme::Literal(_))) => {
                let len = operand(&lexemes[at + 1..]);
                if len > 0 {
                    let _ = write!(out, ".{FORMAT}(");
                    expression(&lexemes[at + 1..=at + len], out);
                    out.push(')');
                    before = lexemes.get(at + len);
                    at += len + 1;
                    continue;
                }
            }
            _ => {}
        }
        lexeme.write(out);
        if !matches!(lexeme, Lexeme::Space(_)) {
            before = Some(lexeme);
        }
        at += 1;
    }
}

/// Whether a bracket after this is a subscript, not a list.
fn ends_operand(lexeme: &Lexeme) -> bool {
    const KEYWORDS: &str =
        "and or not in is if elif else for set print do with include import return recursive";
    match lexeme {
        Lexeme::Literal(_) | Lexeme::Symbol(')' | ']' | '}') => true,
        Lexeme::Word(word) => KEYWORDS.split(' ').all(|keyword| keyword != word),
        _ => false,
    }
}

/// Lexemes from an opening bracket to its closing one; `None` if there is none.
fn bracketed(lexemes: &[Lexeme]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, lexeme) in lexemes.iter().enumerate() {
        match lexeme {
            Lexeme::Symbol('(' | '[' | '{') => depth += 1,
            Lexeme::Symbol(')' | ']' | '}') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The parts of a subscript between its own colons.
fn parts(lexemes: &[Lexeme]) -> Vec<&[Lexeme]> {
    let mut depth = 0_usize;
    lexemes
        .split(|lexeme| {
            match lexeme {
                Lexeme::Symbol('(' | '[' | '{') => depth += 1,
                Lexeme::Symbol(')' | ']' | '}') => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && *lexeme == Lexeme::Symbol(':')
        })
        .collect()
}

/// Lexemes of the operand at the beginning: a name, a literal or a bracket, with the calls, lookups and filters after it.
fn operand(lexemes: &[Lexeme]) -> usize {
    let spaces = |at: usize| lexemes[at..].iter().take_while(|l| matches!(l, Lexeme::Space(_))).count();
    let mut at = spaces(0);
    let mut end = 0;
    let mut expected = true;
    while let Some(lexeme) = lexemes.get(at) {
        let len = match lexeme {
            Lexeme::Symbol('-' | '+') if end == 0 && expected => {
                at += 1;
                continue;
            }
            Lexeme::Word(_) | Lexeme::Literal(_) if expected => 1,
            Lexeme::Symbol('(' | '[' | '{') if expected && end == 0 => bracketed(&lexemes[at..]).unwrap_or(0),
            Lexeme::Symbol('(' | '[') if !expected => bracketed(&lexemes[at..]).unwrap_or(0),
            Lexeme::Symbol('.' | '|') if !expected => {
                expected = true;
                at += 1 + spaces(at + 1);
                continue;
            }
            _ => 0,
        };
        if len == 0 {
            break;
        }
        expected = false;
        at += len;
        end = at;
        at += spaces(at);
    }
    end
}

fn is_raw(tag: &str) -> bool {
    tag.strip_prefix("{%").is_some_and(|inner| {
        inner.trim_end_matches("%}").trim_matches(|c: char| c.is_whitespace() || "-+".contains(c)) == "raw"
    })
}

/// Bytes before the tag that ends a raw block.
fn raw_end(source: &str) -> usize {
    let mut from = 0;
    while let Some(at) = source[from..].find("{%").map(|at| from + at) {
        let inner = source[at + 2..].trim_start_matches(|c: char| c.is_whitespace() || "-+".contains(c));
        if inner.starts_with("endraw") {
            return at;
        }
        from = at + 2;
    }
    source.len()
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
