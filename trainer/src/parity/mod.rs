//! Parity with PyTorch on a folder of reference values, which is known by the file that it holds: `steps.json`
//! (pretraining; with `update-bf16.safetensors` in bf16), `sft.json` (conversations) or `dpo.json` (preferences); and of a device with the CPU, by operation
//! ([`compare_operations`]) and by training a small model ([`compare_engines`]).

mod bf16;
mod distance;
mod dpo;
mod engines;
mod operations;
mod sft;
mod steps;
mod tuning;

pub use bf16::{Bf16Parity, RunDistance};
pub use engines::{EngineParity, compare_engines};
pub use operations::{OPERATIONS_LENGTHS, OperationParity, compare_operations};
pub use steps::{Parity, parity};
pub use tuning::TuningParity;

use crate::error::{Error, Result};
use crate::export::read_model;
use crate::ops::{BufferLengths, Ops};
use crate::recipe::Precision;
use serde::Serialize;
use std::path::Path;
use thimble_runtime::format::Config;

/// How far the trainer is from a folder's reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Comparison {
    /// A folder with `steps.json`.
    Pretraining(Parity),
    /// One with `update-bf16.safetensors` too.
    Bf16(Bf16Parity),
    /// A folder with `sft.json` or `dpo.json`.
    Tuning(TuningParity),
}

impl Comparison {
    /// Whether every figure is within its bound.
    pub fn holds(&self) -> bool {
        match self {
            Comparison::Pretraining(parity) => parity.holds(),
            Comparison::Bf16(parity) => parity.holds(),
            Comparison::Tuning(parity) => parity.holds(),
        }
    }
}

/// The model and the precision that decide a device's operations for a folder.
///
/// # Errors
/// The folder's model cannot be read.
pub fn reference_model(folder: &Path) -> Result<(Config, Precision)> {
    if folder.join(bf16::FILE).is_file() {
        Ok((read_model(folder)?.0, Precision::Bf16))
    } else {
        // In f32 the operations do not depend on the model.
        Ok((Config::PLAIN, Precision::F32))
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
    if holds(bf16::FILE) {
        Ok(Comparison::Bf16(bf16::bf16_parity(folder, device)?))
    } else if holds("steps.json") {
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
