//! Where a run is in its data.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that decides which batches follow, besides the recipe and the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoaderPosition {
    /// The stage that the last batch was for.
    pub stage: usize,
    /// Windows drawn in that stage.
    pub samples: u64,
    /// The place in each set, by name.
    pub sets: BTreeMap<String, SetPosition>,
}

/// The place in one set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPosition {
    /// The place in each lane; windows take them in turn.
    pub lanes: Vec<LanePosition>,
    /// Windows taken in the whole run.
    pub windows: u64,
    /// Targets taken in the whole run.
    pub tokens: u64,
    /// Targets taken in this stage.
    pub stage_tokens: u64,
    /// Tokens of the whole set: another number is another set.
    pub set_tokens: u64,
    /// Hash of its shards' checksums: another one is other content.
    pub set_hash: String,
}

/// The place in one lane of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePosition {
    /// Times the lane has been gone through.
    pub epoch: u64,
    /// Token offset within the epoch at which the lane's next window begins.
    pub offset: u64,
}
