//! Forward passes against the CPU's exact mode.

use super::model::{File, all_logits, config, difference, exact, mixed, model, on_cpu, options, tokens};
use super::{Random, device, plain_device};
use crate::{Device, Gpu, GpuError, GpuOptions, MatmulVariant};
use std::path::PathBuf;
use thimble_needs::{Need, skip};
use thimble_runtime::Token;
use thimble_runtime::format::{Config, Encoding, ModelFile};
use thimble_runtime::kernels::KvKind;
use thimble_runtime::model::{Batch, Weights};
use thimble_runtime::sampler::{self, Sampling};

#[test]
fn logits_are_those_of_the_exact_mode() {
    let Some(device) = plain_device() else { return };
    let mut random = Random(11);
    let shapes = [(96, (6, 2, 32), 160, true), (70, (3, 1, 22), 100, false), (64, (2, 2, 64), 96, false)];
    for (i, (hidden, heads, ffn, tied)) in shapes.into_iter().enumerate() {
        let file = model(&config(hidden, heads, ffn, tied), mixed, &mut random);
        let file = file.model();
        let tokens = tokens(150, &mut random);
        let weights = Weights::new(&file).unwrap();
        // The CPU's own bytes, so that a few that are rounded otherwise are all that differs.
        for (kv, cpus, bound) in [
            (KvKind::F32, KvKind::F32, 2e-4),
            (KvKind::F16, KvKind::F32, 2e-2),
            (KvKind::Q8, KvKind::Q8, 2e-2),
        ] {
            let expected = on_cpu(&file, &tokens, 50, (cpus, true));
            // Also with a head, and here every matrix, partitioned.
            for binding_bytes in [None, Some(16_384)] {
                let options = GpuOptions { binding_bytes, ..options(kv, 128, 3) };
                let mut gpu = Gpu::new(&device, &weights, &options).unwrap();
                assert_eq!(gpu.allocated(), gpu.plan().bytes(), "the plan is what was made");
                let found = all_logits(&mut gpu, &tokens, &[100, 1, 1, 30, 2]);
                gpu.check().unwrap();
                let off = difference(&found, &expected);
                println!(
                    "model {i}, {kv:?} cache, partitions of {binding_bytes:?}: logits off by {off:e} of the largest"
                );
                assert!(off <= bound);
            }
        }
    }
}

/// Five dispatches per layer, as long as one workgroup reaches over the context.
#[test]
fn dispatches_are_few() {
    let Some(device) = device() else { return };
    let mut random = Random(16);
    let config = Config { context: 512, ..config(96, (3, 1, 32), 160, true) };
    let file = model(&config, |_, _| Encoding::Q4, &mut random);
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let options = GpuOptions { context: 512, batch: 300, ..options(KvKind::F16, 300, 1) };
    let mut gpu = Gpu::new(&device, &weights, &options).unwrap();
    assert_eq!(gpu.allocated(), gpu.plan().bytes(), "the plan is what was made");
    assert_eq!(gpu.plan().gate_up, 0);
    let prompt = tokens(300, &mut random);
    let mut count = |batch: &Batch<'_>| {
        let before = gpu.dispatches();
        gpu.logits_after(batch).unwrap();
        gpu.dispatches() - before
    };
    let layers = config.layers as u64;
    // With the embedding and the head.
    assert_eq!(count(&Batch { tokens: &prompt, position: 0 }), 5 * layers + 2);
    assert_eq!(count(&Batch { tokens: &prompt[..1], position: 255 }), 5 * layers + 2);
    // Then the spans of the context are merged.
    assert_eq!(count(&Batch { tokens: &prompt[..1], position: 256 }), 6 * layers + 2);
}

/// Runs `first` at `position` and `count` tokens in all, each the likeliest behind the one before, in one submit.
fn greedy(gpu: &mut Gpu, first: Token, position: usize, count: usize) -> Result<Vec<Token>, GpuError> {
    let history = [vec![Token(0); position], vec![first]].concat();
    gpu.begin(&history, &Sampling::default())?;
    gpu.submit_tokens(count)?;
    gpu.take_tokens()
}

#[test]
fn tokens_come_back_without_the_host() {
    let Some(device) = device() else { return };
    let mut random = Random(12);
    let file = model(&config(96, (6, 2, 16), 160, true), mixed, &mut random);
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let prompt = tokens(20, &mut random);
    let mut gpu = Gpu::new(&device, &weights, &options(KvKind::F16, 32, 1)).unwrap();
    // One by one, with the host's choice.
    let mut one_by_one = Vec::new();
    let mut next = sampler::greedy(gpu.logits_after(&Batch { tokens: &prompt, position: 0 }).unwrap());
    let first = next;
    for position in 20..32 {
        next = sampler::greedy(gpu.logits_after(&Batch { tokens: &[next], position }).unwrap());
        one_by_one.push(next);
    }
    // Eight in one submit, then four: the cache behind position 20 is written anew.
    let mut at_once = greedy(&mut gpu, first, 20, 8).unwrap();
    at_once.extend(greedy(&mut gpu, at_once[7], 28, 4).unwrap());
    assert_eq!(at_once, one_by_one);
    // Once more from where the device does not stand.
    assert_eq!(greedy(&mut gpu, first, 20, 12).unwrap(), one_by_one);
    let two_sessions = Gpu::new(&device, &weights, &options(KvKind::F16, 32, 1));
    assert!(two_sessions.is_ok());
    assert!(matches!(greedy(&mut gpu, first, 159, 2), Err(GpuError::Option { .. })));
    assert!(matches!(greedy(&mut gpu, first, 0, 65), Err(GpuError::Option { .. })));
    assert!(matches!(greedy(&mut gpu, first, 160, 1), Err(GpuError::Option { .. })));
    assert!(matches!(greedy(&mut gpu, Token(512), 3, 1), Err(GpuError::Option { .. })));
}

/// Every kernel variant for products for many tokens beside the CPU's fast path, which loses more than all but f16.
fn compare_variants(device: &Device, file: &ModelFile<'_>, tokens: &[Token]) {
    let weights = Weights::new(file).unwrap();
    let expected = exact(file, tokens, tokens.len());
    let fast = difference(&on_cpu(file, tokens, tokens.len(), (KvKind::F32, false)), &expected);
    println!("the CPU's fast path: logits off by {fast:e} of the largest");
    for variant in device.matmul_variants().to_vec() {
        let device = device.clone().with_matmul_variant(variant).unwrap();
        let options = GpuOptions {
            context: tokens.len(),
            batch: tokens.len(),
            logit_rows: tokens.len(),
            kv: KvKind::F32,
            adapter_rank: 0,
            binding_bytes: None,
        };
        let mut gpu = Gpu::new(&device, &weights, &options).unwrap();
        let off = difference(&all_logits(&mut gpu, tokens, &[tokens.len()]), &expected);
        println!("{variant:?} products: logits off by {off:e} of the largest");
        // The same rounding on both sides, in another order.
        let bound = if variant == MatmulVariant::F16 { 100.0 } else { 2.0 };
        assert!(off <= bound * fast);
    }
}

#[test]
fn products_are_as_near_as_the_cpus_fast_path() {
    let Some(device) = device() else { return };
    let mut random = Random(18);
    for encoding in [Encoding::Q8, Encoding::Q4Min, Encoding::Q5Nl] {
        let file = model(&config(96, (3, 1, 32), 160, true), |_, _| encoding, &mut random);
        compare_variants(&device, &file.model(), &tokens(40, &mut random));
    }
}

/// The file that `THIMBLE_MODEL` names.
#[test]
fn a_real_models_logits_are_those_of_the_exact_mode() {
    let Some(path) = std::env::var_os("THIMBLE_MODEL").map(PathBuf::from) else {
        return skip(Need::ChosenModel, "THIMBLE_MODEL names no .thimble file");
    };
    let Some(device) = plain_device() else { return };
    let file = File::new(&std::fs::read(path).unwrap());
    let file = file.model();
    let vocab = file.config().vocab as u64;
    let mut random = Random(14);
    let tokens: Vec<Token> = (0..24).map(|_| Token((random.next() % vocab) as u32)).collect();
    let expected = exact(&file, &tokens, 24);
    let weights = Weights::new(&file).unwrap();
    for (kv, bound) in [(KvKind::F32, 1e-4), (KvKind::F16, 1e-2)] {
        let options =
            GpuOptions { context: 32, batch: 16, logit_rows: 4, kv, adapter_rank: 0, binding_bytes: None };
        let mut gpu = Gpu::new(&device, &weights, &options).unwrap();
        println!("{} bytes on the device", gpu.plan().bytes());
        let off = difference(&all_logits(&mut gpu, &tokens, &[16, 1]), &expected);
        println!("{kv:?} cache: logits off by {off:e} of the largest");
        assert!(off <= bound);
    }
    compare_variants(&device, &file, &tokens);
}
