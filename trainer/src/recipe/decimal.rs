//! Numbers of f32 as a person writes them.

/// The number with the fewest digits that is this one in f32: 1e-5, not 9.99999974e-6.
pub(super) fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
