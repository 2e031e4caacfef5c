//! Quantization-aware training by self-distillation: the passes see the weights as a quantized file stores them, and
//! learn to predict what the model predicted before.

use super::pretrain::Pretraining;
use super::{DataTokenizer, Measurement, Objective, Preparation, StepResult};
use crate::data::{DataPosition, TrainingBatch};
use crate::error::{Error, Result};
use crate::model::Engine;
use crate::ops::{Buffer, Ops, WeightCopy};
use crate::quantization::{ModelRounding, QuantizationSource, StartFile};
use crate::recipe::{DistillKeys, QuantizationScales, TrainingRecipe};

/// Windows of token sets, and the rounding that the passes see.
pub(super) struct SelfDistillation {
    windows: Pretraining,
    model: String,
    quant: String,
    scales: QuantizationScales,
    /// Known once the run has been prepared.
    rounding: Option<ModelRounding>,
}

impl SelfDistillation {
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
        // An unknown name is refused before anything is read.
        crate::quantization::options(&keys.quant)?;
        Ok(SelfDistillation {
            windows: Pretraining::open(recipe)?,
            model,
            quant: keys.quant.clone(),
            scales: keys.scales,
            rounding: None,
        })
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

    /// Chooses the scales, and before the first step moves the weights to where they round to the calibrated file.
    fn prepare(&mut self, engine: &mut Engine<O>, with: Preparation<'_>) -> Result<()> {
        let source = QuantizationSource { model: &self.model, quant: &self.quant };
        let start = StartFile::open_or_create(with.run, &source)?;
        let mut teacher = (with.initial_weights)()?;
        engine.write_copy(WeightCopy::Teacher, &teacher)?;
        let mut masters = vec![0.0; teacher.len()];
        engine.read(Buffer::Weights, &mut masters)?;
        let fresh = masters == teacher;
        drop(masters);
        self.rounding = Some(start.rounding(engine.parameters(), &mut teacher, self.scales)?);
        if fresh {
            engine.write(Buffer::Weights, &teacher)?;
        }
        self.round(engine)?;
        engine.pass_with(Some(WeightCopy::Rounded))
    }

    fn accumulate(&mut self, engine: &mut Engine<O>, stage: usize) -> Result<StepResult> {
        self.round(engine)?;
        let tokens = self.windows.tokens_per_step(stage);
        let mut sum = 0.0;
        self.windows.draw(stage, |_, batch| {
            batch.weigh((1.0 / tokens as f64) as f32);
            sum += engine.distill(batch)?;
            Ok(())
        })?;
        Ok(StepResult { loss: sum / tokens as f64, tokens, targets: tokens, figures: Vec::new() })
    }

    /// The mean divergence from the teacher on the held-out windows.
    fn measure(&mut self, engine: &mut Engine<O>, stage: usize) -> Result<Option<Measurement>> {
        self.round(engine)?;
        let divergence = |batch: &TrainingBatch| engine.evaluate_divergence(batch);
        let Some((loss, targets)) = self.windows.held_out_mean(stage, divergence)? else { return Ok(None) };
        Ok(Some(Measurement { loss, perplexity: None, targets, figures: Vec::new() }))
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
