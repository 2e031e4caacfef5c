//! The adapters of a session.

use super::AdapterError;
use super::file::AdapterFile;
use super::low_rank::LowRank;
use crate::format::{Config, TensorRole};

/// An adapter and its weight in a session: 1 as trained, 0 without effect.
#[derive(Clone, Copy, Debug)]
pub struct WeightedAdapter<'f> {
    /// The adapter.
    pub file: AdapterFile<'f>,
    /// Factor of its scale.
    pub weight: f32,
}

impl WeightedAdapter<'_> {
    /// The largest rank in a list: [`PlanOptions::adapter_rank`](crate::memory::PlanOptions::adapter_rank) of sessions that
    /// have these adapters.
    pub fn largest_rank(adapters: &[WeightedAdapter<'_>]) -> usize {
        adapters.iter().map(|adapter| adapter.file.rank()).max().unwrap_or(0)
    }
}

/// The adapters of a session that have an effect, checked against its model.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdapterSet<'f> {
    adapters: [Option<WeightedAdapter<'f>>; AdapterSet::MAX],
    id: u64,
}

impl<'f> AdapterSet<'f> {
    /// Most adapters of a session.
    pub const MAX: usize = 8;

    /// The set of these adapters, for a model of this configuration and memory planned for adapters of rank `planned`.
    /// The fingerprint of the model is not compared: [`AdapterFile::check_base`] does.
    ///
    /// # Errors
    /// [`AdapterError`], except [`AdapterError::OtherBase`].
    pub fn new(
        adapters: &[WeightedAdapter<'f>],
        config: &Config,
        planned: usize,
    ) -> Result<AdapterSet<'f>, AdapterError> {
        if adapters.len() > Self::MAX {
            return Err(AdapterError::TooMany { found: adapters.len(), limit: Self::MAX });
        }
        let mut set = AdapterSet::default();
        for (slot, adapter) in set.adapters.iter_mut().zip(adapters) {
            let WeightedAdapter { file, weight } = adapter;
            if !weight.is_finite() {
                return Err(AdapterError::Weight { found: *weight });
            }
            if file.rank() > planned {
                return Err(AdapterError::Rank { found: file.rank(), planned });
            }
            file.check_shape(config)?;
            // Weight 0 is the model itself, bit for bit.
            *slot = Some(*adapter).filter(|adapter| adapter.weight != 0.0);
        }
        set.id = set.hash();
        Ok(set)
    }

    /// The adapters, in the order in which their products are added.
    pub fn iter(&self) -> impl Iterator<Item = &WeightedAdapter<'f>> {
        self.adapters.iter().flatten()
    }

    /// Whether no adapter has an effect.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The matrices of each adapter beside a matrix of the model, with the adapter's weight in their scale.
    pub fn find(&self, role: TensorRole, layer: u16) -> impl Iterator<Item = LowRank<'f>> {
        self.iter().filter_map(move |adapter| {
            let found = adapter.file.find(role, layer)?;
            Some(LowRank { scale: found.scale * adapter.weight, ..found })
        })
    }

    /// Identifies the adapters and their weights: two sessions of one model with equal ids compute the same. 0 without
    /// adapters.
    pub fn id(&self) -> u64 {
        self.id
    }

    fn hash(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for adapter in self.iter() {
            hash.update(&adapter.file.id().to_le_bytes());
            hash.update(&adapter.weight.to_le_bytes());
        }
        hash.digest().max(1)
    }
}
