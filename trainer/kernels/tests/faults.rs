//! Every seeded fault of `faults*.toml` is caught, for the reason that the list states.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

use rayon::prelude::*;
use std::collections::BTreeSet;
use thimble_kernels::{SeededFault, SeededFaults, Sources};

/// Prints what caught each. `FAULT` in the environment chooses those whose name contains it.
#[test]
fn seeded_faults_are_caught() {
    let chosen = std::env::var("FAULT").unwrap_or_default();
    let mut faults = SeededFaults::read().unwrap();
    let names: BTreeSet<&str> = faults.iter().map(|fault| &*fault.name).collect();
    assert_eq!(names.len(), faults.len(), "expected each fault's name once");
    faults.retain(|fault| fault.name.contains(&chosen));
    assert!(!faults.is_empty(), "no fault is called {chosen:?}");
    let work = tempfile::tempdir().unwrap();
    let sources = Sources::new(work.path()).unwrap();
    let check = |fault: &SeededFault| {
        let result = fault.expect_caught(&sources).map_err(|problem| format!("{}: {problem}", fault.name));
        result.map(|said| println!("{}: {said}", fault.name)).err()
    };
    let missed: Vec<String> = faults.par_iter().filter_map(check).collect();
    assert!(missed.is_empty(), "{} of {} faults:\n{}", missed.len(), faults.len(), missed.join("\n"));
}
