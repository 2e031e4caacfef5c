//! Normalization of text to NFC (Unicode Standard Annex 15), in the caller's memory.
//!
//! Most text is normalized already, which [`is_normalized`] sees at a glance: only a text with combining characters, jamo or
//! characters that NFC replaces is rewritten.

use super::EncodeError;
use super::classes::code_at;
use super::nfc_table::{ACTIVE, COMBINING, COMPOSED, DECOMPOSED, PARTS};
use zerocopy::FromBytes;
use zerocopy::byteorder::little_endian::U64;

/// First code point whose text may need work.
const FIRST: u32 = 0x300;
const HANGUL: u32 = 0xAC00;
const LEADING: u32 = 0x1100;
const VOWEL: u32 = 0x1161;
/// One before the first trailing jamo.
const TRAILING: u32 = 0x11A7;
const VOWELS: u32 = 21;
const TRAILINGS: u32 = 28;
const SYLLABLES: u32 = 19 * VOWELS * TRAILINGS;

/// What normalization knows about a character, for the test of its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalization {
    /// Canonical combining class.
    pub combining_class: u8,
    /// Whether NFC leaves every text of such characters as it is.
    pub inert: bool,
}

/// The properties of `code`, a Unicode scalar value.
pub fn normalization_of(code: u32) -> Normalization {
    Normalization { combining_class: combining_class(code), inert: is_inert(code) }
}

/// The canonical combining class.
fn combining_class(code: u32) -> u8 {
    let after = COMBINING.partition_point(|&(first, ..)| first <= code);
    let range = after.checked_sub(1).and_then(|at| COMBINING.get(at));
    range.filter(|(_, last, _)| code <= *last).map_or(0, |&(.., class)| class)
}

/// Whether a character neither changes, nor composes with the one before it, nor moves.
fn is_inert(code: u32) -> bool {
    let after = ACTIVE.partition_point(|&(first, _)| first <= code);
    let range = after.checked_sub(1).and_then(|at| ACTIVE.get(at));
    range.is_none_or(|&(_, last)| code > last)
}

/// The full canonical decomposition of a character other than a Hangul syllable.
fn decomposition(code: u32) -> Option<&'static [u32]> {
    let at = DECOMPOSED.binary_search_by_key(&code, |&(code, _)| code).ok()?;
    let start = usize::from(DECOMPOSED[at].1);
    let end = DECOMPOSED.get(at + 1).map_or(PARTS.len(), |next| usize::from(next.1));
    PARTS.get(start..end)
}

/// The composition of two characters.
fn compose(first: u32, second: u32) -> Option<u32> {
    if (LEADING..LEADING + 19).contains(&first) && (VOWEL..VOWEL + VOWELS).contains(&second) {
        return Some(HANGUL + ((first - LEADING) * VOWELS + second - VOWEL) * TRAILINGS);
    }
    let syllable = first.checked_sub(HANGUL).filter(|&at| at < SYLLABLES && at.is_multiple_of(TRAILINGS));
    if syllable.is_some() && (TRAILING + 1..TRAILING + TRAILINGS).contains(&second) {
        return Some(first + second - TRAILING);
    }
    let at = COMPOSED.binary_search_by_key(&(first, second), |&(first, second, _)| (first, second)).ok()?;
    Some(COMPOSED[at].2)
}

/// Calls `each` with every code point of `text`; with U+FFFD for a character that a damaged table has cut.
fn code_points(text: &[u8], mut each: impl FnMut(u32)) {
    let mut at = 0;
    while let Some(&first) = text.get(at) {
        let (code, len) = if first < 0x80 { (Some(u32::from(first)), 1) } else { code_at(text, at, first) };
        each(code.unwrap_or(0xFFFD));
        at += len;
    }
}

/// Whether a text is surely normalized. Sees combining characters, not what they do.
pub(super) fn is_normalized(text: &[u8]) -> bool {
    // No byte below this begins a character from U+0300 on.
    if text.iter().all(|&byte| byte < 0xCC) {
        return true;
    }
    let mut normalized = true;
    code_points(text, |code| normalized = normalized && (code < FIRST || is_inert(code)));
    normalized
}

/// Most bytes of the normal form of a text of `bytes` bytes.
pub(super) fn most_bytes(bytes: usize) -> usize {
    bytes.saturating_mul(3)
}

/// Scratch bytes to normalize a text of `bytes` bytes: its code points, at most two for a byte, and its normal form.
pub(super) fn scratch_bytes(bytes: usize) -> usize {
    bytes.saturating_mul(2 * size_of::<U64>()).saturating_add(most_bytes(bytes))
}

/// A code point with its place in the order of combining marks: class, position, code.
fn entry(class: u8, position: usize, code: u32) -> u64 {
    u64::from(class) << 56 | (position as u64) << 21 | u64::from(code)
}

fn class_in(entry: u64) -> u8 {
    (entry >> 56) as u8
}

fn code_in(entry: u64) -> u32 {
    entry as u32 & 0x1F_FFFF
}

/// The normal form of `text` at the front of `scratch`, and the rest of `scratch`.
///
/// # Errors
/// [`EncodeError::Scratch`] if `scratch` has less than [`scratch_bytes`].
pub(super) fn normalize<'s>(
    text: &[u8],
    scratch: &'s mut [u8],
) -> Result<(&'s [u8], &'s mut [u8]), EncodeError> {
    let expected = scratch_bytes(text.len());
    let too_small = EncodeError::Scratch { expected, capacity: scratch.len() };
    let (lent, rest) = scratch.split_at_mut_checked(expected).ok_or(too_small)?;
    let (entries, out) = lent.split_at_mut(expected - most_bytes(text.len()));
    let entries = <[U64]>::mut_from_bytes(entries).map_err(|_| too_small)?;
    let count = decompose(text, entries);
    let count = recompose(&mut entries[..count]);
    let mut len = 0;
    for entry in &entries[..count] {
        let letter = char::from_u32(code_in(entry.get())).unwrap_or(char::REPLACEMENT_CHARACTER);
        if let Some(place) = out.get_mut(len..len + letter.len_utf8()) {
            letter.encode_utf8(place);
            len += place.len();
        }
    }
    Ok((&out[..len], rest))
}

/// Writes the canonical decomposition, its marks in canonical order; returns the number of code points.
fn decompose(text: &[u8], entries: &mut [U64]) -> usize {
    let mut count = 0;
    // Where the current run of combining marks begins.
    let mut run = 0;
    let mut push = |code: u32| {
        let class = combining_class(code);
        if class == 0 {
            entries[run..count].sort_unstable_by_key(|entry| entry.get());
            run = count + 1;
        }
        // There are at most two code points for each byte: a test looks at every character.
        if let Some(place) = entries.get_mut(count) {
            place.set(entry(class, count, code));
            count += 1;
        }
        run = run.min(count);
    };
    code_points(text, |code| {
        if let Some(at) = code.checked_sub(HANGUL).filter(|&at| at < SYLLABLES) {
            push(LEADING + at / (VOWELS * TRAILINGS));
            push(VOWEL + at / TRAILINGS % VOWELS);
            if !at.is_multiple_of(TRAILINGS) {
                push(TRAILING + at % TRAILINGS);
            }
        } else if let Some(parts) = decomposition(code) {
            parts.iter().for_each(|&part| push(part));
        } else {
            push(code);
        }
    });
    entries[run..count].sort_unstable_by_key(|entry| entry.get());
    count
}

/// Composes the decomposed code points in place; returns how many are left.
fn recompose(entries: &mut [U64]) -> usize {
    let mut count = 0;
    let mut starter: Option<usize> = None;
    let mut last_class = 0;
    for at in 0..entries.len() {
        let next = entries[at].get();
        let class = class_in(next);
        if let Some(starter) = starter
            // Not blocked by a character in between.
            && (count == starter + 1 || last_class < class)
            && let Some(composed) = compose(code_in(entries[starter].get()), code_in(next))
        {
            entries[starter].set(entry(0, starter, composed));
            continue;
        }
        if class == 0 {
            starter = Some(count);
        }
        last_class = class;
        entries[count].set(next);
        count += 1;
    }
    count
}
