//! Every C++ test program in this folder passes on the emulator.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

use rayon::prelude::*;
use std::path::PathBuf;
use thimble_kernels::{Program, files, folder};

#[test]
fn kernels_match_their_references() {
    let folder_of_programs = tempfile::tempdir().unwrap();
    let sources = files(&folder().join("tests"), &["cpp"]).unwrap();
    assert!(!sources.is_empty(), "no test programs");
    let run = |source: &PathBuf| {
        let name = source.file_stem().unwrap().to_string_lossy().into_owned();
        let program = Program::compile(source, &folder_of_programs.path().join(&name), &["-O2"]);
        match program.and_then(|program| program.run([])) {
            Ok(outcome) if outcome.passed => None,
            Ok(outcome) => Some(format!("{name}:\n{}", outcome.output)),
            Err(problem) => Some(format!("{name}: {problem}")),
        }
    };
    let failed: Vec<String> = sources.par_iter().filter_map(run).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
