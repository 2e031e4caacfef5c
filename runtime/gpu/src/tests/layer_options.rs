//! What layers do differently from a plain Llama's, against the CPU's exact mode.

use super::model::{all_logits, config, difference, exact, mixed, model, on_cpu, options, tokens};
use super::{Random, plain_device};
use crate::{Gpu, GpuOptions};
use thimble_runtime::cpu::Cpu;
use thimble_runtime::format::{Config, LayerPattern, RopeParameters, RopeScaling};
use thimble_runtime::kernels::{CHUNK, Kernels, KvHead, KvKind, SingleThread};
use thimble_runtime::memory::{MemoryPlan, PlanOptions};
use thimble_runtime::model::{Backend, Batch, Weights, forward};

/// Layers without RoPE and with a sliding window.
fn pattern(option: impl Fn(usize) -> (bool, bool)) -> LayerPattern {
    LayerPattern::new(4, option).unwrap()
}

fn rope(scaling: RopeScaling) -> RopeParameters {
    RopeParameters { theta: 10_000.0, scaling }
}

/// Each option, and mixtures.
fn variants(plain: Config) -> Vec<(&'static str, Config)> {
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_context: 32,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: 1.14,
        truncate: true,
    };
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 64,
    };
    let no_rope = pattern(|layer| (layer % 2 == 0, false));
    let sliding = pattern(|layer| (true, layer % 2 == 0));
    let both = pattern(|layer| (layer % 4 != 3, layer % 4 != 0));
    let every = pattern(|_| (true, true));
    vec![
        ("biases", Config { qkv_bias: true, ..plain }),
        ("norms of heads", Config { qk_norm: true, ..plain }),
        ("layers without RoPE", Config { pattern: no_rope, ..plain }),
        ("a window of 5", Config { pattern: sliding, window: 5, ..plain }),
        ("a window of 64 everywhere", Config { pattern: every, window: 64, ..plain }),
        ("YaRN", Config { rope: rope(yarn), ..plain }),
        ("Llama 3's scaling", Config { rope: rope(llama3), qk_norm: true, ..plain }),
        (
            "all",
            Config { qkv_bias: true, qk_norm: true, pattern: both, window: 33, rope: rope(yarn), ..plain },
        ),
    ]
}

#[test]
fn every_option_matches_the_exact_mode() {
    let Some(device) = plain_device() else { return };
    let mut random = Random(31);
    // Heads of 128 dimensions are stored by the product's epilogue, the others by a dispatch of their own.
    let [halves, bytes] = [(KvKind::F16, 2e-2), (KvKind::Q8, 2e-2)];
    for (hidden, heads, other) in
        [(64, (2, 1, 34), halves), (48, (1, 1, 80), bytes), (64, (2, 1, 128), halves)]
    {
        for (name, config) in variants(config(hidden, heads, 96, true)) {
            let file = model(&config, mixed, &mut random);
            let file = file.model();
            let weights = Weights::new(&file).unwrap();
            let tokens = tokens(90, &mut random);
            // The CPU's own bytes, so that a few that are rounded otherwise are all that differs.
            for (kv, bound) in [(KvKind::F32, 1e-4), other] {
                let expected = on_cpu(&file, &tokens, 50, (kv, true));
                let mut gpu = Gpu::new(&device, &weights, &options(kv, 70, 3)).unwrap();
                assert_eq!(gpu.allocated(), gpu.plan().bytes(), "the plan is what was made");
                let found = all_logits(&mut gpu, &tokens, &[70, 9, 1, 1]);
                gpu.check().unwrap();
                let off = difference(&found, &expected);
                println!("{name}, heads {heads:?}, {kv:?}: logits off by {off:e} of the largest");
                assert!(off <= bound, "{name}, heads {heads:?}, {kv:?}: {off:e}");
            }
        }
    }
}

/// Keys and values that a sequence of `end` tokens needs, from one GPU to another and to the CPU.
fn copy(from: &mut Gpu, to: &mut Gpu, cpu: &mut Cpu<'_, '_, '_, SingleThread>, end: usize) {
    let config = *cpu.plan().config();
    let chunks = |layer: usize| {
        let first = config.layer(layer).window.map_or(0, |window| (end + 1).saturating_sub(window));
        first / CHUNK..end.div_ceil(CHUNK)
    };
    cpu.reserve(0..end);
    to.reserve(0..end);
    let mut each = |layer, head, part: KvHead<'_>| {
        assert!(to.write_cache(chunks(layer), layer, head, part));
        let of_cpu = cpu.cache(layer, head, cpu.cached_chunks(layer, end));
        of_cpu.keys.copy_from_slice(part.keys);
        of_cpu.values.copy_from_slice(part.values);
        of_cpu.key_scales.copy_from_slice(part.key_scales);
        of_cpu.value_scales.copy_from_slice(part.value_scales);
    };
    assert!(from.read_cache(&chunks, &mut each).unwrap());
}

/// A ring of 1,024 positions in a context of 1,300.
#[test]
fn windows_reach_over_the_border_of_the_ring() {
    let Some(device) = plain_device() else { return };
    let mut random = Random(32);
    let (context, batch) = (1_300, 70);
    for (window, heads, kv, bound) in [
        (5, (2, 1, 34), KvKind::F32, 1e-4),
        (64, (2, 1, 32), KvKind::F32, 1e-4),
        (64, (2, 1, 32), KvKind::Q8, 2e-2),
    ] {
        let pattern = LayerPattern::new(2, |layer| (layer == 0, layer == 0)).unwrap();
        let config = Config { layers: 2, context, pattern, window, ..config(48, heads, 64, true) };
        let file = model(&config, mixed, &mut random);
        let file = file.model();
        let weights = Weights::new(&file).unwrap();
        let tokens = tokens(context, &mut random);
        let expected = if kv == KvKind::Q8 {
            on_cpu(&file, &tokens, 100, (kv, true))
        } else {
            exact(&file, &tokens, 100)
        };
        let expected = |end: usize| &expected[(end - 1) * config.vocab..end * config.vocab];
        let options = GpuOptions { context, batch, logit_rows: 1, kv, adapter_rank: 0, binding_bytes: None };
        let [mut gpu, mut other] = [(); 2].map(|()| Gpu::new(&device, &weights, &options).unwrap());
        assert_eq!(gpu.allocated(), gpu.plan().bytes(), "the plan is what was made");
        let plan = *gpu.plan();
        assert_eq!((plan.layers, plan.window_layers), (2, 1));
        assert_eq!(plan.window_keys * 1_344, plan.keys * 1_024);
        let mut end = 0;
        let mut worst = 0.0f32;
        // Batches and tokens that begin, cross and end at the border.
        for length in [70; 14].into_iter().chain([40, 3, 1, 1, 9, 70, 1]) {
            let last =
                gpu.logits_after(&Batch { tokens: &tokens[end..end + length], position: end }).unwrap();
            end += length;
            worst = worst.max(difference(last, expected(end)));
        }
        println!("a window of {window}, {kv:?}: logits off by {worst:e} of the largest");
        assert!(worst <= bound, "a window of {window}, {kv:?}: {worst:e}");
        assert!(gpu.resumes_at(end - 100) && !gpu.resumes_at(20) && gpu.resumes_at(0));

        // Both others go on from a copy.
        let plan_options =
            PlanOptions { context, batch, logit_rows: 1, kv, exact: true, adapter_rank: 0, sequences: 1 };
        let kernels = Kernels::scalar();
        let plan = MemoryPlan::new(&config, &plan_options, &kernels).unwrap();
        let mut memory = vec![0; plan.bytes() + 64];
        let start = memory.as_ptr().align_offset(64);
        let memory = &mut memory[start..start + plan.bytes()];
        let mut cpu = Cpu::new(weights, &plan, kernels, &SingleThread, memory).unwrap();
        copy(&mut gpu, &mut other, &mut cpu, end);
        for length in [1, 9, 70] {
            let next = Batch { tokens: &tokens[end..end + length], position: end };
            end += length;
            let found = gpu.logits_after(&next).unwrap();
            assert!(difference(found, expected(end)) <= bound);
            assert!(other.logits_after(&next).unwrap() == found, "a copy on another device goes on alike");
            forward(&mut cpu, &next);
            Backend::head(&mut cpu, length - 1..length);
            let off = difference(Backend::logits(&mut cpu), expected(end));
            assert!(off <= bound, "a copy on the CPU: {off:e}");
        }
        // And from where the sequence was rewound to.
        end -= 200;
        let found = gpu.logits_after(&Batch { tokens: &tokens[end..end + 2], position: end }).unwrap();
        assert!(difference(found, expected(end + 2)) <= bound);
        gpu.check().unwrap();
    }
}
