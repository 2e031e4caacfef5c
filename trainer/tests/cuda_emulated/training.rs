//! Several steps: bit for bit the same in any order of blocks and threads, and when resumed.

use crate::setup::{SplitMix, batch, cuda, gradients, read, shape, weights};
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::model::{Engine, EngineOptions, Parameters, Passes};
use thimble_trainer::ops::cuda::{CudaOps, Emulator};
use thimble_trainer::ops::{AdamW, Buffer};

type EmulatedEngine = Engine<CudaOps<Emulator>>;

fn engine() -> EmulatedEngine {
    let config = shape(3, 1, true);
    let parameters = Parameters::new(&config);
    let options = EngineOptions { document_mask: true, z_loss: Some(1e-3), ..EngineOptions::default() };
    let ops = cuda(&config, parameters.len);
    Engine::with(&config, parameters, options, ops)
}

fn start() -> (Vec<f32>, Vec<TrainingBatch>) {
    let config = shape(3, 1, true);
    let mut random = SplitMix(21);
    let weights = weights(&mut random, &Parameters::new(&config));
    (weights, (0..4).map(|at| batch(&mut random, 1 + at % 2, 70, config.vocab)).collect())
}

fn steps(engine: &mut EmulatedEngine, batches: &[TrainingBatch], first: u64) -> Vec<u64> {
    let mut bits = Vec::new();
    for (batch, step) in batches.iter().zip(first..) {
        engine.zero_gradients().unwrap();
        engine.accumulate(batch).unwrap();
        bits.push(engine.take_loss().unwrap().to_bits());
        bits.extend(gradients(engine).iter().map(|x| u64::from(x.to_bits())));
        let norm = engine.gradient_norm().unwrap();
        bits.push(norm.to_bits());
        let adamw = AdamW {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step,
            gradient_scale: AdamW::clip(norm, Some(0.5)),
            decayed: 0,
        };
        engine.update(adamw).unwrap();
    }
    bits
}

fn state(engine: &EmulatedEngine) -> [Vec<f32>; 3] {
    [Buffer::Weights, Buffer::FirstMoment, Buffer::SecondMoment].map(|buffer| read(engine, buffer))
}

#[test]
fn no_order_of_blocks_and_threads_changes_a_bit() {
    let (weights, batches) = start();
    let run = |seed, workers| {
        let mut engine = engine();
        Emulator::configure(&thimble_trainer::ops::cuda::EmulatorOptions {
            seed,
            workers,
            ..Emulator::configuration()
        });
        engine.write(Buffer::Weights, &weights).unwrap();
        let bits = steps(&mut engine, &batches[..2], 1);
        (bits, state(&engine))
    };
    let expected = run(0, 1);
    for (seed, workers) in [(1, 1), (2, 2), (3, 2)] {
        assert!(run(seed, workers) == expected, "seed {seed}");
    }
}

#[test]
fn a_resumed_run_goes_on_bit_for_bit() {
    let (weights, batches) = start();
    let mut whole = engine();
    whole.write(Buffer::Weights, &weights).unwrap();
    steps(&mut whole, &batches, 1);

    let mut before = engine();
    before.write(Buffer::Weights, &weights).unwrap();
    steps(&mut before, &batches[..2], 1);
    let [weights, first, second] = state(&before);
    let mut after = engine();
    // A larger arena, and what a validation between steps leaves, must not matter.
    after.reserve(3, 77, Passes::Both).unwrap();
    after.write(Buffer::Weights, &weights).unwrap();
    after.write(Buffer::FirstMoment, &first).unwrap();
    after.write(Buffer::SecondMoment, &second).unwrap();
    after.evaluate(&batches[0]).unwrap();
    steps(&mut after, &batches[2..], 3);
    assert!(state(&after) == state(&whole));
    assert!(state(&after)[0] != weights);
}
