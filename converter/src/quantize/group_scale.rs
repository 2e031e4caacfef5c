//! The stored scale of a group.

/// The stored scale of one group of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GroupScale {
    /// The step between adjacent integer levels; with zero, every code means the minimum.
    pub(crate) scale: f32,
    /// Added to every value.
    pub(crate) minimum: f32,
    inverse: f32,
    multiplier: i8,
}

impl GroupScale {
    pub(super) fn new(scale: f32, minimum: f32, multiplier: i8) -> GroupScale {
        // If the inverse overflows, the scale is too small to distinguish codes: all mean zero.
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        GroupScale { scale, minimum, inverse: if inverse.is_finite() { inverse } else { 0.0 }, multiplier }
    }

    /// The 8-bit scale relative to the row's, for encodings that have one.
    pub(super) fn multiplier(&self) -> i8 {
        self.multiplier
    }

    /// One over the scale; 0 if all codes mean the minimum.
    #[inline]
    pub(super) fn inverse(&self) -> f32 {
        self.inverse
    }
}
