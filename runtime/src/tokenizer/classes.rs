//! The character classes of the patterns.

use super::{case_table, class_table};

/// A character class of the patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharClass {
    /// Any other character.
    Other,
    /// `\p{L}`.
    Letter,
    /// `\p{N}`.
    Number,
    /// `\s`.
    Space,
    /// A digit that is a separate word: `char::is_numeric`. Only if the tokenizer separates digits.
    Digit,
}

/// The case of a character, for Tekken's pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharCase {
    /// Neither a letter nor a mark.
    None,
    /// `[\p{Lu}\p{Lt}]`.
    Upper,
    /// `\p{Ll}`.
    Lower,
    /// `[\p{Lm}\p{Lo}\p{M}]`.
    Either,
}

/// The two bits of `code` in a table of two levels, whose leaves hold 64 code points.
fn look_up(index: &[u16], leaves: &[u128], code: u32) -> u128 {
    let leaf = index.get(code as usize / 64).and_then(|&leaf| leaves.get(usize::from(leaf)));
    leaf.map_or(0, |leaf| leaf >> (code % 64 * 2) & 3)
}

/// The class of `code`, a Unicode scalar value; never [`CharClass::Digit`].
pub fn class_of(code: u32) -> CharClass {
    match look_up(&class_table::INDEX, &class_table::LEAVES, code) {
        1 => CharClass::Letter,
        2 => CharClass::Number,
        3 => CharClass::Space,
        _ => CharClass::Other,
    }
}

/// The case of `code`, a Unicode scalar value.
pub fn case_of(code: u32) -> CharCase {
    match look_up(&case_table::INDEX, &case_table::LEAVES, code) {
        1 => CharCase::Upper,
        2 => CharCase::Lower,
        3 => CharCase::Either,
        _ => CharCase::None,
    }
}

/// The case and length in bytes of the character at `at`, as [`class_at`] for its class.
pub(super) fn case_at(text: &[u8], at: usize) -> Option<(CharCase, usize)> {
    let &first = text.get(at)?;
    let (code, len) = if first < 0x80 { (Some(u32::from(first)), 1) } else { code_at(text, at, first) };
    Some((code.map_or(CharCase::None, case_of), len))
}

/// The classes of the ASCII characters; digits are numbers.
static ASCII: [CharClass; 128] = {
    let mut classes = [CharClass::Other; 128];
    let mut code = 0;
    while code < 128 {
        classes[code] = match code as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => CharClass::Letter,
            b'0'..=b'9' => CharClass::Number,
            b' ' | 9..=13 => CharClass::Space,
            _ => CharClass::Other,
        };
        code += 1;
    }
    classes
};

/// The class and length in bytes of the character at `at`; `None` at the end of `text`.
///
/// For invalid UTF-8 (a damaged table can split a character) the class is unspecified and the length at least one, within
/// `text`.
#[inline]
pub(super) fn class_at(text: &[u8], at: usize, digits_apart: bool) -> Option<(CharClass, usize)> {
    let &first = text.get(at)?;
    match ASCII.get(usize::from(first)) {
        Some(CharClass::Number) if digits_apart => Some((CharClass::Digit, 1)),
        Some(&class) => Some((class, 1)),
        None => Some(wide_class_at(text, at, first, digits_apart)),
    }
}

/// The code point and length in bytes of the character at `at`, which begins with `first` and is not ASCII; no code point if
/// the text ends inside it.
pub(super) fn code_at(text: &[u8], at: usize, first: u8) -> (Option<u32>, usize) {
    let (len, mut code) = match first {
        ..0xE0 => (2, u32::from(first & 0x1F)),
        0xE0..0xF0 => (3, u32::from(first & 0x0F)),
        0xF0.. => (4, u32::from(first & 0x07)),
    };
    for step in 1..len {
        let Some(&byte) = text.get(at + step) else { return (None, step) };
        code = code << 6 | u32::from(byte & 0x3F);
    }
    (Some(code), len)
}

/// [`class_at`] for non-ASCII characters.
fn wide_class_at(text: &[u8], at: usize, first: u8, digits_apart: bool) -> (CharClass, usize) {
    let (Some(code), len) = code_at(text, at, first) else {
        return (CharClass::Other, text.len() - at);
    };
    let class = class_of(code);
    // Letters and spaces are never numeric; other characters are rare.
    let may_be_digit = matches!(class, CharClass::Number | CharClass::Other);
    if digits_apart && may_be_digit && char::from_u32(code).is_some_and(char::is_numeric) {
        return (CharClass::Digit, len);
    }
    (class, len)
}
