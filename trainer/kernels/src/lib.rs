//! Compiles the C++ tests of the CUDA kernels for the host and runs them on the emulator.
//!
//! [`Program`] is a test program, [`SeededFault`] a seeded mutation of a kernel that a program must notice.

// The emulator reserves address space and makes stacks as POSIX does.
#![cfg(unix)]

mod fault;
mod program;

pub use fault::{SeededFault, SeededFaults, Sources};
pub use program::{Outcome, Program};

use std::path::{Path, PathBuf};

/// The folder of the kernels.
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files in a folder with one of the extensions, sorted.
///
/// # Errors
/// The folder cannot be read.
pub fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, String> {
    let listed = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let wanted = |path: &PathBuf| {
        path.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension))
    };
    let mut found: Vec<PathBuf> =
        listed.filter_map(|entry| Some(entry.ok()?.path())).filter(wanted).collect();
    found.sort();
    Ok(found)
}
