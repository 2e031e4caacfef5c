//! Normalization before duplicates are looked for, as datatrove's `simplify_text` does it.

use super::characters::{Characters, DIGIT, MARK, SPACE};
use unicode_normalization::UnicodeNormalization;

/// Marks that join two runs of digits into one number.
const DECIMAL_MARKS: [char; 7] = ['.', ',', '\u{60C}', '\u{66B}', '\u{2396}', '\u{2397}', '\u{2398}'];

/// Normalizes `text`: lower case, each number a 0, punctuation and white space one space, NFD without nonspacing marks.
pub fn normalize(text: &str) -> String {
    let characters = Characters::get();
    let lower = if text.is_ascii() { text.to_ascii_lowercase() } else { text.to_lowercase() };
    let mut out = String::with_capacity(lower.len());
    let mut rest = lower.chars();
    let mut space = false;
    while let Some(mut character) = rest.next() {
        if characters.is(character, SPACE) {
            space = true;
            continue;
        }
        if characters.is(character, DIGIT) {
            character = '0';
            skip_number(characters, &mut rest);
        }
        if space && !out.is_empty() {
            out.push(' ');
        }
        space = false;
        out.push(character);
    }
    if out.is_ascii() {
        return out;
    }
    let plain: String = out.nfd().filter(|&character| !characters.is(character, MARK)).collect();
    let trimmed = plain.trim();
    if trimmed.len() == plain.len() { plain } else { trimmed.to_owned() }
}

/// Passes over the rest of a number, whose first digit is read.
fn skip_number(characters: Characters, rest: &mut std::str::Chars<'_>) {
    let skip_digits = |rest: &mut std::str::Chars<'_>| {
        let text = rest.as_str();
        let end = text.find(|character| !characters.is(character, DIGIT)).unwrap_or(text.len());
        *rest = text[end..].chars();
        end > 0
    };
    skip_digits(rest);
    let mut fraction = rest.clone();
    if fraction.next().is_some_and(|mark| DECIMAL_MARKS.contains(&mark)) && skip_digits(&mut fraction) {
        *rest = fraction;
    }
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn texts_are_normalized() {
        for (text, expected) in [
            ("", ""),
            ("  .,\n\t ", ""),
            ("Don't  STOP!", "don t stop"),
            ("3.14 and 1,000.5, v1.2.3; ٣٫٥", "0 and 0 0 v0 0 0"),
            ("7. 8,", "0 0"),
            ("Crème brûlée, ΟΔΟΣ", "creme brulee οδος"),
            ("a ≠ b", "a = b"),
            ("x\u{a0}\u{2003}y\u{1f}z", "x y z"),
            ("a \u{301} b", "a  b"),
            ("½ km² £5", "½ km² £0"),
            ("İI", "ii"),
        ] {
            assert_eq!(normalize(text), expected, "{text:?}");
        }
    }
}
