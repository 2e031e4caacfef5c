//! Adapters: files that change what a model does, without a second copy of its weights.

use crate::{ApiError, Model};
use std::path::Path;
use std::sync::Arc;
use thimble_files::{OpenError, OpenedAdapter};
use thimble_host::{InferencePlan, InferenceSettings};
use thimble_runtime::adapter::{AdapterSet, WeightedAdapter};

/// An adapter in memory, checked against a model.
#[derive(Debug, uniffi::Object)]
pub struct Adapter {
    opened: OpenedAdapter,
}

/// An adapter and how much of it a chat has.
#[derive(Clone, Debug, uniffi::Record)]
pub struct AdapterWeight {
    /// The adapter.
    pub adapter: Arc<Adapter>,
    /// Scales what it changes: 1 as it was trained, 0 not at all.
    pub weight: f32,
}

#[uniffi::export]
impl Adapter {
    /// Bytes of memory that it takes; all chats share them.
    pub fn bytes(&self) -> Result<u64, ApiError> {
        Ok(self.opened.file().map_err(ApiError::other)?.bytes().len() as u64)
    }

    /// Largest rank of its matrices.
    pub fn rank(&self) -> Result<u32, ApiError> {
        Ok(self.opened.file().map_err(ApiError::other)?.rank() as u32)
    }
}

#[uniffi::export]
impl Model {
    /// Reads an `.adapter` file, which `thimble convert` makes of a LoRA folder, for this model.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; the file is no adapter, is damaged, or was trained on another model.
    pub fn open_adapter(&self, path: String) -> Result<Arc<Adapter>, ApiError> {
        let opened = OpenedAdapter::read(Path::new(&path)).map_err(|error| match error {
            OpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ApiError::NotFound { path: path.clone() }
            }
            other => ApiError::other(other),
        })?;
        let adapter = Adapter { opened };
        self.check_adapter(&adapter)?;
        Ok(Arc::new(adapter))
    }
}

impl Model {
    /// Checks that an adapter was trained on this model.
    ///
    /// # Errors
    /// It was trained on another one.
    fn check_adapter(&self, adapter: &Adapter) -> Result<(), ApiError> {
        let file = adapter.opened.file().map_err(ApiError::other)?;
        file.check_base(&self.file()?).map_err(|error| {
            let path = adapter.opened.path().display();
            ApiError::other(format!("{path}: {error}; use the model that it was trained on"))
        })
    }

    /// The largest rank of these adapters and the bytes that they take.
    ///
    /// # Errors
    /// One of them was trained on another model, or there are too many.
    fn measure_adapters(&self, adapters: &[AdapterWeight]) -> Result<(usize, u64), ApiError> {
        for chosen in adapters {
            self.check_adapter(&chosen.adapter)?;
        }
        let weighted = weighted(adapters)?;
        let rank = WeightedAdapter::largest_rank(&weighted);
        AdapterSet::new(&weighted, self.file()?.config(), rank).map_err(ApiError::other)?;
        Ok((rank, weighted.iter().map(|adapter| adapter.file.bytes().len() as u64).sum()))
    }

    /// The plan of a chat with these adapters.
    ///
    /// # Errors
    /// They are for another model, or exceed the budget.
    pub(crate) fn plan_with(&self, adapters: &[AdapterWeight]) -> Result<InferencePlan, ApiError> {
        if adapters.is_empty() {
            return Ok(self.plan);
        }
        let (adapter_rank, adapter_bytes) = self.measure_adapters(adapters)?;
        let file = self.file()?;
        let plan = InferencePlan::new(file.config(), &InferenceSettings { adapter_rank, ..self.settings })?;
        // A GPU has a copy of them.
        let copies = if self.gpu_bytes > 0 { 2 } else { 1 };
        let needed = (file.bytes().len() + plan.bytes()) as u64 + self.gpu_bytes + copies * adapter_bytes;
        match self.budget.filter(|&budget| needed > budget) {
            Some(budget) => Err(ApiError::TooLarge { needed, budget }),
            None => Ok(plan),
        }
    }
}

/// The adapters as a session takes them.
///
/// # Errors
/// A file that is no adapter any more.
pub(crate) fn weighted(adapters: &[AdapterWeight]) -> Result<Vec<WeightedAdapter<'_>>, ApiError> {
    adapters.iter().map(|chosen| weigh(&chosen.adapter, chosen.weight)).collect()
}

fn weigh(adapter: &Adapter, weight: f32) -> Result<WeightedAdapter<'_>, ApiError> {
    Ok(WeightedAdapter { file: adapter.opened.file().map_err(ApiError::other)?, weight })
}
