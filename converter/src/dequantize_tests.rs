//! Every block type against numbers from python's `gguf` package.

use super::dequantize;
use crate::read::BlockType;

const GOLDEN: &str = include_str!("../../tests/golden/blocks.txt");

fn hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn golden() -> Vec<(BlockType, Vec<u8>, Vec<f32>)> {
    let lines = GOLDEN.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let mut columns = line.split(' ');
        let name = columns.next().unwrap();
        let kind = BlockType::ALL.into_iter().find(|kind| kind.to_string() == name).unwrap();
        let block = hex(columns.next().unwrap());
        let numbers = hex(columns.next().unwrap());
        let numbers = numbers.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (kind, block, numbers.collect())
    });
    parsed.collect()
}

#[test]
fn blocks_mean_what_gguf_says() {
    let golden = golden();
    assert_eq!(golden.len(), 10, "one line for each quantized type");
    for (kind, block, expected) in golden {
        assert_eq!(block.len(), kind.block_bytes(), "{kind}");
        assert_eq!(expected.len(), kind.block_len(), "{kind}");
        let mut found = vec![f32::NAN; kind.block_len()];
        dequantize(kind, &block, &mut found);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            // Bit for bit, up to the sign of zero and the order of two f32 products in k-quants.
            let close = (found - expected).abs() <= 1e-6 * expected.abs();
            assert!(close, "{kind} number {i}: {found} is not {expected}");
        }
    }
}

#[test]
fn several_blocks_follow_each_other() {
    for (kind, block, expected) in golden() {
        let mut found = vec![0.0; 2 * kind.block_len()];
        dequantize(kind, &[block.clone(), block].concat(), &mut found);
        assert_eq!(found[..kind.block_len()], found[kind.block_len()..], "{kind}");
        assert_eq!(found[0], expected[0], "{kind}");
    }
}

#[test]
fn floats_are_read_as_they_are() {
    let cases: [(BlockType, &[u8], f32); 3] = [
        (BlockType::F32, &[0, 0, 0x60, 0x40], 3.5),
        (BlockType::F16, &[0, 0x43], 3.5),
        (BlockType::BF16, &[0x60, 0x40], 3.5),
    ];
    for (kind, bytes, expected) in cases {
        let mut found = [0.0];
        dequantize(kind, bytes, &mut found);
        assert_eq!(found, [expected], "{kind}");
    }
}
