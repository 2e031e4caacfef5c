//! Log-probabilities of a frozen reference model, computed once and kept beside the run.

use crate::atomic_file::write_atomically;
use crate::data::preferences::{PairBatch, PreferencePair};
use crate::error::{Error, Result};
use crate::model::Engine;
use crate::ops::Ops;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;
use zerocopy::IntoBytes;

/// Name of the tensor, and of the metadata that holds the key.
const TENSOR: &str = "log_probabilities";
const KEY: &str = "reference";

/// What the values depend on: values under another key are never used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceKey {
    /// Hash of the reference's weights.
    pub weights: String,
    /// Hash of its shape and options.
    pub model: String,
    /// Hash of the tokenizer and the chat template.
    pub tokenizer: String,
    /// Hash of the pairs' tokens.
    pub pairs: String,
    /// Pairs in one pass: another number changes the last bits.
    pub pairs_per_pass: usize,
}

/// The log-probability of every token of the answers of pairs, in nats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReferenceLogProbabilities {
    values: Vec<f32>,
    /// For each pair the values of the chosen and of the rejected answer.
    answers: Vec<[Range<usize>; 2]>,
}

impl ReferenceLogProbabilities {
    /// The tokens of a pair's chosen (0) or rejected (1) answer.
    pub fn answer(&self, pair: usize, side: usize) -> &[f32] {
        &self.values[self.answers[pair][side].clone()]
    }

    /// Reads the values of `path` if they have this key, else takes those of `compute` and writes them.
    ///
    /// # Errors
    /// A pass fails, or the file cannot be written. A file that is damaged or has another key is replaced.
    pub fn open(
        path: &Path,
        key: &ReferenceKey,
        pairs: &[PreferencePair],
        compute: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<ReferenceLogProbabilities> {
        let mut answers = Vec::with_capacity(pairs.len());
        let mut end = 0;
        for pair in pairs {
            answers.push(pair.targets().map(|targets| {
                end += targets;
                end - targets..end
            }));
        }
        if let Some(values) = read(path, key).filter(|values| values.len() == end) {
            return Ok(ReferenceLogProbabilities { values, answers });
        }
        let values = compute()?;
        if values.len() != end {
            return Err(Error::Invalid(format!("{} reference values for {end} tokens", values.len())));
        }
        write(path, key, &values)?;
        Ok(ReferenceLogProbabilities { values, answers })
    }

    /// Computes the values with the engine's weights, `pairs_per_pass` pairs at a time; `done` is told how many pairs are
    /// done.
    ///
    /// # Errors
    /// A pass fails.
    pub fn compute<O: Ops>(
        engine: &mut Engine<O>,
        all: &[PreferencePair],
        (pairs_per_pass, done): (usize, &mut dyn FnMut(u64)),
    ) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        let mut finished = 0;
        for pairs in all.chunks(pairs_per_pass.max(1)) {
            let packed = PairBatch::pack(&pairs.iter().collect::<Vec<_>>());
            let losses = engine.token_losses(&packed.batch)?;
            for range in packed.answers.iter().flatten() {
                values.extend(losses[range.clone()].iter().map(|loss| -loss));
            }
            finished += pairs.len() as u64;
            done(finished);
        }
        Ok(values)
    }
}

fn read(path: &Path, key: &ReferenceKey) -> Option<Vec<f32>> {
    let bytes = std::fs::read(path).ok()?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).ok()?;
    let found: ReferenceKey = serde_json::from_str(metadata.metadata().as_ref()?.get(KEY)?).ok()?;
    let tensors = SafeTensors::deserialize(&bytes).ok().filter(|_| found == *key)?;
    let tensor = tensors.tensor(TENSOR).ok().filter(|tensor| tensor.dtype() == Dtype::F32)?;
    Some(tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

fn write(path: &Path, key: &ReferenceKey, values: &[f32]) -> Result<()> {
    let wrong = |error: &dyn std::fmt::Display| Error::Invalid(format!("{}: {error}", path.display()));
    let key = serde_json::to_string(key).map_err(|error| wrong(&error))?;
    let tensor = TensorView::new(Dtype::F32, vec![values.len()], values.as_bytes());
    let tensor = tensor.map_err(|error| wrong(&error))?;
    let metadata = HashMap::from([(KEY.to_owned(), key)]);
    let bytes = safetensors::serialize([(TENSOR, tensor)], Some(metadata)).map_err(|error| wrong(&error))?;
    write_atomically(path, &bytes)
}

/// The hash of a reference's weights.
pub fn hash_weights(weights: &[f32]) -> String {
    format!("{:032x}", xxh3_128(weights.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ReferenceKey {
        let [weights, model, tokenizer, pairs] = ["w", "m", "t", "p"].map(str::to_owned);
        ReferenceKey { weights, model, tokenizer, pairs, pairs_per_pass: 2 }
    }

    #[test]
    fn only_values_of_the_same_model_and_data_are_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference.safetensors");
        let pair = |chosen, rejected| PreferencePair {
            prompt: vec![1],
            chosen: vec![2; chosen],
            rejected: vec![3; rejected],
        };
        let pairs = [pair(2, 1), pair(1, 3)];
        let open = |key: &ReferenceKey, value: f32| {
            let mut computed = false;
            let found = ReferenceLogProbabilities::open(&path, key, &pairs, || {
                computed = true;
                Ok((0..7).map(|at| value + at as f32).collect())
            });
            (found.unwrap(), computed)
        };
        let (first, computed) = open(&key(), 10.0);
        assert!(computed);
        assert_eq!(first.answer(0, 0), [10.0, 11.0]);
        assert_eq!((first.answer(0, 1), first.answer(1, 0)), (&[12.0][..], &[13.0][..]));
        assert_eq!(first.answer(1, 1), [14.0, 15.0, 16.0]);
        assert_eq!(open(&key(), 0.0), (first.clone(), false));

        let changed: [fn(&mut ReferenceKey); 5] = [
            |key| key.weights = "x".into(),
            |key| key.model = "x".into(),
            |key| key.tokenizer = "x".into(),
            |key| key.pairs = "x".into(),
            |key| key.pairs_per_pass = 3,
        ];
        for change in changed {
            let mut other = key();
            change(&mut other);
            let (found, computed) = open(&other, 20.0);
            assert!(computed && found.answer(0, 0) == [20.0, 21.0], "{other:?}");
            let (back, computed) = open(&key(), 10.0);
            assert!(computed && back == first);
        }
        // A damaged file is computed again.
        let bytes = std::fs::read(&path).unwrap();
        for damaged in [&bytes[..bytes.len() / 2], &bytes[..bytes.len() - 4], b"", b"{}"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(open(&key(), 10.0), (first.clone(), true));
        }
    }
}
