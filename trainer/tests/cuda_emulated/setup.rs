//! Models, batches and measures.

use thimble_runtime::format::Config;
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::model::{Engine, Parameters};
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::ops::cuda::{CudaOps, Emulator};
use thimble_trainer::ops::{Buffer, BufferLengths, Ops};

/// Vigna's SplitMix64.
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    /// In -0.5..0.5.
    pub(crate) fn centred(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    /// In 0..n.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A small model whose vocabulary is no multiple of what is read at once.
pub(crate) fn shape(heads: usize, kv_heads: usize, tied: bool) -> Config {
    Config {
        hidden: 128,
        layers: 2,
        heads,
        kv_heads,
        head_dim: 64,
        ffn: 200,
        vocab: 299,
        context: 128,
        tied,
        ..Config::PLAIN
    }
}

pub(crate) fn cuda(config: &Config, lengths: impl Into<BufferLengths>) -> CudaOps<Emulator> {
    CudaOps::new(Emulator::new(2), lengths, config.norm_eps).unwrap()
}

pub(crate) fn cpu(config: &Config, lengths: impl Into<BufferLengths>) -> CpuOps {
    CpuOps::new(2, lengths, config.norm_eps).unwrap()
}

/// Weights of a model: matrices about 0 with deviation 0.06, norms about 1.
pub(crate) fn weights(random: &mut SplitMix, parameters: &Parameters) -> Vec<f32> {
    let mut weights = vec![0.0; parameters.len];
    for named in parameters.named() {
        let (centre, width) = if named.shape.len() == 1 { (1.0, 0.4) } else { (0.0, 0.2) };
        weights[named.range()].iter_mut().for_each(|weight| *weight = centre + width * random.centred());
    }
    weights
}

/// Documents of some tokens, the first begun before the window; every seventh target does not count.
pub(crate) fn batch(random: &mut SplitMix, sequences: usize, context: usize, vocab: usize) -> TrainingBatch {
    // Few ids are frequent, as in text.
    let ids = (0..sequences * (context + 1)).map(|_| {
        let most = if random.below(2) == 0 { 3 } else { vocab };
        random.below(most) as u32
    });
    let ids = ids.collect();
    let mut document_start = Vec::new();
    for _ in 0..sequences {
        let mut start = 0;
        for position in 0..context as u32 {
            if random.below(20) == 0 {
                start = position;
            }
            document_start.push(start);
        }
    }
    let tokens = sequences * context;
    let mut batch = TrainingBatch::new(sequences, context, ids, document_start).weighed(1.0 / tokens as f32);
    batch.weights.iter_mut().step_by(7).for_each(|weight| *weight = 0.0);
    batch
}

pub(crate) fn gradients<O: Ops>(engine: &Engine<O>) -> Vec<f32> {
    read(engine, Buffer::Gradients)
}

/// As many values of a buffer as there are trainable ones.
pub(crate) fn read<O: Ops>(engine: &Engine<O>, buffer: Buffer) -> Vec<f32> {
    let mut values = vec![0.0; engine.parameters().trainable];
    engine.read(buffer, &mut values).unwrap();
    values
}

fn square(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum()
}

pub(crate) fn norm(values: &[f32]) -> f64 {
    square(values.iter().map(|&x| f64::from(x))).sqrt()
}

/// Norm of the difference over the norm.
pub(crate) fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    square(found.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b))).sqrt() / norm(expected)
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    dot / (norm(a) * norm(b))
}

/// The trainable tensor whose gradients differ most in direction.
pub(crate) fn worst_cosine(parameters: &Parameters, a: &[f32], b: &[f32]) -> (f64, String) {
    let cosines =
        parameters.trained().iter().map(|named| (cosine(&a[named.range()], &b[named.range()]), named));
    let (cosine, named) = cosines.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    (cosine, named.name.clone())
}
