//! Words of a normalized text, as spaCy's tokenizer for English cuts them.
//!
//! Normalization leaves few of its rules something to do: symbols, currency signs, units behind digits, the signs `=`,
//! `<` and `>` that decomposition makes, and contractions without their apostrophe.

use super::characters::{CURRENCY, Characters, LETTER, PREFIX, SUFFIX, SYMBOL};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;
use unicode_normalization::UnicodeNormalization;

/// Units that are cut off a digit.
const UNITS: &str = "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz kmh mph \
                     mbar mb kb gb tb км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг мбар кб мб гб \
                     тбكم كم² كم³ م م² م³ سم سم² سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ كوب اكواب";

/// Words with the endings that make contractions of them. `ill`, `well`, `were`, `shell`, `its` and others are words
/// of their own.
const CONTRACTIONS: [(&str, &str); 11] = [
    ("i", "m d ve d+ve ll+ve m+a"),
    ("you they", "d ll re ve d+ve ll+ve"),
    ("we", "d ve d+ve ll+ve"),
    ("he", "d s d+ve ll+ve"),
    ("she", "s d+ve ll+ve"),
    ("it", "d ll d+ve ll+ve"),
    ("what when where why how there", "s d ll re ve d+ve ll+ve"),
    ("these those", "d ll re ve d+ve ll+ve"),
    ("who", "s d ll ve d+ve ll+ve"),
    ("that this", "s d ll d+ve ll+ve"),
    ("could might must should would", "ve"),
];
/// Verbs that are joined to `nt`, and to `ntve`.
const NEGATED: &str = "ca could do does did had may might must need ought sha should wo would";
/// Verbs that are joined to `nt` alone.
const NEGATED_ALONE: &str = "ai are is was were have has dare";
/// Further words, cut at the sign `+`.
const OTHERS: &str = "can+not gon+na got+ta not+ve y+all ‘s <space>";

/// Words that are cut in an own way: the bytes of their parts.
static SPECIAL: LazyLock<HashMap<String, Vec<usize>>> = LazyLock::new(|| {
    let mut special = HashMap::new();
    let mut add = |parts: String| {
        special.insert(parts.replace('+', ""), parts.split('+').map(str::len).collect::<Vec<_>>());
    };
    for (words, endings) in CONTRACTIONS {
        for word in words.split(' ') {
            endings.split(' ').for_each(|ending| add(format!("{word}+{ending}")));
        }
    }
    for verb in NEGATED.split(' ') {
        add(format!("{verb}+nt"));
        add(format!("{verb}+nt+ve"));
    }
    NEGATED_ALONE.split(' ').for_each(|verb| add(format!("{verb}+nt")));
    OTHERS.split(' ').for_each(|word| add(word.to_owned()));
    special
});

/// The longest special word, in bytes.
const MOST_SPECIAL: usize = 10;

/// The words of a text, joined by single spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordList {
    text: String,
    words: Vec<Range<u32>>,
}

impl WordList {
    /// The words of a text that [`super::normalize`] made.
    pub fn of_normalized(normalized: &str) -> WordList {
        let mut list = WordList { text: String::with_capacity(normalized.len() + 16), words: Vec::new() };
        let characters = Characters::get();
        for chunk in normalized.split_whitespace() {
            if is_plain(chunk) && special(chunk).is_none() {
                list.push(chunk);
            } else {
                cut(characters, chunk, &mut list);
            }
        }
        list
    }

    /// The runs of letters, digits and underscores of a text in lower case and NFD, as decontamination compares them.
    pub fn of_letters(text: &str) -> WordList {
        let lower = text.to_lowercase();
        let lower = if lower.is_ascii() { lower } else { lower.nfd().collect() };
        let mut list = WordList { text: String::with_capacity(lower.len()), words: Vec::new() };
        let words = lower.split(|character: char| !character.is_alphanumeric() && character != '_');
        words.filter(|word| !word.is_empty()).for_each(|word| list.push(word));
        list
    }

    /// The number of words.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is no word.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Every word.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(|word| &self.text[word.start as usize..word.end as usize])
    }

    /// Every run of `n` consecutive words, joined by single spaces; none where there are fewer words.
    pub fn ngrams(&self, n: usize) -> impl Iterator<Item = &str> {
        let windows = self.words.windows(n.max(1));
        windows.map(|words| &self.text[words[0].start as usize..words[words.len() - 1].end as usize])
    }

    /// The words from `start` to `end`, joined by single spaces.
    ///
    /// # Panics
    /// Where there are fewer words, or the range is empty.
    pub fn span(&self, start: usize, end: usize) -> &str {
        &self.text[self.words[start].start as usize..self.words[end - 1].end as usize]
    }

    /// Appends a word. A text has at most 2^32 bytes: its record has fewer.
    fn push(&mut self, word: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let start = self.text.len() as u32;
        self.text.push_str(word);
        self.words.push(start..self.text.len() as u32);
    }
}

/// Whether no rule but that of special words has anything to do: letters alone, as in most words.
fn is_plain(chunk: &str) -> bool {
    chunk.bytes().all(|byte| byte.is_ascii_lowercase())
}

fn special(word: &str) -> Option<&'static [usize]> {
    if word.len() > MOST_SPECIAL { None } else { SPECIAL.get(word).map(Vec::as_slice) }
}

/// Cuts what stands between two spaces: prefixes and suffixes from outside in, then at the signs within.
fn cut(characters: Characters, chunk: &str, list: &mut WordList) {
    let mut suffixes = Vec::new();
    let mut rest = chunk;
    while !rest.is_empty() && special(rest).is_none() {
        let prefix = prefix_len(characters, rest);
        let without = &rest[prefix..];
        if prefix > 0 && special(without).is_some() {
            list.push(&rest[..prefix]);
            rest = without;
            break;
        }
        let suffix = suffix_len(characters, without);
        let (before, after) = rest.split_at(rest.len() - suffix);
        if suffix > 0 && special(before).is_some() {
            suffixes.push(after);
            rest = before;
            break;
        }
        if prefix + suffix == 0 {
            break;
        }
        if prefix > 0 {
            list.push(&rest[..prefix]);
        }
        if suffix > 0 {
            suffixes.push(after);
        }
        rest = &rest[prefix..rest.len() - suffix];
    }
    match special(rest) {
        Some(mut parts) => {
            while let Some((&length, more)) = parts.split_first() {
                list.push(&rest[..length]);
                rest = &rest[length..];
                parts = more;
            }
        }
        None => cut_within(characters, rest, list),
    }
    suffixes.into_iter().rev().for_each(|suffix| list.push(suffix));
}

fn prefix_len(characters: Characters, text: &str) -> usize {
    text.chars().next().filter(|&first| characters.is(first, PREFIX)).map_or(0, char::len_utf8)
}

fn suffix_len(characters: Characters, text: &str) -> usize {
    let Some(last) = text.chars().next_back() else { return 0 };
    let before = &text[..text.len() - last.len_utf8()];
    let digit = |text: &str| text.ends_with(|character: char| character.is_ascii_digit());
    if characters.is(last, SUFFIX) || (characters.is(last, CURRENCY) && digit(before)) {
        return last.len_utf8();
    }
    let Some(at) = text.rfind(|character: char| character.is_ascii_digit()) else { return 0 };
    let unit = &text[at + 1..];
    if !unit.is_empty() && UNITS.split(' ').any(|known| known == unit) { unit.len() } else { 0 }
}

/// Cuts at symbols, and at the signs `=`, `<` and `>` between letters. A sign at the beginning stays.
fn cut_within(characters: Characters, text: &str, list: &mut WordList) {
    let mut start = 0;
    for (at, sign) in text.char_indices() {
        let end = at + sign.len_utf8();
        let between = || {
            let before = text[..at].chars().next_back();
            let before =
                before.is_some_and(|before| before.is_ascii_digit() || characters.is(before, LETTER));
            before && text[end..].chars().next().is_some_and(|after| characters.is(after, LETTER))
        };
        let cuts = characters.is(sign, SYMBOL) || (matches!(sign, '=' | '<' | '>') && between());
        if !cuts || at == 0 {
            continue;
        }
        if at > start {
            list.push(&text[start..at]);
        }
        list.push(&text[at..end]);
        start = end;
    }
    if start < text.len() {
        list.push(&text[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_as_spacy_cuts_them() {
        for (text, expected) in [
            ("", ""),
            ("the old stone", "the|old|stone"),
            ("cannot dont wont mustntve id well ima", "can|not|do|nt|wo|nt|must|nt|ve|i|d|well|i|m|a"),
            ("0km 0kms a0t 0° £0 0£ a£", "0|km|0kms|a0|t|0|°|£|0|0|£|a£"),
            ("©a©b© ©", "©|a|©|b|©|©"),
            ("a=b =b a= 0<a 0<0", "a|=|b|=|b|a=|0|<|a|0<0"),
            ("‘s dog‘s ‘‘s‘ ·x·", "‘s|dog‘s|‘|‘s|‘|·|x|·"),
            ("0am 0mm²", "0am|0|mm²"),
        ] {
            let words = WordList::of_normalized(text);
            assert_eq!(words.iter().collect::<Vec<_>>().join("|"), expected, "{text}");
        }
        assert!(SPECIAL.keys().all(|word| word.len() <= MOST_SPECIAL), "{MOST_SPECIAL}");
    }

    #[test]
    fn runs_of_words_are_joined_by_spaces() {
        let words = WordList::of_normalized("a dont  c");
        assert_eq!(words.ngrams(3).collect::<Vec<_>>(), ["a do nt", "do nt c"]);
        assert_eq!((words.ngrams(5).count(), words.len()), (0, 4));
    }
}
