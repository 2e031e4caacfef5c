//! How far found values are from expected ones.

use crate::model::Parameters;

/// The distance of a number from a reference, over the reference.
pub(super) fn relative(found: f64, expected: f64) -> f64 {
    // A NaN counts as infinitely far.
    let distance = (found - expected).abs() / expected.abs();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

/// Norm of the difference over the norm.
pub(super) fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let difference = square(&mut found.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let distance = (difference / square(&mut expected.iter().map(|&b| f64::from(b)))).sqrt();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

/// The tensor with the largest norm of the difference over the norm.
pub(super) fn worst(parameters: &Parameters, found: &[f32], expected: &[f32]) -> (f64, String) {
    let mut worst = (0.0, String::new());
    for named in parameters.named() {
        let distance = distance(&found[named.range()], &expected[named.range()]);
        if distance >= worst.0 {
            worst = (distance, named.name.clone());
        }
    }
    worst
}
