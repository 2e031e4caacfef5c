//! Seeded faults: mutations of the sources that the tests must catch.

use crate::{Program, files, folder, program};
use serde::Deserialize;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Mutants run briefly, so compiling them takes most of the time.
const OPTIMIZATION: &str = "-O1";

/// Copies of the sources that mutations are applied to. They share the emulator, whose header is compiled once.
pub struct Sources {
    folder: PathBuf,
    /// The emulator, which the compiler includes first: so it takes the compiled header instead.
    header: String,
    copies: AtomicUsize,
}

impl Sources {
    /// Prepares an empty folder.
    ///
    /// # Errors
    /// The folder cannot be written, or the emulator cannot be compiled.
    pub fn new(folder: &Path) -> Result<Self, String> {
        copy("emulator", folder)?;
        let header = folder.join("emulator/emulator.h");
        program::compile(&header, &header.with_extension("h.gch"), &[OPTIMIZATION, "-x", "c++-header"])?;
        let header = header.to_string_lossy().into_owned();
        Ok(Sources { folder: folder.to_owned(), header, copies: AtomicUsize::new(0) })
    }

    /// A new copy, with an emulator of its own if that is what changes.
    fn copy(&self, own_emulator: bool) -> Result<PathBuf, String> {
        let work = self.folder.join(self.copies.fetch_add(1, Ordering::Relaxed).to_string());
        for part in ["", "tests"] {
            copy(part, &work)?;
        }
        if own_emulator {
            copy("emulator", &work)?;
        } else {
            let linked = symlink(self.folder.join("emulator"), work.join("emulator"));
            linked.map_err(|error| format!("{}: {error}", work.display()))?;
        }
        Ok(work)
    }
}

/// Copies the C++ files of a part of the kernels' folder.
fn copy(part: &str, to: &Path) -> Result<(), String> {
    let to = to.join(part);
    let told = |error: std::io::Error| format!("{}: {error}", to.display());
    fs::create_dir_all(&to).map_err(told)?;
    for path in files(&folder().join(part), &["cuh", "cu", "def", "h", "cpp"])? {
        fs::copy(&path, to.join(path.file_name().unwrap_or_default())).map_err(told)?;
    }
    Ok(())
}

/// One mutation, and how it must be caught.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeededFault {
    /// What is wrong, in words.
    pub name: String,
    /// The file to change, from the kernels' folder.
    pub file: String,
    /// The text to replace. It must occur once.
    pub find: String,
    /// What it becomes.
    pub replace: String,
    /// The test program (without `.cpp`) and the cases to run, separated by blanks.
    pub test: String,
    /// What the program must print as it fails.
    pub caught: String,
}

/// A list of mutations: a `tests/faults*.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeededFaults {
    /// In the order of the file.
    pub fault: Vec<SeededFault>,
}

impl SeededFaults {
    /// Reads all lists.
    ///
    /// # Errors
    /// A list cannot be read.
    pub fn read() -> Result<Vec<SeededFault>, String> {
        let mut all = Vec::new();
        for path in files(&folder().join("tests"), &["toml"])? {
            let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let text = fs::read_to_string(&path).map_err(|error| told(&error))?;
            all.extend(toml::from_str::<SeededFaults>(&text).map_err(|error| told(&error))?.fault);
        }
        Ok(all)
    }
}

impl SeededFault {
    /// The source with the mutation.
    fn apply(&self) -> Result<String, String> {
        let text = fs::read_to_string(folder().join(&self.file))
            .map_err(|error| format!("{}: {error}", self.file))?;
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            found => Err(format!(
                "expected the text once in {}, found it {found} times: {:?}",
                self.file, self.find
            )),
        }
    }

    /// Mutates a copy of the sources in a folder of `sources`, and expects the test to fail for the stated reason. Returns what it says.
    ///
    /// # Errors
    /// The test passes, or fails otherwise, or the mutation cannot be compiled.
    pub fn expect_caught(&self, sources: &Sources) -> Result<String, String> {
        let own_emulator = self.file.starts_with("emulator/");
        let work = sources.copy(own_emulator)?;
        let written = fs::write(work.join(&self.file), self.apply()?);
        written.map_err(|error| format!("{}: {error}", work.display()))?;
        let mut words = self.test.split_whitespace();
        let test = words.next().unwrap_or_default();
        let source = work.join("tests").join(format!("{test}.cpp"));
        let flags = [OPTIMIZATION, "-include", &sources.header];
        let flags = if own_emulator { &flags[..1] } else { &flags };
        let outcome = Program::compile(&source, &work.join("program"), flags)?.run(words)?;
        if outcome.passed {
            return Err(format!("{} does not notice it:\n{}", self.test, outcome.output));
        }
        let said = outcome.output.lines().find(|line| line.contains(&self.caught));
        let expected = || format!("expected {:?} of {}, found:\n{}", self.caught, self.test, outcome.output);
        Ok(said.ok_or_else(expected)?.trim().to_owned())
    }
}
