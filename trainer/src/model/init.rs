//! Initial weights.

use super::Parameters;
use crate::random::SplitMix;

/// Initial weights: normal with deviation `init_std` for matrices, divided by sqrt(2 x layers) for those that write into the
/// residual stream (Radford et al. 2019, section 2.3), ones for norms, zeros for biases. Each tensor's numbers depend on the seed and its
/// place alone.
pub fn weights(parameters: &Parameters, init_std: f64, seed: u64) -> Vec<f32> {
    let mut weights = vec![1.0; parameters.len];
    for (index, named) in parameters.named().iter().enumerate() {
        if named.shape.len() < 2 {
            if named.name.ends_with(".bias") {
                weights[named.range()].fill(0.0);
            }
            continue;
        }
        let residual = named.name.contains("o_proj") || named.name.contains("down_proj");
        let shrink = if residual { (2.0 * parameters.layers.len() as f64).sqrt() } else { 1.0 };
        let mut random = SplitMix::new(seed, index as u64);
        for pair in weights[named.range()].chunks_mut(2) {
            let (a, b) = random.normal_pair();
            for (weight, value) in pair.iter_mut().zip([a, b]) {
                *weight = (value * init_std / shrink) as f32;
            }
        }
    }
    weights
}
