//! Python's string functions.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::Value;
use minijinja::{Error, ErrorKind};
use thimble_runtime::chat::is_python_space;

/// Largest width of a padded text.
const MAX_WIDTH: usize = 1 << 20;

/// The sides of a text.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

/// The error of an operation that its arguments do not allow.
pub(super) fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

/// Strips `chars` (white space if `None`) from the front, the back or both.
pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>, front: bool, back: bool) -> &'t str {
    let stripped =
        |letter: char| chars.map_or_else(|| is_python_space(letter), |chars| chars.contains(letter));
    let text = if front { text.trim_start_matches(stripped) } else { text };
    if back { text.trim_end_matches(stripped) } else { text }
}

pub(super) fn split<'t>(
    text: &'t str,
    separator: &str,
    max_splits: Option<usize>,
    from_the_right: bool,
) -> Vec<&'t str> {
    let pieces = max_splits.map_or(usize::MAX, |splits| splits.saturating_add(1));
    if !from_the_right {
        return text.splitn(pieces, separator).collect();
    }
    let mut found: Vec<&str> = text.rsplitn(pieces, separator).collect();
    found.reverse();
    found
}

/// Splits at runs of white space into non-empty pieces; the rest after `max_splits` splits keeps the white space at its far end.
pub(super) fn split_spaces(text: &str, max_splits: Option<usize>, from_the_right: bool) -> Vec<&str> {
    let max_splits = max_splits.unwrap_or(usize::MAX);
    let trimmed = |text: &'_ str| -> std::ops::Range<usize> {
        let front = text.len() - strip(text, None, true, false).len();
        if from_the_right { 0..strip(text, None, false, true).len() } else { front..text.len() }
    };
    let mut found = Vec::new();
    let mut rest = &text[trimmed(text)];
    while !rest.is_empty() {
        let cut = match from_the_right {
            _ if found.len() == max_splits => None,
            true => rest.char_indices().rfind(|&(_, c)| is_python_space(c)),
            false => rest.char_indices().find(|&(_, c)| is_python_space(c)),
        };
        let Some((at, blank)) = cut else {
            found.push(rest);
            break;
        };
        let (piece, others) = match from_the_right {
            true => (&rest[at + blank.len_utf8()..], &rest[..at]),
            false => (&rest[..at], &rest[at..]),
        };
        found.push(piece);
        rest = &others[trimmed(others)];
    }
    if from_the_right {
        found.reverse();
    }
    found
}

/// Splits at all line breaks that Python knows.
pub(super) fn split_lines(text: &str, keep: bool) -> Vec<&str> {
    let ends = |c: char| matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        let len = match rest[at..].starts_with("\r\n") {
            true => 2,
            false => rest[at..].chars().next().map_or(1, char::len_utf8),
        };
        found.push(&rest[..if keep { at + len } else { at }]);
        rest = &rest[at + len..];
    }
    if !rest.is_empty() {
        found.push(rest);
    }
    found
}

pub(super) fn padded(text: &str, width: usize, fill: char, side: Side) -> Result<String, Error> {
    if width > MAX_WIDTH {
        return Err(invalid(format!("expected a width of at most {MAX_WIDTH}, found {width}")));
    }
    let missing = width.saturating_sub(text.chars().count());
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        // Python puts the odd one in front if the width is odd.
        Side::Both => missing / 2 + (missing & width & 1),
    };
    let run = |count: usize| std::iter::repeat_n(fill, count);
    Ok(run(left).chain(text.chars()).chain(run(missing - left)).collect())
}

/// Python's `text % arguments`. It uses `minijinja`, except for `s`, which that pads by bytes, and `r`, which it lacks, and
/// truncates floats for `d`, `i` and `u`.
pub(super) fn printf(text: &str, arguments: &[Value]) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    let mut arguments = arguments.to_vec();
    let (mut rest, mut place) = (text, 0);
    while let Some(at) = rest.find('%') {
        let after = &rest[at + 1..];
        let Some(kind) = after.find(|c: char| c == '%' || c.is_ascii_alphabetic()) else { break };
        let (spec, letter) = (&after[..kind], &after[kind..=kind]);
        out.push_str(&rest[..=at]);
        let argument = arguments.get_mut(place).filter(|_| !spec.contains(['(', '*']));
        match (letter, argument) {
            ("s" | "r", Some(argument)) => {
                // A list shows its items as `repr` does.
                let shown = match letter {
                    "s" => argument.to_string(),
                    _ => Value::from(vec![argument.clone()]).to_string(),
                };
                let inner = shown.strip_prefix('[').and_then(|shown| shown.strip_suffix(']'));
                let shown = inner.filter(|_| letter == "r").unwrap_or(&shown);
                let (width, precision) = spec.split_once('.').unwrap_or((spec, ""));
                let kept = precision.parse().unwrap_or(if precision.is_empty() { usize::MAX } else { 0 });
                let shown: String = shown.chars().take(kept).collect();
                let side = if width.contains('-') { Side::Right } else { Side::Left };
                let width = width.trim_start_matches(['-', '+', ' ', '#', '0']).parse().unwrap_or(0);
                *argument = Value::from(padded(&shown, width, ' ', side)?);
                out.push('s');
            }
            ("i" | "d" | "u", Some(argument)) => {
                if let Some(number) = f64::try_from(argument.clone()).ok().filter(|_| !argument.is_integer())
                {
                    *argument = Value::from(number as i64);
                }
                out.push_str(spec);
                out.push('d');
            }
            _ => out.push_str(&after[..=kind]),
        }
        place += usize::from(letter != "%");
        rest = &after[kind + 1..];
    }
    out.push_str(rest);
    format(FormatStyle::Printf, &out, &arguments)
}

/// The first letter in title case, the others in lower case.
pub(super) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return String::new() };
    // Title case has one capital where upper case has two: `\u{df}` becomes `Ss`.
    let mut upper = first.to_uppercase();
    let first = upper.next().unwrap_or(first).to_string();
    first
        + &upper.flat_map(char::to_lowercase).chain(letters.flat_map(char::to_lowercase)).collect::<String>()
}
