//! Initial weights.

use super::Parameters;
use super::parameters::NamedTensor;
use crate::random::SplitMix;

/// Initial weights: normal with deviation `init_std` for matrices, divided by sqrt(2 x layers) for those that write into the
/// residual stream (Radford et al. 2019, section 2.3), ones for norms, zeros for biases; adapters as [`adapters`] does.
/// Each tensor's numbers depend on the seed and its place in the model alone.
pub fn weights(parameters: &Parameters, init_std: f64, seed: u64) -> Vec<f32> {
    let mut weights = vec![1.0; parameters.len];
    for named in parameters.named() {
        if named.shape.len() < 2 {
            if named.name.ends_with(".bias") {
                weights[named.range()].fill(0.0);
            }
            continue;
        }
        let residual = named.name.contains("o_proj") || named.name.contains("down_proj");
        let shrink = if residual { (2.0 * parameters.layers.len() as f64).sqrt() } else { 1.0 };
        let mut random = SplitMix::new(seed, named.ordinal as u64);
        for pair in weights[named.range()].chunks_mut(2) {
            let (a, b) = random.normal_pair();
            for (weight, value) in pair.iter_mut().zip([a, b]) {
                *weight = (value * init_std / shrink) as f32;
            }
        }
    }
    adapters(parameters, seed, &mut weights);
    weights
}

/// Replaces the adapters' weights by their initial ones, those of the PEFT library: A uniform within 1 / sqrt(inputs)
/// (Kaiming with a = sqrt(5)), B zero, so that the model begins as it is.
pub fn adapters(parameters: &Parameters, seed: u64, weights: &mut [f32]) {
    let of_factor = |factor| {
        let ends = move |named: &&NamedTensor| named.name.ends_with(factor);
        parameters.trained().iter().filter(ends)
    };
    for named in of_factor(".lora_A.weight") {
        let bound = 1.0 / named.shape.last().map_or(1.0, |&inputs| inputs as f64).sqrt();
        let mut random = SplitMix::new(seed, named.ordinal as u64);
        weights[named.range()].fill_with(|| ((2.0 * random.uniform() - 1.0) * bound) as f32);
    }
    for named in of_factor(".lora_B.weight") {
        weights[named.range()].fill(0.0);
    }
}
