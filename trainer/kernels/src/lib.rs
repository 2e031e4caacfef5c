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
    let mut found: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).filter(wanted).collect();
    found.sort();
    Ok(found)
}

/// Calls `work` for every item on as many threads as there are processors; the results in the items' order.
pub fn for_each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len().max(1));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|index| Some((index, items.get(index)?)))
                {
                    let result = work(item);
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
