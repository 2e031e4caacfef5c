//! The n-grams of benchmarks.

use crate::error::{CurateError, Result};
use crate::source::{ReadOptions, RecordReader, SourcePosition, TextSource};
use crate::text::WordList;
use serde_json::Value;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of benchmarks that are read at once.
const BATCH: usize = 8 << 20;
/// Bits of the filter for each n-gram, as a power of two.
const FILTER_BITS: u32 = 5;

/// A string of a benchmark's item: its question, a passage, an answer.
#[derive(Clone, Debug)]
pub struct BenchmarkPiece {
    /// The file.
    pub benchmark: String,
    /// The line or row in it, from 1.
    pub item: u64,
    /// The field, such as `question` or `choices.0`.
    pub field: String,
    words: WordList,
}

impl BenchmarkPiece {
    /// Its text, normalized.
    pub fn text(&self) -> &str {
        self.words.span(0, self.words.len())
    }
}

/// What a document shares with a piece.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchmarkMatch {
    /// The number of the piece.
    pub piece: usize,
    /// Words of the piece that lie in a shared n-gram, as a share of all its words: above 0, at most 1.
    pub share: f64,
    /// Its longest run of shared words, normalized.
    pub shared: String,
}

/// The n-grams of all pieces.
pub struct BenchmarkIndex {
    ngram: usize,
    pieces: Vec<BenchmarkPiece>,
    /// Hash, piece and first word of every n-gram, ascending.
    ngrams: Vec<(u64, u32, u32)>,
    /// A bit is set if an n-gram with these low bits exists: most n-grams of a document are in no benchmark.
    filter: Vec<u64>,
    /// Strings with fewer words than an n-gram, which match nothing.
    short: u64,
}

impl BenchmarkIndex {
    /// Reads every string of every row of the files and folders in `names`. Strings with fewer than `ngram` words are
    /// counted, and match nothing.
    ///
    /// # Errors
    /// A file that cannot be read, rows that are no JSON objects, no string that is long enough.
    pub fn read(names: &[String], ngram: usize) -> Result<BenchmarkIndex> {
        if ngram == 0 {
            return Err(CurateError::Usage("expected n-grams of at least 1 word, found 0".into()));
        }
        let options = ReadOptions { rows: true, whole_rows: true, ..ReadOptions::default() };
        let sources = TextSource::resolve(names, &options)?;
        let mut index =
            BenchmarkIndex { ngram, pieces: Vec::new(), ngrams: Vec::new(), filter: Vec::new(), short: 0 };
        let mut records = RecordReader::new(&sources, &options, SourcePosition::default());
        while let Some(batch) = records.batch(BATCH)? {
            for record in &batch.records {
                let row: Value = serde_json::from_slice(batch.raw(record)).map_err(|error| {
                    let place = record.place(&sources);
                    CurateError::Invalid(format!("{place}: expected a JSON object on one line: {error}"))
                })?;
                let name = &sources[record.at.source].name;
                index.add(name, record.at.record + 1, &mut String::new(), &row);
            }
        }
        if index.pieces.is_empty() {
            return Err(CurateError::Invalid(format!(
                "{}: expected strings of at least {ngram} words, found none",
                names.join(", ")
            )));
        }
        index.finish();
        Ok(index)
    }

    fn add(&mut self, benchmark: &str, item: u64, field: &mut String, value: &Value) {
        let before = field.len();
        let mut enter = |index: &mut Self, name: &str, value: &Value| {
            if !field.is_empty() {
                field.push('.');
            }
            field.push_str(name);
            index.add(benchmark, item, field, value);
            field.truncate(before);
        };
        match value {
            Value::String(text) => {
                let words = WordList::of_letters(text);
                if words.len() < self.ngram {
                    self.short += 1;
                    return;
                }
                let piece = self.pieces.len() as u32;
                let hashes = words.ngrams(self.ngram).map(|ngram| xxh3_64(ngram.as_bytes()));
                self.ngrams.extend(hashes.enumerate().map(|(word, hash)| (hash, piece, word as u32)));
                let (benchmark, field) = (benchmark.to_owned(), field.clone());
                self.pieces.push(BenchmarkPiece { benchmark, item, field, words });
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(number, item)| enter(self, &number.to_string(), item));
            }
            Value::Object(fields) => fields.iter().for_each(|(name, value)| enter(self, name, value)),
            _ => {}
        }
    }

    fn finish(&mut self) {
        self.ngrams.sort_unstable();
        let bits = (self.ngrams.len() << FILTER_BITS).next_power_of_two().max(64);
        self.filter = vec![0; bits / 64];
        for &(hash, ..) in &self.ngrams {
            let bit = hash as usize & (bits - 1);
            self.filter[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// The pieces, in the order of the files.
    pub fn pieces(&self) -> &[BenchmarkPiece] {
        &self.pieces
    }

    /// Words of an n-gram.
    pub fn ngram(&self) -> usize {
        self.ngram
    }

    /// Strings that have fewer words than an n-gram.
    pub fn short(&self) -> u64 {
        self.short
    }

    /// What `text` shares with each piece, in the order of the pieces.
    pub fn matches(&self, text: &str) -> Vec<BenchmarkMatch> {
        let words = WordList::of_letters(text);
        let mut found: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for ngram in words.ngrams(self.ngram) {
            let hash = xxh3_64(ngram.as_bytes());
            let bit = hash as usize & (self.filter.len() * 64 - 1);
            if self.filter[bit / 64] & (1 << (bit % 64)) == 0 {
                continue;
            }
            let first = self.ngrams.partition_point(|&(other, ..)| other < hash);
            let equal = self.ngrams[first..].iter().take_while(|&&(other, ..)| other == hash);
            equal.for_each(|&(_, piece, word)| found.entry(piece).or_default().push(word));
        }
        found.into_iter().map(|(piece, starts)| self.matched(piece as usize, starts)).collect()
    }

    /// `starts` are the first words of the shared n-grams, in any order.
    fn matched(&self, piece: usize, mut starts: Vec<u32>) -> BenchmarkMatch {
        starts.sort_unstable();
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for start in starts {
            let (start, end) = (start as usize, start as usize + self.ngram);
            match runs.last_mut() {
                Some(run) if start <= run.1 => run.1 = end,
                _ => runs.push((start, end)),
            }
        }
        let words = &self.pieces[piece].words;
        let covered: usize = runs.iter().map(|(start, end)| end - start).sum();
        let (start, end) = runs.into_iter().max_by_key(|(start, end)| end - start).unwrap_or((0, 1));
        BenchmarkMatch {
            piece,
            share: covered as f64 / words.len() as f64,
            shared: words.span(start, end).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(rows: &str, ngram: usize) -> Result<BenchmarkIndex> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.jsonl");
        std::fs::write(&file, rows).unwrap();
        BenchmarkIndex::read(&[file.to_str().unwrap().to_owned()], ngram)
    }

    #[test]
    fn shared_words_are_found_and_measured() {
        let rows = r#"{"question": "One two three FOUR five six?", "choices": ["a b", "Seven, eight nine; ten"], "n": 3}
{"question": "one two three different words follow here"}"#;
        let index = index(rows, 3).unwrap();
        assert_eq!((index.pieces().len(), index.short()), (3, 1));
        let of = |text: &str| -> Vec<(usize, f64, String)> {
            index.matches(text).into_iter().map(|found| (found.piece, found.share, found.shared)).collect()
        };
        assert_eq!(of("nothing of it, one two"), []);
        let whole = "x; seven EIGHT nine ten. y";
        assert_eq!(of(whole), [(1, 1.0, "seven eight nine ten".to_owned())]);
        let both = of("say: one, two, three. And then four five six");
        assert_eq!(both[0], (0, 1.0, "one two three four five six".to_owned()));
        assert_eq!((both[1].0, both[1].1), (2, 3.0 / 7.0));
        assert_eq!(index.pieces()[1].field, "choices.1");
        assert_eq!(index.pieces()[0].text(), "one two three four five six");
    }

    #[test]
    fn wrong_benchmarks_are_errors() {
        for (rows, ngram) in [("not json", 2), ("{\"a\": \"one two\"}", 3), ("{\"a\": \"one\"}", 0)] {
            assert!(index(rows, ngram).is_err(), "{rows}");
        }
    }
}
