//! Supervised fine-tuning: the answers of conversations, one mean over all targets of a step.

use super::{DataTokenizer, Measurement, Objective, Preparation, StepResult};
use crate::atomic_file::write_atomically;
use crate::data::conversations::{
    ConversationEncoder, ConversationOptions, ConversationSet, EpochOrder, EpochPlan, RowOptions, fill_batch,
    row_targets, rows,
};
use crate::data::{DataPosition, ExamplePosition, TrainingBatch, examples};
use crate::error::{Error, Result};
use crate::model::Engine;
use crate::ops::Ops;
use crate::recipe::{HeldOut, Length, SftKeys, SftTargets, Stage, TrainingRecipe};
use std::path::{Path, PathBuf};

/// What the report reads of the data.
const COUNTS: &str = "data.json";

/// Conversations of files. A stage's `micro_batch` counts rows, which hold one conversation or, packed, several.
pub(super) struct ConversationTraining {
    keys: SftKeys,
    seed: u64,
    stages: Vec<Stage>,
    encoder: ConversationEncoder,
    train: ConversationSet,
    held_out: Option<ConversationSet>,
    /// The rows of each stage.
    rows: Vec<Vec<Vec<usize>>>,
    order: EpochOrder,
    position: ExamplePosition,
    /// The examples of the last step.
    last: Vec<usize>,
    batch: TrainingBatch,
}

impl ConversationTraining {
    pub(super) fn open(recipe: &TrainingRecipe, keys: &SftKeys) -> Result<ConversationTraining> {
        let model = recipe.init_from.as_deref().ok_or_else(|| {
            Error::Usage(
                "init_from: expected the model whose chat template encodes the data, found none".into(),
            )
        })?;
        let encoder = ConversationEncoder::open(Path::new(model))?;
        let context = recipe.stages.iter().map(|stage| stage.context).max().unwrap_or(1);
        let options = ConversationOptions {
            max_length: keys.max_length.unwrap_or(context).min(context),
            all_tokens: keys.targets == SftTargets::All,
        };
        let load = |files: &[PathBuf]| {
            let names: Vec<String> = files.iter().map(|path| path.to_string_lossy().into_owned()).collect();
            ConversationSet::load(&names, &encoder, options)
        };
        let mut train = load(&recipe.data.files)?;
        let mut held_out = match &recipe.data.held_out {
            Some(HeldOut::Files(files)) => Some(load(files)?),
            Some(HeldOut::Share(share)) if *share > 0.0 => {
                let indices = train.held_out(*share, recipe.seed)?;
                Some(train.split_off(&indices))
            }
            _ => None,
        };
        if let (Some(held), Some(validation)) = (&mut held_out, &recipe.validation) {
            held.truncate(validation.windows.unwrap_or(usize::MAX));
        }
        warn(&train, options);
        if let Some(held) = &held_out {
            examples::warn_of_shared(held.shared_with(&train), held.examples.len(), "examples");
        }
        let training = ConversationTraining {
            keys: keys.clone(),
            seed: recipe.seed,
            stages: recipe.stages.clone(),
            rows: recipe.stages.iter().map(|stage| rows(&train.examples, row_options(keys, stage))).collect(),
            position: ExamplePosition {
                // Held-out losses are compared over the whole run.
                examples: train.hash() + &held_out.as_ref().map(ConversationSet::hash).unwrap_or_default(),
                ..ExamplePosition::default()
            },
            encoder,
            train,
            held_out,
            order: EpochOrder::default(),
            last: Vec::new(),
            batch: TrainingBatch::default(),
        };
        training.check()?;
        Ok(training)
    }

    /// Refuses stages without a row or without a step.
    fn check(&self) -> Result<()> {
        for (index, (stage, packed)) in self.stages.iter().zip(&self.rows).enumerate() {
            if packed.is_empty() {
                return Err(Error::Invalid(format!(
                    "stage `{}`: none of the {} examples has a target within stages.{index}.context = {}; raise it",
                    stage.name,
                    self.train.examples.len(),
                    stage.context
                )));
            }
            let measured =
                |held: &ConversationSet| !rows(&held.examples, row_options(&self.keys, stage)).is_empty();
            if !self.held_out.as_ref().is_none_or(measured) {
                return Err(Error::Invalid(format!(
                    "stage `{}`: none of the held-out examples has a target within stages.{index}.context = {}; raise it, \
                     or hold out others",
                    stage.name, stage.context
                )));
            }
            stage.check_steps(index, self.stage_steps(index), self.train.counts.tokens)?;
        }
        Ok(())
    }

    fn plan(&self, stage: usize) -> EpochPlan {
        let keys = &self.stages[stage];
        EpochPlan { rows: self.rows[stage].len(), step_rows: keys.micro_batch * keys.accumulate }
    }

    fn stage_steps(&self, stage: usize) -> u64 {
        match self.stages[stage].length {
            // The last part of an epoch is a step, too.
            Length::Epochs(epochs) => (epochs * self.plan(stage).steps() as f64).ceil() as u64,
            _ => self.stages[stage].steps(None).unwrap_or(0),
        }
    }

    /// Draws the rows of the next step.
    fn draw(&mut self, stage: usize) -> Vec<Vec<usize>> {
        if self.position.stage != stage {
            (self.position.stage, self.position.step) = (stage, 0);
        }
        let plan = self.plan(stage);
        let (epoch, places) = plan.step(self.position.step);
        self.position.step += 1;
        let rows = &self.rows[stage];
        let drawn: Vec<Vec<usize>> = if self.keys.shuffle {
            let order = self.order.shuffled(self.seed, (stage, epoch), plan.rows);
            order[places].iter().map(|&row| rows[row as usize].clone()).collect()
        } else {
            rows[places].to_vec()
        };
        self.last = drawn.concat();
        drawn
    }

    fn write_counts(&self, run: &Path) -> Result<()> {
        let stage = |(stage, rows): (&Stage, &Vec<Vec<usize>>)| serde_json::json!({"name": stage.name, "context": stage.context, "rows": rows.len()});
        let stages: Vec<serde_json::Value> = self.stages.iter().zip(&self.rows).map(stage).collect();
        let counts = serde_json::json!({
            "kind": "conversations",
            "packing": self.keys.packing,
            "train": self.train.counts,
            "held_out": self.held_out.as_ref().map(|set| &set.counts),
            "held_out_in_training": self.held_out.as_ref().map(|set| set.shared_with(&self.train)),
            "stages": stages,
        });
        let mut text =
            serde_json::to_vec_pretty(&counts).map_err(|error| Error::Invalid(error.to_string()))?;
        text.push(b'\n');
        write_atomically(&run.join(COUNTS), &text)
    }
}

fn row_options(keys: &SftKeys, stage: &Stage) -> RowOptions {
    RowOptions { length: stage.context, packing: keys.packing }
}

/// Says what of the examples is not trained on, or not whole.
fn warn(set: &ConversationSet, options: ConversationOptions) {
    let counts = &set.counts;
    if counts.truncated > 0 {
        eprintln!(
            "warning: {} of {} examples are longer than {} tokens: their ends are cut off (the longest has {})",
            counts.truncated, counts.examples, options.max_length, counts.longest
        );
    }
    if counts.dropped > 0 {
        eprintln!(
            "warning: {} of {} examples are left out: they have no target",
            counts.dropped, counts.examples
        );
    }
    if counts.empty_answers > 0 {
        eprintln!(
            "warning: {} of {} examples have an answer without text: they teach to answer nothing; remove them, unless that \
             is meant",
            counts.empty_answers, counts.examples
        );
    }
    if counts.end_trained == 0 {
        eprintln!(
            "warning: no example trains the end token, so that answers do not stop: the examples are cut off before it \
             (raise the stage's context), or the chat template ends answers with a token that is none of the model's stop \
             tokens"
        );
    }
}

impl<O: Ops> Objective<O> for ConversationTraining {
    fn tokenizer(&self) -> DataTokenizer<'_> {
        // The files are those of init_from.
        DataTokenizer { folder: None, hash: self.encoder.hash(), end: self.encoder.end().unwrap_or_default() }
    }

    fn steps(&self, stage: usize) -> u64 {
        self.stage_steps(stage)
    }

    fn tokens(&self, stage: usize) -> Option<u64> {
        let context = self.stages[stage].context;
        let kept = |&index: &usize| self.train.examples[index].ids.len().min(context) as u64;
        let epoch: u64 = self.rows[stage].iter().flatten().map(kept).sum();
        let epochs = self.stage_steps(stage) as f64 / self.plan(stage).steps() as f64;
        Some((epochs * epoch as f64) as u64)
    }

    fn shape(&self, stage: usize) -> (usize, usize) {
        (self.stages[stage].micro_batch, self.stages[stage].context.saturating_sub(1).max(1))
    }

    fn prepare(&mut self, _engine: &mut Engine<O>, with: Preparation<'_>) -> Result<()> {
        self.write_counts(with.run)
    }

    fn accumulate(&mut self, engine: &mut Engine<O>, stage: usize) -> Result<StepResult> {
        let drawn = self.draw(stage);
        let Stage { context, micro_batch, .. } = self.stages[stage];
        let examples = &self.train.examples;
        let targets = row_targets(examples, &drawn, context);
        let weight = (1.0 / targets as f64) as f32;
        let mut tokens = 0;
        for rows in drawn.chunks(micro_batch) {
            fill_batch(&mut self.batch, examples, rows, context, weight);
            engine.accumulate(&self.batch)?;
            tokens += rows
                .iter()
                .flatten()
                .map(|&index| examples[index].ids.len().min(context) as u64)
                .sum::<u64>();
        }
        let loss = engine.take_loss()? / targets as f64;
        Ok(StepResult { loss, tokens, targets: targets as u64, figures: Vec::new() })
    }

    /// The mean cross-entropy of the held-out targets.
    fn measure(&mut self, engine: &mut Engine<O>, stage: usize) -> Result<Option<Measurement>> {
        let Some(held) = &self.held_out else { return Ok(None) };
        let Stage { context, micro_batch, .. } = self.stages[stage];
        let all = rows(&held.examples, row_options(&self.keys, &self.stages[stage]));
        let targets = row_targets(&held.examples, &all, context);
        let mut sum = 0.0;
        for rows in all.chunks(micro_batch) {
            fill_batch(&mut self.batch, &held.examples, rows, context, 1.0);
            sum += engine.evaluate(&self.batch)?;
        }
        let loss = sum / targets as f64;
        let (perplexity, targets) = (Some(loss.exp()), targets as u64);
        Ok(Some(Measurement { loss, perplexity, targets, figures: Vec::new() }))
    }

    fn position(&self) -> DataPosition {
        DataPosition::Examples(self.position.clone())
    }

    fn seek(&mut self, position: &DataPosition) -> Result<()> {
        let found = match position {
            DataPosition::Examples(position) if position.examples == self.position.examples => {
                self.position = position.clone();
                self.last.clear();
                return Ok(());
            }
            DataPosition::Examples(_) => "one in other examples",
            DataPosition::Windows(_) => "one in windows of token sets",
        };
        Err(Error::Invalid(format!(
            "the saved data position does not fit: expected one in these examples, found {found}; restore the files, the \
             model and the keys that the run began with, or start a new run with --run"
        )))
    }

    fn skip(&mut self, stage: usize) -> Result<()> {
        self.draw(stage);
        Ok(())
    }

    fn describe(&mut self) -> Vec<String> {
        self.last.iter().map(|&index| self.train.origins[index].clone()).collect()
    }
}
