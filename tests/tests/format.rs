//! The reader of `.thimble` files against a good small file, damaged in every way that has a name.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

mod tiny;

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;
use thimble_converter::{BlockType, ConversionOptions, Quant, convert};
use thimble_runtime::Token;
use thimble_runtime::format::{
    DIRECTORY_RECORD, Encoding, FormatError, HEADER_LEN, ModelFile, SectionKind, TENSOR_RECORD, checksum,
};
use tiny::{Aligned, Folder, ODD};

/// A good file, made once.
fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        Folder::new(ODD, BlockType::F32).write(folder.path(), 1);
        let destination = folder.path().join("tiny.thimble");
        let options = ConversionOptions { quant: Quant::Q4, ..ConversionOptions::default() };
        convert(folder.path(), &destination, &options, &mut |_| {}).unwrap();
        fs::read(destination).unwrap()
    })
}

/// A copy of the good file with the means to damage it.
struct Damage(Vec<u8>);

impl Damage {
    fn new() -> Damage {
        Damage(good().to_vec())
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn set_u32(&mut self, at: usize, value: u32) {
        self.set(at, &value.to_le_bytes());
    }

    fn set_u64(&mut self, at: usize, value: u64) {
        self.set(at, &value.to_le_bytes());
    }

    /// Where the directory's record of a section is.
    fn record(&self, kind: SectionKind) -> usize {
        let count = self.u32(12) as usize;
        let records = (0..count).map(|i| HEADER_LEN + i * DIRECTORY_RECORD);
        records.into_iter().find(|&at| self.u32(at) == kind as u32).unwrap()
    }

    /// Where a section starts.
    fn start(&self, kind: SectionKind) -> usize {
        self.u64(self.record(kind) + 8) as usize
    }

    /// Where the table's record of a tensor is.
    fn tensor(&self, index: usize) -> usize {
        self.start(SectionKind::TensorTable) + index * TENSOR_RECORD
    }

    /// Makes the header's checksum right again.
    fn seal(&mut self) {
        let end = HEADER_LEN + self.u32(12) as usize * DIRECTORY_RECORD;
        if let Some(header) = self.0.get(..end) {
            let mut header = header.to_vec();
            header[24..32].fill(0);
            let sum = checksum(&header);
            self.set_u64(24, sum);
        }
    }

    fn open(&self) -> Result<(), FormatError> {
        let aligned = Aligned::new(&self.0);
        ModelFile::parse(aligned.bytes())?.verify()
    }
}

use SectionKind::{Chat, Config, Provenance, TensorTable, Tensors, Tokenizer};

/// How to break a file, and a piece of the error's message; the variant's name comes first.
type Case = (&'static str, fn(&mut Damage), &'static str);

const CASES: &[Case] = &[
    ("TooShort", |d| d.0.truncate(7), "has 7 bytes"),
    ("TooShort", |d| d.0.truncate(40), "has 40 bytes"),
    ("TooShort", |d| d.0.clear(), "has 0 bytes"),
    ("BadMagic", |d| d.0[3] = b'x', "it is not a .thimble file"),
    ("Version", |d| d.set_u32(8, 3), "version 3"),
    ("Version", |d| d.set_u32(8, 0), "version 0"),
    ("FileLength", |d| d.0.truncate(d.0.len() - 1), "truncated"),
    ("FileLength", |d| d.0.push(0), "truncated or has grown"),
    ("TrailingBytes", last_section_ends_early, "the last section ends at byte"),
    ("HeaderChecksum", |d| d.0[24] ^= 1, "header is damaged"),
    ("HeaderChecksum", |d| d.0[HEADER_LEN + 30] ^= 1, "header is damaged"),
    ("SectionCount", |d| d.set_u32(12, 33), "33 sections"),
    ("SectionCount", |d| d.set_u32(12, u32::MAX), "sections"),
    ("UnknownSection", |d| d.set_u32(d.record(Chat), 77), "0x4d"),
    ("DuplicateSection", |d| d.set_u32(d.record(TensorTable), 1), "configuration section appears twice"),
    ("MissingSection", |d| d.set_u32(d.record(Provenance), 0x8000_0001), "provenance section is missing"),
    ("MissingSection", |d| d.set_u32(d.record(Tokenizer), 0x8000_0001), "tokenizer section is missing"),
    ("MissingSection", |d| d.set_u32(d.record(Config), 0x8000_0001), "configuration section is missing"),
    ("SectionOffset", |d| d.set_u64(d.record(TensorTable) + 8, 0), "tensor table section starts at byte 0"),
    ("SectionOffset", |d| d.set_u64(d.record(Config) + 8, u64::MAX), "configuration section starts"),
    ("SectionOffset", |d| optional(d, 8, 0), "the unknown 0x80000001 section starts at byte 0"),
    ("SectionOrder", two_sections_swapped, "configuration section follows the tensor table section"),
    ("SectionBounds", |d| d.set_u64(d.record(Tensors) + 16, u64::MAX), "tensor section ends"),
    ("SectionBounds", |d| d.set_u64(d.record(Tensors) + 16, 1 << 40), "tensor section ends"),
    ("SectionBounds", |d| optional(d, 16, 1 << 40), "the unknown 0x80000001 section ends"),
    ("SectionLength", |d| d.set_u64(d.record(Config) + 16, 100), "configuration section has 100 bytes"),
    ("SectionLength", |d| d.set_u64(d.record(TensorTable) + 16, 639), "tensor table section has 639"),
    ("SectionLength", weights_cut, "tensor section has"),
    ("SectionChecksum", |d| *d.0.last_mut().unwrap() ^= 1, "tensor section is damaged"),
    ("SectionChecksum", |d| d.set(d.start(Provenance), b" "), "provenance section is damaged"),
    ("SectionChecksum", |d| optional(d, 24, 1), "the unknown 0x80000001 section is damaged"),
    ("HeaderReserved", |d| d.0[40] = 1, "reserved field in the header"),
    ("RecordReserved", |d| d.0[HEADER_LEN + 5] = 1, "the directory's record of the configuration section"),
    ("Reserved", |d| d.set(d.start(Config) + 127, &[1]), "configuration"),
    ("Reserved", |d| d.set(d.start(Config) + 41, &[1]), "configuration"),
    ("Reserved", |d| d.set(d.tensor(3) + 7, &[1]), "tensor table"),
    ("Padding", |d| d.set(d.start(Tensors) - 1, &[1]), "in front of the tensor section"),
    ("Config", |d| d.set_u32(d.start(Config), 0), "hidden size is 0"),
    ("Config", |d| d.set_u32(d.start(Config), 1 << 17), "hidden size is 131072"),
    ("Config", |d| d.set_u32(d.start(Config) + 4, 2000), "layer count is 2000"),
    ("Config", |d| d.set_u32(d.start(Config) + 8, 0), "head count is 0"),
    ("Config", |d| d.set_u32(d.start(Config) + 12, 2), "multiple of the key-value head count"),
    ("Config", |d| d.set_u32(d.start(Config) + 16, 31), "head dimension is 31, expected even"),
    ("Config", |d| d.set_u32(d.start(Config) + 20, u32::MAX), "feed-forward size"),
    ("Config", |d| d.set_u32(d.start(Config) + 24, 0), "vocabulary size is 0"),
    ("Config", |d| d.set_u32(d.start(Config) + 28, 0), "context length is 0"),
    ("ConfigNumber", |d| d.set_u32(d.start(Config) + 32, f32::NAN.to_bits()), "RoPE theta is NaN"),
    ("ConfigNumber", |d| d.set_u32(d.start(Config) + 36, 0), "norm epsilon is 0,"),
    ("Config", |d| d.set_u32(d.start(Config) + 44, 300), "special token is 300"),
    ("Config", |d| d.set_u32(d.start(Config) + 48, 1 << 30), "special token"),
    ("Reserved", |d| d.set_u32(d.start(Config) + 40, 3), "configuration"),
    ("Reserved", |d| newer(d, &[(10, 9)]), "configuration"),
    ("Config", |d| newer(d, &[(20, 5)]), "RoPE scaling is 5"),
    ("ConfigNumber", |d| newer(d, &[(20, 1)]), "RoPE factor is 0,"),
    ("ConfigNumber", |d| newer(d, &[(20, 1), (21, f32::NAN.to_bits())]), "RoPE factor is NaN"),
    ("ConfigNumber", |d| newer(d, &[(20, 1), (21, f32::INFINITY.to_bits())]), "RoPE factor is inf"),
    ("Config", |d| newer(d, &[(20, 1), (21, TWO), (22, 7)]), "RoPE scaling"),
    ("Config", |d| newer(d, &[(20, 2), (21, TWO)]), "RoPE original context is 0"),
    (
        "ConfigNumber",
        |d| newer(d, &[(20, 2), (21, TWO), (22, 64), (23, TWO), (24, TWO)]),
        "RoPE high frequency factor is 2,",
    ),
    (
        "ConfigNumber",
        |d| newer(d, &[(20, 3), (21, TWO), (22, 64), (23, TWO), (24, TWO)]),
        "YaRN attention factor is 0,",
    ),
    ("ConfigNumber", |d| newer(d, &[(20, 4), (21, TWO), (22, 64), (23, 1), (24, TWO)]), "YaRN beta fast"),
    ("Config", |d| newer(d, &[(26, 5)]), "sliding window is 5"),
    ("Config", |d| newer(d, &[(27, 1), (30, 1)]), "sliding window is 0"),
    ("Config", |d| newer(d, &[(26, u32::MAX), (27, 1), (30, 1)]), "sliding window"),
    ("Config", |d| newer(d, &[(27, 65), (28, 1)]), "layer pattern is 65"),
    ("Config", |d| newer(d, &[(27, 0), (28, 1)]), "layer pattern is 0"),
    ("Config", |d| newer(d, &[(27, 1), (28, 2)]), "layer pattern is 1"),
    ("TensorCount", |d| newer(d, &[(10, 3)]), "implies 26"),
    ("TensorCount", |d| newer(d, &[(10, 7)]), "implies 30"),
    ("UnknownEncoding", |d| d.set(d.tensor(2) + 4, &[99, 0]), "encoding 99"),
    ("TensorCount", |d| d.set_u64(d.record(TensorTable) + 16, 608), "19 tensors"),
    ("TensorCount", |d| d.set_u32(d.start(Config) + 4, 3), "implies 29"),
    ("TensorOrder", |d| d.set(d.tensor(2), &[4]), "role 4"),
    ("TensorOrder", |d| d.set(d.tensor(2) + 2, &[1]), "expected query layer 0"),
    ("TensorShape", |d| d.set_u32(d.tensor(2) + 8, 97), "97 x 96, expected 96 x 96"),
    ("TensorShape", |d| d.set_u32(d.start(Config) + 20, 71), "71 x 96"),
    ("TensorEncoding", |d| d.set(d.tensor(1) + 4, &[2]), "cannot be stored as f32"),
    ("TensorEncoding", |d| d.set(d.tensor(2) + 4, &[1]), "cannot be stored as f32 vector"),
    ("TensorOffset", |d| d.set_u64(d.tensor(0) + 16, 64), "starts at byte 64"),
    ("TensorOffset", |d| d.set_u64(d.tensor(2) + 16, u64::MAX), "query (layer 0) starts at"),
    ("TensorLength", |d| d.set_u64(d.tensor(2) + 24, u64::MAX), "query (layer 0) has"),
    ("TensorLength", |d| d.set(d.tensor(2) + 4, &[Encoding::Q8 as u8]), "query (layer 0) has"),
    ("Reserved", |d| d.set_u32(d.start(Tokenizer), 2), "tokenizer"),
    ("Tokenizer", |d| d.set_u32(d.start(Tokenizer) + 4, 301), "tokenizer"),
    ("Tokenizer", |d| d.set_u32(d.start(Tokenizer) + 32, u32::MAX), "tokenizer"),
    ("Chat", |d| d.set_u32(d.start(Chat), 9), "chat template"),
    ("Chat", |d| d.set_u32(d.start(Chat) + 8, u32::MAX), "chat template"),
    ("NotUtf8", |d| d.set(d.start(Provenance) + 5, &[0xFF]), "byte 5"),
];

/// The bits of 2.0.
const TWO: u32 = 2.0_f32.to_bits();

/// Makes the file one of version 2, with these words in its configuration.
fn newer(d: &mut Damage, words: &[(usize, u32)]) {
    d.set_u32(8, 2);
    for &(word, value) in words {
        d.set_u32(d.start(Config) + word * 4, value);
    }
}

/// Makes the chat section one of an unknown optional kind, with `value` in a field of its record.
fn optional(d: &mut Damage, field: usize, value: u64) {
    let record = d.record(Chat);
    d.set_u32(record, 0x8000_0001);
    d.set_u64(record + field, value);
}

fn last_section_ends_early(d: &mut Damage) {
    let at = d.record(Tensors) + 16;
    d.set_u64(at, d.u64(at) - 1);
}

fn weights_cut(d: &mut Damage) {
    last_section_ends_early(d);
    d.0.pop();
    d.set_u64(16, d.0.len() as u64);
}

/// Both are where the directory says; only their order is wrong.
fn two_sections_swapped(d: &mut Damage) {
    let (a, b) = (d.record(Config), d.record(TensorTable));
    d.set_u32(a, TensorTable as u32);
    d.set_u32(b, Config as u32);
}

fn variant(error: &FormatError) -> String {
    let text = format!("{error:?}");
    text.split([' ', '{', '(']).next().unwrap().to_owned()
}

#[test]
fn the_good_file_is_good() {
    Damage::new().open().unwrap();
}

#[test]
fn every_damage_has_its_error() {
    for (index, (expected, damage, message)) in CASES.iter().enumerate() {
        let mut file = Damage::new();
        damage(&mut file);
        // What is about the header's checksum or a file too short to have one keeps its damage.
        if *expected != "HeaderChecksum" && file.0.len() >= HEADER_LEN {
            file.seal();
        }
        let error = file.open().expect_err(&format!("case {index}: {expected} was accepted"));
        assert_eq!(variant(&error), *expected, "case {index}: {error}");
        let text = error.to_string();
        assert!(text.contains(message), "case {index}: {text:?} lacks {message:?}");
    }
}

#[test]
fn a_shifted_mapping_is_refused() {
    let aligned = Aligned::new(&[&[0], good()].concat());
    let error = ModelFile::parse(&aligned.bytes()[1..]).unwrap_err();
    assert_eq!(variant(&error), "Misaligned");
}

/// Reads the variants from the source, so that a new one cannot be forgotten here.
#[test]
fn every_error_has_a_case() {
    let source = include_str!("../../runtime/src/format/error.rs");
    let variants: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.split([' ', '{', ',']).next().unwrap())
        .collect();
    assert!(variants.len() > 20, "the list was read: {variants:?}");
    let mut tried: BTreeSet<&str> = CASES.iter().map(|case| case.0).collect();
    tried.insert("Misaligned");
    // With 64-bit sizes the configuration's limits leave no room for an overflow.
    tried.insert("TensorOverflow");
    assert_eq!(variants, tried);
    assert_eq!(Encoding::Q4.tensor_bytes(usize::MAX, usize::MAX), None);
}

#[test]
fn unknown_optional_sections_are_skipped() {
    let mut file = Damage::new();
    // The chat section is the only one that a file can do without.
    let record = file.record(Chat);
    file.set_u32(record, 0x8000_0001);
    file.seal();
    let aligned = Aligned::new(&file.0);
    let parsed = ModelFile::parse(aligned.bytes()).unwrap();
    assert!(parsed.chat().is_none());
    parsed.verify().unwrap();
}

#[test]
fn padding_behind_the_directory_is_looked_at() {
    // Without a chat template the directory has five records and ends off the boundary.
    let folder = tempfile::tempdir().unwrap();
    let mut source = Folder::new(ODD, BlockType::F32);
    source.tokenizer_config["chat_template"] = serde_json::Value::Null;
    source.write(folder.path(), 1);
    let destination = folder.path().join("tiny.thimble");
    let summary = convert(folder.path(), &destination, &ConversionOptions::default(), &mut |_| {}).unwrap();
    assert!(summary.notes[0].contains("no chat template"), "{:?}", summary.notes);
    let mut file = Damage(fs::read(&destination).unwrap());
    file.open().unwrap();
    file.set(HEADER_LEN + 5 * DIRECTORY_RECORD, &[1]);
    assert_eq!(file.open(), Err(FormatError::Padding { name: Config.into() }));
}

#[test]
fn every_truncation_is_an_error() {
    let good = good();
    for length in (0..2000).chain((0..good.len()).step_by(997)) {
        assert!(ModelFile::parse(Aligned::new(&good[..length]).bytes()).is_err(), "{length} bytes");
    }
}

/// Looks at everything that a file gives out.
fn use_all(bytes: &[u8]) {
    let Ok(file) = ModelFile::parse(bytes) else { return };
    let _ = file.verify();
    for record in file.tensors().iter() {
        let tensor = file.tensor_bytes(&record);
        assert_eq!(tensor.len() as u64, record.length);
    }
    assert!(file.sections().count() >= 5);
    let mut out = vec![Token(0); 64];
    let mut scratch = vec![0; 1 << 12];
    let specials = thimble_runtime::tokenizer::Specials::Parse;
    let _ = file.tokenizer().encode("Hello <|im_end|> 123 abc", specials, &mut scratch, &mut out);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500), magic in any::<bool>()) {
        let mut file = if magic { good()[..16].to_vec() } else { Vec::new() };
        file.extend(bytes);
        use_all(Aligned::new(&file).bytes());
    }

    #[test]
    fn random_damage_never_panics(
        changes in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..8),
        sealed in any::<bool>(),
    ) {
        let mut file = Damage::new();
        let head = file.start(Tensors);
        for (at, byte) in changes {
            // Half of the changes hit header, directory, configuration and table.
            let range = if at % 2 == 0 { head } else { 1200 };
            let at = (at / 2) as usize % range;
            file.0[at] = byte;
        }
        if sealed && file.u32(12) <= 32 {
            file.seal();
        }
        use_all(Aligned::new(&file.0).bytes());
    }
}
