//! Matrices of random codes and scales in every encoding, decoded by this file's own reading of FORMAT.md.

use crate::format::{Encoding, GROUP, PANEL};
use crate::kernels::Matrix;
use half::{bf16, f16};
use std::vec;
use std::vec::Vec;

/// SplitMix64 (Steele et al. 2014), enough for test data.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Between -1 and 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// The encodings of a matrix.
pub(super) const MATRICES: &[Encoding] = Encoding::ALL.split_at(1).1;

/// A matrix of random codes and scales, with the values that they stand for.
pub(super) struct RandomMatrix {
    encoding: Encoding,
    rows: usize,
    columns: usize,
    data: Vec<u8>,
    pub(super) values: Vec<f64>,
}

impl RandomMatrix {
    pub(super) fn new(encoding: Encoding, rows: usize, columns: usize, random: &mut Random) -> RandomMatrix {
        let mut data = Vec::new();
        let mut values = vec![0.0; rows * columns];
        let mut set = |row: usize, column: usize, value: f64| {
            if row < rows && column < columns {
                values[row * columns + column] = value;
            }
        };
        for panel in 0..rows.div_ceil(PANEL) {
            let row_scales: Vec<f32> = (0..PANEL).map(|_| random.float() * 0.01).collect();
            if encoding.panel_header() != 0 {
                row_scales.iter().for_each(|scale| data.extend(scale.to_le_bytes()));
            }
            for block in 0..columns.div_ceil(encoding.block_columns()) {
                let column = block * encoding.block_columns();
                if encoding.block_columns() == 1 {
                    for row in 0..PANEL {
                        let x = random.float();
                        let (bytes, value): (Vec<u8>, f64) = match encoding {
                            Encoding::F16 => {
                                let x = f16::from_f32(x);
                                (x.to_le_bytes().to_vec(), x.to_f64())
                            }
                            Encoding::BF16 => {
                                let x = bf16::from_f32(x);
                                (x.to_le_bytes().to_vec(), x.to_f64())
                            }
                            _ => (x.to_le_bytes().to_vec(), f64::from(x)),
                        };
                        data.extend(bytes);
                        set(panel * PANEL + row, column, value);
                    }
                    continue;
                }
                let bits = match encoding {
                    Encoding::Q8 | Encoding::Q8Row => 8,
                    Encoding::Q6 => 6,
                    Encoding::Q5Nl => 5,
                    Encoding::Q3Nl => 3,
                    _ => 4,
                };
                let largest = 255u8 >> (8 - bits);
                let mut codes = [[0u8; GROUP]; PANEL];
                for code in codes.as_flattened_mut() {
                    *code = random.next() as u8 & largest;
                    if random.next().is_multiple_of(8) {
                        // The ends of the range are where narrow accumulators break.
                        *code = if random.next() & 1 == 0 { largest } else { 0 };
                    }
                }
                match bits {
                    8 => plane(&codes, 0, 8, 4, &mut data),
                    3 => {
                        plane(&codes, 0, 2, 16, &mut data);
                        plane(&codes, 2, 1, 32, &mut data);
                    }
                    _ => {
                        plane(&codes, 0, 4, 8, &mut data);
                        match bits {
                            5 => plane(&codes, 4, 1, 32, &mut data),
                            6 => plane(&codes, 4, 2, 16, &mut data),
                            _ => {}
                        }
                    }
                }
                let scales: Vec<f16> = (0..PANEL).map(|_| f16::from_f32(random.float() * 0.01)).collect();
                let minimums: Vec<f16> = (0..PANEL).map(|_| f16::from_f32(random.float() * 0.1)).collect();
                let bytes: Vec<i8> = (0..PANEL).map(|_| random.next() as i8).collect();
                for row in 0..PANEL {
                    let (scale, row_scale) = (scales[row].to_f64(), f64::from(row_scales[row]));
                    // Row scales of encodings with two-level scales stand for a 127th of what other scales do.
                    let narrow = row_scale * f64::from(bytes[row]);
                    for k in 0..GROUP {
                        let code = f64::from(codes[row][k]);
                        let level =
                            || f64::from(encoding.layout().table()[usize::from(codes[row][k])]) - 64.0;
                        let value = match encoding {
                            Encoding::Q8 => scale * (code - 128.0),
                            Encoding::Q8Row => row_scale * (code - 128.0),
                            Encoding::Q4 => scale * (code - 8.0),
                            Encoding::Q3Nl | Encoding::Q4Nl | Encoding::Q5Nl => narrow * level(),
                            Encoding::Q6 => narrow * (code - 32.0),
                            _ => scale * code + minimums[row].to_f64(),
                        };
                        set(panel * PANEL + row, column + k, value);
                    }
                }
                if encoding.has_two_level_scales() {
                    data.extend(bytes.iter().map(|byte| *byte as u8));
                } else if encoding != Encoding::Q8Row {
                    scales.iter().for_each(|scale| data.extend(scale.to_le_bytes()));
                }
                if encoding == Encoding::Q4Min {
                    minimums.iter().for_each(|minimum| data.extend(minimum.to_le_bytes()));
                }
            }
        }
        assert_eq!(Some(data.len()), encoding.tensor_bytes(rows, columns));
        RandomMatrix { encoding, rows, columns, data, values }
    }

    /// The bytes on the boundary that a mapped file has.
    pub(super) fn aligned(&self) -> Vec<[u64; 8]> {
        let mut aligned = vec![[0u64; 8]; self.data.len().div_ceil(64)];
        zerocopy::IntoBytes::as_mut_bytes(aligned.as_mut_slice())[..self.data.len()]
            .copy_from_slice(&self.data);
        aligned
    }

    pub(super) fn matrix<'a>(&self, aligned: &'a [[u64; 8]]) -> Matrix<'a> {
        let data = &zerocopy::IntoBytes::as_bytes(aligned)[..self.data.len()];
        Matrix { encoding: self.encoding, rows: self.rows, columns: self.columns, data }
    }

    /// `[tokens, rows]` in f64 and, for each, the sum of the sizes of its products.
    pub(super) fn product(&self, x: &[f32]) -> Vec<(f64, f64)> {
        let mut out = Vec::new();
        for x in x.chunks(self.columns) {
            for row in self.values.chunks(self.columns) {
                let terms = row.iter().zip(x).map(|(w, x)| w * f64::from(*x));
                out.push(terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs())));
            }
        }
        out
    }
}

/// Appends `bits` bits of each code from bit `from` up: in runs of 64 bytes, four for each row, that hold `columns`
/// columns each; a byte's first column lowest, its others four columns apart.
fn plane(codes: &[[u8; GROUP]; PANEL], from: u32, bits: u32, columns: usize, data: &mut Vec<u8>) {
    for run in 0..GROUP / columns {
        for codes in codes {
            for j in 0..4 {
                let parts = (0..columns / 4).map(|i| {
                    let part = u32::from(codes[run * columns + 4 * i + j]) >> from & ((1 << bits) - 1);
                    part << (bits * i as u32)
                });
                data.push(parts.sum::<u32>() as u8);
            }
        }
    }
}
