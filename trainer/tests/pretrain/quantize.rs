//! Training for a quantized file, as a person runs it; and that the file has the very numbers that were trained.

use crate::setup::{TestFolder, assert_same_end, copy, refused, succeeds};
use std::fs;
use std::process::Command;
use thimble_converter::{ConversionOptions, Quant, convert, pack};
use thimble_files::MappedModel;
use thimble_runtime::format::Encoding;
use thimble_trainer::export::read_model;
use thimble_trainer::model::Parameters;
use thimble_trainer::report::metrics::MetricsEvent;

/// A trained model in the folder `base`.
fn with_base() -> TestFolder {
    let test = TestFolder::new();
    succeeds(test.pretrain("pretrained", &["--quiet"]));
    succeeds(test.command(&["export", "pretrained", "-o", "base"]));
    test
}

fn quantize(test: &TestFolder, run: &str, more: &[&str]) -> Command {
    let text = test.tokens().join("train.jsonl");
    let fixed = [
        "quantize-aware",
        "base",
        "--quant",
        "q3",
        "--data",
        text.to_str().unwrap(),
        "--run",
        run,
        "--quiet",
    ];
    let keys = [
        "--tokens",
        "10240",
        "--held-out",
        "20",
        "--set",
        "stages.0.schedule.peak=1e-4",
        "--set",
        "checkpoint.last=99",
    ];
    test.command(&[&fixed[..], &keys, more].concat())
}

/// The divergences measured on held-out text, in order.
fn divergences(test: &TestFolder, run: &str) -> Vec<f64> {
    let measured = test.metrics(run).into_iter().filter_map(|event| match event {
        MetricsEvent::Validation(point) => Some(point.loss),
        _ => None,
    });
    measured.collect()
}

#[test]
fn the_file_has_the_numbers_that_were_trained() {
    let test = with_base();
    succeeds(quantize(&test, "run", &[]));
    let found = divergences(&test, "run");
    println!("{found:?}");
    // The first is that of the calibrated file.
    assert!(found.len() >= 10 && found[found.len() - 1] < 0.75 * found[0], "{found:?}");

    let said = refused(test.command(&["export", "run", "-o", "bf16", "--dtype", "bf16"]), 2);
    assert!(said.contains("exact in f32"), "{said}");
    succeeds(test.command(&["export", "run", "-o", "export"]));
    let options = ConversionOptions { quant: Quant::Q3, ..ConversionOptions::default() };
    let file = test.path("q3.thimble");
    let done = convert(&test.path("export"), &file, &options, &mut |_| {}).unwrap();
    assert_eq!(done.rounding, 0.0, "nothing was rounded");
    let (config, weights) = read_model(&test.path("export")).unwrap();
    let parameters = Parameters::new(&config);
    let mapped = MappedModel::read(&file).unwrap();
    let file = mapped.file().unwrap();
    let mut encodings = Vec::new();
    for record in file.tensors().iter().filter(|record| record.encoding != Encoding::Vector) {
        let (rows, columns) = (record.rows as usize, record.columns as usize);
        let stored = pack::unpack(record.encoding, file.tensor_bytes(&record), rows, columns).unwrap();
        let name = record.role.hugging_face(record.layer).to_string();
        assert!(stored == weights[parameters.find(&name).unwrap().range()], "{name}");
        encodings.push(record.encoding);
    }
    assert!(encodings.contains(&Encoding::Q3Nl) && encodings.contains(&Encoding::Q6), "{encodings:?}");
}

#[test]
fn a_resumed_run_ends_alike() {
    let test = with_base();
    succeeds(quantize(&test, "run", &[]));
    copy(&test.path("run"), &test.path("again"));
    let checkpoints = test.checkpoints("again");
    for later in &checkpoints[checkpoints.len() / 2..] {
        fs::remove_dir_all(test.path("again/checkpoints").join(later)).unwrap();
    }
    succeeds(quantize(&test, "again", &["--resume", "--threads", "3"]));
    assert_same_end(&test, "run", "again");
}

#[test]
fn what_cannot_be_trained_for_is_refused() {
    let test = with_base();
    let text = test.tokens().join("train.jsonl");
    let text = text.to_str().unwrap();
    let command = |quant: &str| {
        test.command(&["quantize-aware", "base", "--quant", quant, "--data", text, "--run", "x"])
    };
    let said = refused(command("q9"), 2);
    assert!(said.contains("q9") && said.contains("q4even"), "{said}");
    let said = refused(command("f16"), 1);
    assert!(said.contains("found only floats"), "{said}");
    let said = refused(command("missing.toml"), 1);
    assert!(said.contains("missing.toml"), "{said}");
}
