//! Repetition rules of Gopher (Rae et al. 2021, appendix A.1.1, table A1).

use super::characters::{length, split_at_feeds, strip};
use super::{Document, Removal, above, duplicates};
use std::collections::{HashMap, HashSet};

/// The paper's thresholds, as shares of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct GopherRepetition {
    /// Most lines that are copies.
    pub lines: f64,
    /// Most paragraphs that are copies.
    pub paragraphs: f64,
    /// Most characters in lines that are copies.
    pub line_characters: f64,
    /// Most characters in paragraphs that are copies.
    pub paragraph_characters: f64,
    /// For each number of words: most characters in the most frequent n-gram.
    pub top: Vec<(usize, f64)>,
    /// For each number of words: most characters in n-grams that are copies.
    pub duplicated: Vec<(usize, f64)>,
}

impl Default for GopherRepetition {
    fn default() -> GopherRepetition {
        GopherRepetition {
            lines: 0.3,
            paragraphs: 0.3,
            line_characters: 0.2,
            paragraph_characters: 0.2,
            top: vec![(2, 0.2), (3, 0.18), (4, 0.16)],
            duplicated: vec![(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)],
        }
    }
}

impl GopherRepetition {
    pub(super) fn check(&self, document: &Document<'_>) -> Result<(), Removal> {
        let text = document.text;
        let total = length(text) as f64;
        let paragraphs = split_at_feeds(strip(text), 2);
        let (copies, characters) = duplicates(&paragraphs);
        above("dup_para_frac", copies as f64 / paragraphs.len() as f64, self.paragraphs)?;
        above("dup_para_char_frac", characters as f64 / total, self.paragraph_characters)?;
        let lines = split_at_feeds(text, 1);
        let (copies, characters) = duplicates(&lines);
        above("dup_line_frac", copies as f64 / lines.len() as f64, self.lines)?;
        above("dup_line_char_frac", characters as f64 / total, self.line_characters)?;
        let words = JoinedWords::of(&document.words().words);
        for &(n, most) in self.top.iter().filter(|ngram| ngram.0 > 0) {
            above(&format!("top_{n}_gram"), words.top(n) as f64 / total, most)?;
        }
        for &(n, most) in self.duplicated.iter().filter(|ngram| ngram.0 > 0) {
            above(&format!("duplicated_{n}_n_grams"), words.duplicated(n) as f64 / total, most)?;
        }
        Ok(())
    }
}

/// Words in one text without spaces, so that an n-gram is a slice.
struct JoinedWords {
    text: String,
    /// Where words begin, in bytes and in characters, and the ends of the last one.
    bytes: Vec<usize>,
    characters: Vec<usize>,
    /// The same words by number: equal words have equal numbers.
    numbers: Vec<u32>,
}

impl JoinedWords {
    fn of(words: &[&str]) -> JoinedWords {
        let mut joined =
            JoinedWords { text: String::new(), bytes: vec![0], characters: vec![0], numbers: Vec::new() };
        let (mut numbers, mut characters) = (HashMap::new(), 0);
        for &word in words {
            joined.text.push_str(word);
            joined.bytes.push(joined.text.len());
            characters += length(word);
            joined.characters.push(characters);
            let next = numbers.len() as u32;
            joined.numbers.push(*numbers.entry(word).or_insert(next));
        }
        joined
    }

    /// Characters of all copies of the most frequent n-gram, with its spaces; of equally frequent ones the first.
    fn top(&self, n: usize) -> usize {
        let mut counts: HashMap<&[u32], (usize, usize)> = HashMap::new();
        for (at, ngram) in self.numbers.windows(n).enumerate() {
            counts.entry(ngram).or_insert((0, at)).0 += 1;
        }
        let top = counts.into_values().min_by_key(|&(count, first)| (std::cmp::Reverse(count), first));
        top.map_or(0, |(count, at)| (self.characters[at + n] - self.characters[at] + n - 1) * count)
    }

    /// Characters of n-grams, without their spaces, that occurred before; such an n-gram is passed as a whole.
    fn duplicated(&self, n: usize) -> usize {
        let (mut seen, mut characters, mut at) = (HashSet::new(), 0, 0);
        while at + n <= self.numbers.len() {
            if seen.insert(&self.text[self.bytes[at]..self.bytes[at + n]]) {
                at += 1;
            } else {
                characters += self.characters[at + n] - self.characters[at];
                at += n;
            }
        }
        characters
    }
}
