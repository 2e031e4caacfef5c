//! Kills a run at random moments, and compares how it ends with a run that was left alone. For every objective: it
//! knows only the command that starts a run, and the run folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};
use thimble_trainer::report::metrics::{self, MetricsEvent};

/// A command line that starts or, with `--resume`, continues the run in a folder.
pub(crate) struct KilledRun<'a> {
    /// The folder that holds the run folders.
    pub(crate) home: &'a Path,
    /// The command for a run's name and more flags; it computes on few threads.
    pub(crate) command: &'a dyn Fn(&str, &[&str]) -> Command,
    /// Kills, at least.
    pub(crate) kills: usize,
    /// Kills while a checkpoint is being written, at least.
    pub(crate) while_writing: usize,
}

impl KilledRun<'_> {
    /// Asserts that a run which is killed at any moment, also while a checkpoint is written, each time going on with
    /// another number of threads, ends as one that runs through: weights, moments, state, metrics, checkpoints.
    pub(crate) fn ends_as_if_left_alone(&self) {
        let start = Instant::now();
        self.succeeds("whole", &[]);
        let total = self.step("whole");
        let step = start.elapsed() / total as u32;
        let mut next = numbers(5);
        let (mut kills, mut while_writing) = (0, 0);
        let checkpoints = self.home.join("killed/checkpoints");
        let unfinished = || {
            let entries = fs::read_dir(&checkpoints).into_iter().flatten().flatten();
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".writing-step")).count()
                > 0
        };
        while kills < self.kills || while_writing < self.while_writing {
            assert!(kills < 100, "only {while_writing} of {kills} kills came while a checkpoint was written");
            let threads = (1 + next(3)).to_string();
            let mut child = (self.command)("killed", &["--resume", "--threads", &threads]).spawn().unwrap();
            let before = self.step("killed");
            let there = match kills % 3 {
                // At any moment, also before the first step.
                0 => {
                    std::thread::sleep(Duration::from_millis(next(20) as u64) + step * next(5) as u32);
                    child.try_wait().unwrap().is_none()
                }
                1 => {
                    let steps = before + 1 + next(total as usize / 12) as u64;
                    let there = wait_for(&mut child, || self.step("killed") >= steps);
                    std::thread::sleep(step * next(100) as u32 / 100);
                    there
                }
                _ => {
                    let steps = before + 1 + next(total as usize / 15) as u64;
                    wait_for(&mut child, || self.step("killed") >= steps) && wait_for(&mut child, unfinished)
                }
            };
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(there && !output.status.success(), "it ended after {kills} kills: {}", said(&output));
            kills += 1;
            while_writing += usize::from(unfinished());
        }
        println!("{kills} kills, {while_writing} while writing, at step {}", self.step("killed"));
        self.succeeds("killed", &["--resume"]);
        self.assert_same("whole", "killed");
        // Nothing half-written stays.
        let left = names(&checkpoints).into_iter().find(|name| name.starts_with('.'));
        assert_eq!(left, None);
    }

    /// Asserts that two runs ended alike, and that the same checkpoints stay.
    pub(crate) fn assert_same(&self, expected: &str, found: &str) {
        let [expected, found] = [expected, found].map(|run| self.home.join(run));
        let checkpoints = names(&expected.join("checkpoints"));
        assert_eq!(names(&found.join("checkpoints")), checkpoints);
        let newest = checkpoints.iter().rfind(|name| name.starts_with("step-")).unwrap();
        let files = ["model.safetensors", "optimizer.safetensors", "state.json"];
        let mut files: Vec<PathBuf> =
            files.iter().map(|file| Path::new("checkpoints").join(newest).join(file)).collect();
        let pointers = checkpoints.iter().filter(|name| !name.starts_with("step-"));
        files.extend(pointers.map(|name| Path::new("checkpoints").join(name)));
        files.push("skipped.jsonl".into());
        for file in files {
            let read = |run: &Path| fs::read(run.join(&file)).unwrap();
            assert!(read(&expected) == read(&found), "{} differs", file.display());
        }
        assert_eq!(timeless(&found), timeless(&expected));
    }

    fn succeeds(&self, run: &str, more: &[&str]) {
        let output = (self.command)(run, more).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }

    /// Steps that the run's metrics have, trained or skipped, however they just stand.
    fn step(&self, run: &str) -> u64 {
        let events = metrics::read(&self.home.join(run)).unwrap_or_default();
        let steps = events.iter().map(|event| match event {
            MetricsEvent::Step(step) => step.step,
            MetricsEvent::Skipped(step) => step.step,
            _ => 0,
        });
        steps.max().unwrap_or(0)
    }
}

/// What a run measured, without the times and the starts of the program.
fn timeless(run: &Path) -> Vec<MetricsEvent> {
    let mut events = metrics::read(run).unwrap();
    events.retain(|event| !matches!(event, MetricsEvent::Start(_)));
    for event in &mut events {
        if let MetricsEvent::Step(step) = event {
            (step.seconds, step.tokens_per_second) = (0.0, 0.0);
        }
    }
    events
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until `ready`, or the child has ended; whether it is still there.
fn wait_for(child: &mut Child, mut ready: impl FnMut() -> bool) -> bool {
    while child.try_wait().unwrap().is_none() {
        if ready() {
            return true;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    false
}

/// Numbers that look random.
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    }
}
