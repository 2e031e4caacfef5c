//! The pre-tokenizer: cuts text into words as the GPT-2 pattern does.
//!
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` (Radford et al. 2019,
//! `encoder.py`), after each digit has been set apart where the tokenizer does that. Merges never cross the
//! border of a word.

use super::classes::{CharClass, class_at};

/// The words of a text, in order; together they are the whole text.
#[derive(Clone, Debug)]
pub(super) struct Pieces<'t> {
    rest: &'t [u8],
    digits_apart: bool,
}

impl<'t> Pieces<'t> {
    /// The words of `text`.
    pub(super) fn new(text: &'t [u8], digits_apart: bool) -> Self {
        Pieces { rest: text, digits_apart }
    }
}

impl<'t> Iterator for Pieces<'t> {
    type Item = &'t [u8];

    #[inline]
    fn next(&mut self) -> Option<&'t [u8]> {
        let end = first_piece(self.rest, self.digits_apart)?;
        let (piece, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(piece)
    }
}

/// Where the first word of `text` ends; `None` where the text is empty.
#[inline]
fn first_piece(text: &[u8], digits_apart: bool) -> Option<usize> {
    let (class, len) = class_at(text, 0, digits_apart)?;
    match class {
        CharClass::Digit => Some(len),
        CharClass::Space => Some(space_piece(text, len, digits_apart)),
        class => match contraction(text) {
            Some(end) => Some(end),
            None => Some(run_end(text, len, class, digits_apart)),
        },
    }
}

/// The word that begins with white space: one blank in front of something else, or a run.
fn space_piece(text: &[u8], first: usize, digits_apart: bool) -> usize {
    if text.first() == Some(&b' ') {
        match class_at(text, first, digits_apart) {
            Some((CharClass::Space | CharClass::Digit, _)) | None => {}
            Some((class, len)) => return run_end(text, first + len, class, digits_apart),
        }
    }
    let (mut last, mut end) = (0, first);
    loop {
        match class_at(text, end, digits_apart) {
            Some((CharClass::Space, len)) => (last, end) = (end, end + len),
            // Nothing follows in this part of the text: `\s+(?!\S)` takes the whole run.
            Some((CharClass::Digit, _)) | None => return end,
            // It leaves the last one to what follows; a single one is left to `\s+`.
            Some(_) => return if last > 0 { last } else { end },
        }
    }
}

/// The end of the run of `class` that has reached `at`.
#[inline]
fn run_end(text: &[u8], mut at: usize, class: CharClass, digits_apart: bool) -> usize {
    while let Some((next, len)) = class_at(text, at, digits_apart) {
        if next != class {
            break;
        }
        at += len;
    }
    at
}

/// The length of the contraction (`'s`, `'re`, ...) that `text` begins with.
#[inline]
fn contraction(text: &[u8]) -> Option<usize> {
    match text {
        [b'\'', b's' | b't' | b'm' | b'd', ..] => Some(2),
        [b'\'', b'r', b'e', ..] | [b'\'', b'v', b'e', ..] | [b'\'', b'l', b'l', ..] => Some(3),
        _ => None,
    }
}
