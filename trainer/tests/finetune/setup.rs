//! Run folders, conversations and the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use thimble_trainer::report::metrics::{self, MetricsEvent, StepMetrics};

pub(crate) const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train/sft");

pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the messages of the examples of a reference folder as rows.
    pub(crate) fn rows_of(&self, folder: &Path, name: &str) -> serde_json::Value {
        let text = fs::read_to_string(folder.join("sft.json")).unwrap();
        let reference: serde_json::Value = serde_json::from_str(&text).unwrap();
        let rows = reference["examples"].as_array().unwrap().iter();
        let rows: String =
            rows.map(|row| format!("{}\n", serde_json::json!({"messages": row["messages"]}))).collect();
        fs::write(self.path(name), rows).unwrap();
        reference
    }

    /// `finetune MODEL --data chats.jsonl --run RUN` and more.
    pub(crate) fn finetune(&self, model: &Path, run: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thimble-train"));
        command.current_dir(self.0.path()).arg("finetune").arg(model);
        command.args(["--data", "chats.jsonl", "--run", run, "--quiet", "--device", "cpu"]).args(more);
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

    /// The newest checkpoint of a run.
    pub(crate) fn newest(&self, run: &str) -> PathBuf {
        let entries = fs::read_dir(self.path(run).join("checkpoints")).unwrap();
        let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        folders.max().unwrap()
    }
}

pub(crate) fn succeeds(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What a refused command says.
pub(crate) fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{command:?}: {said}");
    assert!(said.contains("error: ") && !said.contains("panicked"), "{said}");
    said
}
