//! The command trains on the emulated GPU as on the CPU, and says where it cannot.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use thimble_trainer::report::metrics::{self, MetricsEvent};

const RECIPE: &str = r#"
name = "emulated"
seed = 1
model = { hidden = 128, layers = 2, heads = 3, kv_heads = 1, head_dim = 64, ffn = 256, vocab = 276, context = 64, init_std = 0.06 }
compute = { precision = "bf16", document_mask = true }
data.sets = { train = "train" }
optimizer = { weight_decay = 0.1, clip = 1.0 }
checkpoint = { every = 5, last = 2 }

[[stages]]
name = "all"
length = { steps = 5 }
context = 64
micro_batch = 2
accumulate = 2
mixture = { train = 1.0 }
schedule = { kind = "cosine", peak = 3e-3, floor = 3e-4, warmup = 2 }
"#;

/// What the command says on stderr.
fn command(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble-train"));
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

fn losses(run: &Path) -> Vec<f64> {
    let events = metrics::read(&run.join(metrics::FILE_NAME)).unwrap();
    let losses = events.iter().filter_map(|event| match event {
        MetricsEvent::Step(step) => Some(step.loss),
        _ => None,
    });
    losses.collect()
}

#[test]
fn the_command_trains_as_on_the_cpu() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let mut text = String::new();
    for document in 0..120 {
        let words = ["river", "stone", "cell", "light", "water"];
        let sentence: Vec<&str> = (0..40).map(|at| words[(at * (document % 7 + 1)) % words.len()]).collect();
        writeln!(text, "{}", serde_json::json!({ "text": sentence.join(" ") })).unwrap();
    }
    fs::write(folder.join("train.jsonl"), text).unwrap();
    fs::write(folder.join("recipe.toml"), RECIPE).unwrap();
    command(folder, &["train-tokenizer", "train.jsonl", "--vocab", "276", "-o", "tokenizer"]);
    command(folder, &["tokenize", "train.jsonl", "--tokenizer", "tokenizer", "-o", "train"]);
    let train = |device: &str, set: &str| {
        let run = format!("{device}-{}", set.len());
        let said =
            command(folder, &["pretrain", "recipe.toml", "--device", device, "--run", &run, "--set", set]);
        (said, losses(&folder.join(run)))
    };
    let (_, expected) = train("cpu", "seed=1");
    let (said, found) = train("emulator", "seed=1");
    assert!(said.contains("training on an emulated GPU"), "{said}");
    assert!(!said.contains("through candle"), "{said}");
    assert!(expected.len() == 5 && found.len() == 5, "{found:?}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found / expected - 1.0).abs() < 2e-3, "{found} {expected}");
    }
    assert_ne!(found, expected, "bf16 was not used");
    // What the kernels lack runs through candle.
    let (said, through_candle) = train("emulator", "model.head_dim=32");
    assert!(
        said.contains("the model has heads of width 32 (only 64), which the engine's own kernels lack"),
        "{said}"
    );
    assert_eq!(through_candle.len(), 5);
}
