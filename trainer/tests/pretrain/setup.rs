//! Token sets that all tests share, run folders, and the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tempfile::TempDir;
use thimble_trainer::report::metrics::{self, MetricsEvent};

/// Numbers that look random.
pub(crate) fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

/// Sentences that can be learned: each word decides among the next three.
fn documents(count: usize, seed: u64) -> String {
    let words = [
        "river", "stone", "cell", "light", "water", "force", "field", "energy", "plant", "sound", "wave",
        "heat", "motion", "earth", "metal", "charge", "market", "number", "circle", "story",
    ];
    let mut next = numbers(seed);
    let document = |_| {
        let mut word = next(words.len());
        let mut text = String::from("the");
        for _ in 0..20 + next(60) {
            text.push(' ');
            text.push_str(words[word]);
            word = (word * 7 + next(3)) % words.len();
        }
        format!("{}\n", serde_json::json!({ "text": text }))
    };
    (0..count).map(document).collect()
}

/// A folder with the tokenizer and the token sets `train`, `other` and `held`; tests that run at the same time share
/// it.
fn tokens() -> Arc<TempDir> {
    static TOKENS: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut shared = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(made) = shared.upgrade() {
        return made;
    }
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = command(arguments).current_dir(home.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    for (name, count, seed) in [("train", 200, 1), ("other", 100, 2), ("held", 30, 3)] {
        fs::write(home.path().join(format!("{name}.jsonl")), documents(count, seed)).unwrap();
    }
    run(&["train-tokenizer", "train.jsonl", "--vocab", "300", "-o", "tokenizer"]);
    for name in ["train", "other", "held"] {
        let source = format!("{name}.jsonl");
        run(&["tokenize", &source, "--tokenizer", "tokenizer", "-o", name]);
    }
    let made = Arc::new(home);
    *shared = Arc::downgrade(&made);
    made
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble-train"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A folder with a recipe of two stages that differ in everything that a stage can change.
pub(crate) struct TestFolder {
    home: TempDir,
    tokens: Arc<TempDir>,
}

impl TestFolder {
    /// With a checkpoint at every step of 40.
    pub(crate) fn new() -> TestFolder {
        let test = TestFolder { home: tempfile::tempdir().unwrap(), tokens: tokens() };
        let tokens = test.tokens().display();
        let recipe = format!(
            r#"
name = "small"
seed = 3

[model]
hidden = 32
layers = 2
heads = 4
kv_heads = 2
ffn = 48
vocab = 300
context = 32

[data.sets]
train = "{tokens}/train"
other = "{tokens}/other"
held = "{tokens}/held"

[optimizer]
z_loss = 1e-4

[validation]
set = "held"
every = 5
windows = 8

[sample]
every = 8
prompts = ["the river"]
tokens = 6

[checkpoint]
every = 1
last = 2

[[stages]]
name = "short"
length = {{ steps = 24 }}
context = 16
micro_batch = 2
accumulate = 2
mixture = {{ train = 1.0 }}
schedule = {{ kind = "cosine", peak = 1e-2, floor = 1e-3, warmup = 4 }}

[[stages]]
name = "long"
length = {{ steps = 16 }}
context = 32
micro_batch = 3
rope_theta = 50_000.0
reset_optimizer = true
mixture = {{ train = 0.5, other = 0.5 }}
schedule = {{ kind = "trapezoidal", peak = 3e-3 }}
"#
        );
        fs::write(test.path("recipe.toml"), recipe).unwrap();
        test
    }

    /// Where the token sets and their texts lie.
    pub(crate) fn tokens(&self) -> &Path {
        self.tokens.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// `pretrain recipe.toml --run RUN` and more.
    pub(crate) fn pretrain(&self, run: &str, more: &[&str]) -> Command {
        let fixed = ["pretrain", "recipe.toml", "--run", run];
        // Many threads would only be in each other's way.
        let threads: &[&str] = if more.contains(&"--threads") { &[] } else { &["--threads", "2"] };
        self.command(&[&fixed, more, threads].concat())
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.current_dir(self.home.path()).stderr(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    /// The newest checkpoint of a run, by its folder's name.
    pub(crate) fn newest(&self, run: &str) -> Option<String> {
        self.checkpoints(run).pop()
    }

    /// Folders of whole checkpoints, oldest first.
    pub(crate) fn checkpoints(&self, run: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(run).join("checkpoints")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("step-")).collect();
        names.sort();
        names
    }

    /// A file of a checkpoint.
    pub(crate) fn kept(&self, run: &str, checkpoint: &str, file: &str) -> Vec<u8> {
        let path = self.path(run).join("checkpoints").join(checkpoint).join(file);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// What the run measured, without the times and the starts of the program.
    pub(crate) fn metrics(&self, run: &str) -> Vec<MetricsEvent> {
        let mut events = metrics::read(&self.path(run)).unwrap();
        events.retain(|event| !matches!(event, MetricsEvent::Start(_)));
        for event in &mut events {
            if let MetricsEvent::Step(step) = event {
                (step.seconds, step.tokens_per_second) = (0.0, 0.0);
            }
        }
        events
    }

    /// Steps of the run that its metrics have, however they just stand.
    pub(crate) fn steps(&self, run: &str) -> u64 {
        let events = metrics::read(&self.path(run)).unwrap_or_default();
        let steps =
            events.iter().map(|event| if let MetricsEvent::Step(step) = event { step.step } else { 0 });
        steps.max().unwrap_or(0)
    }
}

pub(crate) fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// Runs what must be refused with that exit code; returns what it says.
pub(crate) fn refused(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
    assert!(said.contains("error: ") && !said.contains("panicked"), "{said}");
    said
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until `ready`, or the child has ended; whether it is still there.
pub(crate) fn wait_for(child: &mut Child, mut ready: impl FnMut() -> bool) -> bool {
    while child.try_wait().unwrap().is_none() {
        if ready() {
            return true;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    false
}

/// Asserts that two runs ended alike: weights, moments, state, metrics.
pub(crate) fn assert_same_end(test: &TestFolder, expected: &str, found: &str) {
    let last = test.newest(expected).unwrap();
    for file in ["model.safetensors", "optimizer.safetensors", "state.json"] {
        assert!(test.kept(expected, &last, file) == test.kept(found, &last, file), "{file} differs");
    }
    assert_eq!(test.metrics(found), test.metrics(expected));
}

/// The same, and that the same checkpoints stay.
pub(crate) fn assert_same_run(test: &TestFolder, expected: &str, found: &str) {
    assert_same_end(test, expected, found);
    assert_eq!(test.checkpoints(found), test.checkpoints(expected));
    for name in ["best", "last"] {
        let read = |run: &str| fs::read_to_string(test.path(run).join("checkpoints").join(name)).unwrap();
        assert_eq!(read(found), read(expected), "{name}");
    }
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
