//! From a text to rows of the input matrix: words, character n-grams, word n-grams.

use super::dictionary::{Dictionary, END, Token, extend_hash, hash};
use super::settings::Settings;

/// The most rows kept for the character n-grams of known words; what has no room is hashed again each time.
const MOST_CACHED: usize = 1 << 24;

/// The factor of fastText's hash of word n-grams.
const NGRAM_FACTOR: u64 = 116_049_371;

/// The rows of each known word's character n-grams.
#[derive(Clone, Debug, Default)]
pub(super) struct Subwords {
    rows: Vec<u32>,
    /// The end of each word's rows, for as many words as there is room.
    ends: Vec<usize>,
}

/// Cuts texts.
#[derive(Clone, Copy)]
pub(super) struct Features<'m> {
    pub(super) settings: &'m Settings,
    pub(super) dictionary: &'m Dictionary,
    pub(super) subwords: &'m Subwords,
}

impl Subwords {
    pub(super) fn new(settings: &Settings, dictionary: &Dictionary) -> Subwords {
        let mut subwords = Subwords::default();
        if settings.longest == 0 {
            return subwords;
        }
        for row in 0..dictionary.words {
            let word = dictionary.word(row);
            if subwords.rows.len() + word.len().saturating_mul(settings.longest) > MOST_CACHED {
                break;
            }
            if word != END {
                character_ngrams(settings, dictionary, word, |row| subwords.rows.push(row));
            }
            subwords.ends.push(subwords.rows.len());
        }
        subwords
    }

    fn of(&self, word: u32) -> Option<&[u32]> {
        let word = word as usize;
        let end = *self.ends.get(word)?;
        let start = if word == 0 { 0 } else { self.ends[word - 1] };
        Some(&self.rows[start..end])
    }
}

/// The parts of a text between white space as fastText knows it.
pub(super) fn tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0B | 0x0C | 0))
        .filter(|token| !token.is_empty())
}

impl Features<'_> {
    /// Calls `add` with every row that `text` stands for, in fastText's order, and `label` with every label in it.
    /// `hashes` is room that is used again. Returns the number of tokens, the end among them.
    pub(super) fn rows(
        &self,
        text: &[u8],
        hashes: &mut Vec<u32>,
        mut add: impl FnMut(u32),
        mut label: impl FnMut(u32),
    ) -> usize {
        hashes.clear();
        let keep_hashes = self.settings.word_ngrams > 1;
        let mut count = 0;
        // A text that has the end within it ends there.
        let ended = std::iter::once(END);
        for token in tokens(text).chain(ended) {
            count += 1;
            let hash = hash(token);
            match self.dictionary.token(token, hash) {
                Token::Label(known) => known.into_iter().for_each(&mut label),
                known => {
                    self.word_rows(token, known, &mut add);
                    if keep_hashes {
                        hashes.push(hash);
                    }
                }
            }
            if token == END {
                break;
            }
        }
        if keep_hashes {
            self.word_ngrams(hashes, add);
        }
        count
    }

    fn word_rows(&self, word: &[u8], known: Token, add: &mut impl FnMut(u32)) {
        if let Token::Word(row) = known {
            add(row);
            if self.settings.longest == 0 || word == END {
                return;
            }
            if let Some(rows) = self.subwords.of(row) {
                rows.iter().copied().for_each(add);
                return;
            }
        }
        if word != END {
            character_ngrams(self.settings, self.dictionary, word, add);
        }
    }

    fn word_ngrams(&self, hashes: &[u32], mut add: impl FnMut(u32)) {
        // fastText keeps hashes as signed 32-bit numbers, which become unsigned 64-bit ones with their sign.
        let wide = |hash: u32| i64::from(hash as i32) as u64;
        let buckets = self.settings.buckets as u64;
        for (at, &first) in hashes.iter().enumerate() {
            let mut joined = wide(first);
            for &next in hashes[at + 1..].iter().take(self.settings.word_ngrams - 1) {
                joined = joined.wrapping_mul(NGRAM_FACTOR).wrapping_add(wide(next));
                if let Some(row) = self.dictionary.ngram_row((joined % buckets) as u32) {
                    add(row);
                }
            }
        }
    }
}

/// Calls `add` with the row of every character n-gram of `<word>`, but not of `<` and `>` alone.
fn character_ngrams(settings: &Settings, dictionary: &Dictionary, word: &[u8], mut add: impl FnMut(u32)) {
    let byte_at = |at: usize| match at {
        0 => b'<',
        _ => word.get(at - 1).copied().unwrap_or(b'>'),
    };
    let len = word.len() + 2;
    let continues = |at: usize| byte_at(at) & 0xC0 == 0x80;
    let basis = hash(b"");
    for start in (0..len).filter(|&at| !continues(at)) {
        let (mut end, mut hash) = (start, basis);
        for characters in 1..=settings.longest {
            if end == len {
                break;
            }
            hash = extend_hash(hash, byte_at(end));
            end += 1;
            while end < len && continues(end) {
                hash = extend_hash(hash, byte_at(end));
                end += 1;
            }
            let alone = characters == 1 && (start == 0 || end == len);
            if characters >= settings.shortest && !alone {
                dictionary.ngram_row(hash % settings.buckets as u32).into_iter().for_each(&mut add);
            }
        }
    }
}
