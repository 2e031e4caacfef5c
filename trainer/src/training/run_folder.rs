//! Checks of the run folder: its files, its lock, and its recipe.

use crate::error::{Error, Result};
use crate::recipe::TrainingRecipe;
use std::fs::{File, TryLockError};
use std::path::Path;

/// The lock of every run folder.
const LOCK: &str = ".lock";

/// Refuses a folder with files of something else.
pub(super) fn check(run: &Path) -> Result<()> {
    let used = run.is_dir() && std::fs::read_dir(run).map_err(Error::file(run, "read"))?.next().is_some();
    if used && !run.join(LOCK).exists() {
        return Err(Error::Usage(format!(
            "{} holds files that are not a run's: choose another folder with --run",
            run.display()
        )));
    }
    Ok(())
}

/// Locks the run folder; the system releases the lock when the process ends.
pub(super) fn lock(run: &Path) -> Result<File> {
    let path = run.join(LOCK);
    let file = File::create(&path).map_err(Error::file(&path, "create"))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Invalid(format!(
            "another thimble-train is using {}: wait for it, or choose another folder with --run",
            run.display()
        ))),
        // A file system without locks is no reason not to train.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Refuses to resume with a recipe that computes something else; what is shown or kept may change. `resume` is the
/// command that resumes the run.
pub(super) fn require_same_recipe(then: &TrainingRecipe, now: &TrainingRecipe, resume: &str) -> Result<()> {
    // Data may have moved: the saved position identifies them by their content.
    let numbers = |recipe: &TrainingRecipe| TrainingRecipe {
        data: Default::default(),
        checkpoint: Default::default(),
        sample: None,
        guard: Default::default(),
        ..recipe.clone()
    };
    let (a, b) = (numbers(then), numbers(now));
    if a == b {
        return Ok(());
    }
    let (a, b) = (a.to_toml()?, b.to_toml()?);
    let differs: Vec<String> = a
        .lines()
        .filter(|line| !b.lines().any(|other| other == *line))
        .map(|line| format!("- {line}"))
        .chain(
            b.lines().filter(|line| !a.lines().any(|other| other == *line)).map(|line| format!("+ {line}")),
        )
        .collect();
    Err(Error::Invalid(format!(
        "the run was started with another recipe (- then, + now); `{resume}` continues it, or start another run with --run:\n{}",
        differs.join("\n")
    )))
}
