//! Adapter files of random matrices, in memory.

use super::random_model::store_panels;
use crate::adapter::{ADAPTER_HEADER, AdapterFile, AdapterHeader, AdapterRecord};
use crate::format::{ALIGN, Config, Encoding, TensorRole, checksum};
use crate::kernels::tests::Random;
use half::{bf16, f16};
use std::vec;
use std::vec::Vec;

/// An adapter file, aligned like a mapping, with its numbers.
pub(crate) struct RandomAdapter {
    file: Vec<[u8; 64]>,
    length: usize,
    /// For each adapted matrix: role, layer and `scale B A`, `[rows, columns]`.
    deltas: Vec<(TensorRole, u16, Vec<f64>)>,
}

/// What a random adapter is made of.
#[derive(Clone, Copy)]
pub(crate) struct Recipe<'a> {
    pub(crate) encoding: Encoding,
    /// Ranks of the matrices in turn.
    pub(crate) ranks: &'a [u16],
    pub(crate) roles: &'a [TensorRole],
    pub(crate) seed: u64,
}

impl RandomAdapter {
    pub(crate) fn new(config: &Config, recipe: &Recipe<'_>) -> RandomAdapter {
        let Recipe { encoding, ranks, roles, seed } = *recipe;
        let mut random = Random(seed);
        let (mut table, mut weights, mut deltas) = (Vec::new(), Vec::new(), Vec::new());
        let all = (0..config.layers as u16).flat_map(|layer| roles.iter().map(move |role| (layer, *role)));
        for ((layer, role), rank) in all.zip(ranks.iter().cycle()) {
            let (rows, columns) = role.shape(config);
            let width = usize::from(*rank);
            let scale = 0.75 + 0.25 * random.float();
            let mut numbers = |rows: usize, columns: usize| -> Vec<f32> {
                let size = 0.7 / (columns as f32).sqrt();
                random.floats(rows * columns).iter().map(|x| rounded(encoding, x * size)).collect()
            };
            let (a, b) = (numbers(width, columns), numbers(rows, width));
            weights.resize(weights.len().next_multiple_of(ALIGN as usize), 0u8);
            let offset = weights.len() as u64;
            for (numbers, rows, columns) in [(&a, width, columns), (&b, rows, width)] {
                weights.resize(weights.len().next_multiple_of(ALIGN as usize), 0u8);
                let mut panels = Vec::new();
                store_panels(numbers, rows, columns, &mut panels);
                weights.extend(panels.as_chunks::<4>().0.iter().flat_map(|x| encoded(encoding, *x)));
            }
            let (rank, rows, columns) = (*rank, rows as u32, columns as u32);
            let record = AdapterRecord { role, layer, encoding, rank, rows, columns, scale, offset };
            table.extend(record.emit());
            deltas.push((role, layer, delta(&a, &b, width, scale)));
        }
        let provenance = br#"{"name":"random"}"#;
        let header = AdapterHeader {
            matrices: deltas.len() as u32,
            provenance: provenance.len() as u32,
            file_len: 0,
            fingerprint: None,
            layers: Some(config.layers as u32),
        };
        let start = header.weights() as usize;
        let header = AdapterHeader { file_len: (start + weights.len()) as u64, ..header };
        let mut file = vec![0; ADAPTER_HEADER];
        file.extend(table);
        file.extend(provenance);
        file.resize(start, 0);
        header.emit(checksum(&weights), &mut file).unwrap();
        file.extend(weights);
        let length = file.len();
        RandomAdapter { file: aligned(&file), length, deltas }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let bytes = self.file.as_flattened();
        let start = bytes.as_ptr().align_offset(64);
        &bytes[start..start + self.length]
    }

    pub(crate) fn file(&self) -> AdapterFile<'_> {
        AdapterFile::parse(self.bytes()).unwrap()
    }

    pub(super) fn deltas(&self) -> &[(TensorRole, u16, Vec<f64>)] {
        &self.deltas
    }
}

/// A copy of `bytes` with a boundary of 64 bytes inside.
pub(crate) fn aligned(bytes: &[u8]) -> Vec<[u8; 64]> {
    let mut blocks = vec![[0; 64]; bytes.len().div_ceil(64) + 1];
    let start = blocks.as_flattened().as_ptr().align_offset(64);
    blocks.as_flattened_mut()[start..start + bytes.len()].copy_from_slice(bytes);
    blocks
}

fn rounded(encoding: Encoding, x: f32) -> f32 {
    match encoding {
        Encoding::F16 => f16::from_f32(x).to_f32(),
        Encoding::BF16 => bf16::from_f32(x).to_f32(),
        _ => x,
    }
}

/// A number of an f32 panel as one of `encoding`.
fn encoded(encoding: Encoding, x: [u8; 4]) -> Vec<u8> {
    match encoding {
        Encoding::F16 => f16::from_f32(f32::from_le_bytes(x)).to_le_bytes().to_vec(),
        Encoding::BF16 => x[2..].to_vec(),
        _ => x.to_vec(),
    }
}

/// `scale B A`.
fn delta(a: &[f32], b: &[f32], rank: usize, scale: f32) -> Vec<f64> {
    let columns = a.len() / rank;
    let at = |row: &[f32], column: usize| -> f64 {
        let terms = row.iter().enumerate();
        terms.map(|(r, b)| f64::from(*b) * f64::from(a[r * columns + column])).sum::<f64>() * f64::from(scale)
    };
    b.chunks_exact(rank).flat_map(|row| (0..columns).map(move |column| at(row, column))).collect()
}
