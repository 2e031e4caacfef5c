//! The forward pass in f64, as the definitions of its parts have it: no cache, no kernels.

use super::random_model::RandomModel;
use crate::format::TensorRole;
use std::vec;
use std::vec::Vec;

/// `weight x` for each row of `x`.
fn product(x: &[Vec<f64>], weight: &[f64]) -> Vec<Vec<f64>> {
    let dot = |row: &[f64], x: &[f64]| row.iter().zip(x).map(|(a, b)| a * b).sum();
    x.iter().map(|x| weight.chunks_exact(x.len()).map(|row| dot(row, x)).collect()).collect()
}

fn norm(x: &[f64], weight: &[f64], epsilon: f32) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().zip(weight).map(|(x, w)| x / (mean + f64::from(epsilon)).sqrt() * w).collect()
}

fn add(x: &mut [Vec<f64>], y: &[Vec<f64>]) {
    x.iter_mut().flatten().zip(y.iter().flatten()).for_each(|(x, y)| *x += y);
}

/// Logits after each of `tokens`, `[tokens, vocab]`.
pub(super) fn logits(model: &RandomModel, tokens: &[usize]) -> Vec<f64> {
    let config = &model.config;
    let none = TensorRole::NO_LAYER;
    let embedding = model.tensor(TensorRole::Embedding, none);
    let mut x: Vec<Vec<f64>> =
        tokens.iter().map(|token| embedding[token * config.hidden..][..config.hidden].to_vec()).collect();
    for layer in 0..config.layers as u16 {
        let tensor = |role| model.tensor(role, layer);
        let rows = |x: &[Vec<f64>], role| -> Vec<Vec<f64>> {
            x.iter().map(|x| norm(x, tensor(role), config.norm_eps)).collect()
        };
        let attended = attention(model, layer, &rows(&x, TensorRole::AttentionNorm));
        add(&mut x, &product(&attended, tensor(TensorRole::Output)));
        let normed = rows(&x, TensorRole::FfnNorm);
        let mut gate = product(&normed, tensor(TensorRole::Gate));
        let up = product(&normed, tensor(TensorRole::Up));
        for (gate, up) in gate.iter_mut().flatten().zip(up.iter().flatten()) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
        add(&mut x, &product(&gate, tensor(TensorRole::Down)));
    }
    let final_norm = model.tensor(TensorRole::FinalNorm, none);
    let x: Vec<Vec<f64>> = x.iter().map(|x| norm(x, final_norm, config.norm_eps)).collect();
    let head = if config.tied { embedding } else { model.tensor(TensorRole::Head, none) };
    product(&x, head).concat()
}

/// Attention of normed rows, before the output projection.
fn attention(model: &RandomModel, layer: u16, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let config = &model.config;
    let (dim, group) = (config.head_dim, config.group());
    let options = config.layer(usize::from(layer));
    let tensor = |role| model.tensor(role, layer);
    let projected = |weight, bias, norm_weight: Option<TensorRole>, rotates: bool| {
        let mut rows = product(x, tensor(weight));
        for (position, row) in rows.iter_mut().enumerate() {
            if config.qkv_bias {
                row.iter_mut().zip(tensor(bias)).for_each(|(x, bias)| *x += bias);
            }
            for head in row.chunks_exact_mut(dim) {
                if let Some(role) = norm_weight.filter(|_| config.qk_norm) {
                    head.copy_from_slice(&norm(head, tensor(role), config.norm_eps));
                }
                if rotates && options.rope {
                    rotate(model, position, head);
                }
            }
        }
        rows
    };
    let queries = projected(TensorRole::Query, TensorRole::QueryBias, Some(TensorRole::QueryNorm), true);
    let keys = projected(TensorRole::Key, TensorRole::KeyBias, Some(TensorRole::KeyNorm), true);
    let values = projected(TensorRole::Value, TensorRole::ValueBias, None, false);
    let mut out = Vec::new();
    for (position, query) in queries.iter().enumerate() {
        // transformers' masks: `kv > query - window` and `kv <= query`.
        let sees =
            |at: usize| options.window.is_none_or(|window| at as i64 > position as i64 - window as i64);
        let seen: Vec<usize> = (0..=position).filter(|at| sees(*at)).collect();
        let mut row = vec![0.0; query.len()];
        for (head, out) in row.chunks_exact_mut(dim).enumerate() {
            let query = &query[head * dim..][..dim];
            let of = |rows: &[f64]| -> Vec<f64> { rows[head / group * dim..][..dim].to_vec() };
            let score = |at: &usize| {
                let dot: f64 = of(&keys[*at]).iter().zip(query).map(|(a, b)| a * b).sum();
                dot / (dim as f64).sqrt()
            };
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let largest = scores.iter().fold(f64::MIN, |a, b| a.max(*b));
            let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            for (score, at) in scores.iter().zip(&seen) {
                let weight = (score - largest).exp() / sum;
                out.iter_mut().zip(of(&values[*at])).for_each(|(out, value)| *out += weight * value);
            }
        }
        out.push(row);
    }
    out
}

/// RoPE with f32 angles, as transformers has them; the frequencies have a test of their own.
fn rotate(model: &RandomModel, position: usize, head: &mut [f64]) {
    let half = head.len() / 2;
    let mut frequencies = vec![0.0; half];
    model.config.rope.inverse_frequencies(&mut frequencies);
    let factor = f64::from(model.config.rope.attention_factor());
    for (i, frequency) in frequencies.iter().enumerate() {
        let angle = f64::from(position as f32 * frequency);
        let (sin, cos) = (angle.sin() * factor, angle.cos() * factor);
        let (low, high) = (head[i], head[half + i]);
        (head[i], head[half + i]) = (low * cos - high * sin, high * cos + low * sin);
    }
}
