//! Calibration and targets: the f32 model against values from numpy, the files that come of it, and what is refused.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]
#![allow(dead_code, reason = "the models are shared with other tests")]

#[path = "model/golden.rs"]
mod golden;
mod tiny;

use golden::Grid;
use std::fs;
use std::path::Path;
use thimble_converter::calibrate::{FloatModel, default_text};
use thimble_converter::{
    BlockType, ConversionOptions, ConversionStage, ConversionSummary, ConvertError, Quant, SizeTarget, Table,
    convert, read,
};
use tiny::{Folder, Shape, float_bytes};

/// A model that has room for compensation: inputs that are many for their rank.
const WIDE: Shape = Shape { hidden: 64, layers: 2, heads: 2, kv_heads: 1, ffn: 160, vocab: 300, tied: true };

fn log_probabilities(logits: &[f32], vocab: usize) -> Vec<f64> {
    let row = |row: &[f32]| -> Vec<f64> {
        let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
        row.iter().map(|&v| f64::from(v) - sum.ln()).collect()
    };
    logits.chunks(vocab).flat_map(row).collect()
}

#[test]
fn the_f32_model_predicts_what_numpy_computed() {
    for golden in golden::all() {
        let folder = tempfile::tempdir().unwrap();
        golden.folder(Grid::Bytes).write(folder.path(), 1);
        let checkpoint = read::open(folder.path()).unwrap();
        let tokens: Vec<u32> = golden.tokens().iter().map(|t| t.0).collect();
        let logits = FloatModel::load(&checkpoint, tokens.len()).unwrap().predict(&tokens).unwrap();
        let expected = golden.values(Grid::Bytes);
        let last = &logits[logits.len() - golden.vocab..];
        let worst = last
            .iter()
            .zip(&expected.last_logits)
            .map(|(a, b)| (f64::from(*a) - b).abs())
            .fold(0.0, f64::max);
        assert!(worst < 1e-4, "{}: logits are off by {worst}", golden.name);
        let found = log_probabilities(&logits, golden.vocab);
        for (at, expected) in expected.token_logprobs.iter().enumerate() {
            let found = found[at * golden.vocab + tokens[at + 1] as usize];
            assert!((found - expected).abs() < 1e-4, "{}: {found} is not {expected}", golden.name);
        }
    }
}

/// Text of four letters: its tokens' activations span few directions.
fn text(count: usize) -> String {
    (0..count).map(|i| ['a', 'b', ' ', 'c'][(i * i / 3 + i / 7) % 4]).collect()
}

fn run(source: &Path, options: &ConversionOptions) -> Result<(ConversionSummary, Vec<u8>), ConvertError> {
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().join("out.thimble");
    let summary = convert(source, &destination, options, &mut |_| {})?;
    let bytes = fs::read(&destination).unwrap();
    assert_eq!(bytes.len() as u64, summary.bytes);
    Ok((summary, bytes))
}

/// Mean divergence of a converted file from its source, on tokens that no calibration here has seen.
fn divergence(source: &Path, bytes: &[u8]) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.thimble");
    fs::write(&path, bytes).unwrap();
    let tokens: Vec<u32> = (0..160u32).map(|i| 40 + (i * i * 5 + i / 3) % 50).collect();
    let [p, q] = [source, &path].map(|path| {
        let checkpoint = read::open(path).unwrap();
        let logits = FloatModel::load(&checkpoint, tokens.len()).unwrap().predict(&tokens).unwrap();
        log_probabilities(&logits, checkpoint.config.vocab)
    });
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>() / tokens.len() as f64
}

fn model() -> tempfile::TempDir {
    let source = tempfile::tempdir().unwrap();
    Folder::new(WIDE, BlockType::F32).write(source.path(), 1);
    source
}

#[test]
fn calibrated_files_are_nearer_to_the_source_and_no_larger() {
    let tied = model();
    let untied = tempfile::tempdir().unwrap();
    Folder::new(Shape { tied: false, ..WIDE }, BlockType::F32).write(untied.path(), 1);
    for (quant, source, most) in [
        (Quant::Q3, &tied, 0.9),
        (Quant::Q4, &tied, 0.9),
        (Quant::Q5, &tied, 0.9),
        (Quant::Q4Min, &tied, 0.9),
        // There the head, eight bits for a row, is most of the little divergence.
        (Quant::Q8, &tied, 1.0),
        (Quant::Q4, &untied, 0.9),
    ] {
        let plain = ConversionOptions { quant, ..ConversionOptions::default() };
        let calibrated = ConversionOptions {
            quant,
            calibration: Some(default_text()[..12_000].to_owned()),
            ..plain.clone()
        };
        let (_, plain) = run(source.path(), &plain).unwrap();
        let (summary, calibrated) = run(source.path(), &calibrated).unwrap();
        let [before, after] = [&plain, &calibrated].map(|bytes| divergence(source.path(), bytes));
        if before == 0.0 {
            // The source's numbers lie on the encoding's grid, and stay.
            assert_eq!((quant, after, summary.rounding), (Quant::Q8, 0.0, 0.0));
            continue;
        }
        assert!(after < most * before, "{quant}: {after} against {before}");
        assert!(summary.rounding > 0.0 && calibrated.len() < plain.len() + 200, "{quant}");
    }
}

#[test]
fn what_is_said_to_be_lost_is_the_distance_from_the_source() {
    let source = model();
    let options = ConversionOptions {
        quant: Quant::Q3,
        calibration: Some(default_text()[..6_000].to_owned()),
        ..ConversionOptions::default()
    };
    let (summary, bytes) = run(source.path(), &options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("calibrated.thimble"), bytes).unwrap();
    let [before, after] = [source.path(), &folder.path().join("calibrated.thimble")].map(|path| {
        let checkpoint = read::open(path).unwrap();
        let values = |tensor: &read::SourceTensor| {
            let mut rows = Vec::new();
            checkpoint.read_rows(tensor, 0..tensor.rows, &mut rows).unwrap();
            let mut values = vec![0.0; tensor.rows * tensor.columns];
            thimble_converter::dequantize(tensor.kind, &rows, &mut values);
            values
        };
        checkpoint.tensors().iter().map(values).collect::<Vec<_>>()
    });
    for ((before, after), tensor) in before.iter().zip(&after).zip(&summary.tensors) {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let error: f64 = before.iter().zip(after).map(|(a, b)| square(a - b)).sum();
        let energy: f64 = before.iter().map(|&a| square(a)).sum();
        let expected = (error / energy).sqrt();
        assert!(
            (tensor.error - expected).abs() < 1e-4,
            "{}: {} against {expected}",
            tensor.name,
            tensor.error
        );
    }
    assert!(summary.rounding > 0.0);
}

#[test]
fn the_same_input_gives_the_same_bytes_on_any_number_of_threads() {
    let source = model();
    let options = ConversionOptions {
        target: Some(SizeTarget::Bits(4.7)),
        calibration: Some(default_text()[..4_000].to_owned()),
        ..ConversionOptions::default()
    };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(source.path(), &options).unwrap().1)
    };
    let first = on(1);
    assert!(first == on(2) && first == on(5));
}

#[test]
fn targets_are_met_and_more_bytes_are_worth_it() {
    let source = model();
    let with = |target| ConversionOptions {
        target: Some(target),
        calibration: Some(text(2200)),
        ..ConversionOptions::default()
    };
    let mut last = f64::INFINITY;
    for bits in [4.0, 5.0, 6.0, 7.5] {
        let (summary, bytes) = run(source.path(), &with(SizeTarget::Bits(bits))).unwrap();
        let weights: u64 = summary.encodings.values().map(|(_, bytes)| bytes).sum();
        let found = weights as f64 * 8.0 / summary.config.parameters() as f64;
        assert!(found <= bits && found > bits - 0.35, "{found} bits for {bits}");
        let found = divergence(source.path(), &bytes);
        assert!(found < last, "{bits} bits: {found} after {last}");
        last = found;
        // What was chosen is written down as a table, and that table gives the same file's weights again.
        let (table, expected) = summary.chosen.unwrap();
        assert!(expected > 0.0);
        let table = Table::parse(&table.to_toml(), "table").unwrap();
        let options = ConversionOptions { table: Some(table), target: None, ..with(SizeTarget::Bits(bits)) };
        assert_eq!(run(source.path(), &options).unwrap().0.encodings, summary.encodings);
    }
    let (summary, bytes) = run(source.path(), &with(SizeTarget::Bytes(90_000))).unwrap();
    assert!(bytes.len() <= 90_000 && bytes.len() > 85_000, "{} bytes", bytes.len());
    let provenance = String::from_utf8_lossy(&bytes);
    assert!(
        provenance.contains("90000 bytes") && provenance.contains("pattern = ") && summary.chosen.is_some()
    );
    let error = run(source.path(), &with(SizeTarget::Bits(2.0))).unwrap_err().to_string();
    assert!(error.contains("at least") && error.contains("larger"), "{error}");
}

#[test]
fn kept_sensitivities_choose_as_measured_ones_do() {
    let source = model();
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept.json");
    let with = |bits, kept: Option<&Path>| ConversionOptions {
        target: Some(SizeTarget::Bits(bits)),
        sensitivities: kept.map(Path::to_path_buf),
        calibration: Some(text(2200)),
        ..ConversionOptions::default()
    };
    let stages = |options: &ConversionOptions| {
        let mut measured = false;
        let out = folder.path().join("out.thimble");
        let summary =
            convert(source.path(), &out, options, &mut |p| measured |= p.stage == ConversionStage::Measuring)
                .unwrap();
        (measured, summary.encodings, fs::read(&out).unwrap())
    };
    let plain = stages(&with(5.0, None));
    assert_eq!(stages(&with(5.0, Some(&kept))), plain);
    assert_eq!(stages(&with(5.0, Some(&kept))), (false, plain.1, plain.2), "nothing is measured again");
    let (measured, encodings, _) = stages(&with(6.0, Some(&kept)));
    assert!(!measured && encodings == stages(&with(6.0, None)).1);

    let refusal = |options: &ConversionOptions, source: &Path| {
        run(source, options).map(|_| ()).unwrap_err().to_string()
    };
    let text = default_text()[..4_000].to_owned();
    let other = ConversionOptions { calibration: Some(text), ..with(5.0, Some(&kept)) };
    assert!(refusal(&other, source.path()).contains("another model or another text"));
    let scaled = tempfile::tempdir().unwrap();
    Folder::new(Shape { layers: 1, ..WIDE }, BlockType::F32).write(scaled.path(), 1);
    assert!(refusal(&with(5.0, Some(&kept)), scaled.path()).contains("another model or another text"));
    let text = fs::read_to_string(&kept).unwrap();
    for (from, to, says) in [
        ("q4nl", "q4nm", "unknown encoding \"q4nm\""),
        ("0.", "-0.", "a divergence of -0."),
        ("layers.1", "layers.2", "has nothing for"),
        ("matrices", "matrixes", "not valid JSON"),
    ] {
        fs::write(&kept, text.replacen(from, to, 1)).unwrap();
        let found = refusal(&with(5.0, Some(&kept)), source.path());
        assert!(found.contains(says) && found.contains("kept.json"), "{found}");
    }
}

#[test]
fn bad_texts_and_weights_are_named() {
    let source = model();
    let with = |calibration: &str| ConversionOptions {
        quant: Quant::Q4,
        calibration: Some(calibration.to_owned()),
        ..ConversionOptions::default()
    };
    for text in ["", "too short"] {
        let error = run(source.path(), &with(text)).unwrap_err().to_string();
        assert!(
            error.contains("calibration") && error.contains("window") && error.contains("longer"),
            "{error}"
        );
    }
    let mut folder = Folder::new(WIDE, BlockType::F32);
    let tensor = folder.tensors.iter_mut().find(|t| t.0.contains("layers.1.mlp.up_proj")).unwrap();
    tensor.3[(7 * 64 + 3) * 4..][..4].copy_from_slice(&float_bytes(BlockType::F32, &[f32::NAN]));
    let broken = tempfile::tempdir().unwrap();
    folder.write(broken.path(), 1);
    for options in [
        with(&text(2200)),
        ConversionOptions { target: Some(SizeTarget::Bits(5.0)), ..ConversionOptions::default() },
        ConversionOptions { target: Some(SizeTarget::Bits(5.0)), ..with(&text(2200)) },
    ] {
        let error = run(broken.path(), &options).unwrap_err().to_string();
        assert!(error.contains("layers.1.mlp.up_proj") && error.contains("row 7"), "{error}");
    }
}

#[test]
fn rows_of_zeros_stay_zero_and_progress_has_stages() {
    let mut folder = Folder::new(WIDE, BlockType::F32);
    let tensor = folder.tensors.iter_mut().find(|t| t.0.contains("layers.0.mlp.gate_proj")).unwrap();
    tensor.3[5 * 64 * 4..6 * 64 * 4].fill(0);
    let source = tempfile::tempdir().unwrap();
    folder.write(source.path(), 1);
    let destination = source.path().join("out.thimble");
    let options = ConversionOptions {
        target: Some(SizeTarget::Bits(5.0)),
        calibration: Some(text(2200)),
        ..ConversionOptions::default()
    };
    let mut stages = Vec::new();
    convert(source.path(), &destination, &options, &mut |progress| {
        assert!(progress.done <= progress.total);
        if stages.last() != Some(&progress.stage) {
            stages.push(progress.stage);
        }
    })
    .unwrap();
    assert_eq!(stages, [ConversionStage::Measuring, ConversionStage::Calibrating, ConversionStage::Writing]);
    let checkpoint = read::open(&destination).unwrap();
    let gate = checkpoint.tensors().iter().find(|t| t.name == "blk.0.ffn_gate.weight").unwrap();
    let mut bytes = Vec::new();
    checkpoint.read_rows(gate, 5..6, &mut bytes).unwrap();
    assert!(bytes.chunks(4).all(|v| f32::from_le_bytes(v.try_into().unwrap()).abs() < 1e-3));
}
