//! What identifies the weights that a run does not train.

use crate::error::{Error, Result};
use crate::model::Parameters;
use crate::model::parameters::NamedTensor;
use zerocopy::IntoBytes;

/// Identifies the frozen weights of a flat buffer, which a checkpoint does not hold; none if nothing is frozen.
pub fn frozen_hash(parameters: &Parameters, weights: &[f32]) -> Option<String> {
    let frozen = parameters.frozen();
    if frozen.is_empty() {
        return None;
    }
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    // By ordinal, so that the hash of a whole model does not depend on where its tensors lie.
    let mut frozen: Vec<&NamedTensor> = frozen.iter().collect();
    frozen.sort_by_key(|named| named.ordinal);
    frozen.iter().for_each(|named| hash.update(weights[named.range()].as_bytes()));
    Some(format!("{:016x}", hash.digest()))
}

/// Refuses frozen weights other than those that a checkpoint or an adapter was made with.
///
/// # Errors
/// The hashes differ.
pub fn require_same_base(then: Option<&str>, now: Option<&str>, what: &str) -> Result<()> {
    if then == now {
        return Ok(());
    }
    let [then, now] = [then, now].map(|hash| hash.unwrap_or("none"));
    Err(Error::Invalid(format!(
        "{what} was trained on other frozen weights (hash {then}) than those of this base model (hash {now}): expected the \
         base model that it was trained on; restore it, or start a new run with --run"
    )))
}
