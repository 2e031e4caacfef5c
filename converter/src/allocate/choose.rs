//! Chooses an encoding for each tensor within a budget of bytes.

use super::{Allocation, EncodingChoice};

/// The lower convex hull of divergence over bytes: the choices that no mixture of a smaller and a larger one beats,
/// smallest first.
fn hull(choices: &[EncodingChoice]) -> Vec<EncodingChoice> {
    let mut sorted = choices.to_vec();
    // The number decides where both are equal, so that the order of the choices does not matter.
    let number = |choice: &EncodingChoice| choice.encoding as u8;
    sorted.sort_by(|a, b| {
        let divergence = a.divergence.total_cmp(&b.divergence);
        a.bytes.cmp(&b.bytes).then(divergence).then(number(a).cmp(&number(b)))
    });
    let mut hull: Vec<EncodingChoice> = Vec::new();
    for choice in sorted {
        if hull.last().is_some_and(|last| choice.divergence >= last.divergence) {
            continue;
        }
        while let [.., before, last] = hull[..] {
            if gain(before, last) > gain(last, choice) {
                break;
            }
            hull.pop();
        }
        hull.push(choice);
    }
    hull
}

/// The reduction of the divergence per byte.
fn gain(from: EncodingChoice, to: EncodingChoice) -> f64 {
    (from.divergence - to.divergence) / (to.bytes - from.bytes).max(1) as f64
}

/// Starts from the smallest choices and greedily takes the steps with the largest gain per byte that fit. All but the
/// last few steps are optimal for some price per byte.
///
/// `Err` holds the bytes that the smallest choices need. Ties go to the earlier tensor.
pub(super) fn choose(choices: &[Vec<EncodingChoice>], budget: u64) -> Result<Allocation, u64> {
    let hulls: Vec<Vec<EncodingChoice>> = choices.iter().map(|choices| hull(choices)).collect();
    let mut at = vec![0; hulls.len()];
    let mut used: u64 = hulls.iter().filter_map(|hull| hull.first()).map(|choice| choice.bytes).sum();
    if used > budget {
        return Err(used);
    }
    loop {
        let steps = hulls.iter().zip(&at).enumerate().filter_map(|(index, (hull, &at))| {
            let (from, to) = (*hull.get(at)?, *hull.get(at + 1)?);
            (used + (to.bytes - from.bytes) <= budget).then(|| (gain(from, to), index, to.bytes - from.bytes))
        });
        let best = steps.reduce(|best, step| if step.0 > best.0 { step } else { best });
        let Some((_, index, bytes)) = best else { break };
        at[index] += 1;
        used += bytes;
    }
    let chosen: Vec<EncodingChoice> =
        hulls.iter().zip(at).filter_map(|(hull, at)| hull.get(at).copied()).collect();
    Ok(Allocation {
        encodings: chosen.iter().map(|c| c.encoding).collect(),
        divergence: chosen.iter().map(|c| c.divergence).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use thimble_runtime::format::Encoding;

    fn choice(encoding: Encoding, bytes: u64, divergence: f64) -> EncodingChoice {
        EncodingChoice { encoding, bytes, divergence }
    }

    /// A tensor of some size and sensitivity, each bit more quartering the divergence.
    fn tensor(size: u64, sensitivity: f64) -> Vec<EncodingChoice> {
        [(Encoding::Q6, 6), (Encoding::Q3Nl, 3), (Encoding::Q4Nl, 4), (Encoding::Q5Nl, 5)]
            .map(|(encoding, bits)| choice(encoding, size * bits, sensitivity * 0.25f64.powi(bits as i32)))
            .to_vec()
    }

    #[test]
    fn greedy_is_as_good_as_trying_everything() {
        let tensors = [tensor(10, 1.0), tensor(40, 3.0), tensor(20, 0.1), tensor(10, 20.0), tensor(30, 5.0)];
        for budget in 330..680 {
            let found = choose(&tensors, budget).unwrap();
            let mut best = f64::INFINITY;
            for code in 0..4usize.pow(5) {
                let pick = |(i, t): (usize, &Vec<EncodingChoice>)| t[code / 4usize.pow(i as u32) % 4];
                let picked: Vec<EncodingChoice> = tensors.iter().enumerate().map(pick).collect();
                if picked.iter().map(|c| c.bytes).sum::<u64>() <= budget {
                    best = best.min(picked.iter().map(|c| c.divergence).sum());
                }
            }
            let used: u64 = tensors
                .iter()
                .zip(&found.encodings)
                .map(|(t, e)| t.iter().find(|c| c.encoding == *e).unwrap().bytes)
                .sum();
            assert!(used <= budget);
            // The last steps of a greedy choice may not fit; a larger budget never hurts.
            assert!(found.divergence <= best * 1.6, "{budget}: {} against {best}", found.divergence);
        }
    }

    #[test]
    fn sensitive_tensors_get_the_bits() {
        let tensors = [tensor(10, 1.0), tensor(10, 100.0)];
        let found = choose(&tensors, 90).unwrap();
        assert_eq!(found.encodings, [Encoding::Q3Nl, Encoding::Q6]);
        assert_eq!(choose(&tensors, 59), Err(60));
        assert_eq!(choose(&tensors, 60).unwrap().encodings, [Encoding::Q3Nl; 2]);
        assert_eq!(choose(&tensors, 1000).unwrap().encodings, [Encoding::Q6; 2]);
    }

    #[test]
    fn choices_that_others_beat_are_left_out() {
        let better = choice(Encoding::Q4Min, 50, 0.0);
        let choices = [
            choice(Encoding::Q5Nl, 52, 0.1),
            better,
            choice(Encoding::Q3Nl, 33, 0.5),
            choice(Encoding::Q4Nl, 42, 0.45),
        ];
        assert_eq!(hull(&choices), [choices[2], better]);
        assert_eq!(hull(&[]), []);
    }
}
