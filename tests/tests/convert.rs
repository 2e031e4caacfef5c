//! Hugging Face folders and GGUF files, written here byte by byte, through the converter and back.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "convert/bos.rs"]
mod bos;
#[path = "convert/heads.rs"]
mod heads;
#[path = "convert/refusals.rs"]
mod refusals;
#[path = "convert/splits.rs"]
mod splits;
mod tiny;
#[path = "convert/tokens.rs"]
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};
use thimble_converter::pack::unpack;
use thimble_converter::{
    BlockType, ConversionOptions, ConversionSummary, ConvertError, Quant, convert, dequantize, read,
};
use thimble_runtime::Token;
use thimble_runtime::chat::ChatTemplate;
use thimble_runtime::format::{Encoding, ModelFile, TensorRole};
use tiny::{Aligned, BLOCKS, Folder, GgufFile, ODD, SUPER, Shape, Spec, float_bytes, random_blocks};

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn run(source: &Path, quant: Quant) -> Result<(ConversionSummary, Vec<u8>), ConvertError> {
    let folder = temporary();
    let destination = folder.path().join("out.thimble");
    let options = ConversionOptions { quant, ..ConversionOptions::default() };
    let mut last = 0;
    let summary = convert(source, &destination, &options, &mut |progress| {
        assert!(progress.done >= last && progress.done <= progress.total, "progress goes forward");
        last = progress.done;
    });
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    match summary {
        Ok(summary) => {
            assert_eq!(left, std::slice::from_ref(&destination), "only the file itself is there");
            let bytes = fs::read(&destination).unwrap();
            assert_eq!((summary.bytes, last), (bytes.len() as u64, bytes.len() as u64));
            Ok((summary, bytes))
        }
        Err(error) => {
            assert_eq!(left, Vec::<PathBuf>::new(), "a failure leaves nothing behind");
            Err(error)
        }
    }
}

fn run_folder(
    folder: &Folder,
    shards: usize,
    quant: Quant,
) -> Result<(ConversionSummary, Vec<u8>), ConvertError> {
    let source = temporary();
    folder.write(source.path(), shards);
    run(source.path(), quant)
}

fn run_gguf(file: &GgufFile, quant: Quant) -> Result<(ConversionSummary, Vec<u8>), ConvertError> {
    let source = temporary();
    let path = source.path().join("tiny.gguf");
    fs::write(&path, file.bytes()).unwrap();
    run(&path, quant)
}

/// Name, encoding and numbers of every tensor of a file, after everything about it was verified.
fn tensors(bytes: &[u8], shape: Shape) -> Vec<(Spec, Encoding, Vec<f32>)> {
    let aligned = Aligned::new(bytes);
    let file = ModelFile::parse(aligned.bytes()).unwrap();
    file.verify().unwrap();
    let config = file.config();
    assert_eq!((config.hidden, config.layers, config.heads), (shape.hidden, shape.layers, shape.heads));
    assert_eq!((config.kv_heads, config.ffn, config.vocab), (shape.kv_heads, shape.ffn, shape.vocab));
    assert_eq!((config.context, config.rope.theta, config.norm_eps), (512, 50000.0, 1e-5));
    assert_eq!((config.tied, config.bos), (shape.tied, Some(Token(1))));
    assert!(config.is_stop(Token(2)) && config.is_stop(Token(0)) && !config.is_stop(Token(1)));
    assert!(matches!(file.chat(), Some(ChatTemplate::Literal(_))), "ChatML is literals");
    let specs = shape.tensors();
    assert_eq!(file.tensors().iter().count(), specs.len());
    let each = file.tensors().iter().zip(specs).map(|(record, spec)| {
        let stored = file.tensor_bytes(&record);
        let (rows, columns) = (spec.rows.unwrap_or(1), spec.columns);
        assert_eq!((record.rows as usize, record.columns as usize), (rows, columns), "{}", spec.hub);
        (spec, record.encoding, unpack(record.encoding, stored, rows, columns).unwrap())
    });
    each.collect()
}

#[test]
fn float_folders_are_kept_exactly() {
    for (kind, encoding) in
        [(BlockType::F32, Encoding::F32), (BlockType::F16, Encoding::F16), (BlockType::BF16, Encoding::BF16)]
    {
        for tied in [true, false] {
            for shards in [1, 3] {
                let shape = Shape { tied, ..ODD };
                let (summary, bytes) = run_folder(&Folder::new(shape, kind), shards, Quant::Keep).unwrap();
                assert_eq!(summary.rounding, 0.0);
                assert_eq!(summary.notes, Vec::<String>::new());
                for (spec, found, values) in tensors(&bytes, shape) {
                    let expected = if spec.rows.is_some() { encoding } else { Encoding::Vector };
                    assert_eq!(found, expected, "{}", spec.hub);
                    assert_eq!(values, spec.values(), "{} of {kind}, {shards} shards", spec.hub);
                }
            }
        }
    }
}

#[test]
fn a_folder_and_its_gguf_become_the_same_model() {
    for kind in [BlockType::F32, BlockType::F16, BlockType::BF16] {
        let folder = run_folder(&Folder::new(ODD, kind), 1, Quant::Keep).unwrap().1;
        let gguf = GgufFile::new(ODD, kind, |spec| float_bytes(kind, &spec.values()));
        let gguf = run_gguf(&gguf, Quant::Keep).unwrap().1;
        let (folder, gguf) = (Aligned::new(&folder), Aligned::new(&gguf));
        let [folder, gguf] = [&folder, &gguf].map(|file| ModelFile::parse(file.bytes()).unwrap());
        assert_eq!(folder.config(), gguf.config());
        assert_eq!(folder.chat(), gguf.chat());
        for (a, b) in folder.tensors().iter().zip(gguf.tensors().iter()) {
            assert_eq!(a, b);
            assert!(
                folder.tensor_bytes(&a) == gguf.tensor_bytes(&b),
                "{} {}: rows in another order",
                a.role,
                a.layer
            );
        }
        let text = "Hello 123 <|im_end|>\u{1F600}";
        let ids = |file: &ModelFile<'_>| {
            let tokenizer = file.tokenizer();
            let mut scratch = vec![0; 1 << 16];
            let mut out = vec![Token(0); 100];
            let count =
                tokenizer.encode(text, thimble_runtime::tokenizer::Specials::Parse, &mut scratch, &mut out);
            out.truncate(count.unwrap());
            out
        };
        assert_eq!(ids(&folder), ids(&gguf));
    }
}

/// The numbers of the four types that have a lossless encoding, computed in the plainest way.
fn plain(kind: BlockType, block: &[u8]) -> Vec<f32> {
    let half = |at: usize| half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
    let nibble = |codes: &[u8], j: usize| i32::from(if j < 16 { codes[j] % 16 } else { codes[j - 16] / 16 });
    let number = |j: usize| match kind {
        BlockType::Q4_0 => half(0) * (nibble(&block[2..], j) - 8) as f32,
        BlockType::Q4_1 => half(0) * nibble(&block[4..], j) as f32 + half(2),
        BlockType::Q5_0 => {
            let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
            half(0) * (nibble(&block[6..], j) + if high & (1 << j) != 0 { 0 } else { -16 }) as f32
        }
        _ => half(0) * f32::from(i8::from_le_bytes([block[2 + j]])),
    };
    (0..32).map(number).collect()
}

#[test]
fn block_types_with_a_lossless_encoding_are_kept_exactly() {
    for kind in [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_0, BlockType::Q8_0] {
        let file = GgufFile::new(BLOCKS, kind, |spec| random_blocks(kind, spec));
        let (summary, bytes) = run_gguf(&file, Quant::Keep).unwrap();
        assert_eq!((summary.rounding, summary.notes.len()), (0.0, 0), "{kind}");
        for (spec, encoding, values) in tensors(&bytes, BLOCKS) {
            if spec.rows.is_none() {
                assert_eq!(values, spec.values());
                continue;
            }
            assert_eq!(Some(encoding), kind.lossless_encoding());
            let blocks = random_blocks(kind, &spec);
            let expected: Vec<f32> =
                blocks.chunks_exact(kind.block_bytes()).flat_map(|block| plain(kind, block)).collect();
            assert_eq!(values, expected, "{kind} {}", spec.gguf);
        }
    }
}

#[test]
fn other_block_types_become_f16_and_the_file_says_so() {
    let kinds = [
        BlockType::Q5_1,
        BlockType::Q2_K,
        BlockType::Q3_K,
        BlockType::Q4_K,
        BlockType::Q5_K,
        BlockType::Q6_K,
    ];
    for kind in kinds {
        let file = GgufFile::new(SUPER, kind, |spec| random_blocks(kind, spec));
        let (summary, bytes) = run_gguf(&file, Quant::Keep).unwrap();
        assert!(summary.rounding > 0.0 && summary.rounding < 1e-3, "{kind}: {}", summary.rounding);
        let aligned = Aligned::new(&bytes);
        let provenance = ModelFile::parse(aligned.bytes()).unwrap().provenance().to_owned();
        assert!(provenance.contains(&format!("rounded from {kind} to f16: 8 of 8")), "{provenance}");
        for (spec, encoding, values) in tensors(&bytes, SUPER) {
            if spec.rows.is_some() {
                assert_eq!(encoding, Encoding::F16);
                let mut expected = vec![0.0; spec.count()];
                dequantize(kind, &random_blocks(kind, &spec), &mut expected);
                expected.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
                assert_eq!(values, expected, "{kind} {}", spec.gguf);
            }
        }
    }
}

#[test]
fn recipes_choose_their_encodings() {
    let edge = |spec: &Spec| spec.hub.contains("embed_tokens") || spec.hub.contains("lm_head");
    let shape = Shape { tied: false, ..ODD };
    for (quant, body, ends, most) in [
        (Quant::F32, Encoding::F32, Encoding::F32, 0.0),
        (Quant::F16, Encoding::F16, Encoding::F16, 0.0),
        (Quant::BF16, Encoding::BF16, Encoding::BF16, 0.0),
        (Quant::Q8, Encoding::Q8, Encoding::Q8Row, 0.006),
        (Quant::Q6, Encoding::Q6, Encoding::Q8Row, 0.02),
        (Quant::Q5, Encoding::Q5Nl, Encoding::Q8Row, 0.04),
        (Quant::Q4, Encoding::Q4Nl, Encoding::Q8Row, 0.08),
        (Quant::Q4Even, Encoding::Q4, Encoding::Q8Row, 0.08),
        (Quant::Q3, Encoding::Q3Nl, Encoding::Q6, 0.18),
        (Quant::Q4Min, Encoding::Q4Min, Encoding::Q8Row, 0.07),
    ] {
        let (summary, bytes) = run_folder(&Folder::new(shape, BlockType::F32), 1, quant).unwrap();
        assert!(summary.rounding <= most, "{quant} lost {}", summary.rounding);
        for (spec, encoding, values) in tensors(&bytes, shape) {
            let expected = match (spec.rows, edge(&spec)) {
                (None, _) => Encoding::Vector,
                (_, true) => ends,
                _ => body,
            };
            assert_eq!(encoding, expected, "{quant} {}", spec.hub);
            let most = if BlockType::F32.rounds(encoding) { most as f32 } else { 0.0 };
            let worst = values.iter().zip(spec.values()).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst <= most * 0.5, "{quant} {}: off by {worst}", spec.hub);
        }
    }
    // A four-bit source keeps its own grid where that takes no more room.
    let file = GgufFile::new(BLOCKS, BlockType::Q4_1, |spec| random_blocks(BlockType::Q4_1, spec));
    let (_, bytes) = run_gguf(&file, Quant::Q5).unwrap();
    let encodings: Vec<_> = tensors(&bytes, BLOCKS).into_iter().map(|(_, encoding, _)| encoding).collect();
    assert_eq!((encodings[0], encodings[2]), (Encoding::Q4Min, Encoding::Q4Min));
}

#[test]
fn the_weight_of_other_encodings_is_known_beforehand() {
    let source = temporary();
    Folder::new(Shape { tied: false, ..ODD }, BlockType::F16).write(source.path(), 1);
    let checkpoint = read::open(source.path()).unwrap();
    for quant in [Quant::Keep, Quant::F32, Quant::Q8, Quant::Q4] {
        let bytes = run(source.path(), quant).unwrap().1;
        let aligned = Aligned::new(&bytes);
        let tensors = ModelFile::parse(aligned.bytes()).unwrap().tensors().iter().last().unwrap();
        assert_eq!(checkpoint.weight_bytes(quant).unwrap(), tensors.offset + tensors.length, "{quant}");
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = Folder::new(ODD, BlockType::BF16);
    let source = temporary();
    folder.write(source.path(), 2);
    let [first, second] = [(), ()].map(|()| run(source.path(), Quant::Q4).unwrap().1);
    assert!(first == second);
}

#[test]
fn a_file_is_replaced_and_named_as_asked() {
    let folder = temporary();
    let (source, destination) = (folder.path().join("tiny.gguf"), folder.path().join("tiny.thimble"));
    fs::write(
        &source,
        GgufFile::new(ODD, BlockType::F32, |s| float_bytes(BlockType::F32, &s.values())).bytes(),
    )
    .unwrap();
    fs::write(&destination, "something older").unwrap();
    let options = ConversionOptions {
        name: Some("mine".into()),
        source: Some("a hub".into()),
        licence: Some("MIT".into()),
        ..ConversionOptions::default()
    };
    convert(&source, &destination, &options, &mut |_| {}).unwrap();
    let aligned = Aligned::new(&fs::read(&destination).unwrap());
    let file = ModelFile::parse(aligned.bytes()).unwrap();
    let json: serde_json::Value = serde_json::from_str(file.provenance()).unwrap();
    assert_eq!(
        (&json["name"], &json["source"], &json["licence"]),
        (&"mine".into(), &"a hub".into(), &"MIT".into())
    );
    assert_eq!((&json["recipe"], &json["container"]), (&"keep".into(), &"gguf".into()));
}

#[test]
fn the_record_of_every_role_is_in_order() {
    let (_, bytes) = run_folder(&Folder::new(ODD, BlockType::F32), 1, Quant::Keep).unwrap();
    let aligned = Aligned::new(&bytes);
    let file = ModelFile::parse(aligned.bytes()).unwrap();
    let roles: Vec<TensorRole> = file.tensors().iter().map(|t| t.role).collect();
    assert_eq!(roles.first(), Some(&TensorRole::Embedding));
    assert_eq!(roles.last(), Some(&TensorRole::FinalNorm));
    assert!(file.tensors().iter().all(|t| t.offset % 64 == 0));
}
