//! The cache on its way between the processors.

use super::model::{config, mixed, model, options, tokens};
use super::{Random, device};
use crate::Gpu;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::kernels::{CHUNK, Kernels, KvHead, KvHeadMut, KvKind, SingleThread};
use thimble_runtime::memory::{MemoryPlan, PlanOptions};
use thimble_runtime::model::{Batch, Weights, forward};

/// Keys and values, and their scales where they are bytes.
type Parts = ([Vec<u8>; 2], [Vec<f32>; 2]);

/// Keys and values of the first `count` blocks, by layer and head.
fn read(gpu: &mut Gpu, count: usize) -> Vec<Parts> {
    let mut all = Vec::new();
    let mut each = |layer, head, part: KvHead<'_>| {
        assert_eq!(layer * 2 + head, all.len(), "in order");
        let scales = [part.key_scales.to_vec(), part.value_scales.to_vec()];
        all.push(([part.keys.to_vec(), part.values.to_vec()], scales));
    };
    assert!(gpu.read_cache(&|_| 0..count, &mut each).unwrap());
    all
}

/// The numbers of a cache.
fn numbers(bytes: &[u8], kv: KvKind) -> Vec<f32> {
    match kv {
        KvKind::Q8 => bytes.iter().map(|b| f32::from(*b)).collect(),
        KvKind::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        KvKind::F16 => {
            bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
    }
}

#[test]
fn the_cache_lies_as_the_cpus_and_comes_back_bit_by_bit() {
    let Some(device) = device() else { return };
    let mut random = Random(21);
    // Values of a head of 22 numbers are padded to 32.
    for (heads, hidden) in [((4, 2, 16), 96), ((4, 2, 22), 96)] {
        let file = model(&config(hidden, heads, 160, true), mixed, &mut random);
        let file = file.model();
        let weights = Weights::new(&file).unwrap();
        let tokens = tokens(100, &mut random);
        for (kv, bound) in [(KvKind::F32, 2e-5), (KvKind::F16, 2e-3), (KvKind::Q8, 0.1)] {
            let mut gpu = Gpu::new(&device, &weights, &options(kv, 100, 1)).unwrap();
            forward(&mut gpu, &Batch { tokens: &tokens, position: 0 });
            let found = read(&mut gpu, 2);

            let plan_options = PlanOptions {
                context: 160,
                batch: 100,
                logit_rows: 1,
                kv,
                exact: true,
                adapter_rank: 0,
                sequences: 1,
            };
            let kernels = Kernels::scalar();
            let plan = MemoryPlan::new(file.config(), &plan_options, &kernels).unwrap();
            let mut memory = vec![0; plan.bytes() + 64];
            let start = memory.as_ptr().align_offset(64);
            let memory = &mut memory[start..start + plan.bytes()];
            let mut cpu = Cpu::new(weights, &plan, kernels, &SingleThread, memory).unwrap();
            forward(&mut cpu, &Batch { tokens: &tokens, position: 0 });
            let mut worst = 0.0f32;
            let mut other = Gpu::new(&device, &weights, &options(kv, 100, 1)).unwrap();
            for (i, ([keys, values], [key_scales, value_scales])) in found.iter().enumerate() {
                let (layer, head) = (i / 2, i % 2);
                let of_cpu = cpu.cache(layer, head, 0..2);
                for (found, expected) in [(keys, &*of_cpu.keys), (values, &*of_cpu.values)] {
                    let pairs = numbers(found, kv).into_iter().zip(numbers(expected, kv));
                    let own = pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs() / (1.0 + b.abs())));
                    // Random weights make more of a difference from layer to layer.
                    worst = worst.max(if layer == 0 { own } else { own / 50.0 });
                    assert_eq!(found.len(), expected.len());
                }
                for (found, expected) in
                    [(key_scales, &*of_cpu.key_scales), (value_scales, &*of_cpu.value_scales)]
                {
                    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 0.05 * b.abs()));
                }
                of_cpu.key_scales.copy_from_slice(key_scales);
                of_cpu.value_scales.copy_from_slice(value_scales);
                of_cpu.keys.copy_from_slice(keys);
                of_cpu.values.copy_from_slice(values);
                let KvHeadMut { kind, keys, values, key_scales, value_scales } = of_cpu;
                for block in 0..2 {
                    // One block at a time: the second lies behind the first.
                    let part = |len: usize| block * len / 2..(block + 1) * len / 2;
                    let (keys, values) = (&keys[part(keys.len())], &values[part(values.len())]);
                    let scales = part(key_scales.len());
                    let (key_scales, value_scales) = (&key_scales[scales.clone()], &value_scales[scales]);
                    let part = KvHead { kind, keys, values, key_scales, value_scales };
                    assert!(other.write_cache(block..block + 1, layer, head, part));
                }
            }
            println!("heads {heads:?}, {kv:?}: keys and values off by {worst:e}, blocks of {CHUNK}");
            assert!(worst <= bound);
            assert!(read(&mut other, 2) == found, "there and back");
            // Both go on alike.
            let next = Batch { tokens: &tokens[..1], position: 100 };
            let on = gpu.logits_after(&next).unwrap().to_vec();
            assert!(other.logits_after(&next).unwrap() == on);
            // Of another kind.
            let wrong = if kv == KvKind::F16 { KvKind::F32 } else { KvKind::F16 };
            let part = KvHead { kind: wrong, keys: &[], values: &[], key_scales: &[], value_scales: &[] };
            assert!(!other.write_cache(0..1, 0, 0, part));
        }
    }
}
