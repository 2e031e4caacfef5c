//! Run folders, pairs and the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use thimble_trainer::report::metrics::{self, MetricsEvent, StepMetrics, ValidationPoint};

pub(crate) const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train/dpo");

pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the pairs of a reference folder as rows of `pairs.jsonl`.
    pub(crate) fn with_pairs_of(folder: &Path) -> (Home, serde_json::Value) {
        let home = Home::new();
        let reference = json(&folder.join("dpo.json"));
        let row = |pair: &serde_json::Value| {
            let [prompt, chosen, rejected] = ["prompt", "chosen", "rejected"].map(|key| pair[key].clone());
            format!("{}\n", serde_json::json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}))
        };
        let rows: String = reference["pairs"].as_array().unwrap().iter().map(row).collect();
        fs::write(home.path("pairs.jsonl"), rows).unwrap();
        (home, reference)
    }

    /// `prefer MODEL --data pairs.jsonl --run RUN` and more.
    pub(crate) fn prefer(&self, model: &Path, run: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thimble-train"));
        command.current_dir(self.0.path()).arg("prefer").arg(model);
        command.args(["--data", "pairs.jsonl", "--run", run, "--device", "cpu"]).args(more);
        command
    }

    pub(crate) fn steps(&self, run: &str) -> Vec<StepMetrics> {
        let events = metrics::read(&self.path(run)).unwrap_or_default();
        let steps = events.into_iter().filter_map(|event| match event {
            MetricsEvent::Step(step) => Some(StepMetrics { seconds: 0.0, tokens_per_second: 0.0, ..step }),
            _ => None,
        });
        steps.collect()
    }

    pub(crate) fn measured(&self, run: &str) -> Vec<ValidationPoint> {
        let events = metrics::read(&self.path(run)).unwrap_or_default();
        let points = events.into_iter().filter_map(|event| match event {
            MetricsEvent::Validation(point) => Some(point),
            _ => None,
        });
        points.collect()
    }

    /// The newest checkpoint of a run.
    pub(crate) fn newest(&self, run: &str) -> PathBuf {
        let entries = fs::read_dir(self.path(run).join("checkpoints")).unwrap();
        let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        folders.max().unwrap()
    }

    pub(crate) fn assert_same(&self, expected: &str, found: &str) {
        for file in ["model.safetensors", "optimizer.safetensors", "state.json"] {
            let read = |run: &str| fs::read(self.newest(run).join(file)).unwrap();
            assert!(read(expected) == read(found), "{found}: {file} differs");
        }
        assert_eq!(self.steps(found), self.steps(expected));
    }
}

pub(crate) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn succeeds(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    output
}

/// What a refused command says.
pub(crate) fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = said(&output);
    assert!(!output.status.success(), "{command:?}: {said}");
    assert!(said.contains("error: ") && !said.contains("panicked"), "{said}");
    said
}
