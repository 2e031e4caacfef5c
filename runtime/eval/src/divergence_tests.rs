use super::{Position, Sums, percentile};
use thimble_runtime::Token;

/// Expected numbers: scipy.special.rel_entr over softmax in float64, of these rows.
const X: [f32; 4] = [1.5, -2.0, 0.25, 3.0];
const Y: [f32; 4] = [1.0, -1.0, 0.5, 2.5];

#[test]
fn a_position_is_what_the_definition_says() {
    let softmax = |row: [f32; 4]| {
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        row.map(|x| f64::from(x).exp() / sum)
    };
    let (p, q) = (softmax(X), softmax(Y));
    let expected: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
    let position = Position::of(&X, &Y, Token(2)).unwrap();
    assert!((position.kl - expected).abs() < 1e-15, "{} {expected}", position.kl);
    assert!(position.agree);
    assert!((position.target[0] - p[2].ln()).abs() < 1e-15);
    assert!((position.target[1] - q[2].ln()).abs() < 1e-15);
}

#[test]
fn equal_rows_diverge_by_nothing_and_far_logits_stay_finite() {
    assert_eq!(Position::of(&X, &X, Token(0)).unwrap().kl, 0.0);
    let far = [1e30, -1e30, 0.0, 5.0];
    assert_eq!(Position::of(&far, &far, Token(0)).unwrap().kl, 0.0);
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let row = [0.0, wrong, 1.0, 2.0];
        assert_eq!(Position::of(&row, &X, Token(0)), None, "{wrong}");
        assert_eq!(Position::of(&X, &row, Token(0)), None, "{wrong}");
    }
    assert_eq!(Position::of(&[f32::NAN; 4], &X, Token(0)), None);
}

#[test]
fn percentiles_are_numpys() {
    // numpy.percentile([0, 1, 2, 10], [0, 50, 90, 99, 100])
    let sorted = [0.0, 1.0, 2.0, 10.0];
    for (fraction, expected) in [(0.0, 0.0), (0.5, 1.5), (0.9, 7.6), (0.99, 9.76), (1.0, 10.0)] {
        let found = percentile(&sorted, fraction);
        assert!((found - expected).abs() < 1e-12, "{fraction}: {found}");
    }
}

#[test]
fn the_standard_error_is_that_of_a_mean() {
    let mut sums = Sums::default();
    for kl in [1.0, 2.0, 3.0, 4.0] {
        sums.add(Position { kl, agree: kl > 1.0, target: [-1.0, -1.5] });
    }
    let found = sums.divergence();
    // numpy.std([1, 2, 3, 4], ddof=1) / 2
    assert!((found.kl.standard_error - 0.645_497_224_367_902_8).abs() < 1e-12);
    assert_eq!((found.kl.mean, found.top_1_agreement), (2.5, 0.75));
    assert_eq!(found.log_probability_difference, 0.5);
    assert!((found.perplexity - 1.5_f64.exp()).abs() < 1e-12);
}
