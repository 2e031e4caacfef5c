//! Held-out perplexity and sample text.

use super::run::Run;
use crate::checkpoint::BestValidation;
use crate::error::Result;
use crate::ops::Ops;
use crate::report::metrics::{MetricsEvent, SampleText, ValidationPoint};

impl<O: Ops> Run<'_, O> {
    /// Measures held-out perplexity and samples text where due; returns whether the perplexity is the best so far.
    pub(super) fn measure(&mut self) -> Result<bool> {
        let step = self.state.step;
        let mut is_best = false;
        let (total, recipe) = (self.total, self.recipe);
        let due = |every: u64| step.is_multiple_of(every.max(1)) || step == total;
        if let Some(validation) = recipe.validation.as_ref().filter(|validation| due(validation.every)) {
            let loss = self.validate(validation.windows)?;
            if !loss.is_finite() {
                return Err(self.corrupted(&format!("the held-out loss is {loss}")));
            }
            let point = ValidationPoint { step, loss, perplexity: loss.exp(), tokens: self.state.tokens };
            self.progress
                .note(&format!("step {step}: held-out loss {loss:.4}, perplexity {:.2}", point.perplexity));
            self.events.validation(&point)?;
            self.metrics.write(&MetricsEvent::Validation(point))?;
            if self.state.best.is_none_or(|best| loss < best.loss) {
                self.state.best = Some(BestValidation { step, loss });
                is_best = true;
            }
        }
        if let (Some(sample), Some(sampler)) = (&recipe.sample, &mut self.sampler)
            && due(sample.every)
        {
            for prompt in &sample.prompts {
                let text = sampler.write(&mut self.engine, prompt, step)?;
                let sample = SampleText { step, prompt: prompt.clone(), text };
                self.progress.note(&format!(
                    "step {step}: {}|{}",
                    sample.prompt,
                    sample.text.replace('\n', " ")
                ));
                self.events.sample(&sample)?;
                self.metrics.write(&MetricsEvent::Sample(sample))?;
            }
        }
        Ok(is_best)
    }

    /// Mean cross-entropy of the held-out windows of the current stage's context, in nats.
    fn validate(&mut self, limit: Option<usize>) -> Result<f64> {
        let Some(validation) = &self.validation else { return Ok(f64::NAN) };
        let stage = &self.recipe.stages[self.stage.unwrap_or(0)];
        let windows = validation.windows(stage.context, limit)?;
        let (mut sum, mut first) = (0.0, 0);
        while first < windows {
            let sequences = stage.micro_batch.min(windows - first);
            validation.fill(first, sequences, stage.context, &mut self.batch)?;
            sum += self.engine.evaluate(&self.batch)?;
            first += sequences;
        }
        Ok(sum / (windows * stage.context) as f64)
    }
}
