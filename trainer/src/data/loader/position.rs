//! The position of a run in its data.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// With the recipe and the sets, it determines the batches that follow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoaderPosition {
    /// The stage that the last batch was for.
    pub stage: usize,
    /// Windows drawn in that stage.
    pub samples: u64,
    /// The position in each set, by name.
    pub sets: BTreeMap<String, SetPosition>,
}

/// The position in one set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPosition {
    /// The position in each lane; windows take the lanes in turn.
    pub lanes: Vec<LanePosition>,
    /// Windows taken in the whole run.
    pub windows: u64,
    /// Targets taken in the whole run.
    pub tokens: u64,
    /// Targets taken in this stage.
    pub stage_tokens: u64,
    /// Tokens of the whole set, to recognize it.
    pub set_tokens: u64,
    /// Hash of its shards' checksums, to recognize its content.
    pub set_hash: String,
}

/// The position in one lane of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePosition {
    /// Completed passes over the lane.
    pub epoch: u64,
    /// Token offset within the epoch at which the lane's next window begins.
    pub offset: u64,
}
