//! GGUF files out: what is written is read back by the converter's own reader, which was tested on files that the
//! tests wrote byte by byte; bytes of blocks are ggml's (converter/src/write_gguf), and tests/golden has the script
//! that asks llama.cpp itself.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

mod tiny;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use thimble_converter::pack::unpack;
use thimble_converter::read::{self, Gguf, Value};
use thimble_converter::write_gguf::{GgufSummary, GgufType, write_gguf};
use thimble_converter::{BlockType, ConversionOptions, ConvertError, Quant, Sections, convert, dequantize};
use thimble_files::MappedModel;
use tiny::{BLOCKS, Folder, GgufFile, Meta, ODD, SUPER, Shape, float_bytes, random_blocks};

/// Writes a GGUF file from any source; the file's bytes.
fn written(source: &Path, kind: GgufType) -> Result<(GgufSummary, Vec<u8>), ConvertError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let mut last = 0;
    let summary = write_gguf(&read::open(source)?, &path, kind, &mut |progress| {
        assert!(progress.done >= last && progress.done <= progress.total, "progress goes forward");
        last = progress.done;
    });
    if summary.is_err() {
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a failure leaves nothing behind");
    }
    let summary = summary?;
    let bytes = fs::read(&path).unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    Ok((summary, bytes))
}

fn parse(bytes: &[u8]) -> Gguf {
    Gguf::parse(bytes, bytes.len() as u64).unwrap()
}

/// Type, dimensions and bytes of every tensor.
fn tensors(bytes: &[u8]) -> BTreeMap<String, (BlockType, Vec<u64>, Vec<u8>)> {
    let tensor = |t: read::GgufTensor| {
        let data = bytes[t.offset as usize..][..t.length as usize].to_vec();
        (t.name, (t.kind, t.dimensions, data))
    };
    parse(bytes).tensors.into_iter().map(tensor).collect()
}

fn folder(shape: Shape, kind: BlockType) -> (tempfile::TempDir, Folder) {
    let at = tempfile::tempdir().unwrap();
    let folder = Folder::new(shape, kind);
    folder.write(at.path(), 1);
    (at, folder)
}

#[test]
fn floats_are_as_a_gguf_writer_would_have_them() {
    for shape in [ODD, BLOCKS, Shape { tied: false, ..BLOCKS }] {
        let (at, _) = folder(shape, BlockType::F32);
        for kind in [BlockType::F32, BlockType::F16, BlockType::BF16] {
            let (summary, bytes) = written(at.path(), GgufType::All(kind)).unwrap();
            let expected = GgufFile::new(shape, kind, |spec| float_bytes(kind, &spec.values()));
            let expected = tensors(&expected.bytes());
            assert_eq!(tensors(&bytes), expected, "{kind}");
            assert_eq!((summary.rounding, summary.notes.len()), (0.0, 0), "these numbers fit every type");
            assert_eq!(summary.types["F32"].0 == expected.len(), kind == BlockType::F32);
        }
    }
}

#[test]
fn metadata_is_that_of_a_gguf_file() {
    let (at, _) = folder(BLOCKS, BlockType::F32);
    let found = parse(&written(at.path(), GgufType::default()).unwrap().1).metadata;
    let expected = GgufFile::new(BLOCKS, BlockType::F32, |spec| float_bytes(BlockType::F32, &spec.values()));
    for (key, value) in parse(&expected.bytes()).metadata {
        // The folder's name is the model's.
        if key != "general.name" {
            assert_eq!(found.get(&key), Some(&value), "{key}");
        }
    }
    let number = |key: &str| found.get(key).cloned();
    assert_eq!(number("llama.vocab_size"), Some(Value::Unsigned(300)));
    assert_eq!(number("general.file_type"), Some(Value::Unsigned(0)));
    assert_eq!(number("general.quantization_version"), Some(Value::Unsigned(2)));
    assert_eq!(number("llama.attention.key_length"), None, "heads of the usual width");
}

#[test]
fn gguf_to_thimble_to_gguf_changes_nothing() {
    use BlockType::{BF16, F16, F32, Q4_0, Q4_1, Q8_0};
    let at = tempfile::tempdir().unwrap();
    let [first, between] = ["first.gguf", "between.thimble"].map(|name| at.path().join(name));
    for kind in [F32, F16, BF16, Q4_0, Q4_1, Q8_0] {
        let file = GgufFile::new(BLOCKS, kind, |spec| match kind {
            F32 | F16 | BF16 => float_bytes(kind, &spec.values()),
            kind => random_blocks(kind, spec),
        });
        fs::write(&first, file.bytes()).unwrap();
        convert(&first, &between, &ConversionOptions::default(), &mut |_| {}).unwrap();
        let (_, direct) = written(&first, GgufType::Keep).unwrap();
        let (summary, around) = written(&between, GgufType::Keep).unwrap();
        assert_eq!(tensors(&direct), tensors(&file.bytes()), "{kind}");
        assert_eq!(tensors(&around), tensors(&file.bytes()), "{kind}");
        assert_eq!(summary.rounding, 0.0);
        // What runs it is all there.
        let metadata = [&direct, &around].map(|bytes| parse(bytes).metadata);
        for (key, value) in &metadata[0] {
            match key.as_str() {
                // The tables say how text is cut, not what that is called; the template is one that renders the same.
                "tokenizer.ggml.pre" | "tokenizer.chat_template" => assert!(metadata[1].contains_key(key)),
                key => assert_eq!(metadata[1].get(key), Some(value), "{kind}: {key}"),
            }
        }
        assert_eq!(written(&between, GgufType::Keep).unwrap().1, around, "the same bytes each time");
    }
}

/// Digits that are cut off before words stay so through a GGUF file, whose pre-tokenizer alone does not tell.
#[test]
fn digits_apart_survive_a_gguf_file() {
    let (at, _) = folder(BLOCKS, BlockType::F32);
    let file = at.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let byte_level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    for digits in [true, false] {
        let cut = serde_json::json!({"type": "Digits", "individual_digits": true});
        json["pre_tokenizer"] = match digits {
            true => serde_json::json!({"type": "Sequence", "pretokenizers": [cut, byte_level]}),
            false => byte_level.clone(),
        };
        fs::write(&file, json.to_string()).unwrap();
        let gguf = at.path().join("out.gguf");
        fs::write(&gguf, written(at.path(), GgufType::Keep).unwrap().1).unwrap();
        let sections = |source: &Path| Sections::of(&read::open(source).unwrap()).unwrap().tokenizer;
        assert_eq!(sections(at.path()), sections(&gguf), "digits apart: {digits}");
    }
}

#[test]
fn what_lies_on_a_grid_stays_there() {
    use BlockType::{Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
    let at = tempfile::tempdir().unwrap();
    let source = at.path().join("source.gguf");
    let kept = |shape: Shape, from: BlockType, to: BlockType| {
        let file = GgufFile::new(shape, from, |spec| random_blocks(from, spec));
        fs::write(&source, file.bytes()).unwrap();
        let (summary, bytes) = written(&source, GgufType::All(to)).unwrap();
        assert_eq!(summary.rounding, 0.0, "{from} to {to}");
        let expected = tensors(&file.bytes());
        for (name, (kind, dimensions, bytes)) in tensors(&bytes) {
            let (from, expected_dimensions, expected) = &expected[&name];
            let values = |kind: BlockType, bytes: &[u8]| {
                let mut out = vec![0.0; dimensions.iter().product::<u64>() as usize];
                dequantize(kind, bytes, &mut out);
                out
            };
            assert_eq!(&dimensions, expected_dimensions);
            assert_eq!(values(kind, &bytes), values(*from, expected), "{name}: {from} to {kind}");
        }
    };
    for (from, to) in [(Q4_0, Q5_0), (Q4_0, Q8_0), (Q5_0, Q8_0)] {
        kept(BLOCKS, from, to);
    }
    for from in [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0] {
        kept(BLOCKS, from, BlockType::F32);
    }
    kept(SUPER, Q6_K, BlockType::F32);
    for kind in [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0] {
        kept(BLOCKS, kind, kind);
    }
    // Types that can be read and not made are kept too.
    for kind in [Q4_K, Q2_K, Q3_K, Q5_K, Q6_K] {
        let file = GgufFile::new(SUPER, kind, |spec| random_blocks(kind, spec));
        fs::write(&source, file.bytes()).unwrap();
        assert_eq!(tensors(&written(&source, GgufType::Keep).unwrap().1), tensors(&file.bytes()));
    }
}

#[test]
fn narrow_rows_fall_back_and_say_so() {
    let (at, _) = folder(ODD, BlockType::F32);
    let (summary, bytes) = written(at.path(), GgufType::All(BlockType::Q4_0)).unwrap();
    let kinds: BTreeMap<String, BlockType> = tensors(&bytes).into_iter().map(|(n, t)| (n, t.0)).collect();
    assert_eq!(kinds["blk.0.ffn_down.weight"], BlockType::F16, "rows of 70");
    assert_eq!(kinds["blk.0.ffn_up.weight"], BlockType::Q4_0);
    assert_eq!(kinds["token_embd.weight"], BlockType::Q8_0);
    assert_eq!(kinds["blk.1.attn_norm.weight"], BlockType::F32);
    let notes = summary.notes.join("\n");
    assert!(
        notes.contains("2 matrices are F16 instead of Q4_0: rows of 70 are no multiple of 32"),
        "{notes}"
    );
    assert!(notes.contains("the embedding is Q8_0"), "{notes}");

    let (summary, _) = written(at.path(), GgufType::All(BlockType::Q4_K)).unwrap();
    let notes = summary.notes.join("\n");
    assert!(
        notes.contains("12 matrices are Q5_0 instead of Q4_K: rows of 96 are no multiple of 256"),
        "{notes}"
    );

    let (at, _) = folder(SUPER, BlockType::F32);
    let (summary, _) = written(at.path(), GgufType::All(BlockType::Q4_K)).unwrap();
    assert_eq!(summary.types["Q4_K"].0, 7);
    assert!(summary.rounding > 0.01 && summary.rounding < 0.08, "{}", summary.rounding);
}

#[test]
fn other_head_widths_and_padded_vocabularies_are_written_down() {
    // Two heads of 48 in a model 64 wide, and ten embedding rows without a token.
    let mut folder = Folder::new(Shape { hidden: 96, heads: 2, kv_heads: 1, ..BLOCKS }, BlockType::F32);
    folder.config["hidden_size"] = 64.into();
    folder.config["head_dim"] = 48.into();
    folder.tokenizer = tiny::tokenizer_json(290);
    for (name, _, shape, bytes) in &mut folder.tensors {
        // Cut to 64 whatever is the model's width: columns, or the rows of what writes into it.
        let writes = name.contains("o_proj") || name.contains("down_proj");
        let narrow = |dimension: &mut usize| *dimension = if *dimension == 96 { 64 } else { *dimension };
        match shape.as_mut_slice() {
            [rows, _] if writes => narrow(rows),
            [.., columns] => narrow(columns),
            [] => {}
        }
        bytes.truncate(4 * shape.iter().product::<usize>());
    }
    let at = tempfile::tempdir().unwrap();
    folder.write(at.path(), 1);
    let (_, bytes) = written(at.path(), GgufType::All(BlockType::F16)).unwrap();
    let metadata = parse(&bytes).metadata;
    for key in ["attention.key_length", "attention.value_length", "rope.dimension_count"] {
        assert_eq!(metadata[&format!("llama.{key}")], Value::Unsigned(48));
    }
    let Value::Texts(tokens) = &metadata["tokenizer.ggml.tokens"] else { panic!("a list") };
    assert_eq!((tokens.len(), tokens[299].as_slice()), (300, &b"[PAD299]"[..]));
    let file = at.path().join("again.gguf");
    fs::write(&file, &bytes).unwrap();
    let (config, again) = (read::open(at.path()).unwrap().config, read::open(&file).unwrap().config);
    assert_eq!(config, again);
    assert_eq!(tensors(&written(&file, GgufType::Keep).unwrap().1), tensors(&bytes));
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let mut folder = Folder::new(BLOCKS, BlockType::F32);
    let at = tempfile::tempdir().unwrap();
    let mut with = |value: f32, kind: BlockType| {
        // The key projection's fourth row, in Hugging Face's order.
        folder.tensors[3].3[4 * 96 * 3..][..4].copy_from_slice(&value.to_le_bytes());
        folder.write(at.path(), 1);
        written(at.path(), GgufType::All(kind)).map(|_| ()).map_err(|error| error.to_string())
    };
    for kind in GgufType::TYPES {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let sentence = with(value, kind).unwrap_err();
            assert!(sentence.contains("self_attn.k_proj.weight, row 3"), "{kind}: {sentence}");
        }
        match (kind, with(-1e30, kind)) {
            (BlockType::F32 | BlockType::BF16, fits) => fits.unwrap(),
            (_, refused) => {
                let sentence = refused.unwrap_err();
                assert!(
                    sentence.contains(&format!("row 3: a weight is too large for {kind}"))
                        || kind == BlockType::Q4_K && sentence.contains("Q5_0"),
                    "{sentence}"
                );
            }
        }
    }
}

#[test]
fn damaged_thimble_files_are_refused() {
    let (at, _) = folder(BLOCKS, BlockType::F32);
    let good = at.path().join("good.thimble");
    convert(
        at.path(),
        &good,
        &ConversionOptions { quant: Quant::Q4, ..ConversionOptions::default() },
        &mut |_| {},
    )
    .unwrap();
    let bytes = fs::read(&good).unwrap();
    let bad = at.path().join("bad.thimble");
    for length in [0, 1, 8, 64, 1000, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&bad, &bytes[..length]).unwrap();
        assert!(written(&bad, GgufType::Keep).is_err(), "cut to {length} bytes");
    }
    for at in [70, 300, 5000, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&bad, damaged).unwrap();
        assert!(written(&bad, GgufType::Keep).is_err(), "byte {at}");
    }
    // A cut GGUF file likewise.
    let gguf = written(&good, GgufType::Keep).unwrap().1;
    fs::write(at.path().join("cut.gguf"), &gguf[..gguf.len() - 40]).unwrap();
    assert!(matches!(written(&at.path().join("cut.gguf"), GgufType::Keep), Err(ConvertError::Gguf { .. })));
}

#[test]
fn a_thimble_file_becomes_another_one() {
    let (at, _) = folder(BLOCKS, BlockType::F32);
    let [first, second, direct] = ["1.thimble", "2.thimble", "3.thimble"].map(|name| at.path().join(name));
    let to = |source: &Path, target: &Path, quant: Quant| {
        convert(source, target, &ConversionOptions { quant, ..ConversionOptions::default() }, &mut |_| {})
            .unwrap()
    };
    to(at.path(), &first, Quant::F32);
    to(&first, &second, Quant::Q4);
    to(at.path(), &direct, Quant::Q4);
    let [second, direct] = [second, direct].map(|path| read::open(&path).unwrap());
    for (a, b) in second.tensors().iter().zip(direct.tensors()) {
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        second.read_rows(a, 0..a.rows, &mut found).unwrap();
        direct.read_rows(b, 0..b.rows, &mut expected).unwrap();
        assert_eq!(found, expected, "{}", a.name);
    }
    assert_eq!(second.tokenizer, direct.tokenizer);
}

#[test]
fn stop_tokens_and_lists_have_their_places() {
    let mut file = GgufFile::new(BLOCKS, BlockType::F32, |spec| float_bytes(BlockType::F32, &spec.values()));
    file.set("tokenizer.ggml.eom_token_id", Meta::U32(7));
    file.set("tokenizer.ggml.unknown_token_id", Meta::U32(0));
    file.set("tokenizer.ggml.padding_token_id", Meta::U32(2));
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("a.gguf");
    fs::write(&path, file.bytes()).unwrap();
    let found = parse(&written(&path, GgufType::Keep).unwrap().1).metadata;
    for (key, id) in [("bos", 1), ("eos", 2), ("eot", 0), ("eom", 7), ("unknown", 0), ("padding", 2)] {
        assert_eq!(found[&format!("tokenizer.ggml.{key}_token_id")], Value::Unsigned(id), "{key}");
    }
    for key in ["add_bos_token", "add_space_prefix"] {
        assert_eq!(found[&format!("tokenizer.ggml.{key}")], Value::Bool(false));
    }
    assert_eq!(found["tokenizer.ggml.pre"], Value::Text(b"smollm".to_vec()), "as in the source");
}

#[test]
fn every_encoding_is_read_back_as_the_numbers_it_stands_for() {
    for shape in [ODD, BLOCKS] {
        let (at, _) = folder(shape, BlockType::F32);
        let path = at.path().join("model.thimble");
        for quant in Quant::ALL {
            convert(
                at.path(),
                &path,
                &ConversionOptions { quant, ..ConversionOptions::default() },
                &mut |_| {},
            )
            .unwrap();
            let mapped = MappedModel::read(&path).unwrap();
            let (file, checkpoint) = (mapped.file().unwrap(), read::open(&path).unwrap());
            for (record, tensor) in file.tensors().iter().zip(checkpoint.tensors()) {
                let (rows, columns) = (record.rows as usize, record.columns as usize);
                let expected = unpack(record.encoding, file.tensor_bytes(&record), rows, columns).unwrap();
                let (mut bytes, mut found) = (Vec::new(), vec![0.0; rows * columns]);
                checkpoint.read_rows(tensor, 0..rows, &mut bytes).unwrap();
                dequantize(tensor.kind, &bytes, &mut found);
                assert_eq!(found, expected, "{quant}: {}", tensor.name);
                // From the middle of a panel into another.
                if rows > 20 {
                    checkpoint.read_rows(tensor, 5..20, &mut bytes).unwrap();
                    dequantize(tensor.kind, &bytes, &mut found[..15 * columns]);
                    assert_eq!(found[..15 * columns], expected[5 * columns..20 * columns]);
                }
            }
        }
    }
}
