//! Memory, and what fits.

use super::*;

#[test]
fn memory_is_the_sum_of_its_parts() {
    let recipe = load("smollm2-70m", &[]);
    let memory = MemoryEstimate::of(&recipe, DeviceTarget::Cuda, (4, 8192));
    assert_eq!(memory.weights, 6 * 69_230_976);
    assert_eq!((memory.gradients, memory.moments), (4 * 69_230_976, 8 * 69_230_976));
    // Per token and layer 2 x (640 + 384 + 384 + 2,048), eight statistics in f32, and 384 before it: "about 7.7 KB".
    assert_eq!(memory.activations, 32_768 * (2 * (33 * 384 + 32 * 3456 + 384) + 4 * (32 * 8 + 1)));
    assert_eq!(memory.logits, 2 * 4096 * 49_152);
    // The logits need more than a layer's buffers, which share their memory; the residual's gradient has its own.
    assert!(memory.logits > 2 * 32_768 * (2 * 1024 + 384 + 640));
    assert_eq!(memory.scratch, 2 * 32_768 * 384);
    // Ids, targets, weights, starts, order and losses; segments and ids; rotations; a row for each id's gradient.
    let batch = 4 * (6 * 32_768 + 3 * 32_768 + 2);
    assert_eq!(memory.workspace, batch + 4 * 8192 * 64 + 32_768 * 384 * 4 + 8);

    let sum = |memory: &MemoryEstimate| {
        let MemoryEstimate { weights, gradients, moments, activations, logits, scratch, workspace, .. } =
            *memory;
        weights + gradients + moments + activations + logits + scratch + workspace
    };
    assert_eq!(memory.total, sum(&memory));

    let checkpointed = load("smollm2-70m", &["compute.activation_checkpointing=true"]);
    let less = MemoryEstimate::of(&checkpointed, DeviceTarget::Cuda, (4, 8192));
    assert_eq!(less.activations, 32_768 * (2 * (33 * 384 + 3456 + 384) + 4 * 9));
    let cpu = MemoryEstimate::of(&recipe, DeviceTarget::Cpu, (1, 100));
    assert_eq!((cpu.weights, cpu.logits), (4 * 69_230_976, 100 * 49_152 * 4));

    // What the kernels lack runs through candle.
    let candle = load("smollm2-70m", &["model.qk_norm=true"]);
    let memory = MemoryEstimate::of(&candle, DeviceTarget::Cuda, (4, 8192));
    assert_eq!((memory.logits, memory.workspace), (4 * 4096 * 49_152 * 4, 0));
    let layer = 32_768 * (2 * 1024 + 384 + 640 + 512 + 384);
    assert_eq!(memory.scratch, 2 * layer + 6 * 4 * (1 << 26), "a layer's buffers, and attention's scores");
    assert_eq!(memory.total, sum(&memory));
}

#[test]
fn the_largest_micro_batch_is_the_last_that_fits() {
    let recipe = load("smollm2-70m", &[]);
    let stage = &recipe.stages[0];
    for (gpu, least) in [("L40S", 4), ("H100", 8)] {
        let gpu = if gpu == "L40S" { GpuModel::L40s } else { GpuModel::H100 };
        let available = gpu.sheet().usable_bytes();
        let most = fit::largest_micro_batch(&recipe, stage, available);
        let total = |size| MemoryEstimate::of(&recipe, DeviceTarget::Cuda, (size, stage.context)).total;
        assert!(total(most) <= available && available < total(most + 1), "{gpu:?} {most}");
        assert!(most >= least, "{gpu:?} {most}");
    }
    assert_eq!(fit::largest_micro_batch(&recipe, stage, 1_000_000_000), 0);
}

#[test]
fn a_predicted_speed_gives_time_and_mfu() {
    let recipe = load("smollm2-70m", &["stages.*.length={steps=1000}", "stages.*.schedule.warmup=0"]);
    let assumptions = Assumptions { gpu: Some(GpuModel::L40s), ..assume(None) };
    let found = plan(&recipe, &assumptions).unwrap();
    let stage = &found.stages[0];
    let full = &stage.prediction.as_ref().unwrap().full;
    assert_eq!(stage.tokens_per_second, Some(full.tokens_per_second));
    assert!((stage.mfu_causal.unwrap() / full.mfu - 1.0).abs() < 1e-3, "{:?} {}", stage.mfu_causal, full.mfu);
    assert!(found.hours.is_some() && found.to_string().contains("Predicted, not measured: NVIDIA L40S"));
    // A given speed takes precedence, and a recipe with the mask is that of documents.
    let given = Assumptions { tokens_per_second: Some(5.0), ..assumptions.clone() };
    assert_eq!(plan(&recipe, &given).unwrap().stages[0].tokens_per_second, Some(5.0));
    let masked = load("smollm2-70m", &["compute.document_mask=true"]);
    let masked = plan(&masked, &assumptions).unwrap();
    assert!(masked.stages[0].tokens_per_second.unwrap() > full.tokens_per_second);
    let lacking = plan(&load("smollm2-70m", &["model.qk_norm=true"]), &assumptions).unwrap();
    assert!(lacking.stages[0].prediction.is_none() && lacking.stages[0].tokens_per_second.is_none());
}

/// The engine's own layout is the oracle; it rounds each of its buffers up to 64 bytes.
#[test]
fn memory_is_what_the_engine_reserves() {
    use crate::model::{Engine, EngineOptions, Parameters, Passes};
    use crate::recipe::AdapterKeys;
    for (name, micro_batch, context) in
        [("tiny-cpu", 8, 256), ("tiny-cpu", 1, 3), ("smollm2-70m", 1, 2048), ("smollm2-135m", 3, 100)]
    {
        for case in 0..8 {
            let [on, qk_norm, adapted] = [1, 2, 4].map(|bit| case & bit != 0);
            let overrides =
                [format!("compute.activation_checkpointing={on}"), format!("model.qk_norm={qk_norm}")];
            let mut recipe = load(name, &overrides.each_ref().map(String::as_str));
            recipe.adapter = adapted.then(|| AdapterKeys::of_rank(8));
            let cpu = crate::ops::cpu::CpuOps::new(1, 0, 1e-5).unwrap();
            let options = EngineOptions { activation_checkpointing: on, ..EngineOptions::default() };
            let parameters = Parameters::of(&recipe).unwrap();
            let engine = Engine::with(&recipe.model.config(), parameters, options, cpu);
            let reserved = engine.arena_bytes(micro_batch, context, Passes::Both) as u64;
            let memory = MemoryEstimate::of(&recipe, DeviceTarget::Cpu, (micro_batch, context));
            let planned = memory.activations + memory.logits + memory.scratch;
            let rounding = 64 * (23 + 17 * recipe.model.layers as u64);
            assert!(
                planned <= reserved && reserved <= planned + rounding,
                "{name} {micro_batch} x {context}, checkpointing {on}, norms {qk_norm}, adapters {adapted}: {planned} {reserved}"
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let recipe = load("smollm2-70m", &["stages.*.micro_batch=16"]);
    let fit = |recipe: &TrainingRecipe, memory| plan(recipe, &assume(Some(memory))).unwrap().fit();
    fit(&recipe, 46_000_000_000).unwrap();
    let error = fit(&recipe, 24_000_000_000).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let said = error.to_string();
    assert!(said.contains("micro_batch = 16, but only 24.00 GB is available"), "{said}");
    assert!(said.contains("--set 'stages.*.micro_batch=8' --set 'stages.*.accumulate=16' (needs "), "{said}");
    assert!(said.contains("or --set compute.activation_checkpointing=true (needs "), "{said}");
    // What is suggested does fit, and trains on the same batches.
    for overrides in [
        vec!["stages.*.micro_batch=8", "stages.*.accumulate=16"],
        vec!["stages.*.micro_batch=16", "compute.activation_checkpointing=true"],
    ] {
        let changed = load("smollm2-70m", &overrides);
        fit(&changed, 24_000_000_000).unwrap();
    }
    assert_eq!(recipe.stages[0].tokens_per_step(), 8 * 16 * 8192);
    let said = fit(&recipe, 1_000_000_000).unwrap_err().to_string();
    assert!(said.contains("not even one sequence") && said.contains("moments alone need 1.25 GB"), "{said}");
    plan(&recipe, &assume(None)).unwrap().fit().unwrap();
}
