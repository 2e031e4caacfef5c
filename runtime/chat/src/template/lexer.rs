//! The lexical elements of a Jinja tag, with string literals as Python reads them.

/// A lexical element of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lexeme {
    /// A string literal, its escapes resolved.
    Literal(String),
    /// A name or a number.
    Word(String),
    /// Any other character.
    Symbol(char),
    /// White space.
    Space(String),
}

/// Reads a tag from after its opening delimiter, `{{` or `{%`, up to `close`: its elements, and bytes up to `close`. `None` if
/// it does not end. String literals are added to `literals`.
pub(super) fn lex(source: &str, close: &str, literals: &mut Vec<String>) -> Option<(Vec<Lexeme>, usize)> {
    let mut lexemes = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        let rest = &source[at..];
        let letter = rest.chars().next()?;
        if depth == 0 && rest.starts_with(close) {
            return Some((lexemes, at));
        }
        let len = match letter {
            '\'' | '"' => {
                let inner = literal_len(&rest[1..], letter)?;
                let text = unescape(&rest[1..=inner]);
                literals.push(text.clone());
                lexemes.push(Lexeme::Literal(text));
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
                lexemes.push(Lexeme::Symbol(letter));
                letter.len_utf8()
            }
        };
        at += len;
    }
}

impl Lexeme {
    /// Writes the element so that `minijinja` reads it as it is.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Lexeme::Literal(text) => {
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
            Lexeme::Symbol(letter) => out.push(*letter),
        }
    }
}

/// Bytes up to the closing quote; `None` if there is none.
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

/// Resolves escapes as Python does: an unknown escape stays as written.
fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let Some(letter) = after.chars().next() else {
            rest = &rest[at..];
            break;
        };
        let number = |digits: usize| {
            let number = after.get(1..=digits)?;
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
                let digits = after.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                let value = u32::from_str_radix(&after[..digits], 8).ok();
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
                rest = &after[len..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}
