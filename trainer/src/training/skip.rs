//! What becomes of a bad step: the run ends before it, or goes on without it.

use super::run::Run;
use crate::error::{Error, Result};
use crate::ops::Ops;
use crate::recipe::BadStep;
use crate::report::metrics::{MetricsEvent, SkippedPoint};
use crate::report::recovery::{SKIPPED, SkippedStep};

impl<O: Ops> Run<'_, O> {
    /// Acts on a step that the guard rejects; its gradient is not applied.
    pub(super) fn reject(&mut self, trouble: &str, stage: usize) -> Result<()> {
        let most = self.recipe.guard.most_skipped;
        match self.recipe.guard.on_bad_step {
            BadStep::Stop => Err(self.stop(trouble, stage)),
            BadStep::Skip if self.state.skipped_in_a_row >= most => {
                let trouble = format!(
                    "{trouble}, and the {most} steps before it were skipped too (guard.most_skipped)"
                );
                Err(self.stop(&trouble, stage))
            }
            BadStep::Skip => {
                self.state.skipped_in_a_row += 1;
                self.leave_out(trouble, stage)
            }
        }
    }

    /// Goes on without the next step, as `--skip-step` asks.
    pub(super) fn skip_next(&mut self, stage: usize) -> Result<()> {
        self.objective.skip(stage)?;
        self.leave_out("--skip-step", stage)?;
        // A later resume must not depend on the flag.
        self.save_due = true;
        Ok(())
    }

    /// Counts the step that was just drawn as finished, with weights and moments as they were.
    fn leave_out(&mut self, reason: &str, stage: usize) -> Result<()> {
        let step = self.state.step + 1;
        self.state.position = self.objective.position();
        let data = self.objective.describe();
        let stage = self.recipe.stages[stage].name.clone();
        self.progress.note(&format!("step {step} was skipped: {reason}; {SKIPPED} has its data"));
        self.skipped.write(&SkippedStep { step, stage, reason: reason.to_owned(), data })?;
        self.metrics.write(&MetricsEvent::Skipped(SkippedPoint { step, reason: reason.to_owned() }))?;
        self.state.step = step;
        Ok(())
    }

    /// The error of a step that ends the run. The state before it is saved, so that a resumed run begins with it.
    fn stop(&mut self, trouble: &str, stage: usize) -> Error {
        self.progress.finish();
        let data = self.described_data();
        if self.newest() != Some(self.state.step) {
            // The weights may be ruined although they are finite: no earlier checkpoint goes for them.
            self.store.keep_all();
            if let Err(error) = self.save() {
                return error;
            }
        }
        Error::Invalid(format!(
            "step {} of stage `{}`: {trouble}. This step was discarded; {}. Check the data of this step: `{} --skip-step` \
             goes on without it, `--resume` with --set of a lower learning rate (stages.{stage}.schedule.peak) or \
             optimizer.clip tries it again.\n{data}",
            self.state.step + 1,
            self.recipe.stages[stage].name,
            self.remaining_checkpoint(),
            self.settings.command,
        ))
    }
}
