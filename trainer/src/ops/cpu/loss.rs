//! Head and cross-entropy in chunks of tokens: logits become their own gradient in place and are never held whole.

use super::super::LossTerms;
use super::gemm::{MatrixView, WriteMode, matmul};
use super::math::{exp_sum, max};
use super::threads::Threads;
use rayon::prelude::*;

/// Tokens of one task, at most and at least: packing the head must be cheap beside multiplying with it, and a chunk of
/// tokens should be enough for several threads.
pub(super) const ROWS: usize = 256;
pub(super) const LEAST_ROWS: usize = 64;
/// Rows of the head's gradient that one task adds to.
const CLASSES: usize = 256;

/// The id that each token should be followed by, and the factor of its gradient.
#[derive(Clone, Copy)]
pub(super) struct Targets<'a> {
    pub(super) ids: &'a [u32],
    pub(super) weights: &'a [f32],
}

/// As [`cross_entropy`] for the tokens whose targets have a weight other than 0. The others get a loss of 0 and, with
/// `gradient`, a zero gradient, without a product with the head.
pub(super) fn weighed_cross_entropy(
    threads: &Threads,
    head: &[f32],
    targets: Targets,
    losses: &mut [f32],
    hidden: &mut [f32],
    logits: &mut [f32],
    gradient: Option<(LossTerms, Option<&mut [f32]>)>,
) {
    let tokens: Vec<usize> = (0..losses.len()).filter(|&token| targets.weights[token] != 0.0).collect();
    if tokens.len() == losses.len() {
        return cross_entropy(threads, head, targets, losses, hidden, logits, gradient);
    }
    let width = hidden.len() / losses.len();
    let with_gradient = gradient.is_some();
    let ids: Vec<u32> = tokens.iter().map(|&token| targets.ids[token]).collect();
    let weights: Vec<f32> = tokens.iter().map(|&token| targets.weights[token]).collect();
    // A token never moves up, so each is read before its place is written.
    for (row, &token) in tokens.iter().enumerate() {
        hidden.copy_within(token * width..(token + 1) * width, row * width);
    }
    losses.fill(0.0);
    if !tokens.is_empty() {
        let (losses, hidden) = (&mut losses[..tokens.len()], &mut hidden[..tokens.len() * width]);
        let targets = Targets { ids: &ids, weights: &weights };
        cross_entropy(threads, head, targets, losses, hidden, logits, gradient);
    }
    let mut end = losses.len();
    for (row, &token) in tokens.iter().enumerate().rev() {
        losses.swap(row, token);
        if with_gradient {
            hidden.copy_within(row * width..(row + 1) * width, token * width);
            hidden[(token + 1) * width..end * width].fill(0.0);
            end = token;
        }
    }
    if with_gradient {
        hidden[..end * width].fill(0.0);
    }
}

/// Writes each token's negative log-likelihood to `losses`; with `gradient`, replaces `hidden` by its gradient and adds
/// to the head's, unless that is frozen. `logits` is scratch for at least one token's classes; `hidden` has `losses.len()` rows.
pub(super) fn cross_entropy(
    threads: &Threads,
    head: &[f32],
    targets: Targets,
    losses: &mut [f32],
    hidden: &mut [f32],
    logits: &mut [f32],
    mut gradient: Option<(LossTerms, Option<&mut [f32]>)>,
) {
    let width = hidden.len() / losses.len();
    let classes = head.len() / width;
    let chunk = logits.len() / classes;
    let rows = (chunk / 8).clamp(LEAST_ROWS, ROWS);
    let head = MatrixView::new(head, width);
    let targets = targets.ids.chunks(chunk).zip(targets.weights.chunks(chunk));
    let chunks = hidden.chunks_mut(chunk * width).zip(targets).zip(losses.chunks_mut(chunk));
    for ((hidden, (ids, weights)), losses) in chunks {
        let logits = &mut logits[..ids.len() * classes];
        let terms = gradient.as_ref().map(|(terms, _)| *terms);
        threads.run(|simd| {
            let tasks = logits.par_chunks_mut(rows * classes).zip(hidden.par_chunks(rows * width));
            let targets = ids.par_chunks(rows).zip(weights.par_chunks(rows));
            tasks.zip(targets).zip(losses.par_chunks_mut(rows)).for_each(
                |(((logits, hidden), (ids, weights)), losses)| {
                    matmul(
                        logits,
                        classes,
                        WriteMode::Replace,
                        1.0,
                        MatrixView::new(hidden, width),
                        head.transpose(),
                    );
                    simd.dispatch(
                        #[inline(always)]
                        || {
                            let targets = ids.iter().zip(weights);
                            for ((logits, (&id, &weight)), loss) in
                                logits.chunks_exact_mut(classes).zip(targets).zip(losses)
                            {
                                *loss = token(logits, id as usize, weight, terms);
                            }
                        },
                    );
                },
            );
        });
        if let Some((_, d_head)) = &mut gradient {
            head_backward(threads, head, MatrixView::new(logits, classes), hidden, d_head, rows);
        }
    }
}

/// Adds to the head's gradient and replaces `hidden` by its own, from the gradient of a chunk's logits; a task has
/// `rows` tokens.
pub(super) fn head_backward(
    threads: &Threads,
    head: MatrixView,
    d_logits: MatrixView,
    hidden: &mut [f32],
    d_head: &mut Option<&mut [f32]>,
    rows: usize,
) {
    let width = head.columns();
    threads.run(|_| {
        if let Some(d_head) = d_head {
            d_head.par_chunks_mut(CLASSES * width).enumerate().for_each(|(task, d_head)| {
                let first = task * CLASSES;
                let part = d_logits.transpose().rows(first, first + d_head.len() / width);
                matmul(d_head, width, WriteMode::Add, 1.0, part, MatrixView::new(hidden, width));
            });
        }
        hidden.par_chunks_mut(rows * width).enumerate().for_each(|(task, hidden)| {
            let first = task * rows;
            let part = d_logits.rows(first, first + hidden.len() / width);
            matmul(hidden, width, WriteMode::Replace, 1.0, part, head);
        });
    });
}

/// `-log softmax(logits)[target] = z - logits[target]`, z the log-partition. With terms, the logits become their
/// gradient: `weight x (softmax x (1 + 2 z_loss z) - [target])`.
#[inline(always)]
fn token(logits: &mut [f32], target: usize, weight: f32, terms: Option<LossTerms>) -> f32 {
    let wanted = logits[target];
    let largest = max(logits);
    let sum = exp_sum(logits, largest);
    let log_partition = largest + sum.ln();
    if let Some(LossTerms { z_loss }) = terms {
        let factor = weight * (1.0 + 2.0 * z_loss * log_partition) / sum;
        logits.iter_mut().for_each(|x| *x *= factor);
        logits[target] -= weight;
    }
    log_partition - wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The product with the head is left out for tokens without a target, and nothing else changes.
    #[test]
    fn tokens_without_targets_get_no_gradient() {
        const TOKENS: usize = 37;
        const WIDTH: usize = 8;
        const CLASSES: usize = 19;
        let number = |i: usize| ((i * 7919) % 211) as f32 / 100.0 - 1.0;
        let threads = Threads::new(2).unwrap();
        let head: Vec<f32> = (0..CLASSES * WIDTH).map(number).collect();
        let ids: Vec<u32> = (0..TOKENS as u32).map(|token| token * 5 % CLASSES as u32).collect();
        let patterns: [&dyn Fn(usize) -> bool; 6] = [
            &|_| true,
            &|_| false,
            &|token| token == 0,
            &|token| token == TOKENS - 1,
            &|token| token % 3 == 1,
            &|token| !(10..20).contains(&token),
        ];
        for (case, has_target) in patterns.iter().enumerate() {
            let weight = |token| if has_target(token) { 0.1 + token as f32 / 100.0 } else { 0.0 };
            let weights: Vec<f32> = (0..TOKENS).map(weight).collect();
            let targets = Targets { ids: &ids, weights: &weights };
            let run = |all: bool| {
                let mut hidden: Vec<f32> = (0..TOKENS * WIDTH).map(|i| number(i + 3)).collect();
                let (mut losses, mut d_head) = (vec![9.0; TOKENS], vec![0.5; head.len()]);
                let mut logits = vec![0.0; 16 * CLASSES];
                let gradient = Some((LossTerms { z_loss: 0.01 }, Some(&mut d_head[..])));
                let work = if all { cross_entropy } else { weighed_cross_entropy };
                work(&threads, &head, targets, &mut losses, &mut hidden, &mut logits, gradient);
                (losses, hidden, d_head)
            };
            let (whole, found) = (run(true), run(false));
            for (token, (&found, &whole)) in found.0.iter().zip(&whole.0).enumerate() {
                let expected = if has_target(token) { whole } else { 0.0 };
                assert!((found - expected).abs() < 1e-5, "case {case}, token {token}: {found} {expected}");
            }
            for (found, whole) in [(&found.1, &whole.1), (&found.2, &whole.2)] {
                assert!(found.iter().zip(whole).all(|(a, b)| (a - b).abs() < 1e-5), "case {case}");
            }
        }
    }
}
