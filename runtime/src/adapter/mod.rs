//! Adapters: low-rank matrices beside a model's own (LoRA, Hu et al. 2021), in `.adapter` files.
//!
//! An adapted matrix W acts as `W + weight * scale * B A`. The model's own weights stay as they are, so that sessions of one
//! model can have different adapters, and a session can change them. `FORMAT.md` specifies the files.

mod error;
mod file;
mod low_rank;
mod product;
mod record;
mod set;
#[cfg(test)]
mod tests;

pub use error::{AdapterError, AdapterFormatError};
pub use file::{
    ADAPTER_HEADER, ADAPTER_MAGIC, ADAPTER_VERSION, AdapterFile, AdapterHeader, base_fingerprint,
};
pub use low_rank::LowRank;
pub use record::{ADAPTER_RECORD, AdapterRecord, MAX_RANK};
pub use set::{AdapterSet, WeightedAdapter};

pub(crate) use product::{Adapted, adapter_runs, apply};
