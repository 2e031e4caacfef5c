use super::*;
use crate::dequantize::dequantize;

const GOLDEN: &str = include_str!("../../../tests/golden/quantize.txt");
const KINDS: [BlockType; 5] =
    [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_0, BlockType::Q5_1, BlockType::Q8_0];

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Pseudo-random bytes (xorshift).
fn random(seed: &mut u64) -> u8 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 32) as u8
}

#[test]
fn blocks_are_ggmls() {
    let mut compared = 0;
    for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split(' ');
        let numbers = unhex(columns.next().unwrap());
        let numbers: Vec<f32> =
            numbers.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let values: &[f32; LEN] = numbers.as_slice().try_into().unwrap();
        for (kind, expected) in KINDS.into_iter().zip(columns) {
            let mut out = vec![0; kind.block_bytes()];
            let fits = quantize(kind, values, &mut out);
            match expected {
                "-" => assert_eq!(fits, None, "{kind}: {values:?}"),
                expected => assert_eq!(fits.map(|()| out), Some(unhex(expected)), "{kind}: {values:?}"),
            }
            compared += 1;
        }
    }
    assert!(compared > 150);
}

#[test]
fn grids_within_grids_carry_over() {
    use BlockType::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
    let mut seed = 5;
    let wider = [(Q4_0, Q5_0), (Q4_0, Q8_0), (Q5_0, Q8_0), (Q4_1, Q5_1)];
    for (from, to) in wider.into_iter().chain(KINDS.map(|kind| (kind, kind))) {
        for _ in 0..50 {
            let mut block: Vec<u8> = (0..from.block_bytes()).map(|_| random(&mut seed)).collect();
            // Scales of a sensible size.
            block[1] = 0x2C | block[1] & 0x83;
            block[3] = if matches!(from, Q4_1 | Q5_1) { 0x2C | block[3] & 0x83 } else { block[3] };
            let mut out = vec![0; to.block_bytes()];
            carry_over(from, &block, to, &mut out).unwrap();
            let numbers = |kind, block: &[u8]| {
                let mut numbers = [0.0; LEN];
                dequantize(kind, block, &mut numbers);
                numbers
            };
            assert_eq!(numbers(to, &out), numbers(from, &block), "{from} to {to}");
            // And back, as no code needs the wider type.
            let mut back = vec![0; from.block_bytes()];
            carry_over(to, &out, from, &mut back).unwrap();
            assert_eq!(back, block, "{to} to {from}");
        }
    }
    let wide: Vec<u8> = [0, 0x3C].into_iter().chain((0..32).map(|code: u8| code.wrapping_sub(16))).collect();
    let mut out = [0; 22];
    assert_eq!(carry_over(Q8_0, &wide, Q4_0, &mut out[..18]), None);
    assert_eq!(carry_over(Q8_0, &wide, Q4_1, &mut out[..20]), None);
    assert_eq!(carry_over(Q8_0, &wide, Q5_0, &mut out), Some(()));
}

#[test]
fn scales_beyond_f16_are_told() {
    for kind in KINDS {
        let mut out = vec![0; kind.block_bytes()];
        let spread: [f32; LEN] = std::array::from_fn(|j| if j % 2 == 0 { 1e30 } else { -1e30 });
        assert_eq!(quantize(kind, &spread, &mut out), None, "{kind}");
    }
}
