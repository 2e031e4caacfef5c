//! Views of the activation arena.

use super::super::BufferSpan;
use crate::error::{Error, Result};

/// Disjoint stretches of an arena.
pub(super) fn spans<const N: usize>(arena: &mut [f32], spans: [BufferSpan; N]) -> Result<[&mut [f32]; N]> {
    arena
        .get_disjoint_mut(spans.map(BufferSpan::range))
        .map_err(|error| Error::Invalid(format!("the engine's memory layout is wrong: {error} in {spans:?}")))
}
