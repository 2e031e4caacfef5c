//! A template's source as `minijinja` has to read it so that it means what Jinja2 takes it for.
//!
//! What is rewritten: line ends; the escapes of Python's text literals, and literals side by side; slices, which become
//! calls of a method; the formatting operator `%` behind a literal, likewise; the tags `generation` and `endgeneration`.
//! Whatever cannot be read here is left as it is: then `minijinja` names the fault.

use std::fmt::Write;

/// The method that slices are rewritten to.
pub(super) const SLICE: &str = "__slice__";
/// The method that a literal's operator `%` is rewritten to.
pub(super) const FORMAT: &str = "__mod__";

/// A source that was rewritten.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    /// For `minijinja`.
    pub(super) source: String,
    /// The text literals of the expressions, each once.
    pub(super) literals: Vec<String>,
}

/// Rewrites `source`.
pub(super) fn rewrite(source: &str) -> Rewritten {
    // As Jinja2's lexer does with all of the source, text literals included.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = Rewritten { source: String::with_capacity(source.len()), literals: Vec::new() };
    let mut rest = source.as_str();
    while let Some(at) = rest.find('{') {
        let opened = rest.get(at..at + 2).unwrap_or("");
        let end = match opened {
            "{#" => rest[at + 2..].find("#}").map(|end| at + end + 4),
            "{{" | "{%" => match tag(&rest[at..], &mut out.literals) {
                Some(Tag { len, inner }) => {
                    out.source.push_str(&rest[..at]);
                    out.source.push_str(&inner);
                    rest = &rest[at + len..];
                    if is_raw(&inner) {
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

/// A tag with its delimiters.
struct Tag {
    /// Bytes in the source.
    len: usize,
    /// What stands in its place.
    inner: String,
}

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lexeme {
    /// A text literal, its escapes resolved.
    Text(String),
    /// A name or a number.
    Word(String),
    /// One character of anything else.
    Sign(char),
    /// White space.
    Space(String),
}

/// Reads the tag that `source` begins with; `None` where it does not end.
fn tag(source: &str, literals: &mut Vec<String>) -> Option<Tag> {
    let close = if source.starts_with("{%") { "%}" } else { "}}" };
    let mut lexemes = Vec::new();
    let mut depth = 0_usize;
    let mut at = 2;
    loop {
        let rest = &source[at..];
        let letter = rest.chars().next()?;
        if depth == 0 && rest.starts_with(close) {
            break;
        }
        let len = match letter {
            '\'' | '"' => {
                let inner = literal_len(&rest[1..], letter)?;
                let text = unescape(&rest[1..=inner]);
                literals.push(text.clone());
                lexemes.push(Lexeme::Text(text));
                inner + 2
            }
            letter if letter.is_whitespace() => {
                let len = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
                lexemes.push(Lexeme::Space(rest[..len].to_owned()));
                len
            }
            letter if letter.is_alphanumeric() || letter == '_' => {
                let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                lexemes.push(Lexeme::Word(rest[..len].to_owned()));
                len
            }
            letter => {
                match letter {
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                lexemes.push(Lexeme::Sign(letter));
                letter.len_utf8()
            }
        };
        at += len;
    }
    let word = lexemes.iter().find_map(|lexeme| match lexeme {
        Lexeme::Word(word) => Some(word.as_str()),
        _ => None,
    });
    // The body of the tag has a scope of its own, as in transformers, where it is a call block.
    let renamed = match word.filter(|_| close == "%}") {
        Some("generation") => Some("with"),
        Some("endgeneration") => Some("endwith"),
        _ => None,
    };
    let mut inner = source[..2].to_owned();
    match renamed {
        Some(renamed) => {
            for lexeme in lexemes {
                match lexeme {
                    Lexeme::Word(_) => inner.push_str(renamed),
                    other => put(&other, &mut inner),
                }
            }
        }
        None => expression(&joined(lexemes), &mut inner),
    }
    inner.push_str(close);
    Some(Tag { len: at + 2, inner })
}

/// Bytes up to the closing quote.
fn literal_len(source: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, letter) in source.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            letter if letter == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// Python's reading of a text literal: an escape that it does not know stays as it is written.
fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let Some(letter) = behind.chars().next() else {
            rest = &rest[at..];
            break;
        };
        let number = |digits: usize| {
            let number = behind.get(1..=digits)?;
            let value = u32::from_str_radix(number, 16).ok()?;
            let sound = number.bytes().all(|byte| byte.is_ascii_hexdigit());
            Some((char::from_u32(value).filter(|_| sound)?, 1 + digits))
        };
        let known = match letter {
            '\n' => Some((None, 1)),
            '\\' | '\'' | '"' => Some((Some(letter), 1)),
            'n' => Some((Some('\n'), 1)),
            'r' => Some((Some('\r'), 1)),
            't' => Some((Some('\t'), 1)),
            'a' => Some((Some('\u{7}'), 1)),
            'b' => Some((Some('\u{8}'), 1)),
            'f' => Some((Some('\u{c}'), 1)),
            'v' => Some((Some('\u{b}'), 1)),
            '0'..='7' => {
                let digits = behind.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                let value = u32::from_str_radix(&behind[..digits], 8).ok();
                value.and_then(char::from_u32).map(|letter| (Some(letter), digits))
            }
            'x' => number(2).map(|(letter, len)| (Some(letter), len)),
            'u' => number(4).map(|(letter, len)| (Some(letter), len)),
            'U' => number(8).map(|(letter, len)| (Some(letter), len)),
            _ => None,
        };
        match known {
            Some((letter, len)) => {
                out.extend(letter);
                rest = &behind[len..];
            }
            None => {
                out.push('\\');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Literals side by side are one literal.
fn joined(lexemes: Vec<Lexeme>) -> Vec<Lexeme> {
    let mut out: Vec<Lexeme> = Vec::with_capacity(lexemes.len());
    for lexeme in lexemes {
        let space = matches!(out.last(), Some(Lexeme::Space(_)));
        let place = out.len().checked_sub(1 + usize::from(space));
        match (&lexeme, place.and_then(|place| out.get_mut(place))) {
            (Lexeme::Text(text), Some(Lexeme::Text(before))) => {
                before.push_str(text);
                out.truncate(out.len() - usize::from(space));
            }
            _ => out.push(lexeme),
        }
    }
    out
}

/// Writes an expression, its slices and formatting operators as calls.
fn expression(lexemes: &[Lexeme], out: &mut String) {
    let mut before: Option<&Lexeme> = None;
    let mut at = 0;
    while let Some(lexeme) = lexemes.get(at) {
        match lexeme {
            Lexeme::Sign('[') if before.is_some_and(ends_operand) => {
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
            Lexeme::Sign('%') if matches!(before, Some(Lexeme::Text(_))) => {
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
        put(lexeme, out);
        if !matches!(lexeme, Lexeme::Space(_)) {
            before = Some(lexeme);
        }
        at += 1;
    }
}

/// Whether a bracket behind this is a subscript and not a list.
fn ends_operand(lexeme: &Lexeme) -> bool {
    const KEYWORDS: [&str; 17] = [
        "and",
        "or",
        "not",
        "in",
        "is",
        "if",
        "elif",
        "else",
        "for",
        "set",
        "print",
        "do",
        "with",
        "include",
        "import",
        "return",
        "recursive",
    ];
    match lexeme {
        Lexeme::Text(_) | Lexeme::Sign(')' | ']' | '}') => true,
        Lexeme::Word(word) => !KEYWORDS.contains(&word.as_str()),
        _ => false,
    }
}

/// Lexemes from an opening bracket to the one that closes it; `None` where none does.
fn bracketed(lexemes: &[Lexeme]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, lexeme) in lexemes.iter().enumerate() {
        match lexeme {
            Lexeme::Sign('(' | '[' | '{') => depth += 1,
            Lexeme::Sign(')' | ']' | '}') => {
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
                Lexeme::Sign('(' | '[' | '{') => depth += 1,
                Lexeme::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && *lexeme == Lexeme::Sign(':')
        })
        .collect()
}

/// Lexemes of the operand in front: a name, a literal or a bracket, with what is called, looked up or filtered behind it.
fn operand(lexemes: &[Lexeme]) -> usize {
    let spaces = |at: usize| lexemes[at..].iter().take_while(|l| matches!(l, Lexeme::Space(_))).count();
    let mut at = spaces(0);
    let mut end = 0;
    let mut expected = true;
    while let Some(lexeme) = lexemes.get(at) {
        let len = match lexeme {
            Lexeme::Sign('-' | '+') if end == 0 && expected => {
                at += 1;
                continue;
            }
            Lexeme::Word(_) | Lexeme::Text(_) if expected => 1,
            Lexeme::Sign('(' | '[' | '{') if expected && end == 0 => bracketed(&lexemes[at..]).unwrap_or(0),
            Lexeme::Sign('(' | '[') if !expected => bracketed(&lexemes[at..]).unwrap_or(0),
            Lexeme::Sign('.' | '|') if !expected => {
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

fn put(lexeme: &Lexeme, out: &mut String) {
    match lexeme {
        Lexeme::Text(text) => {
            out.push('"');
            for letter in text.chars() {
                match letter {
                    '\\' | '"' => out.extend(['\\', letter]),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    letter => out.push(letter),
                }
            }
            out.push('"');
        }
        Lexeme::Word(text) | Lexeme::Space(text) => out.push_str(text),
        Lexeme::Sign(letter) => out.push(*letter),
    }
}

fn is_raw(tag: &str) -> bool {
    tag.strip_prefix("{%").is_some_and(|inner| {
        inner.trim_end_matches("%}").trim_matches(|c: char| c.is_whitespace() || "-+".contains(c)) == "raw"
    })
}

/// Bytes in front of the tag that ends a raw block.
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
