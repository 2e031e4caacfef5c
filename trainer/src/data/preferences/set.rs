//! The pairs of files, encoded and counted.

use super::PreferencePair;
use super::example::PreferenceExample;
use crate::data::conversations::{ConversationEncoder, ExampleEncoder, ShapeResult, for_each_row};
use crate::data::examples::{LengthCount, smallest_hashes};
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::HashSet;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Rows encoded at a time.
const CHUNK: usize = 1024;

/// Pairs in the order of their files.
#[derive(Clone, Debug, Default)]
pub struct PreferenceSet {
    /// Pairs with at least one token of an answer.
    pub pairs: Vec<PreferencePair>,
    /// For each pair its row, as `FILE, line 3`.
    pub origins: Vec<String>,
    /// What was read.
    pub counts: PreferenceCounts,
}

/// What was read from files, for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PreferenceCounts {
    /// Rows of the files.
    pub rows: u64,
    /// Pairs that remain, of which an answer was cut off at the context's end.
    pub truncated: u64,
    /// Pairs whose prompt alone fills the context; they are not trained on.
    pub dropped: u64,
    /// Pairs of two equal answers, which teach nothing; they are not trained on.
    pub identical: u64,
    /// Pairs whose chosen answer has no text.
    pub empty_answers: u64,
    /// Pairs whose prompt the template writes differently when an answer follows: the answers begin where it differs.
    pub prompt_differs: u64,
    /// Pairs that remain.
    pub pairs: u64,
    /// Of these, pairs whose chosen answer has more tokens.
    pub chosen_longer: u64,
    /// Of these, pairs whose answers have as many tokens.
    pub same_length: u64,
    /// Tokens of both sequences of the remaining pairs.
    pub tokens: u64,
    /// Tokens of their answers.
    pub targets: u64,
    /// Tokens of the longest sequence before truncation.
    pub longest: usize,
    /// How many sequences, before truncation, have which length.
    pub lengths: Vec<LengthCount>,
}

impl PreferencePair {
    /// A pair as TRL encodes it: each sequence whole, with the prompt up to where the prompt alone (with the beginning of
    /// an answer) and the two sequences stop being equal. Also returns whether that is before the prompt's end.
    ///
    /// # Errors
    /// The template or the tokenizer refuses the messages; the sentence has no place.
    pub fn encode(
        encoder: &ExampleEncoder<'_>,
        example: &PreferenceExample,
    ) -> ShapeResult<(PreferencePair, bool)> {
        let mut prompt = encoder.encode_prompt(&example.prompt)?;
        let mut chosen = encoder.encode(&example.conversation(&example.chosen))?.ids;
        let mut rejected = encoder.encode(&example.conversation(&example.rejected))?.ids;
        let common = |answer: &[u32]| prompt.iter().zip(answer).take_while(|(a, b)| a == b).count();
        let shared = common(&chosen).min(common(&rejected));
        let differs = shared < prompt.len();
        prompt.truncate(shared);
        chosen.drain(..shared);
        rejected.drain(..shared);
        Ok((PreferencePair { prompt, chosen, rejected }, differs))
    }

    /// Keeps the first `length` tokens of each sequence; returns whether an answer was cut.
    pub fn truncate(&mut self, length: usize) -> bool {
        let cut = self.longest() > length;
        self.prompt.truncate(length);
        let left = length - self.prompt.len();
        self.chosen.truncate(left);
        self.rejected.truncate(left);
        cut
    }
}

impl PreferenceSet {
    /// Reads and encodes all rows of the files. Of a sequence of more than `max_length` tokens the start is kept.
    ///
    /// # Errors
    /// A file cannot be read, a row is no pair or cannot be encoded (with the row's place), or no pair remains.
    pub fn load(files: &[String], encoder: &ConversationEncoder, max_length: usize) -> Result<PreferenceSet> {
        let mut set = PreferenceSet::default();
        let mut waiting: Vec<(String, PreferenceExample)> = Vec::new();
        for_each_row(files, &mut |place, row| {
            let example = PreferenceExample::of_row(&row);
            let example = example.map_err(|what| Error::Invalid(format!("{place}: {what}")))?;
            waiting.push((place.to_owned(), example));
            if waiting.len() == CHUNK { set.encode(&mut waiting, encoder, max_length) } else { Ok(()) }
        })?;
        set.encode(&mut waiting, encoder, max_length)?;
        if set.pairs.is_empty() {
            let counts = &set.counts;
            return Err(Error::Invalid(format!(
                "{}: expected pairs to train on, found none: of {} rows, {} have two equal answers, and in {} the prompt \
                 fills the {max_length} tokens of the context",
                files.join(", "),
                counts.rows,
                counts.identical,
                counts.dropped
            )));
        }
        Ok(set)
    }

    fn encode(
        &mut self,
        waiting: &mut Vec<(String, PreferenceExample)>,
        encoder: &ConversationEncoder,
        max_length: usize,
    ) -> Result<()> {
        let encoded =
            encoder.map_all(waiting, |encoder, (_, example)| PreferencePair::encode(encoder, example))?;
        for ((place, example), found) in waiting.drain(..).zip(encoded) {
            let empty = example.chosen.iter().any(|message| message.text.trim().is_empty());
            self.counts.empty_answers += u64::from(empty);
            let (pair, differs) = found.map_err(|what| Error::Invalid(format!("{place}: {what}")))?;
            self.add(place, pair, (differs, max_length));
        }
        Ok(())
    }

    fn add(&mut self, place: String, mut pair: PreferencePair, (differs, max_length): (bool, usize)) {
        let counts = &mut self.counts;
        counts.rows += 1;
        for answer in pair.answers() {
            counts.count_length(pair.prompt.len() + answer.len());
        }
        counts.prompt_differs += u64::from(differs);
        let identical = pair.chosen == pair.rejected;
        counts.identical += u64::from(identical);
        if identical {
            return;
        }
        let truncated = pair.truncate(max_length);
        if pair.chosen.is_empty() && pair.rejected.is_empty() {
            counts.dropped += 1;
            return;
        }
        counts.truncated += u64::from(truncated);
        counts.count_kept(&pair);
        self.pairs.push(pair);
        self.origins.push(place);
    }

    /// Takes out the pairs at these indices, which are in order.
    #[must_use]
    pub fn split_off(&mut self, indices: &[usize]) -> PreferenceSet {
        let mut held = PreferenceSet::default();
        let mut kept = PreferenceSet { counts: self.counts.without_kept(), ..PreferenceSet::default() };
        let mut next = indices.iter().copied().peekable();
        let all = std::mem::take(&mut self.pairs).into_iter().zip(std::mem::take(&mut self.origins));
        for (index, (pair, origin)) in all.enumerate() {
            let to = if next.next_if_eq(&index).is_some() { &mut held } else { &mut kept };
            to.counts.count_kept(&pair);
            to.pairs.push(pair);
            to.origins.push(origin);
        }
        *self = kept;
        held
    }

    /// Indices of a share of the pairs to hold out, in order: those whose prompts have the smallest hashes under the seed.
    /// Pairs of the same prompt stay together, so the share may be a little larger.
    ///
    /// # Errors
    /// None, or all of the pairs would be held out.
    pub fn held_out(&self, share: f64, seed: u64) -> Result<Vec<usize>> {
        let hash = |pair: &PreferencePair| {
            let ids = pair.prompt.iter().flat_map(|id| id.to_le_bytes());
            xxh3_64_with_seed(&ids.collect::<Vec<u8>>(), seed)
        };
        let hashes: Vec<u64> = self.pairs.iter().map(hash).collect();
        smallest_hashes(&hashes, share, "pairs, of which those of one prompt stay together")
    }

    /// Keeps the first `count` pairs.
    pub fn truncate(&mut self, count: usize) {
        if count < self.pairs.len() {
            let rest: Vec<usize> = (count..self.pairs.len()).collect();
            let _ = self.split_off(&rest);
        }
    }

    /// Pairs whose prompt `other` has too.
    pub fn shared_with(&self, other: &PreferenceSet) -> u64 {
        let there: HashSet<&[u32]> = other.pairs.iter().map(|pair| pair.prompt.as_slice()).collect();
        self.pairs.iter().filter(|pair| there.contains(pair.prompt.as_slice())).count() as u64
    }

    /// A hash of the pairs' tokens, to recognize them.
    pub fn hash(&self) -> String {
        let mut hash = Xxh3::new();
        for pair in &self.pairs {
            for ids in [&pair.prompt, &pair.chosen, &pair.rejected] {
                hash.update(&(ids.len() as u64).to_le_bytes());
                ids.iter().for_each(|id| hash.update(&id.to_le_bytes()));
            }
        }
        format!("{:032x}", hash.digest128())
    }
}

impl PreferenceCounts {
    fn count_length(&mut self, length: usize) {
        self.longest = self.longest.max(length);
        LengthCount::add(&mut self.lengths, length);
    }

    fn count_kept(&mut self, pair: &PreferencePair) {
        self.pairs += 1;
        self.chosen_longer += u64::from(pair.chosen.len() > pair.rejected.len());
        self.same_length += u64::from(pair.chosen.len() == pair.rejected.len());
        let targets = pair.chosen.len() + pair.rejected.len();
        self.tokens += (2 * pair.prompt.len() + targets) as u64;
        self.targets += targets as u64;
    }

    fn without_kept(&self) -> PreferenceCounts {
        PreferenceCounts { pairs: 0, chosen_longer: 0, same_length: 0, tokens: 0, targets: 0, ..self.clone() }
    }

    /// How often "the longer answer is the better one" is right, ties counted as half: what length alone predicts.
    pub fn length_accuracy(&self) -> f64 {
        (self.chosen_longer as f64 + 0.5 * self.same_length as f64) / self.pairs.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(prompt: usize, chosen: usize, rejected: usize) -> PreferencePair {
        let ids = |len: usize, id: u32| vec![id; len];
        PreferencePair { prompt: ids(prompt, 1), chosen: ids(chosen, 2), rejected: ids(rejected, 3) }
    }

    #[test]
    fn truncation_keeps_the_start_and_is_counted() {
        let mut set = PreferenceSet::default();
        let all = [pair(3, 2, 9), pair(3, 2, 3), pair(8, 5, 1), pair(2, 3, 3)];
        for (index, pair) in all.into_iter().enumerate() {
            set.add(format!("f, line {}", index + 1), pair, (false, 8));
        }
        let same = PreferencePair { rejected: vec![2; 4], ..pair(3, 4, 0) };
        set.add("f, line 5".into(), same, (true, 8));
        assert_eq!(set.pairs, [pair(3, 2, 5), pair(3, 2, 3), pair(2, 3, 3)]);
        assert_eq!(set.origins, ["f, line 1", "f, line 2", "f, line 4"]);
        let counts = &set.counts;
        assert_eq!((counts.rows, counts.truncated, counts.dropped, counts.identical), (5, 1, 1, 1));
        assert_eq!((counts.pairs, counts.chosen_longer, counts.same_length, counts.longest), (3, 0, 1, 13));
        assert_eq!((counts.prompt_differs, counts.targets), (1, 18));
        assert_eq!(counts.lengths.iter().map(|count| count.examples).sum::<u64>(), 10);

        let hash = set.hash();
        let held = set.split_off(&[1]);
        assert_eq!((held.pairs, held.origins), (vec![pair(3, 2, 3)], vec!["f, line 2".to_owned()]));
        assert_eq!((set.pairs.len(), set.counts.pairs, set.counts.targets, set.counts.rows), (2, 2, 13, 5));
        assert_ne!(set.hash(), hash);
    }

    #[test]
    fn a_share_is_held_out_by_prompt() {
        let mut set = PreferenceSet::default();
        for index in 0..100 {
            let pair = PreferencePair { prompt: vec![index / 2], chosen: vec![index], rejected: vec![1000] };
            set.add(String::new(), pair, (false, 8));
        }
        let held = set.held_out(0.1, 1).unwrap();
        assert_eq!(held.len(), 10);
        assert!(held.chunks(2).all(|pair| pair[0] / 2 == pair[1] / 2), "{held:?}");
        assert_eq!(set.held_out(0.1, 1).unwrap(), held);
        assert_ne!(set.held_out(0.1, 2).unwrap(), held);
        assert!(set.held_out(0.001, 1).is_err() && set.held_out(0.999, 1).is_err());
        // Both pairs of a prompt are on one side.
        let mut kept = set.clone();
        let apart = kept.split_off(&held);
        assert_eq!((apart.shared_with(&kept), apart.shared_with(&set)), (0, 10));
        let all = set.pairs.clone();
        set.truncate(7);
        assert_eq!((&set.pairs[..], set.counts.pairs), (&all[..7], 7));
    }
}
