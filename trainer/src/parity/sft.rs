//! Conversations: losses and gradient norms of SFT steps, the weights after them, and what packing must not change.
//!
//! The folder holds `model/` (the model that training starts from), `sft.json` and `after*.safetensors`, as
//! `tests/golden/train/sft.py` writes them.

use super::tuning::{self, ReferenceOptimizer, ReferenceStep, TuningParity};
use crate::data::TrainingBatch;
use crate::data::conversations::{
    ConversationEncoder, ConversationExample, RowOptions, ShapeResult, TokenizedExample, fill_batch,
    pack_best_fit, rows,
};
use crate::error::{Error, Result};
use crate::model::Engine;
use crate::ops::{BufferLengths, Ops};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use thimble_runtime::format::Config;

/// The description of such a folder.
pub(super) const FILE: &str = "sft.json";

#[derive(Deserialize)]
struct Reference {
    optimizer: ReferenceOptimizer,
    examples: Vec<Example>,
    #[serde(default)]
    edge: Vec<Example>,
    steps_assistant_only: Vec<Step>,
    /// `packed_bfd_192` and the like, among keys of no concern.
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Example {
    messages: Value,
    truncated_to: Option<usize>,
    input_ids: Vec<u32>,
    mask: Vec<u8>,
    nll_sum: Option<f64>,
}

#[derive(Deserialize)]
struct Bin {
    examples: Vec<usize>,
    lengths: Vec<usize>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(flatten)]
    values: ReferenceStep,
    /// Targets of the step.
    loss_tokens: usize,
    /// Empty where the step takes the next examples.
    #[serde(default)]
    micro_batches: Vec<MicroBatch>,
}

/// A micro-batch as TRL makes it: padded rows; a label of -100 is no target. Labels are not shifted.
#[derive(Deserialize)]
struct MicroBatch {
    input_ids: Vec<Vec<u32>>,
    labels: Vec<Vec<i64>>,
}

/// Runs the folder's steps.
pub(super) fn parity<O: Ops>(
    folder: &Path,
    device: impl FnOnce(&Config, BufferLengths) -> Result<O>,
) -> Result<TuningParity> {
    let path = folder.join(FILE);
    let reference: Reference = tuning::read(&path)?;
    let wrong = |why: String| Error::Invalid(format!("{}: {why}", path.display()));
    let mut found = TuningParity::default();
    let encoder = ConversationEncoder::open(&folder.join("model"))?;
    let encode = |(number, example): (usize, &Example)| {
        example.encode(&encoder).map_err(|why| wrong(format!("example {number}: {why}")))
    };
    let encoded = reference.examples.iter().enumerate().map(encode).collect::<Result<Vec<_>>>()?;
    let edge = reference.edge.iter().enumerate().map(encode).collect::<Result<Vec<_>>>()?;
    let expected = reference.examples.iter().chain(&reference.edge);
    found.masks_differing = expected.zip(encoded.iter().chain(&edge)).filter(|(a, b)| !a.is(b)).count();
    let mut engine = tuning::start(folder, device)?;
    for (key, bins) in &reference.other {
        let Some(size) = key.strip_prefix("packed_bfd_").and_then(|size| size.parse().ok()) else { continue };
        let bins: Vec<Bin> = serde_json::from_value(bins.clone())
            .map_err(|error| wrong(format!("{key}: not the form of bins: {error}")))?;
        *found.bins_differing.get_or_insert(0) += bins_differing(&encoded, &bins, size);
        compare_packed(&mut engine, (&encoded, size), &reference.examples, &mut found)?;
    }
    for (number, example) in reference.examples.iter().chain(&reference.edge).enumerate() {
        let Some(expected) = example.nll_sum else { continue };
        let (ids, mask) = (&example.input_ids, &example.mask);
        if ids.len() != mask.len() || ids.len() < 2 {
            let (ids, mask) = (ids.len(), mask.len());
            return Err(wrong(format!("example {number}: {ids} input_ids and a mask of {mask}")));
        }
        let context = ids.len() - 1;
        let losses = engine.token_losses(&TrainingBatch::new(1, context, ids.clone(), vec![0; context]))?;
        let targets = losses.iter().zip(&mask[1..]).filter(|&(_, &counts)| counts != 0);
        found.logp(targets.map(|(&loss, _)| f64::from(loss)).sum(), expected);
    }
    let steps: Vec<ReferenceStep> = reference.steps_assistant_only.iter().map(|step| step.values).collect();
    let mut drawn = 0;
    tuning::train(&mut engine, (&reference.optimizer, &steps), &mut found, |engine, index| {
        let step = &reference.steps_assistant_only[index];
        let mut batches = step.micro_batches.iter().map(MicroBatch::rows).collect::<Option<Vec<_>>>();
        if step.micro_batches.is_empty() {
            batches = next_examples(&encoded, &mut drawn, step.loss_tokens).map(|batch| vec![batch]);
        }
        let mut batches = batches.ok_or_else(|| {
            let targets = step.loss_tokens;
            wrong(format!(
                "step {index}: expected rows of equal length, or examples with {targets} targets in all"
            ))
        })?;
        let targets: usize = batches.iter().map(|batch| count(&batch.weights)).sum();
        for batch in &mut batches {
            batch.weights.iter_mut().for_each(|weight| *weight /= targets as f32);
            engine.accumulate(batch)?;
        }
        Ok(engine.take_loss()? / targets as f64)
    })?;
    tuning::compare_weights(&engine, folder, steps.len(), &mut found)?;
    Ok(found)
}

/// How many of the reference's bins the packing does not have in their places, and how many it has beyond them.
fn bins_differing(encoded: &[TokenizedExample], bins: &[Bin], size: usize) -> usize {
    let lengths: Vec<usize> = encoded.iter().map(|example| example.ids.len()).collect();
    let packed = pack_best_fit(&lengths, size);
    let same = packed.iter().zip(bins).filter(|(found, bin)| {
        let lengths: Vec<usize> = found.iter().map(|&index| lengths[index].min(size)).collect();
        **found == bin.examples && lengths == bin.lengths
    });
    packed.len().max(bins.len()) - same.count()
}

/// Compares the losses of packed examples with those of each alone, which examples that see each other do not have.
fn compare_packed<O: Ops>(
    engine: &mut Engine<O>,
    (encoded, size): (&[TokenizedExample], usize),
    expected: &[Example],
    found: &mut TuningParity,
) -> Result<()> {
    let options = RowOptions { length: size, packing: true };
    let mut batch = TrainingBatch::default();
    for row in rows(encoded, options) {
        let alone = |&index: &usize| expected[index].nll_sum.filter(|_| encoded[index].ids.len() <= size);
        let Some(alone) = row.iter().map(alone).sum::<Option<f64>>() else { continue };
        fill_batch(&mut batch, encoded, &[row], size, 1.0);
        found.logp(engine.evaluate(&batch)?, alone);
    }
    Ok(())
}

/// The next examples with so many targets in all, each in a row of its own, from the beginning again behind the last.
fn next_examples(encoded: &[TokenizedExample], drawn: &mut usize, targets: usize) -> Option<TrainingBatch> {
    let (mut rows, mut left) = (Vec::new(), targets);
    while left > 0 {
        let index = *drawn % encoded.len().max(1);
        left = left.checked_sub(encoded.get(index)?.target_count().max(1))?;
        rows.push(vec![index]);
        *drawn += 1;
    }
    let mut batch = TrainingBatch::default();
    let longest = rows.iter().flatten().map(|&index| encoded[index].ids.len()).max()?;
    fill_batch(&mut batch, encoded, &rows, longest, 1.0);
    Some(batch)
}

fn count(weights: &[f32]) -> usize {
    weights.iter().filter(|&&weight| weight != 0.0).count()
}

impl Example {
    /// The example through this program's own template and tokenizer.
    fn encode(&self, encoder: &ConversationEncoder) -> ShapeResult<TokenizedExample> {
        let all = ConversationExample::of_row(&json!({ "messages": self.messages }))?;
        let mut encoded = encoder.encode(all.first().ok_or("expected a conversation, found none")?)?;
        if let Some(length) = self.truncated_to {
            encoded.truncate(length);
        }
        Ok(encoded)
    }

    /// Whether an encoding has the reference's tokens and targets.
    fn is(&self, encoded: &TokenizedExample) -> bool {
        let mask = encoded.mask();
        encoded.ids == self.input_ids
            && mask.len() == self.mask.len()
            && mask.iter().zip(&self.mask).all(|(&ours, &reference)| ours == (reference != 0))
    }
}

impl MicroBatch {
    /// The rows with a weight of 1 for every target; none where they differ in length.
    fn rows(&self) -> Option<TrainingBatch> {
        let length = self.input_ids.first()?.len();
        let all = |rows: &[usize]| rows.iter().all(|&row| row == length);
        let ids: Vec<usize> = self.input_ids.iter().map(Vec::len).collect();
        let labels: Vec<usize> = self.labels.iter().map(Vec::len).collect();
        if length < 2 || ids.len() != labels.len() || !all(&ids) || !all(&labels) {
            return None;
        }
        let (rows, context) = (self.input_ids.len(), length - 1);
        let mut batch = TrainingBatch::new(rows, context, self.input_ids.concat(), vec![0; rows * context]);
        let labels = self.labels.iter().flat_map(|row| &row[1..]);
        batch.weights = labels.map(|&label| if label < 0 { 0.0 } else { 1.0 }).collect();
        Some(batch)
    }
}
