//! Direct preference optimization: pairs of answers, and a frozen reference model.

use super::preference_figures::{ChosenWatch, PreferenceFigures};
use super::preference_loss::PreferenceStep;
use super::reference::{ReferenceKey, ReferenceLogProbabilities, hash_weights};
use super::{DataTokenizer, Measurement, Objective, Preparation, StepResult};
use crate::atomic_file::write_atomically;
use crate::data::conversations::{ConversationEncoder, EpochOrder, EpochPlan};
use crate::data::preferences::{PairBatch, PreferenceSet};
use crate::data::{DataPosition, ExamplePosition, examples};
use crate::error::{Error, Result};
use crate::init_from;
use crate::model::Engine;
use crate::ops::{Buffer, Ops};
use crate::recipe::{DpoKeys, HeldOut, Length, Stage, TrainingRecipe};
use crate::report::task::TaskProgress;
use crate::units::grouped;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_128;

/// What the report reads of the data.
const COUNTS: &str = "data.json";

/// Pairs with the reference's log-probabilities of them.
struct Pairs {
    set: PreferenceSet,
    hash: String,
    reference: ReferenceLogProbabilities,
}

/// Pairs of files, in an order of its own for each epoch. A stage's `micro_batch` counts pairs.
pub(super) struct PreferenceTraining {
    keys: DpoKeys,
    stages: Vec<Stage>,
    tokenizer: Option<PathBuf>,
    encoder: ConversationEncoder,
    /// Hash of the model's shape and options.
    model: String,
    train: Pairs,
    held_out: Option<Pairs>,
    seed: u64,
    order: EpochOrder,
    position: ExamplePosition,
    last: Vec<usize>,
    watch: ChosenWatch,
}

impl PreferenceTraining {
    pub(super) fn open(recipe: &TrainingRecipe, keys: &DpoKeys) -> Result<PreferenceTraining> {
        let model = recipe.init_from.as_deref().unwrap_or_default();
        let context = recipe.stages.first().map_or(0, |stage| stage.context);
        if let Some(other) = recipe.stages.iter().find(|stage| stage.context != context) {
            return Err(Error::Usage(format!(
                "stage `{}`: expected the context of the first stage, {context}, as the reference is computed once; found {}",
                other.name, other.context
            )));
        }
        if recipe.optimizer.z_loss.is_some() {
            return Err(Error::Usage(
                "optimizer.z_loss: expected none, as the weights of rejected answers are negative".to_owned(),
            ));
        }
        let encoder = ConversationEncoder::of(&init_from::open(model)?)?;
        let mut train = PreferenceSet::load(&names(&recipe.data.files), &encoder, context)?;
        let held_out = match &recipe.data.held_out {
            None => None,
            Some(HeldOut::Files(files)) => Some(PreferenceSet::load(&names(files), &encoder, context)?),
            Some(HeldOut::Share(share)) if *share == 0.0 => None,
            Some(HeldOut::Share(share)) => {
                let indices = train.held_out(*share, recipe.seed)?;
                Some(train.split_off(&indices))
            }
        };
        warn(&train, context);
        let limit = recipe.validation.as_ref().and_then(|validation| validation.windows);
        let held_out = held_out.map(|mut set| {
            set.truncate(limit.unwrap_or(usize::MAX));
            Pairs::new(set)
        });
        if let Some(held) = &held_out {
            let what = "pairs, by their prompts,";
            examples::warn_of_shared(held.set.shared_with(&train), held.set.pairs.len(), what);
        }
        let shape = toml::to_string(&recipe.model).map_err(|error| Error::Invalid(error.to_string()))?;
        let train = Pairs::new(train);
        let training = PreferenceTraining {
            keys: keys.clone(),
            stages: recipe.stages.clone(),
            tokenizer: Path::new(model).is_dir().then(|| PathBuf::from(model)),
            encoder,
            model: format!("{:032x}", xxh3_128(shape.as_bytes())),
            seed: recipe.seed,
            order: EpochOrder::default(),
            position: ExamplePosition {
                // Held-out losses are compared over the whole run.
                examples: train.hash.clone() + held_out.as_ref().map_or("", |pairs: &Pairs| &pairs.hash),
                ..ExamplePosition::default()
            },
            train,
            held_out,
            last: Vec::new(),
            watch: ChosenWatch::default(),
        };
        for (index, stage) in training.stages.iter().enumerate() {
            stage.check_steps(index, training.stage_steps(index), training.train.set.counts.tokens)?;
        }
        Ok(training)
    }

    fn plan(&self, stage: usize) -> EpochPlan {
        let keys = &self.stages[stage];
        EpochPlan { rows: self.train.set.pairs.len(), step_rows: keys.micro_batch * keys.accumulate }
    }

    fn stage_steps(&self, stage: usize) -> u64 {
        let counts = &self.train.set.counts;
        match self.stages[stage].length {
            Length::Steps(steps) => steps,
            // The last part of an epoch is a step, too.
            Length::Epochs(epochs) => (epochs * self.plan(stage).steps() as f64).ceil() as u64,
            Length::Tokens(tokens) => {
                let epochs = tokens as f64 / counts.tokens as f64;
                (epochs * self.plan(stage).steps() as f64).ceil() as u64
            }
        }
    }

    /// Draws the pairs of the next step.
    fn draw(&mut self, stage: usize) {
        if self.position.stage != stage {
            (self.position.stage, self.position.step) = (stage, 0);
        }
        let plan = self.plan(stage);
        let (epoch, places) = plan.step(self.position.step);
        self.position.step += 1;
        self.last = if self.keys.shuffle {
            let order = self.order.shuffled(self.seed, (stage, epoch), plan.rows);
            order[places].iter().map(|&pair| pair as usize).collect()
        } else {
            places.collect()
        };
    }

    fn write_counts(&self, run: &Path) -> Result<()> {
        let counts = serde_json::json!({
            "kind": "preferences",
            "train": self.train.set.counts,
            "held_out": self.held_out.as_ref().map(|pairs| &pairs.set.counts),
            "held_out_in_training": self.held_out.as_ref().map(|pairs| pairs.set.shared_with(&self.train.set)),
            "held_out_length_accuracy": self.held_out.as_ref().map(|pairs| pairs.set.counts.length_accuracy()),
        });
        let mut text =
            serde_json::to_vec_pretty(&counts).map_err(|error| Error::Invalid(error.to_string()))?;
        text.push(b'\n');
        write_atomically(&run.join(COUNTS), &text)
    }
}

fn names(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

/// Says what of the rows is not trained on, or not whole.
fn warn(set: &PreferenceSet, context: usize) {
    let counts = &set.counts;
    let rows = counts.rows;
    if counts.truncated > 0 {
        eprintln!(
            "warning: {} of {rows} pairs are longer than the context of {context} tokens: their ends are cut off",
            counts.truncated
        );
    }
    if counts.dropped + counts.identical > 0 {
        eprintln!(
            "warning: {} of {rows} pairs are left out: {} with a prompt that fills the context, {} with two equal answers",
            counts.dropped + counts.identical,
            counts.dropped,
            counts.identical
        );
    }
    if counts.empty_answers > 0 {
        eprintln!(
            "warning: in {} of {rows} pairs the chosen answer has no text: they teach to answer nothing; remove them, unless \
             that is meant",
            counts.empty_answers
        );
    }
    if counts.prompt_differs > 0 {
        eprintln!(
            "warning: in {} of {rows} pairs the template writes the prompt differently when an answer follows: the answers \
             begin where it differs, as in TRL",
            counts.prompt_differs
        );
    }
}

impl Pairs {
    fn new(set: PreferenceSet) -> Pairs {
        Pairs { hash: set.hash(), set, reference: ReferenceLogProbabilities::default() }
    }

    fn step(&self, pairs: &[usize]) -> PreferenceStep {
        let chosen_tokens = pairs.iter().map(|&pair| self.set.pairs[pair].targets()[0]).sum();
        PreferenceStep { pairs: pairs.len(), chosen_tokens }
    }

    fn pack(&self, pairs: &[usize]) -> PairBatch {
        PairBatch::pack(&pairs.iter().map(|&pair| &self.set.pairs[pair]).collect::<Vec<_>>())
    }

    /// Adds a batch's pairs to the figures and returns the weights of its targets.
    fn weigh(
        &self,
        (packed, drawn): (&PairBatch, &[usize]),
        losses: &[f32],
        (keys, step): (&DpoKeys, PreferenceStep),
        figures: &mut PreferenceFigures,
    ) -> Vec<f32> {
        let reference = |pair: usize| {
            let sum = |side| self.reference.answer(pair, side).iter().map(|&x| f64::from(x)).sum::<f64>();
            [sum(0), sum(1)]
        };
        let references: Vec<[f64; 2]> = drawn.iter().map(|&pair| reference(pair)).collect();
        keys.weigh((packed, &references), step, losses, |index, loss, answers| {
            figures.add(keys, loss, answers);
            for (side, range) in packed.answers[index].iter().enumerate() {
                figures.add_tokens(&losses[range.clone()], self.reference.answer(drawn[index], side));
            }
        })
    }
}

impl<O: Ops> Objective<O> for PreferenceTraining {
    fn tokenizer(&self) -> DataTokenizer<'_> {
        DataTokenizer {
            folder: self.tokenizer.as_deref(),
            hash: self.encoder.hash(),
            end: self.encoder.end().unwrap_or(0),
        }
    }

    /// A length in tokens counts those of both sequences of a pair.
    fn steps(&self, stage: usize) -> u64 {
        self.stage_steps(stage)
    }

    fn tokens(&self, stage: usize) -> Option<u64> {
        let epochs = self.stage_steps(stage) as f64 / self.plan(stage).steps() as f64;
        Some((epochs * self.train.set.counts.tokens as f64) as u64)
    }

    fn shape(&self, stage: usize) -> (usize, usize) {
        (2 * self.stages[stage].micro_batch, self.stages[stage].context)
    }

    /// Reads or computes the reference's log-probabilities of all pairs.
    fn prepare(&mut self, engine: &mut Engine<O>, with: Preparation<'_>) -> Result<()> {
        self.write_counts(with.run)?;
        let weights = hash_weights(&(with.initial_weights)()?);
        let pairs_per_pass = self.stages[0].micro_batch;
        for (name, pairs) in [("train", Some(&mut self.train)), ("held-out", self.held_out.as_mut())] {
            let Some(pairs) = pairs else { continue };
            let key = ReferenceKey {
                weights: weights.clone(),
                model: self.model.clone(),
                tokenizer: self.encoder.hash().to_owned(),
                pairs: pairs.hash.clone(),
                pairs_per_pass,
            };
            let path = with.run.join(format!("reference-{name}.safetensors"));
            let all = &pairs.set.pairs;
            let tokens = pairs.set.counts.tokens;
            pairs.reference = ReferenceLogProbabilities::open(&path, &key, all, || {
                let title = format!(
                    "computing the reference of {} {name} pairs, {} tokens, once",
                    grouped(all.len() as u64),
                    grouped(tokens)
                );
                let mut progress = TaskProgress::begin(title, all.len() as u64, with.quiet);
                with_reference(engine, (&weights, with.initial_weights), |engine| {
                    let done = &mut |pairs| progress.done(pairs);
                    ReferenceLogProbabilities::compute(engine, all, (pairs_per_pass, done))
                })
            })?;
        }
        Ok(())
    }

    fn accumulate(&mut self, engine: &mut Engine<O>, stage: usize) -> Result<StepResult> {
        self.draw(stage);
        let (train, keys, drawn) = (&self.train, &self.keys, &self.last);
        let step = train.step(drawn);
        let mut figures = PreferenceFigures::default();
        for drawn in drawn.chunks(self.stages[stage].micro_batch) {
            let packed = train.pack(drawn);
            engine.accumulate_weighed(&packed.batch, |losses| {
                Ok(train.weigh((&packed, drawn), losses, (keys, step), &mut figures))
            })?;
        }
        // The step's loss is that of the pairs.
        engine.take_loss()?;
        self.watch.record(&figures);
        let tokens = drawn.iter().map(|&pair| train.set.pairs[pair].tokens() as u64).sum();
        let (loss, targets) = (figures.loss(), figures.tokens());
        Ok(StepResult { loss, tokens, targets, figures: figures.named() })
    }

    /// The loss of the held-out pairs, with their figures and what the lengths of their answers alone predict.
    fn measure(&mut self, engine: &mut Engine<O>, _stage: usize) -> Result<Option<Measurement>> {
        let Some(held_out) = &self.held_out else { return Ok(None) };
        let all: Vec<usize> = (0..held_out.set.pairs.len()).collect();
        let step = held_out.step(&all);
        let mut figures = PreferenceFigures::default();
        // The batches of the reference, so that an untrained model has its very numbers.
        for drawn in all.chunks(self.stages[0].micro_batch) {
            let packed = held_out.pack(drawn);
            let losses = engine.token_losses(&packed.batch)?;
            held_out.weigh((&packed, drawn), &losses, (&self.keys, step), &mut figures);
        }
        let mut named = figures.named();
        named.push(("length_accuracy", held_out.set.counts.length_accuracy()));
        let (loss, targets) = (figures.loss(), figures.tokens());
        Ok(Some(Measurement { loss, perplexity: None, targets, figures: named }))
    }

    fn position(&self) -> DataPosition {
        DataPosition::Examples(self.position.clone())
    }

    fn seek(&mut self, position: &DataPosition) -> Result<()> {
        let DataPosition::Examples(position) = position else {
            return Err(Error::Invalid(
                "the saved data position does not fit: expected one in examples of files, found one in windows of token sets"
                    .to_owned(),
            ));
        };
        if position.examples != self.position.examples {
            return Err(Error::Invalid(format!(
                "the pairs are others (hash {}) than those that the run began with (hash {}): restore the original files, or \
                 start a new run with --run",
                self.position.examples, position.examples
            )));
        }
        self.position = position.clone();
        self.last.clear();
        Ok(())
    }

    fn skip(&mut self, stage: usize) -> Result<()> {
        self.draw(stage);
        Ok(())
    }

    fn describe(&mut self) -> Vec<String> {
        self.last.iter().map(|&pair| self.train.set.origins[pair].clone()).collect()
    }

    fn warning(&mut self) -> Option<String> {
        self.watch.warning()
    }
}

/// Runs `compute` with the weights of the reference, which have this hash, and restores the engine's own. Holds at most one
/// copy of the weights beside the engine's.
fn with_reference<O: Ops, T>(
    engine: &mut Engine<O>,
    (hash, reference): (&str, &dyn Fn() -> Result<Vec<f32>>),
    compute: impl FnOnce(&mut Engine<O>) -> Result<T>,
) -> Result<T> {
    let mut own = vec![0.0; engine.parameters().len];
    engine.read(Buffer::Weights, &mut own)?;
    if hash_weights(&own) == hash {
        drop(own);
        return compute(engine);
    }
    engine.write(Buffer::Weights, &reference()?)?;
    let computed = compute(engine);
    engine.write(Buffer::Weights, &own)?;
    computed
}
