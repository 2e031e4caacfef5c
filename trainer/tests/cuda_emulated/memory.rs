//! The memory that a run takes, against the plan's.

use thimble_trainer::data::TrainingBatch;
use thimble_trainer::model::{Engine, EngineOptions, Parameters, Passes};
use thimble_trainer::ops::AdamW;
use thimble_trainer::ops::cuda::{CudaOps, Emulator};
use thimble_trainer::plan::{DeviceTarget, MemoryEstimate};
use thimble_trainer::recipe::TrainingRecipe;

#[test]
fn a_step_allocates_what_is_planned() {
    for (checkpointing, micro_batch, context) in [(false, 2, 96), (true, 1, 33), (false, 3, 64)] {
        let overrides = [
            "model.hidden=128".to_owned(),
            "model.layers=2".to_owned(),
            "model.heads=2".to_owned(),
            "model.kv_heads=1".to_owned(),
            "model.ffn=200".to_owned(),
            "model.vocab=299".to_owned(),
            format!("compute.activation_checkpointing={checkpointing}"),
        ];
        let recipe = TrainingRecipe::load("smollm2-70m", &overrides).unwrap();
        let (config, parameters) = (recipe.model.config(), Parameters::of(&recipe).unwrap());
        let ops = CudaOps::new(Emulator::new(2), parameters.lengths(), config.norm_eps).unwrap();
        let mut engine = Engine::with(&config, parameters, EngineOptions::of(&recipe), ops);
        engine.reserve(micro_batch, context, Passes::Both).unwrap();
        // No id twice, which takes the most.
        let ids = (0..micro_batch * (context + 1)).map(|id| id as u32).collect();
        let batch = TrainingBatch::new(micro_batch, context, ids, vec![0; micro_batch * context]);
        engine.zero_gradients().unwrap();
        engine.accumulate(&batch).unwrap();
        engine.take_loss().unwrap();
        let norm = engine.gradient_norm().unwrap();
        let step = AdamW {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step: 1,
            gradient_scale: AdamW::clip(norm, Some(1.0)),
            decayed: engine.parameters().matrices,
        };
        engine.update(step).unwrap();
        let planned = MemoryEstimate::of(&recipe, DeviceTarget::Cuda, (micro_batch, context));
        let allocated = engine.into_ops().allocated_bytes() as u64;
        assert_eq!(allocated, planned.total, "{micro_batch} x {context}, {planned:?}");
    }
}
