//! What sets of conversations and of preference pairs share.

use crate::error::{Error, Result};
use serde::Serialize;

/// Warns where held-out data are trained on, so that their loss says nothing of other data.
pub(crate) fn warn_of_shared(shared: u64, held_out: usize, what: &str) {
    if shared > 0 {
        eprintln!(
            "warning: {shared} of {held_out} held-out {what} are among those that are trained on: their loss does not tell \
             learning from memorizing; hold out others"
        );
    }
}

/// Examples of similar length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LengthCount {
    /// Most tokens of these examples, a power of two; the next smaller one has its own entry.
    pub up_to: usize,
    /// Examples.
    pub examples: u64,
}

impl LengthCount {
    /// Counts an example of `length` tokens; the counts are in the order of their lengths.
    pub(super) fn add(counts: &mut Vec<LengthCount>, length: usize) {
        let up_to = length.max(1).next_power_of_two();
        match counts.binary_search_by_key(&up_to, |count| count.up_to) {
            Ok(found) => counts[found].examples += 1,
            Err(at) => counts.insert(at, LengthCount { up_to, examples: 1 }),
        }
    }
}

/// The indices of about `share` of the examples, those with the smallest hashes; equal hashes stay together, so the share
/// may be a little larger. `what` names the examples.
///
/// # Errors
/// None, or all of the examples would be held out.
pub(super) fn smallest_hashes(hashes: &[u64], share: f64, what: &str) -> Result<Vec<usize>> {
    let mut sorted = hashes.to_vec();
    sorted.sort_unstable();
    let count = (share * sorted.len() as f64).round() as usize;
    let last = count.checked_sub(1).and_then(|last| sorted.get(last));
    let held = |index: &usize| last.is_some_and(|&last| hashes[*index] <= last);
    let indices: Vec<usize> = (0..hashes.len()).filter(held).collect();
    if indices.is_empty() || indices.len() == hashes.len() {
        return Err(Error::Usage(format!(
            "data.held_out = {share}: expected a share that holds out some but not all of {} {what}; found one that holds \
             out {}",
            hashes.len(),
            indices.len()
        )));
    }
    Ok(indices)
}
