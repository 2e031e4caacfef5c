//! Rounding, measured against bounds that follow from each encoding's step.

use super::*;
use crate::pack::unpack;
use proptest::prelude::*;
use thimble_runtime::format::GROUP;

const QUANTIZED: [Encoding; 8] = [
    Encoding::Q8,
    Encoding::Q8Row,
    Encoding::Q4,
    Encoding::Q4Min,
    Encoding::Q3Nl,
    Encoding::Q4Nl,
    Encoding::Q5Nl,
    Encoding::Q6,
];

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Encodes f32 rows as one panel and reads them back.
fn round_trip(
    encoding: Encoding,
    values: &[f32],
    columns: usize,
) -> Result<(Vec<f32>, Distortion), RowError> {
    let bytes = bytes_of(values);
    let rows = Rows { kind: BlockType::F32, bytes: &bytes, columns };
    let mut panel = vec![0xAA; encoding.panel_bytes(columns).unwrap()];
    let distortion = encode_panel(encoding, rows, &mut panel)?;
    Ok((unpack(encoding, &panel, PANEL, columns).unwrap(), distortion))
}

/// The most that one weight may be off in a group (or row) of these values, in a row whose largest is `row_most`.
fn bound(encoding: Encoding, values: &[f32], row_most: f32) -> f32 {
    let most = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    match encoding {
        // Half a step, and the f16 scale's relative error over 127 steps.
        Encoding::Q8 => most * (0.5 / 127.0 + 1.0 / 2048.0) + 1e-5,
        Encoding::Q8Row => most * 0.501 / 127.0,
        // The searched scale may clip more than half a step, never more than a whole step of the plain grid.
        Encoding::Q4 => most * 1.1 / 7.0 + 1e-5,
        Encoding::Q4Min => (high - low) * 1.1 / 15.0 + most / 1024.0 + 1e-5,
        // A whole step where the levels are widest apart, of the grid that just holds the group; and the scale is
        // a multiple of 1/127 of the row's largest, which may be far above that of a group.
        _ => {
            let levels: Vec<i16> = encoding.layout().levels().collect();
            let widest = levels.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            let end = levels.iter().map(|l| l.abs()).max().unwrap();
            most * 1.15 * f32::from(widest) / f32::from(end) + row_most / 127.0
        }
    }
}

fn values(count: usize, scale: f32, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    std::iter::repeat_with(next).take(count).map(|v| v * scale).collect()
}

#[test]
fn rounding_stays_inside_its_bound_at_every_edge() {
    for encoding in QUANTIZED {
        for columns in [1, 31, 32, 33, 64, 95, 96] {
            for rows in [1, 15, 16] {
                let source = values(rows * columns, 0.3, columns as u32);
                let (stored, _) = round_trip(encoding, &source, columns).unwrap();
                for row in 0..rows {
                    let range = row * columns..(row + 1) * columns;
                    let (source, stored) = (&source[range.clone()], &stored[range]);
                    let group = if encoding == Encoding::Q8Row { columns } else { GROUP };
                    let row_most = source.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                    for (source, stored) in source.chunks(group).zip(stored.chunks(group)) {
                        let bound = bound(encoding, source, row_most);
                        for (a, b) in source.iter().zip(stored) {
                            assert!((a - b).abs() <= bound, "{encoding:?} {columns}: {a} became {b}");
                        }
                    }
                }
                assert!(stored[rows * columns..].iter().all(|&v| v == 0.0), "padding rows are zero");
            }
        }
    }
}

#[test]
fn better_encodings_lose_less() {
    let source = values(PANEL * 256, 0.1, 3);
    let distortion = |encoding| round_trip(encoding, &source, 256).unwrap().1.relative();
    let [q8, row, q4, q4_min, q3_nl, q4_nl, q5_nl, q6] = QUANTIZED.map(distortion);
    assert!(q8 < 0.006 && row < 0.006, "8 bits lost {q8} and {row}");
    assert!(q4_min < q4 && q4 < 0.08 && q4_min > q8, "4 bits lost {q4} and {q4_min}");
    assert!(q8 < q6 && 1.8 * q6 < q5_nl && 1.5 * q5_nl < q4_nl && 1.5 * q4_nl < q3_nl && q3_nl < 0.18);
}

/// Normal numbers (the sum of twelve uniform ones), as trained weights are.
fn normal(count: usize, seed: u32) -> Vec<f32> {
    values(12 * count, 0.1, seed).chunks(12).map(|twelve| twelve.iter().sum()).collect()
}

#[test]
fn normal_weights_reach_the_signal_to_noise_of_their_bits() {
    let source = normal(PANEL * 512, 11);
    // Decibels, a little below what the search reaches.
    for (encoding, least) in [
        (Encoding::Q3Nl, 16.2),
        (Encoding::Q4, 21.5),
        (Encoding::Q4Nl, 22.5),
        (Encoding::Q5Nl, 28.6),
        (Encoding::Q6, 33.8),
    ] {
        let (_, distortion) = round_trip(encoding, &source, 512).unwrap();
        let found = -20.0 * distortion.relative().log10();
        assert!(found > least, "{encoding:?}: {found:.2} dB");
    }
}

#[test]
fn the_search_is_no_worse_than_the_plain_grid() {
    for seed in 0..50 {
        let source = values(GROUP, 1.0, seed);
        let most = source.iter().copied().fold(0.0f32, |m, v| if v.abs() > m.abs() { v } else { m });
        let scale = f16::from_f32(most / -8.0).to_f32();
        let plain = |v: f32| scale * (v / scale).round().clamp(-8.0, 7.0);
        let plain: f64 = source.iter().map(|&v| f64::from(v - plain(v)).powi(2)).sum();
        let (_, distortion) = round_trip(Encoding::Q4, &source, GROUP).unwrap();
        assert!(distortion.error <= plain * 1.000_1, "seed {seed}: {} against {plain}", distortion.error);
    }
}

#[test]
fn zero_constant_and_tiny_rows_are_fine() {
    for encoding in QUANTIZED {
        let (stored, distortion) = round_trip(encoding, &[0.0; 64], 64).unwrap();
        assert!(stored.iter().all(|&v| v == 0.0) && distortion == Distortion::default(), "{encoding:?}");
        let (stored, _) = round_trip(encoding, &[0.25; 64], 64).unwrap();
        assert!(stored[..64].iter().all(|v| (v - 0.25).abs() < 1e-3), "{encoding:?}: {:?}", &stored[..4]);
        // A group of zeros stays zero beside another one.
        let mut half = [0.0; 64];
        half[..GROUP].copy_from_slice(&values(GROUP, 0.2, 5));
        let (stored, _) = round_trip(encoding, &half, 64).unwrap();
        assert!(stored[GROUP..64].iter().all(|&v| v == 0.0), "{encoding:?}");
        // Far below the smallest f16 scale: zero is the nearest that can be stored.
        let (stored, _) = round_trip(encoding, &[1e-38; 64], 64).unwrap();
        assert!(stored.iter().all(|v| v.abs() <= 2e-38), "{encoding:?}");
        let (stored, _) = round_trip(encoding, &[1e-45; 64], 64).unwrap();
        assert!(stored.iter().all(|v| v.abs() <= 1e-40), "{encoding:?}");
    }
}

#[test]
fn what_cannot_be_stored_is_refused_by_row() {
    for encoding in [Encoding::F32, Encoding::F16, Encoding::BF16].into_iter().chain(QUANTIZED) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut source = values(3 * 40, 0.1, 1);
            source[2 * 40 + 7] = bad;
            assert_eq!(round_trip(encoding, &source, 40).unwrap_err(), RowError::NotFinite { row: 2 });
        }
    }
    for encoding in [Encoding::F16, Encoding::Q8, Encoding::Q4, Encoding::Q4Min] {
        let mut source = vec![0.0; 64];
        source[40] = 3e38;
        assert_eq!(
            round_trip(encoding, &source, 32).unwrap_err(),
            RowError::TooLarge { row: 1 },
            "{encoding:?}"
        );
    }
    for encoding in [Encoding::F32, Encoding::BF16, Encoding::Q8Row, Encoding::Q4Nl, Encoding::Q6] {
        let (stored, _) = round_trip(encoding, &[3e38; 32], 32).unwrap();
        assert!((stored[0] - 3e38).abs() < 3e36, "{encoding:?}");
    }
}

#[test]
fn floats_are_kept() {
    let source = values(5 * 33, 1.0, 9);
    assert_eq!(round_trip(Encoding::F32, &source, 33).unwrap().0[..source.len()], source);
    let halves: Vec<f32> = source.iter().map(|&v| f16::from_f32(v).to_f32()).collect();
    let (stored, distortion) = round_trip(Encoding::F16, &source, 33).unwrap();
    assert_eq!(stored[..source.len()], halves);
    assert!(distortion.relative() > 0.0 && distortion.relative() < 1e-3);
}

/// A random row of blocks of a type that has a lossless encoding, its scales finite.
fn blocks(kind: BlockType, seed: &[u8]) -> Vec<u8> {
    let mut row: Vec<u8> = seed.iter().copied().cycle().take(2 * kind.block_bytes()).collect();
    for block in row.chunks_exact_mut(kind.block_bytes()) {
        // Take the top exponent bit of the scale and of the minimum away.
        block[1] &= 0xBF;
        if kind == BlockType::Q4_1 {
            block[3] &= 0xBF;
        }
    }
    row
}

proptest! {
    #[test]
    fn lossless_encodings_hold_every_number_exactly(seed in proptest::collection::vec(any::<u8>(), 40..90)) {
        for kind in [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_0, BlockType::Q8_0] {
            let encoding = kind.lossless_encoding().unwrap();
            let bytes = blocks(kind, &seed);
            let mut expected = vec![0.0; 64];
            dequantize(kind, &bytes, &mut expected);
            let mut panel = vec![0; encoding.panel_bytes(64).unwrap()];
            let rows = Rows { kind, bytes: &bytes, columns: 64 };
            encode_panel(encoding, rows, &mut panel).unwrap();
            let stored = unpack(encoding, &panel, 1, 64).unwrap();
            // Comparing numbers, not bits: 0 x -scale is -0 on one side and 0 on the other.
            prop_assert_eq!(stored, expected);
        }
    }

    #[test]
    fn no_row_makes_a_panic(bits in proptest::collection::vec(any::<u32>(), 1..100)) {
        let source: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        for encoding in QUANTIZED {
            let _ = round_trip(encoding, &source, source.len());
        }
    }
}
