//! Pretraining: the next token of every position of windows of token sets.

use super::{DataTokenizer, Measurement, Objective, StepResult};
use crate::data::loader::{Loader, LoaderPosition, ValidationSet};
use crate::data::{DataPosition, TrainingBatch};
use crate::error::{Error, Result};
use crate::model::Engine;
use crate::ops::Ops;
use crate::recipe::{Stage, TrainingRecipe};

/// The loader of a recipe's token sets, and the held-out set.
pub(super) struct Pretraining {
    stages: Vec<Stage>,
    loader: Loader,
    validation: Option<ValidationSet>,
    /// Held-out windows, at most.
    windows: Option<usize>,
    /// Whether the held-out windows are far apart.
    spread: bool,
    /// The stage of the last step, and the position before it.
    last: Option<(usize, LoaderPosition)>,
    batch: TrainingBatch,
}

impl Pretraining {
    pub(super) fn open(recipe: &TrainingRecipe) -> Result<Pretraining> {
        let loader = Loader::open(recipe)?;
        Ok(Pretraining {
            stages: recipe.stages.clone(),
            validation: loader.validation()?,
            windows: recipe.validation.as_ref().and_then(|validation| validation.windows),
            spread: recipe.validation.as_ref().is_some_and(|validation| validation.spread),
            loader,
            last: None,
            batch: TrainingBatch::default(),
        })
    }

    /// Draws each micro-batch of the next step and calls `take` with it.
    pub(super) fn draw(
        &mut self,
        stage: usize,
        mut take: impl FnMut(&Loader, &mut TrainingBatch) -> Result<()>,
    ) -> Result<()> {
        self.last = Some((stage, self.loader.position()));
        let stage_keys = &self.stages[stage];
        for _ in 0..stage_keys.accumulate {
            self.loader.next(stage, stage_keys.micro_batch, stage_keys.context, &mut self.batch)?;
            take(&self.loader, &mut self.batch)?;
        }
        Ok(())
    }
}

impl Pretraining {
    /// Tokens of one optimizer step.
    pub(super) fn tokens_per_step(&self, stage: usize) -> u64 {
        self.stages[stage].tokens_per_step()
    }

    /// The mean over the held-out windows of what `sum` gives for each batch of them, and their tokens; none where the
    /// recipe holds none out.
    pub(super) fn held_out_mean(
        &mut self,
        stage: usize,
        mut sum: impl FnMut(&TrainingBatch) -> Result<f64>,
    ) -> Result<Option<(f64, u64)>> {
        let Some(validation) = &self.validation else { return Ok(None) };
        let stage = &self.stages[stage];
        let there = validation.windows(stage.context, None)?;
        let count = self.windows.map_or(there, |windows| windows.min(there));
        // One after another from the beginning, or far apart.
        let apart = if self.spread { there / count } else { 1 };
        let windows: Vec<usize> = (0..count).map(|window| window * apart).collect();
        let mut total = 0.0;
        for windows in windows.chunks(stage.micro_batch) {
            validation.fill(windows, stage.context, &mut self.batch)?;
            total += sum(&self.batch)?;
        }
        let targets = count * stage.context;
        Ok(Some((total / targets as f64, targets as u64)))
    }
}

impl<O: Ops> Objective<O> for Pretraining {
    fn tokenizer(&self) -> DataTokenizer<'_> {
        DataTokenizer {
            folder: self.loader.tokenizer_folder(),
            hash: self.loader.tokenizer_hash(),
            end: self.loader.end_of_document(),
        }
    }

    fn steps(&self, stage: usize) -> u64 {
        self.loader.steps(stage)
    }

    fn shape(&self, stage: usize) -> (usize, usize) {
        (self.stages[stage].micro_batch, self.stages[stage].context)
    }

    fn accumulate(&mut self, engine: &mut Engine<O>, stage: usize) -> Result<StepResult> {
        let tokens = self.stages[stage].tokens_per_step();
        self.draw(stage, |_, batch| {
            batch.weigh((1.0 / tokens as f64) as f32);
            engine.accumulate(batch)
        })?;
        let loss = engine.take_loss()? / tokens as f64;
        Ok(StepResult { loss, tokens, targets: tokens, figures: Vec::new() })
    }

    /// The mean cross-entropy of the held-out windows.
    fn measure(&mut self, engine: &mut Engine<O>, stage: usize) -> Result<Option<Measurement>> {
        let found = self.held_out_mean(stage, |batch| engine.evaluate(batch))?;
        let measured = |(loss, targets): (f64, u64)| Measurement {
            loss,
            perplexity: Some(loss.exp()),
            targets,
            figures: Vec::new(),
        };
        Ok(found.map(measured))
    }

    fn position(&self) -> DataPosition {
        DataPosition::Windows(self.loader.position())
    }

    fn seek(&mut self, position: &DataPosition) -> Result<()> {
        let DataPosition::Windows(position) = position else {
            return Err(Error::Invalid(format!(
                "the saved data position does not fit: expected one in windows of token sets, found one in {}",
                position.kind()
            )));
        };
        self.last = None;
        self.loader.seek(position)
    }

    fn skip(&mut self, stage: usize) -> Result<()> {
        self.draw(stage, |_, _| Ok(()))
    }

    /// Draws the step again: the loader knows only the last batch.
    fn describe(&mut self) -> Vec<String> {
        let Some((stage, position)) = self.last.clone() else { return Vec::new() };
        let (mut rows, behind) = (Vec::new(), self.loader.position());
        if self.loader.seek(&position).is_ok() {
            // A shard that can no longer be read ends the list, and the next step follows this one all the same.
            let drawn = self.draw(stage, |loader, _| {
                rows.extend(loader.last_rows());
                Ok(())
            });
            if drawn.is_err() {
                let _ = self.loader.seek(&behind);
            }
        }
        rows
    }

    fn stage_summary(&self) -> Option<String> {
        let shares = self.loader.drawn_shares();
        let shown = shares.iter().map(|(name, share)| format!("{name} {:.1}%", share * 100.0));
        (shares.len() > 1).then(|| format!("drew {}", shown.collect::<Vec<_>>().join(", ")))
    }
}
