//! Parity with PyTorch on a folder of reference values, which is known by the file that it holds: `steps.json`
//! (pretraining), `sft.json` (conversations) or `dpo.json` (preferences); and of a device with the CPU, by operation
//! ([`compare_operations`]) and by training a small model ([`compare_engines`]).

mod distance;
mod dpo;
mod engines;
mod operations;
mod sft;
mod steps;
mod tuning;

pub use engines::{EngineParity, compare_engines};
pub use operations::{OPERATIONS_LENGTHS, OperationParity, compare_operations};
pub use steps::{Parity, parity};
pub use tuning::TuningParity;

use crate::error::{Error, Result};
use crate::ops::{BufferLengths, Ops};
use serde::Serialize;
use std::path::Path;
use thimble_runtime::format::Config;

/// How far the trainer is from a folder's reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Comparison {
    /// A folder with `steps.json`.
    Pretraining(Parity),
    /// A folder with `sft.json` or `dpo.json`.
    Tuning(TuningParity),
}

impl Comparison {
    /// Whether every figure is within its bound for f32.
    pub fn holds(&self) -> bool {
        match self {
            Comparison::Pretraining(parity) => parity.holds(),
            Comparison::Tuning(parity) => parity.holds(),
        }
    }
}

/// Compares with whichever reference the folder holds, on the device that `device` makes for a model and its
/// buffers.
///
/// # Errors
/// The folder holds none of the three files, or one of its files is missing or malformed.
pub fn compare<O: Ops>(
    folder: &Path,
    device: impl FnOnce(&Config, BufferLengths) -> Result<O>,
) -> Result<Comparison> {
    let holds = |name: &str| folder.join(name).is_file();
    if holds("steps.json") {
        Ok(Comparison::Pretraining(parity(folder, device)?))
    } else if holds(sft::FILE) {
        Ok(Comparison::Tuning(sft::parity(folder, device)?))
    } else if holds(dpo::FILE) {
        Ok(Comparison::Tuning(dpo::parity(folder, device)?))
    } else {
        Err(Error::Usage(format!(
            "{}: expected a folder with steps.json, {} or {}, found none of them",
            folder.display(),
            sft::FILE,
            dpo::FILE
        )))
    }
}
