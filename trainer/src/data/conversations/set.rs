//! The examples of files, tokenized and counted.

use super::encoder::{ConversationEncoder, TokenizedExample};
use super::rows::for_each_row;
use super::shapes::ConversationExample;
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::Value;
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
    /// Tokens at which answers end.
    stops: Vec<u32>,
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

/// Examples of similar length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LengthCount {
    /// Most tokens of these examples, a power of two; the next smaller one has its own entry.
    pub up_to: usize,
    /// Examples.
    pub examples: u64,
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
        let mut sorted = hashes.clone();
        sorted.sort_unstable();
        let count = (share * sorted.len() as f64).round() as usize;
        let last = count.checked_sub(1).and_then(|last| sorted.get(last));
        let held = |index: &usize| last.is_some_and(|&last| hashes[*index] <= last);
        let indices: Vec<usize> = (0..hashes.len()).filter(held).collect();
        if indices.is_empty() || indices.len() == hashes.len() {
            return Err(Error::Usage(format!(
                "data.held_out = {share}: expected a share that holds out some of the {} examples, not {} of them",
                hashes.len(),
                indices.len()
            )));
        }
        Ok(indices)
    }

    /// Keeps the first `count` examples.
    pub fn truncate(&mut self, count: usize) {
        self.examples.truncate(count);
        self.origins.truncate(count);
    }

    /// Takes out the examples at these indices, which are in order.
    #[must_use]
    pub fn split_off(&mut self, indices: &[usize]) -> ConversationSet {
        let mut held = ConversationSet { stops: self.stops.clone(), ..ConversationSet::default() };
        let mut kept = ConversationSet::default();
        let mut next = indices.iter().copied().peekable();
        let all = std::mem::take(&mut self.examples).into_iter().zip(std::mem::take(&mut self.origins));
        for (index, (example, origin)) in all.enumerate() {
            let to = if next.next_if_eq(&index).is_some() { &mut held } else { &mut kept };
            to.counts.count_kept(&example, &self.stops);
            to.examples.push(example);
            to.origins.push(origin);
        }
        held.counts.examples = held.examples.len() as u64;
        // The rows were counted before the examples were divided.
        self.counts.tokens = kept.counts.tokens;
        self.counts.targets = kept.counts.targets;
        self.counts.end_trained = kept.counts.end_trained;
        (self.examples, self.origins) = (kept.examples, kept.origins);
        held
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
        for (place, encoded) in places.into_iter().zip(self.encoder.encode_all(&examples)?) {
            let encoded = encoded.map_err(|what| Error::Invalid(format!("{place}: {what}")))?;
            self.add(place, encoded);
        }
        Ok(())
    }

    fn add(&mut self, place: String, mut example: TokenizedExample) {
        let counts = &mut self.set.counts;
        counts.count_length(example.ids.len());
        if self.options.all_tokens {
            example.target_all();
        }
        if example.ids.len() > self.options.max_length {
            example.truncate(self.options.max_length);
            counts.truncated += 1;
        }
        if example.target_count() == 0 {
            counts.dropped += 1;
            return;
        }
        counts.count_kept(&example, &self.set.stops);
        self.set.examples.push(example);
        self.set.origins.push(place);
    }
}

impl ConversationCounts {
    fn count_length(&mut self, length: usize) {
        self.examples += 1;
        self.longest = self.longest.max(length);
        let up_to = length.max(1).next_power_of_two();
        match self.lengths.binary_search_by_key(&up_to, |count| count.up_to) {
            Ok(found) => self.lengths[found].examples += 1,
            Err(at) => self.lengths.insert(at, LengthCount { up_to, examples: 1 }),
        }
    }

    fn count_kept(&mut self, example: &TokenizedExample, stops: &[u32]) {
        self.tokens += example.ids.len() as u64;
        self.targets += example.target_count() as u64;
        self.end_trained += u64::from(example.trains(stops));
    }
}
