//! Log-probabilities of tokens, and the most probable ones.

use super::exp::{self, CHUNK};
use crate::Token;

/// A token and its log-probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LikelyToken {
    /// The token.
    pub token: Token,
    /// Its log-probability, nats.
    pub log_probability: f32,
}

/// A token that was drawn, and the most probable tokens in its place.
///
/// Log-probabilities are the log-softmax of the model's logits, before masks, bias, penalties, temperature and cuts: they say
/// what the model thinks, not how it was sampled from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledToken<'a> {
    /// The token.
    pub token: Token,
    /// Its log-probability, nats.
    pub log_probability: f32,
    /// The most probable tokens, best first; the token may be one of them.
    pub alternatives: &'a [LikelyToken],
}

/// `ln(sum(exp(logits)))`, summed in f64. NaN counts as minus infinity; the result for no logits is minus infinity.
///
/// `logits[t] - log_sum_exp(logits)` is the log-probability of token `t`: see [`log_probability`].
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = exp::largest(logits);
    if max.is_infinite() {
        return max;
    }
    (f64::from(max) + libm::log(exp::sum_exp(logits, max))) as f32
}

/// The log-probability of `token`, nats; minus infinity for a token outside `logits`.
pub fn log_probability(logits: &[f32], token: Token) -> f32 {
    match logits.get(token.index()) {
        Some(&logit) if !logit.is_nan() && logit > f32::NEG_INFINITY => logit - log_sum_exp(logits),
        _ => f32::NEG_INFINITY,
    }
}

/// Writes the most probable tokens to the front of `best`, best first (ties: the lowest id), and returns their number: less
/// than `best.len()` if fewer logits are above minus infinity. NaN counts as minus infinity.
pub fn most_likely(logits: &[f32], best: &mut [LikelyToken]) -> usize {
    let mut count = 0;
    for (index, chunk) in logits.chunks(CHUNK).enumerate() {
        let worst = best[..count].last().filter(|_| count == best.len());
        let least = worst.map_or(f32::NEG_INFINITY, |worst| worst.log_probability);
        if exp::largest(chunk) <= least {
            continue;
        }
        for (token, &logit) in ((index * CHUNK) as u32..).map(Token).zip(chunk) {
            count = insert(best, count, LikelyToken { token, log_probability: logit });
        }
    }
    let log_sum = log_sum_exp(logits);
    best[..count].iter_mut().for_each(|likely| likely.log_probability -= log_sum);
    count
}

/// Inserts `new` into the first `count` of `best`, which are sorted; the worst gives way if there is no room. Returns the new
/// count.
fn insert(best: &mut [LikelyToken], count: usize, new: LikelyToken) -> usize {
    let logit = new.log_probability;
    // Equal logits never replace one another, so that the lower id stays.
    let place = best[..count].partition_point(|likely| likely.log_probability >= logit);
    if place == best.len() || logit.is_nan() || logit == f32::NEG_INFINITY {
        return count;
    }
    let count = (count + 1).min(best.len());
    best[place..count].rotate_right(1);
    best[place] = new;
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn likely(logits: &[f32], count: usize) -> Vec<LikelyToken> {
        let mut best = vec![LikelyToken::default(); count];
        let found = most_likely(logits, &mut best);
        best.truncate(found);
        best
    }

    #[test]
    fn what_has_no_probability_is_left_out() {
        let logits = [f32::NAN, 0.0, f32::NEG_INFINITY, 0.0];
        let half = -core::f32::consts::LN_2;
        let expected = [1, 3].map(|id| LikelyToken { token: Token(id), log_probability: half });
        assert_eq!(likely(&logits, 4), expected);
        assert_eq!(likely(&logits, 1), expected[..1]);
        assert_eq!(likely(&logits, 0), []);
        assert_eq!(likely(&[], 3), []);
        assert_eq!(likely(&[f32::NEG_INFINITY; 100], 3), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 300, failure_persistence: None, ..ProptestConfig::default()
        })]

        /// Few different numbers, so that there are ties, in and across chunks.
        #[test]
        fn as_a_sort_of_everything_has_it(
            logits in proptest::collection::vec((-20_i8..20).prop_map(f32::from), 1..300),
            count in 0_usize..30,
        ) {
            let mut all: Vec<u32> = (0..logits.len() as u32).collect();
            all.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
            let expected: Vec<LikelyToken> = all.into_iter().take(count).map(|id| {
                let token = Token(id);
                LikelyToken { token, log_probability: log_probability(&logits, token) }
            }).collect();
            prop_assert_eq!(likely(&logits, count), expected);
        }
    }
}
