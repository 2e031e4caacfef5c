//! How far found values are from expected ones.

use crate::model::Parameters;

/// The distance of a number from a reference, over the reference.
pub(super) fn relative(found: f64, expected: f64) -> f64 {
    // A NaN counts as infinitely far.
    let distance = (found - expected).abs() / expected.abs();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

/// The tensor with the largest norm of the difference over the norm.
pub(super) fn worst(parameters: &Parameters, found: &[f32], expected: &[f32]) -> (f64, String) {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let mut worst = (0.0, String::new());
    for named in parameters.named() {
        let (found, expected) = (&found[named.range()], &expected[named.range()]);
        let difference = square(&mut found.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b)));
        let distance = (difference / square(&mut expected.iter().map(|&b| f64::from(b)))).sqrt();
        let distance = if distance.is_nan() { f64::INFINITY } else { distance };
        if distance >= worst.0 {
            worst = (distance, named.name.clone());
        }
    }
    worst
}
