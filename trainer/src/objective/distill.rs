//! Quantization-aware training by self-distillation: the passes see the weights as a quantized file stores them, and
//! learn to predict what the model predicted before.

use super::pretrain::Pretraining;
use super::{DataTokenizer, Measurement, Objective, Preparation, StageEntry, StepResult};
use crate::data::{DataPosition, TrainingBatch};
use crate::error::{Error, Result};
use crate::export::Export;
use crate::model::Engine;
use crate::ops::{Buffer, Ops, WeightCopy};
use crate::quantization::{ModelRounding, QuantizationSource, StartFile};
use crate::recipe::{DistillKeys, Precision, TrainingRecipe};
use crate::teacher;
use std::path::Path;
use thimble_runtime::format::Config;

/// Windows of token sets, and the rounding that the passes see.
pub(super) struct SelfDistillation {
    windows: Pretraining,
    /// The first stage that distills; those before it pretrain.
    first: usize,
    keys: DistillKeys,
    teacher: TeacherSource,
    /// Known once the teacher is.
    rounding: Option<ModelRounding>,
}

/// Which model teaches.
enum TeacherSource {
    /// The one that the run begins with, as `init_from` names it.
    Start(String),
    /// The one that the stage before has trained.
    Trained {
        /// As in the stages that distill.
        config: Config,
        init_std: f64,
    },
}

impl SelfDistillation {
    /// The objective `distill`.
    pub(super) fn open(recipe: &TrainingRecipe, keys: &DistillKeys) -> Result<SelfDistillation> {
        let model = recipe.init_from.clone().ok_or_else(|| {
            Error::Usage(
                "objective.kind = \"distill\": expected init_from, the model to quantize, found none".into(),
            )
        })?;
        if recipe.adapter.is_some() {
            return Err(Error::Usage(
                "objective.kind = \"distill\" trains the matrices themselves: leave [adapter] out".into(),
            ));
        }
        SelfDistillation::of(recipe, (0, keys), TeacherSource::Start(model))
    }

    /// The objective `pretrain` with stages that quantize.
    pub(super) fn of_stages(recipe: &TrainingRecipe) -> Result<SelfDistillation> {
        let (first, keys) = recipe
            .quantization()
            .ok_or_else(|| Error::Invalid("expected a stage with the table quantize, found none".into()))?;
        let teacher =
            TeacherSource::Trained { config: recipe.config(first), init_std: recipe.model.init_std };
        SelfDistillation::of(recipe, (first, keys), teacher)
    }

    fn of(
        recipe: &TrainingRecipe,
        (first, keys): (usize, &DistillKeys),
        teacher: TeacherSource,
    ) -> Result<SelfDistillation> {
        // An unknown name is refused before anything is read.
        crate::quantization::options(&keys.quant)?;
        let windows = Pretraining::open(recipe)?;
        Ok(SelfDistillation { windows, first, keys: keys.clone(), teacher, rounding: None })
    }

    /// Chooses the scales, unless the run has them, and with `fresh`, before the first step, moves the weights to where
    /// they round to the calibrated file. `teacher` has the weights of `model`.
    fn begin<O: Ops>(
        &mut self,
        engine: &mut Engine<O>,
        (run, model): (&Path, &str),
        (mut teacher, fresh): (Vec<f32>, bool),
    ) -> Result<()> {
        let source = QuantizationSource { model, quant: &self.keys.quant };
        let start = StartFile::open_or_create(run, &source)?;
        engine.write_copy(WeightCopy::Teacher, &teacher)?;
        let rounding = start.rounding(engine.parameters(), &mut teacher, self.keys.scales)?;
        engine.set_rates(rounding.steps(engine.parameters(), &teacher));
        self.rounding = Some(rounding);
        if fresh {
            engine.write(Buffer::Weights, &teacher)?;
        }
        self.round(engine)?;
        engine.pass_with(Some(WeightCopy::Rounded))
    }

    /// Lets the passes see the masters of now, rounded.
    fn round<O: Ops>(&self, engine: &mut Engine<O>) -> Result<()> {
        match &self.rounding {
            Some(rounding) => engine.round_weights(&|masters, rounded| rounding.round(masters, rounded)),
            None => Err(Error::Invalid("the objective was not prepared before its first step".into())),
        }
    }
}

impl<O: Ops> Objective<O> for SelfDistillation {
    fn tokenizer(&self) -> DataTokenizer<'_> {
        Objective::<O>::tokenizer(&self.windows)
    }

    fn steps(&self, stage: usize) -> u64 {
        Objective::<O>::steps(&self.windows, stage)
    }

    fn shape(&self, stage: usize) -> (usize, usize) {
        Objective::<O>::shape(&self.windows, stage)
    }

    fn prepare(&mut self, engine: &mut Engine<O>, with: Preparation<'_>) -> Result<()> {
        let TeacherSource::Start(model) = &self.teacher else { return Ok(()) };
        let model = model.clone();
        if with.fresh {
            // That of an earlier attempt may be of another model or other encodings.
            StartFile::remove(with.run)?;
        }
        self.begin(engine, (with.run, &model), ((with.initial_weights)()?, with.fresh))
    }

    fn enter(&mut self, engine: &mut Engine<O>, entry: StageEntry<'_>) -> Result<()> {
        let TeacherSource::Trained { config, init_std } = &self.teacher else { return Ok(()) };
        let StageEntry { run, stage, first_step } = entry;
        if stage < self.first || self.rounding.is_some() {
            return Ok(());
        }
        let fresh = stage == self.first && first_step;
        let weights = if fresh {
            let weights = masters(engine)?;
            let model = Export {
                config,
                init_std: *init_std,
                weights: &weights,
                tokenizer: &run.join("tokenizer"),
                end_of_document: Objective::<O>::tokenizer(&self.windows).end,
                precision: Precision::F32,
            };
            teacher::keep(run, &model)?;
            weights
        } else {
            teacher::read(run, engine.parameters())?
        };
        self.begin(engine, (run, &teacher::folder(run).display().to_string()), (weights, fresh))
    }

    fn accumulate(&mut self, engine: &mut Engine<O>, stage: usize) -> Result<StepResult> {
        if stage < self.first {
            return self.windows.accumulate(engine, stage);
        }
        self.round(engine)?;
        let tokens = self.windows.tokens_per_step(stage);
        self.windows.draw(stage, |_, batch| {
            batch.weigh((1.0 / tokens as f64) as f32);
            engine.distill(batch)
        })?;
        let loss = engine.take_loss()? / tokens as f64;
        Ok(StepResult { loss, tokens, targets: tokens, figures: Vec::new() })
    }

    /// The mean divergence from the teacher on the held-out windows.
    fn measure(&mut self, engine: &mut Engine<O>, stage: usize) -> Result<Option<Measurement>> {
        if stage < self.first {
            return self.windows.measure(engine, stage);
        }
        self.round(engine)?;
        let divergence = |batch: &TrainingBatch| engine.evaluate_divergence(batch);
        let Some((loss, targets)) = self.windows.held_out_mean(stage, divergence)? else { return Ok(None) };
        Ok(Some(Measurement { loss, perplexity: None, targets, figures: Vec::new() }))
    }

    fn refresh(&mut self, engine: &mut Engine<O>) -> Result<()> {
        if self.rounding.is_some() { self.round(engine) } else { Ok(()) }
    }

    fn position(&self) -> DataPosition {
        Objective::<O>::position(&self.windows)
    }

    fn seek(&mut self, position: &DataPosition) -> Result<()> {
        Objective::<O>::seek(&mut self.windows, position)
    }

    fn skip(&mut self, stage: usize) -> Result<()> {
        Objective::<O>::skip(&mut self.windows, stage)
    }

    fn describe(&mut self) -> Vec<String> {
        Objective::<O>::describe(&mut self.windows)
    }

    fn stage_summary(&self) -> Option<String> {
        Objective::<O>::stage_summary(&self.windows)
    }
}

fn masters<O: Ops>(engine: &Engine<O>) -> Result<Vec<f32>> {
    let mut masters = vec![0.0; engine.parameters().len];
    engine.read(Buffer::Weights, &mut masters)?;
    Ok(masters)
}
