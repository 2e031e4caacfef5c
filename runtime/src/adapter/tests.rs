//! Files: what is written is read again, and what is damaged is refused.

use super::*;
use crate::format::{ALIGN, Config, Encoding, TensorRole, checksum};
use crate::kernels::tests::Random;
use crate::model::tests::random_adapter::{RandomAdapter, Recipe, aligned};
use std::vec::Vec;

const CONFIG: Config = Config { hidden: 20, layers: 2, ffn: 24, vocab: 512, ..Config::PLAIN };

fn adapter() -> RandomAdapter {
    let recipe = Recipe { encoding: Encoding::F16, ranks: &[2, 17], roles: &AdapterRecord::ROLES, seed: 1 };
    RandomAdapter::new(&CONFIG, &recipe)
}

/// What reading these bytes says.
fn parse(bytes: &[u8]) -> Result<usize, AdapterFormatError> {
    let blocks = aligned(bytes);
    let blocks = blocks.as_flattened();
    let start = blocks.as_ptr().align_offset(64);
    AdapterFile::parse(&blocks[start..start + bytes.len()]).map(|file| look_at(&file))
}

/// Reads all that a file gives out, and checks sizes.
fn look_at(file: &AdapterFile<'_>) -> usize {
    let mut bytes = 0;
    for record in file.records() {
        let found = file.find(record.role, record.layer).unwrap();
        assert_eq!(found.a.data.len() as u64, record.a_bytes());
        assert_eq!(found.b.data.len() as u64, record.b_bytes());
        assert!(found.a.data.as_ptr().addr().is_multiple_of(ALIGN as usize));
        assert!(found.b.data.as_ptr().addr().is_multiple_of(ALIGN as usize));
        assert_eq!((found.a.rows, found.b.columns), (record.rank.into(), record.rank.into()));
        assert!(found.a.rows <= file.rank() && found.scale == record.scale);
        bytes += found.a.data.len() + found.b.data.len();
    }
    let _ = (file.check_shape(&CONFIG), file.verify(), file.provenance());
    bytes
}

/// The checksum of the head, made right again.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let head = (ADAPTER_HEADER + word(12).min(1 << 20) * ADAPTER_RECORD + word(52).min(1 << 20))
        .next_multiple_of(64)
        .min(bytes.len());
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&bytes[..24]);
    hash.update(&[0; 8]);
    hash.update(&bytes[32..head]);
    let sum = hash.digest();
    bytes[24..32].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let adapter = adapter();
    let file = adapter.file();
    assert_eq!(file.verify(), Ok(()));
    assert_eq!(file.check_shape(&CONFIG), Ok(()));
    assert_eq!(file.records().count(), 14);
    assert_eq!((file.rank(), file.provenance()), (17, r#"{"name":"random"}"#));
    assert_eq!(file.header().layers, Some(2));
    assert!(look_at(&file) > 0);
    assert!(file.find(TensorRole::Query, 2).is_none() && file.find(TensorRole::Head, 0).is_none());
    for (record, index) in file.records().zip(0..) {
        assert_eq!(AdapterRecord::parse(&record.emit(), index), Ok(record));
    }
    let mut other = adapter.bytes().to_vec();
    *other.last_mut().unwrap() ^= 1;
    let weights = checksum(&other[file.header().weights() as usize..]);
    let blocks = aligned(&other);
    let start = blocks.as_flattened().as_ptr().align_offset(64);
    let damaged = AdapterFile::parse(&blocks.as_flattened()[start..start + other.len()]).unwrap();
    let (part, expected) = ("weights", file.weights_checksum());
    assert_eq!(damaged.verify(), Err(AdapterFormatError::Checksum { part, expected, found: weights }));
}

#[test]
fn each_damaged_field_is_named() {
    let good = adapter().bytes().to_vec();
    let record = ADAPTER_HEADER + ADAPTER_RECORD;
    let cases: [(usize, &[u8], &str); 19] = [
        (0, b"GGUF", "not an .adapter file"),
        (8, &[2], "format version 2, expected 1"),
        (12, &[0, 0], "number of matrices is 0"),
        (12, &[0xff; 4], "number of matrices is 4294967295"),
        (12, &[0xff, 0x1b, 0, 0], "table take"),
        (16, &[1], "header announces"),
        (48, &[0, 8], "number of layers is 2048"),
        (52, &[0xff; 4], "length of the provenance"),
        (60, &[1], "reserved bytes of the header"),
        (record, &[11, 0], "matrix 1: role is 11"),
        (record, &[3, 0], "matrix 1: layer and role"),
        (record + 2, &[0, 4], "matrix 1: layer is 1024"),
        (record + 4, &[5, 0], "matrix 1: encoding is 5"),
        (record + 6, &[0, 0], "matrix 1: rank is 0"),
        (record + 6, &[0xff, 0xff], "matrix 1: rank is 65535"),
        (record + 8, &[0xff; 4], "matrix 1: rows is 4294967295"),
        (record + 19, &[0x7f, 0, 0], "matrix 1: scale"),
        (record + 20, &[1], "reserved bytes of the table"),
        (record + 24, &[1], "matrix 1 starts at byte"),
    ];
    for (at, change, expected) in cases {
        let mut bytes = good.clone();
        bytes[at..at + change.len()].copy_from_slice(change);
        if expected.contains("scale") {
            bytes[record + 16..record + 20].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        let error = parse(&sealed(bytes)).unwrap_err();
        assert!(std::format!("{error}").contains(expected), "byte {at}: {error}");
    }
    let grown = [&good[..], &[0; 64]].concat();
    assert!(matches!(parse(&grown), Err(AdapterFormatError::FileLength { .. })));
    let mut longer = grown.clone();
    longer[16..24].copy_from_slice(&(grown.len() as u64).to_le_bytes());
    assert!(matches!(parse(&sealed(longer)), Err(AdapterFormatError::WeightsLength { .. })));
    let mut text = good.clone();
    text[ADAPTER_HEADER + 14 * ADAPTER_RECORD + 3] = 0xff;
    assert!(matches!(parse(&text), Err(AdapterFormatError::Checksum { part: "header", .. })));
    assert_eq!(parse(&sealed(text)), Err(AdapterFormatError::NotUtf8 { at: 3 }));
    let blocks = aligned(&[&[0][..], &good].concat());
    let start = blocks.as_flattened().as_ptr().align_offset(64);
    let shifted = &blocks.as_flattened()[start + 1..start + 1 + good.len()];
    assert!(matches!(AdapterFile::parse(shifted), Err(AdapterFormatError::Misaligned { .. })));
}

#[test]
fn no_bytes_make_it_panic() {
    let good = adapter().bytes().to_vec();
    for length in (0..good.len()).filter(|length| *length < 900 || length % 97 == 0) {
        assert!(parse(&good[..length]).is_err());
    }
    let mut random = Random(7);
    let head = ADAPTER_HEADER + 14 * ADAPTER_RECORD;
    let mut opened = 0;
    for round in 0..if cfg!(miri) { 30 } else { 20_000 } {
        let mut bytes = good.clone();
        for _ in 0..1 + random.next() % 3 {
            let at = random.next() as usize % head;
            bytes[at] = match random.next() % 4 {
                0 => 0,
                1 => 0xff,
                2 => bytes[at] ^ (1 << (random.next() % 8)),
                _ => random.next() as u8,
            };
        }
        let bytes = if round % 8 == 0 { bytes } else { sealed(bytes) };
        opened += usize::from(parse(&bytes).is_ok());
    }
    assert!(
        cfg!(miri) || opened > 100,
        "{opened} of the files open: most changes would be refused by the checksum alone"
    );
}
