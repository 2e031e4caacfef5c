//! Model files of random weights, in memory.

use super::random_adapter::RandomAdapter;
use crate::format::{
    ALIGN, Config, DIRECTORY_RECORD, Encoding, HEADER_LEN, ModelFile, PANEL, SectionKind, SectionRecord,
    TensorRecord, TensorRole, checksum, emit_header,
};
use crate::kernels::tests::Random;
use std::vec;
use std::vec::Vec;

const TOKENIZER: &[u8] = include_bytes!("../../tokenizer/fixture/tiny.bin");

/// A model file, aligned like a mapping, with its numbers.
#[derive(Clone)]
pub(super) struct RandomModel {
    file: Vec<[u8; 64]>,
    length: usize,
    pub(super) config: Config,
    /// `[rows, columns]` of each tensor, in file order.
    values: Vec<Vec<f64>>,
}

impl RandomModel {
    /// A model whose activations stay near 1 and whose attention is not uniform.
    pub(super) fn new(config: Config, seed: u64) -> RandomModel {
        config.check().unwrap();
        let mut random = Random(seed);
        let (mut tensors, mut records, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..TensorRole::count(&config) {
            let (role, layer) = TensorRole::at(&config, index);
            let (rows, columns) = role.shape(&config);
            let (encoding, numbers) = match role {
                TensorRole::QueryBias | TensorRole::KeyBias | TensorRole::ValueBias => {
                    (Encoding::Vector, random.floats(columns))
                }
                role if role.is_vector() => {
                    (Encoding::Vector, random.floats(columns).iter().map(|x| 1.2 + 0.5 * x).collect())
                }
                _ => {
                    let scale = 2.5 / (columns as f32).sqrt();
                    let numbers: Vec<f32> = random.floats(rows * columns).iter().map(|x| x * scale).collect();
                    (Encoding::F32, numbers)
                }
            };
            tensors.resize(tensors.len().next_multiple_of(ALIGN as usize), 0u8);
            let offset = tensors.len() as u64;
            match encoding {
                Encoding::Vector => numbers.iter().for_each(|x| tensors.extend(x.to_le_bytes())),
                _ => store_panels(&numbers, rows, columns, &mut tensors),
            }
            let length = tensors.len() as u64 - offset;
            values.push(numbers.iter().map(|x| f64::from(*x)).collect());
            let (rows, columns) = (rows as u32, columns as u32);
            records.extend(TensorRecord { role, layer, encoding, rows, columns, offset, length }.emit());
        }
        let file = assemble(&config, &records, &tensors);
        let length = file.len();
        let mut blocks = vec![[0; 64]; length.div_ceil(64) + 1];
        let start = blocks.as_flattened().as_ptr().align_offset(64);
        assert_eq!(start, start % 64);
        blocks.as_flattened_mut()[start..start + length].copy_from_slice(&file);
        RandomModel { file: blocks, length, config, values }
    }

    pub(super) fn file(&self) -> ModelFile<'_> {
        let bytes = self.file.as_flattened();
        let start = bytes.as_ptr().align_offset(64);
        ModelFile::parse(&bytes[start..start + self.length]).unwrap()
    }

    /// The numbers of a tensor that the model has.
    pub(super) fn tensor(&self, role: TensorRole, layer: u16) -> &[f64] {
        &self.values[role.index(&self.config, layer).unwrap()]
    }

    /// The same with other numbers, not in its file: `W + weight * scale * B A` for each adapted matrix.
    pub(super) fn merged(&self, adapters: &[(&RandomAdapter, f32)]) -> RandomModel {
        let mut merged = self.clone();
        for (adapter, weight) in adapters {
            for (role, layer, delta) in adapter.deltas() {
                let values = &mut merged.values[role.index(&self.config, *layer).unwrap()];
                values.iter_mut().zip(delta).for_each(|(x, delta)| *x += f64::from(*weight) * delta);
            }
        }
        merged
    }
}

/// FORMAT.md, encoding 2: panels of 16 rows, column by column.
pub(super) fn store_panels(numbers: &[f32], rows: usize, columns: usize, out: &mut Vec<u8>) {
    for first in (0..rows).step_by(PANEL) {
        for column in 0..columns {
            for row in first..first + PANEL {
                let number = if row < rows { numbers[row * columns + column] } else { 0.0 };
                out.extend(number.to_le_bytes());
            }
        }
    }
}

fn assemble(config: &Config, records: &[u8], tensors: &[u8]) -> Vec<u8> {
    let (version, config) = (config.version(), config.emit());
    let parts: [(SectionKind, &[u8]); 5] = [
        (SectionKind::Config, &config),
        (SectionKind::TensorTable, records),
        (SectionKind::Tokenizer, TOKENIZER),
        (SectionKind::Provenance, b"{}"),
        (SectionKind::Tensors, tensors),
    ];
    let mut file = vec![0; HEADER_LEN + parts.len() * DIRECTORY_RECORD];
    let mut sections = Vec::new();
    for (kind, bytes) in parts {
        file.resize(file.len().next_multiple_of(kind.align() as usize), 0);
        let (offset, length) = (file.len() as u64, bytes.len() as u64);
        sections.push(SectionRecord { kind, offset, length, checksum: checksum(bytes) });
        file.extend(bytes);
    }
    let length = file.len() as u64;
    emit_header(version, &sections, length, &mut file).unwrap();
    file
}
