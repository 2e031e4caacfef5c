//! Seeded faults: mutations of the sources that the tests must catch.

use crate::{Program, files, folder};
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// One mutation, and how it must be caught.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
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
pub struct Faults {
    /// In the order of the file.
    pub fault: Vec<Fault>,
}

impl Faults {
    /// Reads all lists.
    ///
    /// # Errors
    /// A list cannot be read.
    pub fn read() -> Result<Vec<Fault>, String> {
        let mut all = Vec::new();
        for path in files(&folder().join("tests"), &["toml"])? {
            let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let text = fs::read_to_string(&path).map_err(|error| told(&error))?;
            all.extend(toml::from_str::<Faults>(&text).map_err(|error| told(&error))?.fault);
        }
        Ok(all)
    }
}

impl Fault {
    /// The source with the mutation.
    fn apply(&self) -> Result<String, String> {
        let text = fs::read_to_string(folder().join(&self.file)).map_err(|error| format!("{}: {error}", self.file))?;
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            found => Err(format!("expected the text once in {}, found it {found} times: {:?}", self.file, self.find)),
        }
    }

    /// Copies the sources to `work`, an empty folder, mutates them, and expects the test to fail for the stated reason.
    ///
    /// # Errors
    /// The test passes, or fails otherwise, or the mutation cannot be compiled.
    pub fn expect_caught(&self, work: &Path) -> Result<(), String> {
        let told = |error: std::io::Error| format!("{}: {error}", work.display());
        for part in ["", "emulator", "tests"] {
            fs::create_dir_all(work.join(part)).map_err(told)?;
            for path in files(&folder().join(part), &["cuh", "cu", "def", "h", "cpp"])? {
                let name = path.file_name().unwrap_or_default();
                fs::copy(&path, work.join(part).join(name)).map_err(told)?;
            }
        }
        fs::write(work.join(&self.file), self.apply()?).map_err(told)?;
        let mut words = self.test.split_whitespace();
        let test = words.next().unwrap_or_default();
        let source = work.join("tests").join(format!("{test}.cpp"));
        let outcome = Program::compile(&source, &work.join("program"), &["-O1"])?.run(words)?;
        if outcome.passed {
            return Err(format!("{} does not notice it:\n{}", self.test, outcome.output));
        }
        if !outcome.output.contains(&self.caught) {
            return Err(format!("expected {:?} of {}, found:\n{}", self.caught, self.test, outcome.output));
        }
        Ok(())
    }
}
