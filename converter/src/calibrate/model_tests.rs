//! A layer with every option against a plain f64 computation of it.

use super::*;
use crate::test_config::CONFIG;
use thimble_runtime::format::{LayerPattern, RopeParameters, RopeScaling};

const TOKENS: usize = 13;

/// Numbers around 0 that look random.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1u64 << 31) as f32 - 0.5
    };
    (0..count).map(next).collect()
}

fn vector(len: usize, seed: u64) -> Tensor {
    Tensor::from_vec(numbers(len, seed), len, &Device::Cpu).unwrap()
}

fn layer(config: &Config, index: usize) -> Layer {
    let get = |role: TensorRole| {
        let (rows, columns) = role.shape(config);
        let seed = role as u64 * 7 + 1;
        if role.is_vector() {
            return vector(columns, seed);
        }
        let scale = 2.0 / (columns as f32).sqrt();
        matrix(numbers(rows * columns, seed).iter().map(|x| x * scale).collect(), rows, columns).unwrap()
    };
    use TensorRole as Role;
    Layer {
        attention_norm: get(Role::AttentionNorm),
        attention: [Role::Query, Role::Key, Role::Value, Role::Output].map(get),
        options: AttentionOptions {
            layer: config.layer(index),
            bias: config.qkv_bias.then(|| [Role::QueryBias, Role::KeyBias, Role::ValueBias].map(get)),
            norm: config.qk_norm.then(|| [Role::QueryNorm, Role::KeyNorm].map(get)),
        },
        ffn_norm: get(Role::FfnNorm),
        ffn: [Role::Gate, Role::Up, Role::Down].map(get),
    }
}

type Rows = Vec<Vec<f64>>;

fn rows(x: &Tensor) -> Rows {
    let rows = x.to_vec2::<f32>().unwrap();
    rows.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect()
}

fn values(x: &Tensor) -> Vec<f64> {
    x.to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

fn plain_norm(config: &Config, x: &[f64], weight: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let inverse = (mean + f64::from(config.norm_eps)).sqrt().recip();
    x.iter().zip(weight).map(|(x, w)| x * inverse * w).collect()
}

fn plain_project(x: &[f64], weight: &Rows) -> Vec<f64> {
    weight.iter().map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

/// Heads of all tokens after bias, norm and RoPE: `[token][head][dim]`.
fn plain_heads(config: &Config, layer: &Layer, part: usize, normed: &Rows) -> Vec<Rows> {
    let weight = rows(&layer.attention[part]);
    let bias = layer.options.bias.as_ref().map(|bias| values(&bias[part]));
    let norm = layer.options.norm.as_ref().and_then(|norm| norm.get(part)).map(values);
    let half = config.head_dim / 2;
    let mut frequencies = vec![0.0; half];
    config.rope.inverse_frequencies(&mut frequencies);
    let head = |position: usize, x: &[f64]| {
        let mut x = norm.as_ref().map_or(x.to_vec(), |norm| plain_norm(config, x, norm));
        if part < 2 && layer.options.layer.rope {
            for i in 0..half {
                let [cos, sin] = config.rope.rotation(position, frequencies[i]).map(f64::from);
                (x[i], x[i + half]) = (x[i] * cos - x[i + half] * sin, x[i + half] * cos + x[i] * sin);
            }
        }
        x
    };
    let token = |(position, x): (usize, &Vec<f64>)| {
        let mut x = plain_project(x, &weight);
        if let Some(bias) = &bias {
            x.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
        x.chunks(config.head_dim).map(|x| head(position, x)).collect()
    };
    normed.iter().enumerate().map(token).collect()
}

fn plain_layer(config: &Config, layer: &Layer, x: &Rows) -> Rows {
    let norm = |x: &Rows, weight: &Tensor| -> Rows {
        x.iter().map(|x| plain_norm(config, x, &values(weight))).collect()
    };
    let normed = norm(x, &layer.attention_norm);
    let [query, key, value] = [0, 1, 2].map(|part| plain_heads(config, layer, part, &normed));
    let attend = |position: usize, head: usize| {
        let kv = head * config.kv_heads / config.heads;
        let first = layer.options.layer.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let dot = |at: usize| query[position][head].iter().zip(&key[at][kv]).map(|(q, k)| q * k).sum::<f64>();
        let scale = (config.head_dim as f64).sqrt();
        let weights: Vec<f64> = (first..=position).map(|at| (dot(at) / scale).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let weighted = |i: usize| (first..).zip(&weights).map(|(at, w)| w / sum * value[at][kv][i]).sum();
        (0..config.head_dim).map(weighted).collect::<Vec<f64>>()
    };
    let add = |x: &Rows, added: Rows| -> Rows {
        x.iter().zip(added).map(|(x, y)| x.iter().zip(y).map(|(x, y)| x + y).collect()).collect()
    };
    let output = rows(&layer.attention[3]);
    let token = |position| (0..config.heads).flat_map(|head| attend(position, head)).collect::<Vec<f64>>();
    let x = add(x, (0..x.len()).map(|position| plain_project(&token(position), &output)).collect());
    let [gate, up, down] = layer.ffn.each_ref().map(rows);
    let ffn = |x: &Vec<f64>| {
        let gate = plain_project(x, &gate).into_iter().map(|g| g / (1.0 + (-g).exp()));
        let product: Vec<f64> = gate.zip(plain_project(x, &up)).map(|(g, u)| g * u).collect();
        plain_project(&product, &down)
    };
    let added = norm(&x, &layer.ffn_norm).iter().map(ffn).collect();
    add(&x, added)
}

#[test]
fn a_layer_with_any_option_is_the_plain_computation() {
    let plain = Config { layers: 2, ..CONFIG };
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_context: 64,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: 1.138_629_4,
        truncate: true,
    };
    let yarn = RopeParameters { theta: 100.0, scaling: yarn };
    let pattern = |option: fn(usize) -> (bool, bool)| LayerPattern::new(2, option).unwrap();
    let no_rope = pattern(|layer| (layer == 0, false));
    let sliding = pattern(|layer| (true, layer == 1));
    let mut outputs = Vec::new();
    for config in [
        plain,
        Config { qkv_bias: true, ..plain },
        Config { qk_norm: true, head_dim: 24, ..plain },
        Config { rope: yarn, ..plain },
        Config { pattern: no_rope, ..plain },
        Config { window: 4, pattern: sliding, ..plain },
        Config {
            qkv_bias: true,
            qk_norm: true,
            rope: yarn,
            window: 3,
            pattern: pattern(|layer| (layer == 1, true)),
            ..plain
        },
    ] {
        config.check().unwrap();
        let forward = ForwardPass::new(&config, TOKENS);
        let start = matrix(numbers(TOKENS * config.hidden, 3), TOKENS, config.hidden).unwrap();
        let (mut x, mut expected) = (start.clone(), rows(&start));
        for index in 0..config.layers {
            let layer = layer(&config, index);
            x = forward.layer(&x, &layer).unwrap();
            expected = plain_layer(&config, &layer, &expected);
        }
        let (found, expected) = (rows(&x).concat(), expected.concat());
        let largest = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5 * largest, "{found} {expected}: {config:?}");
        }
        assert!(!outputs.contains(&found), "the option does nothing: {config:?}");
        outputs.push(found);
    }
}
