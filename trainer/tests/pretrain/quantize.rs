//! Training for a quantized file, as a person runs it; and that the file has the very numbers that were trained.

use crate::kills::KilledRun;
use crate::setup::{TestFolder, assert_same_end, copy, refused, succeeds};
use std::fs;
use std::path::Path;
use std::process::Command;
use thimble_converter::{ConversionOptions, Quant, convert, pack};
use thimble_files::MappedModel;
use thimble_host::{InferencePlan, InferenceSettings, SpinPool, generator};
use thimble_runtime::Token;
use thimble_runtime::format::{Encoding, TensorRole};
use thimble_trainer::checkpoint;
use thimble_trainer::export::read_model;
use thimble_trainer::model::{Engine, EngineOptions, Parameters};
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::ops::{Buffer, WeightCopy};
use thimble_trainer::quantization::StartFile;
use thimble_trainer::recipe::QuantizationScales;
use thimble_trainer::report::metrics::MetricsEvent;

/// A trained model in the folder `base`.
fn with_base() -> TestFolder {
    let test = TestFolder::new();
    succeeds(test.pretrain("pretrained", &["--quiet"]));
    succeeds(test.command(&["export", "pretrained", "-o", "base"]));
    test
}

fn quantize(test: &TestFolder, run: &str, more: &[&str]) -> Command {
    quantize_to(test, "q3", run, more)
}

fn quantize_to(test: &TestFolder, quant: &str, run: &str, more: &[&str]) -> Command {
    let text = test.tokens().join("train.jsonl");
    let fixed = [
        "quantize-aware",
        "base",
        "--quant",
        quant,
        "--data",
        text.to_str().unwrap(),
        "--run",
        run,
        "--quiet",
    ];
    let keys = ["--tokens", "10240", "--held-out", "20", "--set", "checkpoint.last=99"];
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
    let start = MappedModel::read(&test.path("run/start.thimble")).unwrap();
    let start = start.file().unwrap();
    let (mut encodings, mut trained) = (Vec::new(), 0);
    for (record, first) in file.tensors().iter().zip(start.tensors().iter()) {
        if record.encoding == Encoding::Vector {
            continue;
        }
        let (rows, columns) = (record.rows as usize, record.columns as usize);
        let stored = pack::unpack(record.encoding, file.tensor_bytes(&record), rows, columns).unwrap();
        let name = record.role.hugging_face(record.layer).to_string();
        assert!(stored == weights[parameters.find(&name).unwrap().range()], "{name}");
        encodings.push(record.encoding);
        let begun = pack::unpack(first.encoding, start.tensor_bytes(&first), rows, columns).unwrap();
        assert!(record.role != TensorRole::Embedding || stored == begun, "the embedding stays");
        trained += usize::from(stored != begun);
    }
    assert!(trained > 0, "no matrix was trained");
    assert!(encodings.contains(&Encoding::Q3Nl) && encodings.contains(&Encoding::Q6), "{encodings:?}");
}

/// The logits that predict each of `ids` behind the first, by the runtime in its exact mode.
fn file_logits(path: &Path, ids: &[u32]) -> Vec<Vec<f32>> {
    let mapped = MappedModel::read(path).unwrap();
    let file = mapped.file().unwrap();
    let settings = InferenceSettings {
        exact: true,
        threads: Some(1),
        logit_rows: Some(8),
        context: Some(32),
        ..InferenceSettings::default()
    };
    let plan = InferencePlan::new(file.config(), &settings).unwrap();
    let (mut memory, pool) = (plan.allocate().unwrap(), SpinPool::new(plan.threads()).unwrap());
    let mut generator = generator(&file, &plan, &mut memory, &pool).unwrap();
    let tokens: Vec<Token> = ids.iter().map(|&id| Token(id)).collect();
    let mut all = Vec::new();
    generator.logits_of(&tokens, 1, &mut |_, logits| all.push(logits.to_vec())).unwrap();
    all
}

/// Asserts that the runtime computes, from the converted export, the logits of the trainer's engine with the masters of
/// the checkpoint rounded as in training.
pub(crate) fn assert_file_has_trained_logits(
    test: &TestFolder,
    run: &str,
    quant: Quant,
    scales: QuantizationScales,
) {
    let export = format!("{run}-export");
    succeeds(test.command(&["export", run, "-o", &export, "--checkpoint", "last"]));
    let file = test.path(&format!("{run}.thimble"));
    let options = ConversionOptions { quant, ..ConversionOptions::default() };
    assert_eq!(convert(&test.path(&export), &file, &options, &mut |_| {}).unwrap().rounding, 0.0);

    let last = test.path(run).join("checkpoints").join(test.newest(run).unwrap());
    let (_, recipe) = checkpoint::open(&last).unwrap();
    let shape = recipe.config(recipe.stages.len() - 1);
    let parameters = Parameters::new(&shape);
    let masters = checkpoint::read_tensors(&last, &parameters).unwrap().weights;
    let mut start = vec![0.0; parameters.len];
    let rounding = StartFile::open(&test.path(run)).unwrap();
    let rounding = rounding.rounding(&parameters, &mut start, scales).unwrap();
    let mut engine = Engine::new(
        &shape,
        EngineOptions::default(),
        CpuOps::new(1, parameters.len, shape.norm_eps).unwrap(),
    );
    engine.write(Buffer::Weights, &masters).unwrap();
    engine.round_weights(&|masters, rounded| rounding.round(masters, rounded)).unwrap();
    let logits = |engine: &mut Engine<CpuOps>, ids: &[u32]| -> Vec<Vec<f32>> {
        (1..ids.len()).map(|end| engine.logits(&ids[..end]).unwrap()).collect()
    };
    let ids: Vec<u32> = (0..33).map(|index| index * 61 % 300).collect();
    let unrounded = logits(&mut engine, &ids);
    engine.pass_with(Some(WeightCopy::Rounded)).unwrap();
    let expected = logits(&mut engine, &ids);
    let found = file_logits(&file, &ids);
    let worst = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        assert_eq!((a.len(), b.len()), (32, 32));
        a.concat().iter().zip(b.concat()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let (off, without) = (worst(&found, &expected), worst(&found, &unrounded));
    println!("{run}: logits within {off:.1e} of the rounded model's, {without:.1e} of the masters'");
    assert!(off < 1e-5 && without > 1e-3, "{off} {without}");
}

#[test]
fn the_file_has_the_logits_that_were_trained() {
    let test = with_base();
    for (name, quant) in [("q3", Quant::Q3), ("q4", Quant::Q4)] {
        succeeds(quantize_to(&test, name, name, &[]));
        assert_file_has_trained_logits(&test, name, quant, QuantizationScales::Trained);
    }
    succeeds(quantize_to(&test, "q3", "fixed", &["--set", "objective.scales=\"fixed\""]));
    assert_file_has_trained_logits(&test, "fixed", Quant::Q3, QuantizationScales::Fixed);
}

#[test]
fn kills_change_nothing() {
    let test = with_base();
    let keys = ["--set", "checkpoint.every=1", "--set", "checkpoint.last=2"];
    let command = |run: &str, more: &[&str]| quantize(&test, run, &[&keys, more].concat());
    KilledRun { home: &test.path(""), command: &command, kills: 8, while_writing: 1 }.ends_as_if_left_alone();
}

/// With and without a measurement before them, samples are of the weights of their step.
#[test]
fn samples_are_of_the_weights_of_their_step() {
    let test = with_base();
    let samples = |run: &str, validation: &str| -> Vec<String> {
        let sample = "sample={every=1, prompts=[\"the river\"], tokens=12, temperature=0.0}";
        let keys = [
            "--set",
            "stages.0.length={steps=30}",
            "--set",
            "stages.0.schedule.peak=4",
            "--set",
            sample,
            "--set",
            validation,
        ];
        succeeds(quantize(&test, run, &keys));
        let events = test.metrics(run).into_iter();
        let texts = events.filter_map(|event| match event {
            MetricsEvent::Sample(sample) => Some(sample.text),
            _ => None,
        });
        texts.collect()
    };
    let with = samples("with", "validation.every=1");
    assert!(with.windows(2).filter(|pair| pair[0] != pair[1]).count() > 3, "{with:?}");
    assert_eq!(samples("without", "validation=none"), with);
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
    assert!(said.contains("error: --quant \"q9\"") && said.contains("q4even"), "{said}");
    let said = refused(command("f16"), 2);
    assert!(said.contains("error: --quant \"f16\"") && said.contains("found only floats"), "{said}");
    let said = refused(command("missing.toml"), 1);
    assert!(said.contains("missing.toml"), "{said}");
    // What tokenization refuses, in this command's own words.
    let of_text = |more: &[&str]| {
        let fixed = ["quantize-aware", "base", "--quant", "q4", "--data", "own.jsonl", "--run", "y"];
        refused(test.command(&[&fixed[..], more].concat()), if more.contains(&"--held-out") { 2 } else { 1 })
    };
    fs::write(test.path("own.jsonl"), "{\"content\": \"the river\"}\n".repeat(40)).unwrap();
    let said = of_text(&[]);
    assert!(said.contains("choose another with --field"), "{said}");
    let said = of_text(&["--field", "content", "--held-out", "99"]);
    assert!(said.contains("found 99 of 40; lower --held-out\n") && !said.contains("--holdout"), "{said}");
}
