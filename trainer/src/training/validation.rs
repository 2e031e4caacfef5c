//! The held-out loss and sample text.

use super::run::Run;
use crate::checkpoint::BestValidation;
use crate::error::Result;
use crate::ops::Ops;
use crate::report::metrics::{MetricsEvent, ValidationPoint, named};

impl<O: Ops> Run<'_, O> {
    /// Measures the held-out loss and samples text where due; returns whether the loss is the best so far.
    pub(super) fn measure(&mut self) -> Result<bool> {
        let step = self.state.step;
        let mut is_best = false;
        let (total, recipe) = (self.total, self.recipe);
        let due = |every: u64| step.is_multiple_of(every.max(1)) || step == total;
        let stage = self.stage.unwrap_or(0);
        if recipe.validation.as_ref().is_some_and(|validation| due(validation.every))
            && let Some(measured) = self.objective.measure(&mut self.engine, stage)?
        {
            let loss = measured.loss;
            if !loss.is_finite() {
                return Err(self.corrupted(&format!("the held-out loss is {loss}")));
            }
            let point = ValidationPoint {
                step,
                loss,
                perplexity: measured.perplexity,
                tokens: self.state.tokens,
                figures: named(&measured.figures),
            };
            self.progress.note(&point.to_string());
            self.events.validation(&point)?;
            self.metrics.write(&MetricsEvent::Validation(point))?;
            // What the run begins with is no result of it.
            is_best = step > 0 && self.state.record(BestValidation { stage, step, loss });
        }
        if let (Some(sample), Some(sampler)) = (&recipe.sample, &self.sampler)
            && due(sample.every)
        {
            self.objective.refresh(&mut self.engine)?;
            for sample in sampler.write(&mut self.engine, step)? {
                self.progress.note(&format!(
                    "step {step}: {}|{}{}",
                    sample.prompt,
                    sample.text.replace('\n', " "),
                    if sample.stopped == Some(true) { "" } else { "..." }
                ));
                self.events.sample(&sample)?;
                self.metrics.write(&MetricsEvent::Sample(sample))?;
            }
        }
        Ok(is_best)
    }
}
