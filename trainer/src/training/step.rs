//! One optimizer step.

use super::run::Run;
use crate::error::Result;
use crate::objective::StageEntry;
use crate::ops::{AdamW, Buffer, Ops};
use crate::plan::Flops;
use crate::report::metrics::{MetricsEvent, StepMetrics, named};
use std::time::Instant;

impl<O: Ops> Run<'_, O> {
    /// The stage of a step, and the steps of the run before that stage.
    fn stage_of(&self, step: u64) -> (usize, u64) {
        let mut before = 0;
        for stage in 0..self.recipe.stages.len() {
            let steps = self.objective.steps(stage);
            if step < before + steps {
                return (stage, before);
            }
            before += steps;
        }
        (self.recipe.stages.len() - 1, before - self.objective.steps(self.recipe.stages.len() - 1))
    }

    /// Enters a stage: sets the rotary base, and resets the moments if the stage says so.
    fn enter(&mut self, index: usize, first_step: bool) -> Result<()> {
        if self.stage == Some(index) {
            return Ok(());
        }
        self.stage = Some(index);
        self.engine.set_rope(self.recipe.config(index).rope);
        let stage = &self.recipe.stages[index];
        self.progress.note(&format!(
            "stage {}: {} steps of {} tokens, context {}",
            stage.name,
            self.objective.steps(index),
            stage.tokens_per_step(),
            stage.context
        ));
        if stage.reset_optimizer && first_step && index > 0 {
            let zeros = vec![0.0; self.engine.parameters().trainable];
            self.engine.write(Buffer::FirstMoment, &zeros)?;
            self.engine.write(Buffer::SecondMoment, &zeros)?;
            self.state.optimizer_step = 0;
        }
        // The masters move there: a run that stops before the first step is saved must find them as the teacher has them.
        let quantizes = self.recipe.quantization().is_some_and(|(first, _)| index > 0 && first == index);
        if quantizes && first_step && self.newest() != Some(self.state.step) {
            self.save()?;
        }
        let entry = StageEntry { run: &self.settings.run, stage: index, first_step };
        self.objective.enter(&mut self.engine, entry)
    }

    pub(super) fn step(&mut self) -> Result<()> {
        let start = Instant::now();
        let (index, before) = self.stage_of(self.state.step);
        self.enter(index, self.state.step == before)?;
        if std::mem::take(&mut self.skip) {
            return self.skip_next(index);
        }
        let stage = &self.recipe.stages[index];
        let learning_rate = stage.schedule.at(self.state.step - before, self.objective.steps(index));
        self.engine.zero_gradients()?;
        let result = self.objective.accumulate(&mut self.engine, index)?;
        let norm = self.engine.gradient_norm()?;
        if let Some(trouble) = self.guard.check(result.loss, norm) {
            return self.reject(&trouble, index);
        }
        self.state.skipped_in_a_row = 0;
        let optimizer = &self.recipe.optimizer;
        self.state.optimizer_step += 1;
        self.engine.update(AdamW {
            learning_rate,
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            epsilon: optimizer.epsilon,
            // It would pull weights out of the cells that the encoding rounds to, at no gain.
            weight_decay: if stage.quantize.is_some() { 0.0 } else { optimizer.weight_decay },
            step: self.state.optimizer_step,
            gradient_scale: AdamW::clip(norm, optimizer.clip),
            decayed: self.engine.parameters().matrices,
        })?;
        self.state.step += 1;
        self.state.tokens += result.tokens;
        self.state.position = self.objective.position();
        let seconds = start.elapsed().as_secs_f64();
        let tokens_per_second = result.tokens as f64 / seconds;
        let (_, context) = self.objective.shape(index);
        let mfu = self.settings.peak_tflops.map(|peak| {
            let flops = Flops::of_stage(self.recipe, index, context).causal() as f64;
            flops * tokens_per_second / (peak * 1e12)
        });
        let step = StepMetrics {
            step: self.state.step,
            stage: stage.name.clone(),
            loss: result.loss,
            learning_rate,
            gradient_norm: norm,
            tokens: self.state.tokens,
            tokens_per_second,
            mfu,
            seconds,
            figures: named(&result.figures),
        };
        self.events.step(&step)?;
        self.progress.step(&step, &result.figures);
        self.metrics.write(&MetricsEvent::Step(step))?;
        if let Some(warning) = self.objective.warning() {
            self.progress.note(&format!("warning: {warning}"));
        }
        if self.state.step == before + self.objective.steps(index)
            && let Some(summary) = self.objective.stage_summary()
        {
            self.progress.note(&format!("stage {} {summary}", stage.name));
        }
        Ok(())
    }
}
