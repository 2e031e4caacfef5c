//! The examples of files, tokenized and counted.

use super::encoder::{ConversationEncoder, TokenizedExample};
use super::rows::for_each_row;
use super::shapes::ConversationExample;
use crate::data::examples::{LengthCount, smallest_hashes};
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashSet;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Examples encoded at a time.
const CHUNK: usize = 4096;

/// How files become examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationOptions {
    /// Most tokens of an example; the start of a longer one is kept.
    pub max_length: usize,
    /// Every token is a target, not the answers alone.
    pub all_tokens: bool,
}

/// Tokenized examples, in the order of their files.
#[derive(Clone, Debug, Default)]
pub struct ConversationSet {
    /// Examples with at least one target.
    pub examples: Vec<TokenizedExample>,
    /// For each example its row, as `FILE, line 3`.
    pub origins: Vec<String>,
    /// What was read.
    pub counts: ConversationCounts,
    /// For each example what its tokens do not tell.
    notes: Vec<ExampleNote>,
    /// The lengths of those without a target, and whether they were cut.
    dropped: Vec<(usize, bool)>,
    /// Tokens at which answers end.
    stops: Vec<u32>,
}

/// What an example was before it was encoded and cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ExampleNote {
    /// Its tokens before truncation.
    length: usize,
    /// Whether it teaches an answer without text.
    empty_answer: bool,
}

/// What was read from files, for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConversationCounts {
    /// Rows of the files.
    pub rows: u64,
    /// Examples in them; a row can hold several.
    pub examples: u64,
    /// Examples that were longer than allowed, whose end was cut off.
    pub truncated: u64,
    /// Examples without a target, after truncation; they are not trained on.
    pub dropped: u64,
    /// Remaining examples that teach an answer without text.
    pub empty_answers: u64,
    /// Tokens of the remaining examples.
    pub tokens: u64,
    /// Targets among them.
    pub targets: u64,
    /// Remaining examples in which a token that ends an answer is a target: without any, answers do not learn to stop.
    pub end_trained: u64,
    /// Tokens of the longest example before truncation.
    pub longest: usize,
    /// How many examples, before truncation, have which length.
    pub lengths: Vec<LengthCount>,
}

impl ConversationSet {
    /// Reads and encodes all rows of the files.
    ///
    /// # Errors
    /// A file cannot be read, a row is not an example or its text cannot be encoded (with the row's place), or no example
    /// has a target.
    pub fn load(
        files: &[String],
        encoder: &ConversationEncoder,
        options: ConversationOptions,
    ) -> Result<ConversationSet> {
        let set = ConversationSet { stops: encoder.stops(), ..ConversationSet::default() };
        let mut loading = Loading { encoder, options, waiting: Vec::new(), set };
        for_each_row(files, &mut |place, row| loading.row(place, &row))?;
        loading.flush()?;
        loading.set.count();
        let set = loading.set;
        if set.examples.is_empty() {
            return Err(nothing_to_train(files, &set.counts, options));
        }
        Ok(set)
    }

    /// The indices of about `share` of the examples to hold out, chosen by seed and content: equal examples stay together.
    ///
    /// # Errors
    /// None, or all of the examples would be held out.
    pub fn held_out(&self, share: f64, seed: u64) -> Result<Vec<usize>> {
        let hash = |example: &TokenizedExample| {
            let bytes: Vec<u8> = example.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            xxh3_64_with_seed(&bytes, seed)
        };
        let hashes: Vec<u64> = self.examples.iter().map(hash).collect();
        smallest_hashes(&hashes, share, "examples, of which equal ones stay together")
    }

    /// Keeps the first `count` examples.
    pub fn truncate(&mut self, count: usize) {
        self.examples.truncate(count);
        self.origins.truncate(count);
        self.notes.truncate(count);
        self.count();
    }

    /// Takes out the examples at these indices, which are in order.
    #[must_use]
    pub fn split_off(&mut self, indices: &[usize]) -> ConversationSet {
        let mut held = ConversationSet { stops: self.stops.clone(), ..ConversationSet::default() };
        let mut kept = ConversationSet { counts: self.counts.clone(), ..held.clone() };
        let mut next = indices.iter().copied().peekable();
        let all = std::mem::take(&mut self.examples).into_iter().zip(std::mem::take(&mut self.origins));
        for (index, ((example, origin), &note)) in all.zip(&self.notes).enumerate() {
            let to = if next.next_if_eq(&index).is_some() { &mut held } else { &mut kept };
            to.examples.push(example);
            to.origins.push(origin);
            to.notes.push(note);
        }
        kept.dropped = std::mem::take(&mut self.dropped);
        held.counts.rows = held.origins.chunk_by(|a, b| a == b).count() as u64;
        kept.counts.rows = kept.counts.rows.saturating_sub(held.counts.rows);
        kept.count();
        held.count();
        *self = kept;
        held
    }

    /// Counts all but the rows anew.
    fn count(&mut self) {
        let mut counts = ConversationCounts { rows: self.counts.rows, ..ConversationCounts::default() };
        for &(length, cut) in &self.dropped {
            counts.count_length(length, cut);
            counts.dropped += 1;
        }
        for (example, note) in self.examples.iter().zip(&self.notes) {
            counts.count_length(note.length, example.ids.len() < note.length);
            counts.count_kept(example, &self.stops);
            counts.empty_answers += u64::from(note.empty_answer);
        }
        self.counts = counts;
    }

    /// Examples that `other` has too, token for token.
    pub fn shared_with(&self, other: &ConversationSet) -> u64 {
        let there: HashSet<&[u32]> = other.examples.iter().map(|example| example.ids.as_slice()).collect();
        self.examples.iter().filter(|example| there.contains(example.ids.as_slice())).count() as u64
    }

    /// A hash of the examples' tokens and targets, to recognize them.
    pub fn hash(&self) -> String {
        let mut hash = Xxh3::new();
        for example in &self.examples {
            let mut number = |value: usize| hash.update(&(value as u64).to_le_bytes());
            number(example.ids.len());
            number(example.targets.len());
            example.targets.iter().for_each(|range| {
                number(range.start);
                number(range.end);
            });
            example.ids.iter().for_each(|id| hash.update(&id.to_le_bytes()));
        }
        format!("{:032x}", hash.digest128())
    }
}

fn nothing_to_train(files: &[String], counts: &ConversationCounts, options: ConversationOptions) -> Error {
    let files = files.join(", ");
    let ConversationCounts { examples, longest, .. } = counts;
    if *examples == 0 {
        return Error::Invalid(format!("{files}: expected at least one row, found none"));
    }
    Error::Invalid(format!(
        "{files}: expected answers to train on, found none: each of the {examples} examples is without a target. The rows \
         need messages of the assistant, the chat template must write them, and their beginning must lie within {} tokens \
         (the longest example has {longest})",
        options.max_length
    ))
}

struct Loading<'e> {
    encoder: &'e ConversationEncoder,
    options: ConversationOptions,
    waiting: Vec<(String, ConversationExample)>,
    set: ConversationSet,
}

impl Loading<'_> {
    fn row(&mut self, place: &str, row: &Value) -> Result<()> {
        let examples = ConversationExample::of_row(row);
        let examples = examples.map_err(|what| Error::Invalid(format!("{place}: {what}")))?;
        self.set.counts.rows += 1;
        self.waiting.extend(examples.into_iter().map(|example| (place.to_owned(), example)));
        if self.waiting.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let (places, examples): (Vec<String>, Vec<ConversationExample>) = self.waiting.drain(..).unzip();
        let encoded = self.encoder.encode_all(&examples)?;
        for ((place, example), encoded) in places.into_iter().zip(&examples).zip(encoded) {
            let encoded = encoded.map_err(|what| Error::Invalid(format!("{place}: {what}")))?;
            self.add(place, encoded, example.has_empty_answer());
        }
        Ok(())
    }

    fn add(&mut self, place: String, mut example: TokenizedExample, empty_answer: bool) {
        let (length, most) = (example.ids.len(), self.options.max_length);
        if self.options.all_tokens {
            example.target_all();
        }
        example.truncate(most);
        if example.target_count() == 0 {
            self.set.dropped.push((length, length > most));
            return;
        }
        self.set.examples.push(example);
        self.set.origins.push(place);
        self.set.notes.push(ExampleNote { length, empty_answer });
    }
}

impl ConversationCounts {
    fn count_length(&mut self, length: usize, cut: bool) {
        self.examples += 1;
        self.truncated += u64::from(cut);
        self.longest = self.longest.max(length);
        LengthCount::add(&mut self.lengths, length);
    }

    fn count_kept(&mut self, example: &TokenizedExample, stops: &[u32]) {
        self.tokens += example.ids.len() as u64;
        self.targets += example.target_count() as u64;
        self.end_trained += u64::from(example.trains(stops));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_examples_are_counted_apart() {
        let example =
            |ids: usize| TokenizedExample { ids: vec![7; ids], targets: std::iter::once(1..ids).collect() };
        let mut set = ConversationSet {
            examples: vec![example(5), example(8), example(3)],
            origins: ["a, line 1", "a, line 2", "a, line 4"].map(str::to_owned).to_vec(),
            notes: [5, 20, 3].map(|length| ExampleNote { length, empty_answer: length == 3 }).to_vec(),
            dropped: vec![(9, true)],
            counts: ConversationCounts { rows: 4, ..ConversationCounts::default() },
            stops: vec![7],
        };
        set.count();
        let counts = |set: &ConversationSet| {
            let ConversationCounts { rows, examples, truncated, dropped, tokens, longest, .. } = set.counts;
            [rows, examples, truncated, dropped, tokens, longest as u64]
        };
        assert_eq!(counts(&set), [4, 4, 2, 1, 16, 20]);
        assert_eq!((set.counts.empty_answers, set.shared_with(&set)), (1, 3));
        let mut held = set.split_off(&[1, 2]);
        assert_eq!([set.counts.empty_answers, held.counts.empty_answers], [0, 1]);
        assert_eq!(set.shared_with(&held), 0);
        assert_eq!(counts(&set), [2, 2, 1, 1, 5, 9]);
        assert_eq!(counts(&held), [2, 2, 1, 0, 11, 20]);
        assert_eq!(held.origins, ["a, line 2", "a, line 4"]);
        held.truncate(1);
        assert_eq!(counts(&held), [2, 1, 1, 0, 8, 20]);
        assert_eq!((held.counts.targets, held.counts.end_trained), (7, 1));
    }
}
