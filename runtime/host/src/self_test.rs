//! Whether an accelerator computes what the CPU does: a few tokens through a layer, before anything depends on it.

use crate::accelerator::Accelerator;
use thimble_runtime::Token;
use thimble_runtime::model::{Backend, Batch, Weights};

/// Tokens that are multiplied together: a GPU's kernel for prompts, and its bounds.
const TOGETHER: usize = 19;
/// Largest root mean square of the differences of logits, in that of the CPU's logits. The CPU rounds activations to
/// bytes, which costs some hundredths at the worst; a wrong kernel, layout or driver costs about 1.
const MOST: f64 = 0.15;

/// Runs a batch and then one token through the first layer, and others where they have encodings of their own.
///
/// # Errors
/// What is wrong, as a clause.
pub(crate) fn compare(
    weights: &Weights<'_>,
    cpu: &mut impl Backend,
    accelerator: &mut dyn Accelerator,
) -> Result<(), String> {
    let layers = layers(weights);
    let vocab = weights.config().vocab;
    let tokens: Vec<Token> =
        (0..=TOGETHER).map(|i| Token((i * 7919 % vocab) as u32)).take(cpu.context()).collect();
    let together = TOGETHER.min(cpu.batch()).min(tokens.len());
    let single = tokens.get(together).map(|_| together..together + 1);
    for positions in [Some(0..together), single].into_iter().flatten() {
        let batch = Batch { tokens: &tokens[positions.clone()], position: positions.start };
        let expected = logits(cpu, &layers, &batch);
        let found = logits(accelerator, &layers, &batch);
        let difference = difference(&found, &expected);
        if let Some(reason) = accelerator.failure() {
            return Err(reason);
        }
        // Not so where it is no number; weights that give the CPU none cannot be compared.
        let sound = difference <= MOST || !expected.iter().all(|x| x.is_finite());
        if !sound {
            let tokens = positions.len();
            return Err(format!(
                "the GPU computes something else than the CPU (logits differ by {difference:.2} of their size, tried \
                 with {tokens} tokens)"
            ));
        }
    }
    Ok(())
}

/// The first layer, and those with an encoding that none before them has.
fn layers(weights: &Weights<'_>) -> Vec<usize> {
    let mut known = Vec::new();
    let mut new = |&index: &usize| {
        let layer = weights.layer(index);
        let all = [layer.query, layer.key, layer.value, layer.output, layer.gate, layer.up, layer.down];
        let before = known.len();
        for encoding in all.map(|matrix| matrix.encoding) {
            if !known.contains(&encoding) {
                known.push(encoding);
            }
        }
        known.len() > before
    };
    (0..weights.config().layers).filter(|index| new(index)).collect()
}

/// Logits behind the last token of a batch that passes through some of the layers.
fn logits(backend: &mut (impl Backend + ?Sized), layers: &[usize], batch: &Batch<'_>) -> Vec<f32> {
    backend.embed(batch);
    for &layer in layers {
        backend.project(layer, batch);
        backend.attend(layer, batch);
        backend.attention_output(layer, batch);
        backend.gate_up(layer, batch);
        backend.down(layer, batch);
    }
    backend.head(batch.tokens.len() - 1..batch.tokens.len());
    backend.logits().to_vec()
}

/// Root mean square of the differences, in that of what was expected.
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
