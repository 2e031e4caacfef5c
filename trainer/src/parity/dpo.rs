//! Preferences: log-probabilities of a reference model, losses and gradient norms of DPO steps, and the weights after
//! them.
//!
//! The folder holds `model/` (the model that training starts from, which is the reference too), `dpo.json` and
//! `after*.safetensors`, as `tests/golden/train/dpo.py` writes them.

use super::tuning::{self, ReferenceOptimizer, ReferenceStep, TuningParity};
use crate::data::conversations::{ConversationEncoder, ShapeResult};
use crate::data::preferences::{PairBatch, PreferenceExample, PreferencePair};
use crate::error::{Error, Result};
use crate::model::Engine;
use crate::objective::preference_loss::PreferenceStep;
use crate::ops::{BufferLengths, Ops};
use crate::recipe::{DpoKeys, DpoLoss};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use thimble_runtime::format::Config;

/// The description of such a folder.
pub(super) const FILE: &str = "dpo.json";

#[derive(Deserialize)]
struct Reference {
    beta: f64,
    #[serde(flatten)]
    run: ReferenceRun,
    optimizer: ReferenceOptimizer,
    order: String,
    pairs: Vec<Pair>,
    /// Steps with other losses, each from the start.
    #[serde(default)]
    variants: Vec<ReferenceRun>,
}

#[derive(Deserialize)]
struct ReferenceRun {
    loss: DpoLoss,
    #[serde(default)]
    label_smoothing: f64,
    #[serde(default)]
    sft_weight: f64,
    steps: Vec<ReferenceStep>,
}

#[derive(Deserialize)]
struct Pair {
    prompt: Value,
    chosen: Value,
    rejected: Value,
    prompt_ids: Vec<u32>,
    chosen_ids: Vec<u32>,
    rejected_ids: Vec<u32>,
    reference_logps: LogProbabilities,
    logps_after5: Option<LogProbabilities>,
}

#[derive(Deserialize)]
struct LogProbabilities {
    chosen: f64,
    rejected: f64,
}

/// Runs the folder's steps.
pub(super) fn parity<O: Ops>(
    folder: &Path,
    device: impl FnOnce(&Config, BufferLengths) -> Result<O>,
) -> Result<TuningParity> {
    let path = folder.join(FILE);
    let reference: Reference = tuning::read(&path)?;
    let wrong = |why: String| Error::Invalid(format!("{}: {why}", path.display()));
    let size = pairs_per_step(&reference.order).ok_or_else(|| {
        wrong(format!("expected an order like \"step i takes pairs 4i..4i+3\", found {:?}", reference.order))
    })?;
    if reference.pairs.is_empty() {
        return Err(wrong("expected pairs, found none".into()));
    }
    let mut found = TuningParity::default();
    let encoder = ConversationEncoder::open(&folder.join("model"))?;
    for (number, pair) in reference.pairs.iter().enumerate() {
        let encoded = pair.encode(&encoder).map_err(|why| wrong(format!("pair {number}: {why}")))?;
        found.masks_differing += usize::from(encoded != pair.ids());
    }
    let mut engine = tuning::start(folder, device)?;
    let pairs: Vec<PreferencePair> = reference.pairs.iter().map(Pair::ids).collect();
    let before = log_probabilities(&mut engine, &pairs)?;
    for ([chosen, rejected], pair) in before.iter().zip(&reference.pairs) {
        found.logp(*chosen, pair.reference_logps.chosen);
        found.logp(*rejected, pair.reference_logps.rejected);
    }
    let training = Training { pairs: &pairs, before: &before, size, reference: &reference };
    for run in &reference.variants {
        training.run(&mut engine, run, &mut found)?;
        tuning::rewind(&mut engine, folder)?;
    }
    training.run(&mut engine, &reference.run, &mut found)?;
    let after = log_probabilities(&mut engine, &pairs)?;
    for ([chosen, rejected], pair) in after.iter().zip(&reference.pairs) {
        if let Some(expected) = &pair.logps_after5 {
            found.logp(*chosen, expected.chosen);
            found.logp(*rejected, expected.rejected);
        }
    }
    tuning::compare_weights(&engine, folder, reference.run.steps.len(), &mut found)?;
    Ok(found)
}

/// The steps of a run.
struct Training<'r> {
    pairs: &'r [PreferencePair],
    /// The reference's log-probabilities.
    before: &'r [[f64; 2]],
    /// Pairs of a step.
    size: usize,
    reference: &'r Reference,
}

impl Training<'_> {
    fn run<O: Ops>(
        &self,
        engine: &mut Engine<O>,
        run: &ReferenceRun,
        found: &mut TuningParity,
    ) -> Result<()> {
        let keys = DpoKeys {
            loss: run.loss,
            beta: self.reference.beta,
            label_smoothing: run.label_smoothing,
            sft_weight: run.sft_weight,
            shuffle: false,
        };
        tuning::train(engine, (&self.reference.optimizer, &run.steps), found, |engine, step| {
            self.accumulate(engine, &keys, step)
        })
    }

    fn accumulate<O: Ops>(&self, engine: &mut Engine<O>, keys: &DpoKeys, step: usize) -> Result<f64> {
        let drawn: Vec<usize> =
            (0..self.size).map(|pair| (step * self.size + pair) % self.pairs.len()).collect();
        let chosen: Vec<&PreferencePair> = drawn.iter().map(|&pair| &self.pairs[pair]).collect();
        let packed = PairBatch::pack(&chosen);
        let means = PreferenceStep {
            pairs: self.size,
            chosen_tokens: chosen.iter().map(|pair| pair.targets()[0]).sum(),
        };
        let references: Vec<[f64; 2]> = drawn.iter().map(|&pair| self.before[pair]).collect();
        let mut total = 0.0;
        engine.accumulate_weighed(&packed.batch, |losses| {
            Ok(keys.weigh((&packed, &references), means, losses, |_, loss, _| total += loss))
        })?;
        Ok(total)
    }
}

/// The summed log-probability of each answer, chosen and rejected.
fn log_probabilities<O: Ops>(engine: &mut Engine<O>, pairs: &[PreferencePair]) -> Result<Vec<[f64; 2]>> {
    pairs
        .iter()
        .map(|pair| {
            let packed = PairBatch::pack(&[pair]);
            let losses = engine.token_losses(&packed.batch)?;
            let sum = |range: &std::ops::Range<usize>| {
                -losses[range.clone()].iter().map(|&x| f64::from(x)).sum::<f64>()
            };
            let [chosen, rejected] = &packed.answers[0];
            Ok([sum(chosen), sum(rejected)])
        })
        .collect()
}

/// The number before `i` in `step i takes pairs 4i..4i+3`.
fn pairs_per_step(order: &str) -> Option<usize> {
    let (before, _) = order.split_once("i..")?;
    let digits = before.len() - before.trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    before[before.len() - digits..].parse().ok().filter(|&size| size > 0)
}

impl Pair {
    /// The pair through this program's own reading of rows, template and tokenizer.
    fn encode(&self, encoder: &ConversationEncoder) -> ShapeResult<PreferencePair> {
        let row = json!({"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected});
        let encoder = encoder.for_thread().map_err(|error| error.to_string())?;
        Ok(PreferencePair::encode(&encoder, &PreferenceExample::of_row(&row)?)?.0)
    }

    fn ids(&self) -> PreferencePair {
        PreferencePair {
            prompt: self.prompt_ids.clone(),
            chosen: self.chosen_ids.clone(),
            rejected: self.rejected_ids.clone(),
        }
    }
}
