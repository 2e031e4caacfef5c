//! Checks of a parsed recipe.

use super::fault::Fault;
use super::{Length, Optimizer, Stage, TrainingRecipe};
use crate::error::Error;
use crate::schedule::{Schedule, ScheduleKind};
use crate::units::grouped;
use std::cmp::Ordering;

/// Largest accepted sizes.
pub(super) const MAX_CONTEXT: usize = 1 << 20;
/// Largest sliding window and context of pretraining: those of the file format.
pub(super) const MAX_POSITIONS: usize = 1 << 20;
const MAX_MICRO_BATCH: usize = 1 << 16;
const MAX_ACCUMULATE: usize = 1 << 20;
const MAX_STAGES: usize = 64;
const MAX_STAGE_TOKENS: u64 = 1 << 56;
const MAX_EPOCHS: f64 = 1e6;
/// Most checkpoints, and most steps of the guard's mean.
const MAX_KEPT: usize = 1 << 20;

impl TrainingRecipe {
    /// All faults, in the order of the recipe; empty for a recipe that can be trained.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Faults::default();
        faults.name(&self.name);
        faults.require(self.seed <= i64::MAX as u64, "seed", || {
            format!("expected at most {} (TOML's largest number), found {}", i64::MAX, self.seed)
        });
        faults.model(&self.model);
        faults.start(self);
        faults.objective(&self.objective);
        faults.data(self);
        faults.optimizer(&self.optimizer);
        faults.cadence(self);
        faults
            .require(!self.stages.is_empty(), "stages", || "expected at least one stage, found none".into());
        faults.require(self.stages.len() <= MAX_STAGES, "stages", || {
            format!("expected at most {MAX_STAGES} stages, found {}", self.stages.len())
        });
        for (index, stage) in self.stages.iter().enumerate() {
            faults.stage(self, index, stage);
        }
        faults.0
    }
}

impl Schedule {
    /// Why the schedule does not fit a stage of `steps` steps: the key inside `schedule`, and a sentence.
    pub fn misfit(&self, steps: u64) -> Option<(&'static str, String)> {
        let (warming, cooling) = (self.warming(steps), self.cooling(steps));
        let key = if self.warmup_share.is_some() { "warmup_share" } else { "warmup" };
        if warming > steps {
            let what = format!(
                "{warming} steps of warm-up are more than the stage's {steps} steps; --set 'stages.*.schedule.warmup={}' \
                 shortens it",
                steps / 10
            );
            return Some((key, what));
        }
        if self.kind == ScheduleKind::Trapezoidal && warming + cooling > steps {
            let most = match self.warmup_share {
                Some(_) => format!("warmup_share={}", 1.0 - self.cooldown),
                None => format!("warmup={}", steps.saturating_sub(cooling)),
            };
            let what = format!(
                "{cooling} steps of cool-down and {warming} of warm-up are more than the stage's {steps} steps; --set \
                 'stages.*.schedule.{most}' shortens the latter"
            );
            return Some(("cooldown", what));
        }
        None
    }
}

impl Stage {
    /// Refuses a stage, the recipe's `index`th, that has no step or is shorter than its warm-up and cool-down.
    pub fn check_steps(&self, index: usize, steps: u64, epoch_tokens: u64) -> crate::error::Result<()> {
        let name = &self.name;
        if steps == 0 {
            return Err(Error::Invalid(format!(
                "stage `{name}` is shorter than one step: its sets hold {} tokens, a step takes {}; lower \
                 stages.{index}.micro_batch or stages.{index}.accumulate, or lengthen it",
                grouped(epoch_tokens),
                grouped(self.tokens_per_step())
            )));
        }
        match self.schedule.misfit(steps) {
            Some((key, what)) => {
                Err(Error::Invalid(format!("stage `{name}`: stages.{index}.schedule.{key}: {what}")))
            }
            None => Ok(()),
        }
    }
}

#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    pub(super) fn require(
        &mut self,
        holds: bool,
        key: impl Into<String>,
        what: impl FnOnce() -> String,
    ) -> bool {
        if !holds {
            self.0.push(Fault::of_key(key, what()));
        }
        holds
    }

    pub(super) fn size(&mut self, key: impl Into<String>, value: usize, most: usize) {
        self.require((1..=most).contains(&value), key, || match value {
            0 => "expected at least 1, found 0".to_owned(),
            _ => format!("expected at most {most}, found {value}"),
        });
    }

    pub(super) fn number(&mut self, key: impl Into<String>, value: f64, range: Range) {
        self.require(range.holds(value), key, || format!("expected {}, found {value}", range.describe()));
    }

    fn name(&mut self, name: &str) {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        self.require(plain && !name.is_empty() && !name.starts_with('.'), "name", || {
            format!(
                "expected letters, digits, -, _ and . (not as the first character), because it names the run folder; found \
                 {name:?}"
            )
        });
    }

    fn optimizer(&mut self, optimizer: &Optimizer) {
        self.number("optimizer.beta1", optimizer.beta1, Range::BelowOne);
        self.number("optimizer.beta2", optimizer.beta2, Range::BelowOne);
        self.number("optimizer.epsilon", optimizer.epsilon, Range::Positive);
        self.number("optimizer.weight_decay", optimizer.weight_decay, Range::NotNegative);
        if let Some(clip) = optimizer.clip {
            self.number("optimizer.clip", clip, Range::Positive);
        }
        if let Some(z_loss) = optimizer.z_loss {
            self.number("optimizer.z_loss", z_loss, Range::Positive);
        }
    }

    /// Validation, samples, checkpoints, and the guard.
    fn cadence(&mut self, recipe: &TrainingRecipe) {
        let every = |faults: &mut Faults, key: &str, every: u64| {
            faults.require(every > 0, key, || "expected at least 1 step, found 0".into());
        };
        if let Some(validation) = &recipe.validation {
            self.held_out(recipe, validation);
            every(self, "validation.every", validation.every);
            self.require(validation.windows != Some(0), "validation.windows", || {
                "expected at least 1, found 0; leave the key out for the whole set".into()
            });
        }
        if let Some(sample) = &recipe.sample {
            every(self, "sample.every", sample.every);
            self.require(!sample.prompts.is_empty(), "sample.prompts", || {
                "expected at least one prompt, found none; leave [sample] out for no samples".into()
            });
            self.size("sample.tokens", sample.tokens, MAX_CONTEXT);
            self.number("sample.temperature", sample.temperature, Range::NotNegative);
        }
        every(self, "checkpoint.every", recipe.checkpoint.every);
        self.size("checkpoint.last", recipe.checkpoint.last, MAX_KEPT);
        if let Some(spike) = recipe.guard.loss_spike {
            self.number("guard.loss_spike", spike, Range::Positive);
        }
        self.require(
            (1..=MAX_KEPT as u64).contains(&recipe.guard.most_skipped),
            "guard.most_skipped",
            || format!("expected 1 to {MAX_KEPT} steps, found {}", recipe.guard.most_skipped),
        );
        self.size("guard.window", recipe.guard.window, MAX_KEPT);
    }

    fn stage(&mut self, recipe: &TrainingRecipe, index: usize, stage: &Stage) {
        let key = |name: &str| format!("stages.{index}.{name}");
        self.require(!stage.name.trim().is_empty(), key("name"), || {
            "expected a name, found an empty one".into()
        });
        let earlier = recipe.stages[..index].iter().position(|other| other.name == stage.name);
        if let Some(earlier) = earlier {
            let what = format!("stage {earlier} is already called `{}`", stage.name);
            self.0.push(Fault::of_key(key("name"), what));
        }
        self.size(key("context"), stage.context, MAX_CONTEXT);
        self.require(stage.context <= recipe.model.context, key("context"), || {
            format!("expected at most model.context = {}, found {}", recipe.model.context, stage.context)
        });
        self.size(key("micro_batch"), stage.micro_batch, MAX_MICRO_BATCH);
        self.size(key("accumulate"), stage.accumulate, MAX_ACCUMULATE);
        match stage.length {
            Length::Steps(0) | Length::Tokens(0) => {
                self.0.push(Fault::of_key(key("length"), "expected more than 0, found 0"));
            }
            Length::Epochs(epochs) => {
                let holds = epochs > 0.0 && epochs <= MAX_EPOCHS;
                self.require(holds, key("length.epochs"), || {
                    format!("expected more than 0 and at most {MAX_EPOCHS}, found {epochs}")
                });
            }
            Length::Steps(_) | Length::Tokens(_) => {}
        }
        if let Some(theta) = stage.rope_theta {
            let yarn = recipe.model.has_yarn();
            // False for NaN.
            let holds = theta <= f64::from(f32::MAX) && if yarn { theta > 1.0 } else { theta >= 1.0 };
            self.require(holds, key("rope_theta"), || {
                let expected = if yarn { "more than 1 for YaRN" } else { "at least 1" };
                format!("expected {expected}, found {theta}")
            });
        }
        self.mixture(recipe, index, stage);
        self.quantize(recipe, index, stage);
        self.schedule(index, stage);
    }

    fn schedule(&mut self, index: usize, stage: &Stage) {
        let schedule = &stage.schedule;
        let key = |name: &str| format!("stages.{index}.schedule.{name}");
        self.number(key("peak"), schedule.peak, Range::Positive);
        self.number(key("floor"), schedule.floor, Range::NotNegative);
        self.require(
            schedule.floor.partial_cmp(&schedule.peak) != Some(Ordering::Greater),
            key("floor"),
            || format!("expected at most the peak {}, found {}", schedule.peak, schedule.floor),
        );
        self.number(key("cooldown"), schedule.cooldown, Range::Share);
        if let Some(share) = schedule.warmup_share {
            self.number(key("warmup_share"), share, Range::Share);
            self.require(schedule.warmup == 0, key("warmup_share"), || {
                format!(
                    "expected either a share or warmup in steps, found both; warmup is {}",
                    schedule.warmup
                )
            });
        }
        let sized = stage.context > 0 && stage.micro_batch > 0 && stage.accumulate > 0;
        // A length in epochs is known only with the data: plan and loader check it then.
        let Some(steps) = stage.steps(None).filter(|_| sized) else { return };
        if steps > MAX_STAGE_TOKENS / stage.tokens_per_step() {
            let what = format!(
                "{steps} steps of {} tokens exceed the limit of {} tokens per stage",
                grouped(stage.tokens_per_step()),
                grouped(MAX_STAGE_TOKENS)
            );
            self.0.push(Fault::of_key(format!("stages.{index}.length"), what));
        } else if let Some((name, what)) = schedule.misfit(steps) {
            self.0.push(Fault::of_key(key(name), what));
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Range {
    Positive,
    NotNegative,
    BelowOne,
    Share,
}

impl Range {
    fn holds(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Range::Positive => value > 0.0,
                Range::NotNegative => value >= 0.0,
                Range::BelowOne => (0.0..1.0).contains(&value),
                Range::Share => (0.0..=1.0).contains(&value),
            }
    }

    fn describe(self) -> &'static str {
        match self {
            Range::Positive => "a finite number above 0",
            Range::NotNegative => "a finite number, 0 or above",
            Range::BelowOne => "a number from 0 to below 1",
            Range::Share => "a share from 0 to 1",
        }
    }
}
