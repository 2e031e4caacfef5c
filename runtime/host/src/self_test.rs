//! The startup check of an accelerator: a few tokens through a layer or a few, compared with the CPU.

use crate::accelerator::Accelerator;
use thimble_runtime::Token;
use thimble_runtime::model::{Backend, Batch, Weights, layers};

/// Tokens in the batch: enough for a GPU's prompt kernels, and not a multiple of their tiles.
const BATCH: usize = 19;
/// Largest accepted difference of the logits: its root mean square over that of the CPU's logits. The CPU rounds activations
/// to 8 bits, which costs a few hundredths at worst; a wrong kernel, layout or driver costs about 1.
const MAX_DIFFERENCE: f64 = 0.15;

/// Runs a batch and then a single token through the first layer and every layer with a new encoding or new options, on both.
///
/// # Errors
/// The fault, as a clause.
pub(crate) fn compare(
    weights: &Weights<'_>,
    cpu: &mut impl Backend,
    accelerator: &mut dyn Accelerator,
) -> Result<(), String> {
    let indices = layers_to_run(weights);
    let vocab = weights.config().vocab;
    let tokens: Vec<Token> =
        (0..=BATCH).map(|i| Token((i * 7919 % vocab) as u32)).take(cpu.context()).collect();
    let batched = BATCH.min(cpu.batch()).min(tokens.len());
    let single = tokens.get(batched).map(|_| batched..batched + 1);
    for positions in [Some(0..batched), single].into_iter().flatten() {
        let batch = Batch { tokens: &tokens[positions.clone()], position: positions.start };
        let expected = logits(cpu, &indices, &batch);
        let found = logits(accelerator, &indices, &batch);
        let difference = difference(&found, &expected);
        if let Some(reason) = accelerator.failure() {
            return Err(reason);
        }
        // False for NaN. Logits that are not finite on the CPU either cannot be compared.
        let passed = difference <= MAX_DIFFERENCE || !expected.iter().all(|x| x.is_finite());
        if !passed {
            let tokens = positions.len();
            return Err(format!(
                "the GPU's results differ from the CPU's (logits differ by {difference:.2} of their size, tested with \
                 {tokens} tokens)"
            ));
        }
    }
    Ok(())
}

/// The first layer, and every layer with an encoding or options that no earlier one has.
fn layers_to_run(weights: &Weights<'_>) -> Vec<usize> {
    let (mut known, mut known_options) = (Vec::new(), Vec::new());
    let mut new = |&index: &usize| {
        let layer = weights.layer(index);
        let all = [layer.query, layer.key, layer.value, layer.output, layer.gate, layer.up, layer.down];
        let before = known.len();
        for encoding in all.map(|matrix| matrix.encoding) {
            if !known.contains(&encoding) {
                known.push(encoding);
            }
        }
        let new_options = !known_options.contains(&layer.options);
        if new_options {
            known_options.push(layer.options);
        }
        new_options || known.len() > before
    };
    (0..weights.config().layers).filter(|index| new(index)).collect()
}

/// The logits of a batch's last token after `indices` of layers alone.
fn logits(backend: &mut (impl Backend + ?Sized), indices: &[usize], batch: &Batch<'_>) -> Vec<f32> {
    backend.embed(batch);
    layers(backend, indices.iter().copied());
    backend.head(batch.tokens.len() - 1..batch.tokens.len());
    backend.logits().to_vec()
}

/// Root mean square of the difference, over that of `expected`.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let square = |x: f64| x * x;
    let size: f64 = expected.iter().map(|&x| square(f64::from(x))).sum();
    let pairs = found.iter().zip(expected);
    let off: f64 = pairs.map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    if off == 0.0 { 0.0 } else { (off / size).sqrt() }
}
