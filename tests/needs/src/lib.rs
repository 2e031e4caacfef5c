//! What tests need that a machine may lack, and what becomes of a test where it is missing.
//!
//! A test that is skipped passes, as far as the test runner knows, and its output is hidden. So [`skip`] writes a line
//! to stderr past the runner, and appends it to the file that `THIMBLE_SKIPPED` names, for a count at the end. Where
//! `THIMBLE_REQUIRE` names the need (names separated by commas, or `all`), the test fails instead: that is how a gate
//! makes sure that nothing is skipped unseen.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A GPU, or a software renderer: `adapter`.
    Adapter,
    /// A certain kind of adapter, or a feature of it: `adapter-feature`.
    AdapterFeature,
    /// A `.thimble` file of one's choice: `chosen-model`.
    ChosenModel,
    /// Instructions of the CPU. Nothing can require them: `instructions`.
    Instructions,
    /// A model that the repository does not hold: `model`.
    Model,
    /// The folder of reference values beside the checkout: `shared`.
    Shared,
}

impl Need {
    /// As `THIMBLE_REQUIRE` names it.
    pub fn name(self) -> &'static str {
        match self {
            Need::Adapter => "adapter",
            Need::AdapterFeature => "adapter-feature",
            Need::ChosenModel => "chosen-model",
            Need::Instructions => "instructions",
            Need::Model => "model",
            Need::Shared => "shared",
        }
    }

    /// Whether `list`, as `THIMBLE_REQUIRE` has it, requires this.
    fn required(self, list: &str) -> bool {
        let named = list.split(',').map(str::trim).any(|name| name == self.name() || name == "all");
        named && self != Need::Instructions
    }
}

/// Says that the running test is skipped for want of `need`.
///
/// # Panics
/// `THIMBLE_REQUIRE` names the need.
pub fn skip(need: Need, why: impl fmt::Display) {
    let list = std::env::var("THIMBLE_REQUIRE").unwrap_or_default();
    assert!(!need.required(&list), "THIMBLE_REQUIRE names {}, but {why}", need.name());
    let thread = std::thread::current();
    note(need, thread.name().unwrap_or("a test"), why);
}

/// Says that several tests leave out `what`, once for all of them: instructions that this CPU lacks.
pub fn skip_instructions(what: &str, why: impl fmt::Display) {
    note(Need::Instructions, what, why);
}

fn note(need: Need, what: &str, why: impl fmt::Display) {
    // A test that asks several times is skipped once.
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let line = format!("{}: {what} ({why})\n", need.name());
    if !SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
        return;
    }
    // Not `eprint`, which the runner captures. That a count is not written must not fail a test.
    let _ = std::io::stderr().write_all(format!("skipped for want of {line}").as_bytes());
    if let Some(path) = std::env::var_os("THIMBLE_SKIPPED") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

/// The folder of reference values: `THIMBLE_SHARED`, or `shared` beside the checkout. Skips the test without one.
pub fn shared() -> Option<PathBuf> {
    let found = find_shared();
    if found.is_none() {
        skip(Need::Shared, "there is no folder `shared` beside the checkout, and THIMBLE_SHARED names none");
    }
    found
}

/// The file that `THIMBLE_GGUF` names, SmolLM2-135M-Instruct.Q4_1.gguf. Skips the test without one.
pub fn gguf() -> Option<PathBuf> {
    let found = find_gguf();
    if found.is_none() {
        skip(Need::Model, "THIMBLE_GGUF does not name SmolLM2-135M-Instruct.Q4_1.gguf");
    }
    found
}

/// [`shared`], for what several tests have in common: it skips nothing.
pub fn find_shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = std::env::var_os("THIMBLE_SHARED").map_or(beside, PathBuf::from);
    path.is_dir().then_some(path)
}

/// [`gguf`], for what several tests have in common: it skips nothing.
pub fn find_gguf() -> Option<PathBuf> {
    std::env::var_os("THIMBLE_GGUF").map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::Need;

    #[test]
    fn a_list_requires_what_it_names() {
        assert!(Need::Adapter.required("model, adapter"));
        assert!(Need::Shared.required("all"));
        assert!(!Need::Adapter.required("adapter-feature") && !Need::AdapterFeature.required("adapter"));
        assert!(!Need::Model.required(""));
    }

    #[test]
    fn nobody_can_require_instructions() {
        assert!(!Need::Instructions.required("instructions") && !Need::Instructions.required("all"));
    }
}
