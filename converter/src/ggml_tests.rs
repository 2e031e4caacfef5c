//! ggml as the oracle.

use super::*;
use crate::write_gguf::quantize_block;

/// Pseudo-random numbers (SplitMix64), as bits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From -1 to 1, nearly normal.
    fn number(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum::<f32>() / 2.0
    }
}

const KINDS: [BlockType; 5] =
    [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_0, BlockType::Q5_1, BlockType::Q8_0];

fn same(values: &[f32; 32]) {
    for kind in KINDS {
        let expected = quantize(kind, values).unwrap();
        let mut found = vec![0; kind.block_bytes()];
        let fits = quantize_block(kind, values, &mut found);
        let infinite = |at: usize| expected[at + 1] & 0x7C == 0x7C;
        if infinite(0) || matches!(kind, BlockType::Q4_1 | BlockType::Q5_1) && infinite(2) {
            assert_eq!(fits, None, "{kind}: {values:?}");
        } else {
            assert_eq!(found, expected, "{kind}: {values:?}");
        }
    }
}

#[test]
fn blocks_of_32_are_ggmls() {
    let mut random = Random(3);
    // 1e-36: below, ggml divides by a scale whose inverse overflows, and says nothing about the result.
    for scale in [1.0, 0.02, 1e-3, 1e-5, 1e-7, 1e-20, 1e-36, 100.0, 3e4, 5e5, 1e30] {
        for _ in 0..200 {
            same(&std::array::from_fn(|_| random.number() * scale));
            // Rows with one outlier, and on a coarse grid, where codes tie.
            let outlier = (random.next() % 32) as usize;
            same(&std::array::from_fn(|j| if j == outlier { scale } else { random.number() * scale * 0.1 }));
            same(&std::array::from_fn(|_| (random.number() * 8.0).round() * scale * 0.125));
        }
    }
    for value in [0.0, -0.0, 1.0, -1.0, 65504.0, -65504.0, 1e-36] {
        same(&[value; 32]);
        same(&std::array::from_fn(|j| if j == 31 { value } else { 0.0 }));
    }
}

#[test]
fn what_this_crate_reads_itself_is_read_alike() {
    let mut random = Random(5);
    // ggml has no reader for f32, which needs none.
    for kind in BlockType::ALL.into_iter().filter(|&kind| kind != BlockType::F32) {
        for _ in 0..20 {
            let mut bytes: Vec<u8> = (0..kind.block_bytes()).map(|_| random.next() as u8).collect();
            // No infinities: the exponents of f16 fields lose their top bit.
            bytes.iter_mut().for_each(|byte| *byte &= 0xBF);
            let [mut found, mut expected] = [vec![0.0; kind.block_len()], vec![0.0; kind.block_len()]];
            crate::dequantize(kind, &bytes, &mut found);
            dequantize(kind, &bytes, &mut expected);
            for (found, expected) in found.iter().zip(&expected) {
                let close = (found - expected).abs() <= 1e-6 * expected.abs().max(1e-30);
                assert!(close || found.is_nan() && expected.is_nan(), "{kind}: {found} {expected}");
            }
        }
    }
}

#[test]
fn foreign_types_have_ggmls_sizes() {
    for kind in BlockType::VIA_GGML {
        assert!(agrees(kind), "{kind}");
        assert_eq!(BlockType::from_number(kind as u32), Some(kind));
    }
    // A type that quantizes without an importance matrix, there and back.
    let mut random = Random(7);
    for kind in [BlockType::IQ4_NL, BlockType::IQ4_XS, BlockType::MXFP4, BlockType::IQ3_S] {
        let values: Vec<f32> = (0..512).map(|_| random.number()).collect();
        let bytes = quantize(kind, &values).unwrap();
        let mut back = vec![0.0; 512];
        crate::dequantize(kind, &bytes, &mut back);
        let sum = |of: &dyn Fn(usize) -> f32| (0..512).map(|i| f64::from(of(i)).powi(2)).sum::<f64>();
        let distortion = (sum(&|i| values[i] - back[i]) / sum(&|i| values[i])).sqrt();
        assert!(distortion > 0.01 && distortion < 0.2, "{kind}: {distortion}");
    }
    assert_eq!(quantize(BlockType::Q4_0, &[0.0; 33]), None);
}
