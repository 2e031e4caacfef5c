//! What each character is to normalization and to the cutting of words.

use std::sync::LazyLock;

/// A decimal digit (general category Nd).
pub(super) const DIGIT: u8 = 1;
/// A nonspacing mark (general category Mn), which normalization drops.
pub(super) const MARK: u8 = 1 << 1;
/// White space, or punctuation that normalization makes a space.
pub(super) const SPACE: u8 = 1 << 2;
/// A symbol that is a word of its own wherever it stands.
pub(super) const SYMBOL: u8 = 1 << 3;
/// A letter.
pub(super) const LETTER: u8 = 1 << 4;
/// A character that is cut off the beginning of a word.
pub(super) const PREFIX: u8 = 1 << 5;
/// A character that is cut off the end of a word.
pub(super) const SUFFIX: u8 = 1 << 6;
/// A currency sign, which is cut off a digit before it.
pub(super) const CURRENCY: u8 = 1 << 7;

/// Written by `tables.py`: first and last character, and their flags.
const RANGES: &str = include_str!("characters.txt");

static FLAGS: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    let mut flags = vec![0; 0x11_0000].into_boxed_slice();
    for line in RANGES.lines() {
        let mut numbers = line.split(' ').map(|number| usize::from_str_radix(number, 16).unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let (first, last, found) = (next(), next(), next());
        if let Some(range) = flags.get_mut(first..=last) {
            range.fill(found as u8);
        }
    }
    flags
});

/// The flags of every character.
#[derive(Clone, Copy)]
pub(super) struct Characters(&'static [u8]);

impl Characters {
    /// The table, which the first call reads.
    pub(super) fn get() -> Characters {
        Characters(&FLAGS)
    }

    /// Whether a character has one of the flags.
    pub(super) fn is(self, character: char, flags: u8) -> bool {
        self.0[character as usize] & flags != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let characters = Characters::get();
        for line in RANGES.lines() {
            let numbers: Vec<u32> =
                line.split(' ').map(|number| u32::from_str_radix(number, 16).unwrap()).collect();
            assert!(numbers.len() == 3 && numbers[0] <= numbers[1] && numbers[2] < 256, "{line}");
        }
        assert!(characters.is('7', DIGIT) && characters.is('٣', DIGIT) && !characters.is('½', DIGIT));
        assert!(characters.is('\u{301}', MARK) && !characters.is('\u{93e}', MARK));
        assert!(characters.is('é', LETTER) && characters.is('€', CURRENCY) && characters.is('©', SYMBOL));
        assert!(!characters.is('\u{10ffff}', 0xff));
    }
}
