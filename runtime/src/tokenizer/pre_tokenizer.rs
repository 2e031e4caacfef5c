//! The pre-tokenizer: cuts text into words as a [`Pattern`] does; here, as GPT-2's.
//!
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` (Radford et al. 2019,
//! `encoder.py`), applied after single digits have been split off, if the tokenizer does that. Merges never cross
//! word boundaries.

use super::classes::{CharClass, class_at};
use super::words::{self, Rules};

/// A pattern that cuts text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// GPT-2's.
    Gpt2,
    /// GPT-2's, applied after each numeric character has been split off (SmolLM2).
    Gpt2Digits,
    /// Llama 3's: numbers in groups of up to three.
    Llama3,
    /// Qwen 2's: as Llama 3's, each number by itself.
    Qwen2,
    /// Tekken's, of Mistral NeMo and later: words end before a capital letter.
    Tekken,
}

impl Pattern {
    /// Every pattern.
    pub const ALL: [Pattern; 5] =
        [Pattern::Gpt2, Pattern::Gpt2Digits, Pattern::Llama3, Pattern::Qwen2, Pattern::Tekken];
}

/// The words of a text, in order; concatenated they are the text.
#[derive(Clone, Debug)]
pub(super) struct Words<'t> {
    rest: &'t [u8],
    pattern: Pattern,
}

impl<'t> Words<'t> {
    /// The words of `text`.
    pub(super) fn new(text: &'t [u8], pattern: Pattern) -> Self {
        Words { rest: text, pattern }
    }
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t [u8];

    #[inline]
    fn next(&mut self) -> Option<&'t [u8]> {
        let end = match self.pattern {
            Pattern::Gpt2 => first_word_end(self.rest, false),
            Pattern::Gpt2Digits => first_word_end(self.rest, true),
            Pattern::Llama3 => words::first_word_end(self.rest, &Rules::LLAMA3),
            Pattern::Qwen2 => words::first_word_end(self.rest, &Rules::QWEN2),
            Pattern::Tekken => words::first_word_end(self.rest, &Rules::TEKKEN),
        }?;
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(word)
    }
}

/// The end of the first word of `text`; `None` for an empty text.
#[inline]
fn first_word_end(text: &[u8], digits_apart: bool) -> Option<usize> {
    let (class, len) = class_at(text, 0, digits_apart)?;
    match class {
        CharClass::Digit => Some(len),
        CharClass::Space => Some(space_word_end(text, len, digits_apart)),
        class => match contraction(text) {
            Some(end) => Some(end),
            None => Some(run_end(text, len, class, digits_apart)),
        },
    }
}

/// The end of a word that begins with white space: one space and what follows it, or a run of white space.
fn space_word_end(text: &[u8], first: usize, digits_apart: bool) -> usize {
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
            // The text ends here: `\s+(?!\S)` matches the whole run.
            Some((CharClass::Digit, _)) | None => return end,
            // It leaves the last character to the next word; `\s+` matches a single one.
            Some(_) => return if last > 0 { last } else { end },
        }
    }
}

/// The end of the run of `class` that includes `at`.
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
