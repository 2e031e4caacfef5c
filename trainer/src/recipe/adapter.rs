//! The `[adapter]` table of a recipe.

use super::check::{Faults, Range};
use super::optional;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use thimble_runtime::format::TensorRole;

/// Largest accepted rank.
const MAX_RANK: usize = 1 << 12;

/// Low-rank adapters (LoRA, Hu et al. 2021): the model's own weights are frozen, and each adapted matrix W acts as
/// `W + (alpha / rank) B A`, of which only A and B are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterKeys {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// The adapter's factor times the rank; unless given, twice the rank.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional::or_none")]
    pub alpha: Option<f64>,
    /// The matrices of each layer that get an adapter; empty: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matrices: Vec<AdaptedMatrix>,
    /// A folder of the PEFT library with the adapter to start from; none: A is random and B zero.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional::or_none")]
    pub from: Option<PathBuf>,
}

/// A matrix of a layer that can get an adapter, by the name of its module in transformers or the beginning of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum AdaptedMatrix {
    /// Query projection.
    #[serde(rename = "q_proj", alias = "q")]
    Q,
    /// Key projection.
    #[serde(rename = "k_proj", alias = "k")]
    K,
    /// Value projection.
    #[serde(rename = "v_proj", alias = "v")]
    V,
    /// Output projection of attention.
    #[serde(rename = "o_proj", alias = "o")]
    O,
    /// Gate projection.
    #[serde(rename = "gate_proj", alias = "gate")]
    Gate,
    /// Up projection.
    #[serde(rename = "up_proj", alias = "up")]
    Up,
    /// Down projection.
    #[serde(rename = "down_proj", alias = "down")]
    Down,
}

impl AdaptedMatrix {
    /// All matrices, in the order of a layer.
    pub const ALL: [AdaptedMatrix; 7] = [
        AdaptedMatrix::Q,
        AdaptedMatrix::K,
        AdaptedMatrix::V,
        AdaptedMatrix::O,
        AdaptedMatrix::Gate,
        AdaptedMatrix::Up,
        AdaptedMatrix::Down,
    ];

    /// The matrix's role in the model.
    pub fn role(self) -> TensorRole {
        match self {
            AdaptedMatrix::Q => TensorRole::Query,
            AdaptedMatrix::K => TensorRole::Key,
            AdaptedMatrix::V => TensorRole::Value,
            AdaptedMatrix::O => TensorRole::Output,
            AdaptedMatrix::Gate => TensorRole::Gate,
            AdaptedMatrix::Up => TensorRole::Up,
            AdaptedMatrix::Down => TensorRole::Down,
        }
    }

    /// The name of the matrix's module in transformers.
    pub fn module(self) -> &'static str {
        match self {
            AdaptedMatrix::Q => "q_proj",
            AdaptedMatrix::K => "k_proj",
            AdaptedMatrix::V => "v_proj",
            AdaptedMatrix::O => "o_proj",
            AdaptedMatrix::Gate => "gate_proj",
            AdaptedMatrix::Up => "up_proj",
            AdaptedMatrix::Down => "down_proj",
        }
    }
}

impl AdapterKeys {
    /// Adapters of that rank on all matrices.
    pub fn of_rank(rank: usize) -> AdapterKeys {
        AdapterKeys { rank, alpha: None, matrices: Vec::new(), from: None }
    }

    /// The adapted matrices.
    pub fn matrices(&self) -> &[AdaptedMatrix] {
        if self.matrices.is_empty() { &AdaptedMatrix::ALL } else { &self.matrices }
    }

    /// The factor times the rank.
    pub fn alpha(&self) -> f64 {
        self.alpha.unwrap_or(2.0 * self.rank as f64)
    }

    /// The factor of `B A`.
    pub fn scale(&self) -> f32 {
        (self.alpha() / self.rank as f64) as f32
    }
}

impl Faults {
    pub(super) fn adapter(&mut self, adapter: &AdapterKeys, freeze: &[String]) {
        self.size("adapter.rank", adapter.rank, MAX_RANK);
        if let Some(alpha) = adapter.alpha {
            self.number("adapter.alpha", alpha, Range::Positive);
        }
        self.require(freeze.is_empty(), "freeze", || {
            "expected no entries beside [adapter], which freezes the whole model".into()
        });
    }
}
