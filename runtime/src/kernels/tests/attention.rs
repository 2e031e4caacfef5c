//! Attention against f64, and against itself cut otherwise.

use super::*;
use crate::format::{Config, LayerOptions};

/// Two layers with these heads, key-value heads and width, and little else.
fn config((heads, kv_heads, head_dim): (usize, usize, usize), context: usize) -> Config {
    Config { hidden: 16, layers: 2, heads, kv_heads, head_dim, ffn: 16, vocab: 16, context, ..Config::PLAIN }
}

/// Attention in f64 on the numbers themselves.
#[allow(clippy::too_many_arguments)]
fn attention(
    keys: &[f32],
    values: &[f32],
    queries: &[f32],
    angles: &(Vec<f32>, Vec<f32>),
    (heads, kv_heads, dim): (usize, usize, usize),
    position: usize,
) -> Vec<f64> {
    let tokens = queries.len() / (heads * dim);
    let half = dim / 2;
    let rotate = |x: &[f32], at: usize| -> Vec<f64> {
        let angle = |i: usize| (f64::from(angles.0[at * half + i]), f64::from(angles.1[at * half + i]));
        let low = (0..half).map(|i| f64::from(x[i]) * angle(i).0 - f64::from(x[half + i]) * angle(i).1);
        let high = (0..half).map(|i| f64::from(x[half + i]) * angle(i).0 + f64::from(x[i]) * angle(i).1);
        low.chain(high).collect()
    };
    let mut out = Vec::new();
    for token in 0..tokens {
        for head in 0..heads {
            let query = rotate(&queries[(token * heads + head) * dim..][..dim], position + token);
            let kv = head / (heads / kv_heads);
            let scores: Vec<f64> = (0..=position + token)
                .map(|p| {
                    let key = rotate(&keys[(p * kv_heads + kv) * dim..][..dim], p);
                    key.iter().zip(&query).map(|(k, q)| k * q).sum::<f64>() / (dim as f64).sqrt()
                })
                .collect();
            let largest = scores.iter().fold(f64::MIN, |a, b| a.max(*b));
            let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
            for d in 0..dim {
                let value = |p: usize| f64::from(values[(p * kv_heads + kv) * dim + d]);
                out.push(scores.iter().enumerate().map(|(p, s)| (s - largest).exp() / sum * value(p)).sum());
            }
        }
    }
    out
}

#[test]
fn attention_matches_f64() {
    use crate::memory::{Arena, MemoryPlan, PlanOptions};
    use crate::memory::{BatchPart, KvCache};
    use zerocopy::IntoBytes;
    let mut random = Random(7);
    let shapes: &[(usize, usize, usize)] = if cfg!(miri) {
        &[(2, 1, 4)]
    } else {
        &[(9, 3, 64), (6, 2, 64), (4, 4, 32), (3, 1, 6), (15, 5, 20), (14, 1, 128)]
    };
    for &(heads, kv_heads, dim) in shapes {
        // (tokens before, tokens in the batch)
        let long = [(511, 1), (512, 1), (1100, 1)];
        let short = [(0, 1), (0, 17), (63, 1), (64, 3), (200, 40), (511, 2)];
        let spans: Vec<(usize, usize)> = match (heads, cfg!(miri)) {
            (_, true) => vec![(2, 1)],
            (3, _) => short.into_iter().chain(long).collect(),
            _ => short.to_vec(),
        };
        for (before, tokens) in spans {
            let total = before + tokens;
            let keys = random.floats(total * kv_heads * dim);
            let values = random.floats(total * kv_heads * dim);
            let queries: Vec<f32> = random.floats(tokens * heads * dim).iter().map(|q| q * 3.0).collect();
            let angles: Vec<f32> = random.floats(total * dim / 2).iter().map(|a| a * 3.0).collect();
            let angles: (Vec<f32>, Vec<f32>) =
                (angles.iter().map(|a| a.cos()).collect(), angles.iter().map(|a| a.sin()).collect());
            let expected = attention(&keys, &values, &queries, &angles, (heads, kv_heads, dim), before);
            for kernels in all() {
                for (kv, bound) in [(KvKind::F32, 2e-5), (KvKind::F16, 4e-3), (KvKind::Q8, 3e-2)] {
                    let config = config((heads, kv_heads, dim), total);
                    let options = PlanOptions {
                        context: total,
                        batch: total,
                        logit_rows: 1,
                        kv,
                        exact: false,
                        adapter_rank: 0,
                        sequences: 1,
                    };
                    let plan = MemoryPlan::new(&config, &options, &kernels).unwrap();
                    // Memory full of NaNs: nothing behind the last position may be looked at.
                    let mut memory = vec![[0xffu8; 64]; plan.bytes() / 64 + 1];
                    let start = memory.as_flattened().as_ptr().align_offset(64);
                    let memory = &mut memory.as_flattened_mut()[start..start + plan.bytes()];
                    let mut cache = KvCache::carve(
                        plan.config(),
                        plan.options(),
                        &mut Arena::new(memory, plan.bytes()).unwrap(),
                    )
                    .unwrap();
                    let pool = SingleThread;
                    let parallel = ParallelKernels { kernels, pool: &pool };
                    let kv_row = kv_heads * dim;
                    let half = dim / 2;
                    for layer in [1, 0] {
                        for (from, to) in [(0, before), (before, total)] {
                            let rope = Rope { cos: &angles.0[from * half..], sin: &angles.1[from * half..] };
                            let batch = AttentionBatch {
                                layer,
                                heads,
                                kv_heads,
                                head_dim: dim,
                                parts: &[BatchPart { slot: 0, first: 0, tokens: to - from, position: from }],
                                options: LayerOptions::PLAIN,
                                rope,
                            };
                            let (keys, values) = (&keys[from * kv_row..], &values[from * kv_row..]);
                            let last = to == total;
                            let zeros = vec![0.0; (to - from) * heads * dim];
                            let rows = [if last { &queries } else { &zeros }, keys, values];
                            let mut out = vec![f32::NAN; (to - from) * heads * dim];
                            let mut scratch = vec![f32::NAN; partials_len(heads, dim, total).unwrap()];
                            let mut groups = vec![
                                QuantGroup::default();
                                tiled_groups(to - from, heads * dim, kernels.tile).unwrap()
                            ];
                            if to > from {
                                parallel.attend(
                                    &batch,
                                    rows,
                                    &mut cache,
                                    &mut scratch,
                                    &mut out,
                                    Some(&mut groups),
                                );
                            }
                            if last {
                                assert_eq!(
                                    groups.as_bytes(),
                                    quantize(&kernels, &out, heads * dim).as_bytes()
                                );
                                for (i, (out, expected)) in out.iter().zip(&expected).enumerate() {
                                    assert!(
                                        (f64::from(*out) - expected).abs() <= bound,
                                        "{kernels:?} {kv:?} {heads}/{kv_heads} x {dim}, {before} + {tokens}, at {i}: \
                                         {out} for {expected}"
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "needs hundreds of positions, which take minutes there")]
fn a_tokens_attention_is_the_same_alone_and_among_others() {
    use crate::memory::{Arena, MemoryPlan, PlanOptions};
    use crate::memory::{BatchPart, KvCache};
    let (before, tokens) = (1021, 30);
    let (heads, kv_heads, dim) = (3, 1, 32);
    let (total, half) = (before + tokens, dim / 2);
    let mut random = Random(8);
    let [keys, values] = [(); 2].map(|()| random.floats(total * kv_heads * dim));
    let queries = random.floats(total * heads * dim);
    let angles: Vec<f32> = random.floats(total * half).iter().map(|a| a * 3.0).collect();
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
    let config = config((heads, kv_heads, dim), total);
    let kinds = [KvKind::Q8, KvKind::F16, KvKind::F32];
    for kernels in all() {
        for kv in kinds {
            let options = PlanOptions {
                context: total,
                batch: total,
                logit_rows: 1,
                kv,
                exact: false,
                adapter_rank: 0,
                sequences: 1,
            };
            let plan = MemoryPlan::new(&config, &options, &kernels).unwrap();
            let run = |cuts: &[usize]| {
                let mut memory = vec![[0xffu8; 64]; plan.bytes() / 64 + 1];
                let start = memory.as_flattened().as_ptr().align_offset(64);
                let memory = &mut memory.as_flattened_mut()[start..start + plan.bytes()];
                let mut cache = KvCache::carve(
                    plan.config(),
                    plan.options(),
                    &mut Arena::new(memory, plan.bytes()).unwrap(),
                )
                .unwrap();
                let mut scratch = vec![f32::NAN; partials_len(heads, dim, total).unwrap()];
                let mut all = Vec::new();
                for (&from, &to) in cuts.iter().zip(&cuts[1..]).filter(|(from, to)| from < to) {
                    let rope = Rope { cos: &cos[from * half..], sin: &sin[from * half..] };
                    let part = BatchPart { slot: 0, first: 0, tokens: to - from, position: from };
                    let batch = AttentionBatch {
                        layer: 0,
                        heads,
                        kv_heads,
                        head_dim: dim,
                        parts: &[part],
                        options: LayerOptions::PLAIN,
                        rope,
                    };
                    let (row, kv_row) = (heads * dim, kv_heads * dim);
                    let rows = [&queries[from * row..], &keys[from * kv_row..], &values[from * kv_row..]];
                    let mut out = vec![f32::NAN; (to - from) * row];
                    let parallel = ParallelKernels { kernels, pool: &SingleThread };
                    parallel.attend(&batch, rows, &mut cache, &mut scratch, &mut out, None);
                    all.extend(out.iter().map(|x| x.to_bits()));
                }
                all.split_off(before * heads * dim)
            };
            let at_once = run(&[0, before, total]);
            let one_by_one: Vec<usize> = [0].into_iter().chain(before..=total).collect();
            assert!(run(&one_by_one) == at_once, "{kernels:?} {kv:?}");
            assert!(run(&[0, before, before + 2, total]) == at_once, "{kernels:?} {kv:?}");
        }
    }
}
