//! The pre-tokenizer of tiktoken's family: cuts text into words as the patterns of Llama 3, Qwen 2 and Tekken do.
//!
//! Llama 3: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
//! Qwen 2: the same with `\p{N}`. Tekken: without contractions, with `\p{N}`, `[\r\n/]*`, and words that end before a capital
//! letter: `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` and, if that does not match,
//! `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`.

use super::classes::{CharCase, CharClass, case_at, class_at};

/// What differs between the patterns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Whether `'s` and other contractions are words.
    contractions: bool,
    /// Whether a word ends before a capital letter that follows a small one.
    cased: bool,
    /// Most numbers in a word.
    numbers: usize,
    /// Whether `/` continues a run of punctuation and line breaks.
    slash: bool,
}

impl Rules {
    pub(super) const LLAMA3: Rules = Rules { contractions: true, cased: false, numbers: 3, slash: false };
    pub(super) const QWEN2: Rules = Rules { numbers: 1, ..Rules::LLAMA3 };
    pub(super) const TEKKEN: Rules = Rules { contractions: false, cased: true, numbers: 1, slash: true };
}

/// The class and length of the character at `at`.
fn class(text: &[u8], at: usize) -> Option<(CharClass, usize)> {
    class_at(text, at, false)
}

/// The end of the first word of `text`; `None` for an empty text.
pub(super) fn first_word_end(text: &[u8], rules: &Rules) -> Option<usize> {
    let (first, len) = class(text, 0)?;
    if rules.contractions
        && let Some(end) = contraction(text)
    {
        return Some(end);
    }
    if let Some(end) = letters_end(text, first, len, rules) {
        return Some(end);
    }
    Some(match first {
        CharClass::Number | CharClass::Digit => numbers_end(text, len, rules),
        CharClass::Space if text[0] == b' ' && matches!(class(text, len), Some((CharClass::Other, _))) => {
            punctuation_end(text, len, rules)
        }
        CharClass::Space => space_end(text, len),
        CharClass::Other | CharClass::Letter => punctuation_end(text, 0, rules),
    })
}

/// The end of letters, with the character before them that is neither a letter, a number nor a line break, if any.
fn letters_end(text: &[u8], first: CharClass, len: usize, rules: &Rules) -> Option<usize> {
    let may_precede = match first {
        CharClass::Letter | CharClass::Number | CharClass::Digit => false,
        CharClass::Space | CharClass::Other => !matches!(text[0], b'\r' | b'\n'),
    };
    let starts = [may_precede.then_some(len), Some(0)].into_iter().flatten();
    match rules.cased {
        false => starts.filter_map(|start| run_of_letters(text, start)).next(),
        true => {
            let mut all = starts.clone().filter_map(|start| small_end(text, start));
            all.next().or_else(|| starts.filter_map(|start| capital_end(text, start)).next())
        }
    }
}

/// The end of `\p{L}+` at `start`, if it matches.
fn run_of_letters(text: &[u8], start: usize) -> Option<usize> {
    let mut end = start;
    while let Some((CharClass::Letter, len)) = class(text, end) {
        end += len;
    }
    (end > start).then_some(end)
}

/// The end of the run of characters from `at` on that `is`.
fn run_of(text: &[u8], mut at: usize, is: impl Fn(CharCase) -> bool) -> usize {
    while let Some((case, len)) = case_at(text, at)
        && is(case)
    {
        at += len;
    }
    at
}

fn can_be_capital(case: CharCase) -> bool {
    matches!(case, CharCase::Upper | CharCase::Either)
}

fn can_be_small(case: CharCase) -> bool {
    matches!(case, CharCase::Lower | CharCase::Either)
}

/// The end of capitals and then at least one small letter (uncased letters and marks are both), if there is a match.
fn small_end(text: &[u8], start: usize) -> Option<usize> {
    let (mut end, mut after_last_either) = (start, None);
    while let Some((case, len)) = case_at(text, end)
        && can_be_capital(case)
    {
        end += len;
        if case == CharCase::Either {
            after_last_either = Some(end);
        }
    }
    let small = run_of(text, end, can_be_small);
    // Without a small letter behind them, the regex gives back the capitals after the last uncased character.
    if small > end { Some(small) } else { after_last_either }
}

/// The end of at least one capital and then small letters, if there is a match.
fn capital_end(text: &[u8], start: usize) -> Option<usize> {
    let end = run_of(text, start, can_be_capital);
    (end > start).then(|| run_of(text, end, can_be_small))
}

/// The end of a run of numbers that begins at 0 with one of `first` bytes.
fn numbers_end(text: &[u8], first: usize, rules: &Rules) -> usize {
    let mut end = first;
    for _ in 1..rules.numbers {
        match class(text, end) {
            Some((CharClass::Number, len)) => end += len,
            _ => break,
        }
    }
    end
}

/// The end of `[^\s\p{L}\p{N}]+` from `at` on, and the line breaks (and slashes) behind it.
fn punctuation_end(text: &[u8], mut at: usize, rules: &Rules) -> usize {
    while let Some((CharClass::Other, len)) = class(text, at) {
        at += len;
    }
    while let Some(b'\r' | b'\n') | Some(b'/') = text.get(at) {
        if text[at] == b'/' && !rules.slash {
            break;
        }
        at += 1;
    }
    at
}

/// The end of a word of white space that begins with a character of `first` bytes.
fn space_end(text: &[u8], first: usize) -> usize {
    let is_break = |at: usize| matches!(text.get(at), Some(b'\r' | b'\n'));
    let mut after_break = if is_break(0) { Some(first) } else { None };
    let (mut last, mut end) = (0, first);
    while let Some((CharClass::Space, len)) = class(text, end) {
        if is_break(end) {
            after_break = Some(end + len);
        }
        (last, end) = (end, end + len);
    }
    match after_break {
        // `\s*[\r\n]+` matches up to the last line break of the run.
        Some(after) => after,
        // `\s+(?!\S)` leaves the last character to the next word; `\s+` matches a single one.
        None if end < text.len() && last > 0 => last,
        None => end,
    }
}

/// The length of the contraction (`'s`, `'RE`, ...) that `text` begins with, ignoring case.
fn contraction(text: &[u8]) -> Option<usize> {
    let [b'\'', rest @ ..] = text else { return None };
    // Unicode's case folding also maps the long s to s.
    if rest.starts_with("\u{17F}".as_bytes()) {
        return Some(3);
    }
    let lower = |at: usize| rest.get(at).map(u8::to_ascii_lowercase);
    match (lower(0)?, lower(1)) {
        (b's' | b't' | b'm' | b'd', _) => Some(2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(3),
        _ => None,
    }
}
