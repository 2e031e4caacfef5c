//! Llama 3's scaling of RoPE as llama.cpp stores it: the tensor `rope_freqs.weight` with a divisor for each frequency.

use crate::ConvertError;
use thimble_runtime::format::{RopeParameters, RopeScaling};

/// The largest relative difference between equal divisors: llama.cpp's converter computes them in f32, from wavelengths.
const TOLERANCE: f32 = 5e-5;

/// What each of the `half` unscaled frequencies is divided by.
pub(super) fn divisors(rope: &RopeParameters, half: usize) -> Vec<f32> {
    let (mut plain, mut scaled) = (vec![0.0; half], vec![0.0; half]);
    RopeParameters::new(rope.theta).inverse_frequencies(&mut plain);
    rope.inverse_frequencies(&mut scaled);
    plain.into_iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect()
}

/// The scaling that has these divisors.
///
/// Only frequencies count: rules with the same ones are equal, and those of published models are tried first.
///
/// # Errors
/// No rule of Llama 3 has them.
pub(super) fn scaling(theta: f32, divisors: &[f32]) -> Result<RopeParameters, ConvertError> {
    let refuse = || {
        let supported = "the divisors of a llama3 scaling";
        ConvertError::unsupported("tensor rope_freqs.weight", format!("{divisors:?}"), supported)
    };
    if divisors.iter().any(|divisor| !(1.0 - TOLERANCE..=1e6).contains(divisor)) {
        return Err(refuse());
    }
    let largest = divisors.iter().copied().fold(1.0, f32::max);
    // Of a quotient of two f32 numbers, the last digits are rounding.
    let rounded = (largest * 1000.0).round() / 1000.0;
    let factor = if (rounded - largest).abs() <= 1e-6 * largest { rounded } else { largest };
    if factor == 1.0 {
        return Ok(RopeParameters::new(theta));
    }
    let rule = |original_context: u32, low_freq_factor: f32, high_freq_factor: f32| RopeParameters {
        theta,
        scaling: RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context },
    };
    // The usual factors, for any context of pretraining; then what the divisors between the ends determine.
    let contexts = std::iter::once(8192).chain((5..=20).map(|power| 1 << power));
    let usual = contexts.map(|context| rule(context, 1.0, 4.0));
    let fitted = fit(theta, factor, divisors).into_iter();
    let fitted = fitted.map(|[context, low, high]| rule(context as u32, low, high));
    usual.chain(fitted).find(|rope| matches(rope, divisors)).ok_or_else(refuse)
}

/// Whether a rule has these divisors.
fn matches(rope: &RopeParameters, divisors: &[f32]) -> bool {
    let computed = self::divisors(rope, divisors.len());
    computed.iter().zip(divisors).all(|(a, b)| (a - b).abs() <= TOLERANCE * b)
}

/// Context, low and high factor that the divisors determine.
///
/// `1 / divisor = (1 - s) / factor + s` with `s = (context / wavelength - low) / (high - low)`, limited to 0 to 1: two
/// interpolated divisors determine the line `s(1 / wavelength)`, and of those through one any that is steep enough has
/// the same divisors. The rule is the same for a multiple of all three; the context is made a whole number.
fn fit(theta: f32, factor: f32, divisors: &[f32]) -> Vec<[f32; 3]> {
    let mut plain = vec![0.0; divisors.len()];
    RopeParameters::new(theta).inverse_frequencies(&mut plain);
    let factor = f64::from(factor);
    let smooth = |divisor: f32| (1.0 / f64::from(divisor) - 1.0 / factor) / (1.0 - 1.0 / factor);
    let turns = |frequency: f32| f64::from(frequency) / (2.0 * std::f64::consts::PI);
    let points = plain.iter().zip(divisors).map(|(&frequency, &divisor)| (turns(frequency), smooth(divisor)));
    let points: Vec<(f64, f64)> = points.collect();
    let is_inner = |point: &(f64, f64)| point.1 > 1e-6 && point.1 < 1.0 - 1e-6;
    let first = points.iter().position(is_inner);
    let last = points.iter().rposition(is_inner);
    let (anchor, slope) = match (first, last) {
        (Some(first), Some(last)) if first < last => {
            let (first, last) = (points[first], points[last]);
            (first, (first.1 - last.1) / (first.0 - last.0))
        }
        _ => {
            let divided = || points.iter().position(|point| point.1 <= 1e-6).unwrap_or(0);
            let at = first.unwrap_or_else(divided);
            let anchor = points[at];
            // 1 at the frequency before, and 0 at the one behind.
            let before = at.checked_sub(1).map(|at| (1.0 - anchor.1) / (points[at].0 - anchor.0));
            let behind = points.get(at + 1).map(|next| anchor.1 / (anchor.0 - next.0));
            let steep = before.into_iter().chain(behind).fold(1.0 / anchor.0, f64::max);
            (anchor, 1.001 * steep)
        }
    };
    // With a span of 1 between the factors, the context is the slope.
    let low = slope * anchor.0 - anchor.1;
    if !slope.is_finite() || low <= 0.0 {
        return Vec::new();
    }
    let scaled = |scale: f64| {
        let context = (slope * scale).round();
        let exact = context / slope;
        [context, low * exact, (low + 1.0) * exact].map(|number| number as f32)
    };
    let round = |[context, low, high]: [f32; 3]| {
        [context, (low * 100.0).round() / 100.0, (high * 100.0).round() / 100.0]
    };
    // A low factor of 1 is usual.
    let candidates = [1.0, 2.0, 4.0].map(|usual| scaled(usual / low));
    let all = candidates.into_iter().flat_map(|candidate| [round(candidate), candidate]);
    all.filter(|[context, low, high]| (1.0..=1_048_576.0).contains(context) && *low > 0.0 && high > low)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama3(theta: f32, factor: f32, low: f32, high: f32, original_context: u32) -> RopeParameters {
        let [low_freq_factor, high_freq_factor] = [low, high];
        let scaling = RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context };
        RopeParameters { theta, scaling }
    }

    /// As llama.cpp's converter computes the tensor: f32 frequencies, then Python's floats.
    fn of_llama_cpp(rope: &RopeParameters, half: usize) -> Vec<f32> {
        let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } =
            rope.scaling
        else {
            unreachable!()
        };
        let [factor, low, high] = [factor, low_freq_factor, high_freq_factor].map(f64::from);
        let context = f64::from(original_context);
        let divisor = |i: usize| {
            let frequency = 1.0 / rope.theta.powf(i as f32 / half as f32);
            let wavelength = f64::from(2.0 * std::f32::consts::PI / frequency);
            if wavelength < context / high {
                1.0
            } else if wavelength > context / low {
                factor
            } else {
                let smooth = (context / wavelength - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        (0..half).map(|i| divisor(i) as f32).collect()
    }

    #[test]
    fn rules_are_recovered_from_llama_cpps_divisors() {
        for half in [32, 64] {
            for factor in [8.0, 32.0] {
                let rope = llama3(500_000.0, factor, 1.0, 4.0, 8192);
                assert_eq!(scaling(500_000.0, &of_llama_cpp(&rope, half)).unwrap(), rope);
                assert_eq!(scaling(500_000.0, &divisors(&rope, half)).unwrap(), rope);
            }
        }
        let others = [
            llama3(500_000.0, 4.0, 1.0, 2.0, 2048),
            llama3(10_000.0, 16.0, 1.0, 2.5, 3000),
            llama3(1_000_000.0, 3.3, 1.0, 32.0, 4096),
            llama3(10_000.0, 4.0, 1.0, 4.0, 48),
        ];
        for rope in others {
            for half in [8, 12, 24, 64] {
                let given = of_llama_cpp(&rope, half);
                let found = scaling(rope.theta, &given).unwrap();
                // Another rule with the same frequencies is as good.
                assert!(matches(&found, &given), "{rope:?} {half}: {found:?}");
            }
            let found = scaling(rope.theta, &of_llama_cpp(&rope, 64)).unwrap();
            assert_eq!(found.scaling, rope.scaling, "the fit of many divisors is the rule");
        }
    }

    #[test]
    fn a_factor_with_rounding_in_its_last_digits_is_found() {
        let rope = llama3(500_000.0, 32.0, 1.0, 4.0, 8192);
        let rounded: Vec<f32> = divisors(&rope, 32).into_iter().map(|d| d * (1.0 + 3e-7)).collect();
        assert_eq!(scaling(500_000.0, &rounded).unwrap(), rope);
    }

    #[test]
    fn other_divisors_are_refused() {
        let mut given = divisors(&llama3(500_000.0, 8.0, 1.0, 4.0, 8192), 32);
        assert_eq!(scaling(500_000.0, &[1.0; 32]).unwrap(), RopeParameters::new(500_000.0));
        given[20] *= 1.01;
        let longrope: Vec<f32> = (0..32).map(|i| 1.0 + i as f32 * 0.7).collect();
        let hostile = [f32::NAN, f32::INFINITY, 0.0, -1.0, 0.5];
        let hostile = hostile.map(|bad| [vec![1.0; 31], vec![bad]].concat());
        for bad in [given, longrope].into_iter().chain(hostile) {
            let error = scaling(500_000.0, &bad).unwrap_err().to_string();
            assert!(error.contains("rope_freqs.weight") && error.contains("llama3"), "{error}");
        }
    }
}
