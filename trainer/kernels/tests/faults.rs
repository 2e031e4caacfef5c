//! Every seeded fault of `faults*.toml` is caught, for the reason that the list states.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

use std::collections::BTreeSet;
use thimble_kernels::{Fault, Faults, for_each};

#[test]
fn seeded_faults_are_caught() {
    let faults = Faults::read().unwrap();
    let names: BTreeSet<&str> = faults.iter().map(|fault| &*fault.name).collect();
    assert_eq!(names.len(), faults.len(), "expected each fault's name once");
    let check = |fault: &Fault| {
        let work = tempfile::tempdir().unwrap();
        let problem = fault.expect_caught(work.path()).err()?;
        Some(format!("{}: {problem}", fault.name))
    };
    let missed: Vec<String> = for_each(&faults, check).into_iter().flatten().collect();
    assert!(missed.is_empty(), "{} of {} faults:\n{}", missed.len(), faults.len(), missed.join("\n"));
}
