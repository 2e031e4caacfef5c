//! Losses on pairs of answers, as pure functions of log-probabilities that are summed over the tokens of an answer.
//!
//! `D` is the log-probability of the chosen answer under the model minus that under the reference, minus the same of the
//! rejected answer; `d` is `D` with each answer's part divided by its tokens.
//!
//! - sigmoid: `-log sigmoid(beta D)` (Rafailov et al. 2023, equation 7);
//! - robust: `(-(1 - e) log sigmoid(beta D) + e log sigmoid(-beta D)) / (1 - 2e)`, `e` the share of wrong labels
//!   (Chowdhury et al. 2024, Provably Robust DPO);
//! - ipo: `(d - 1 / (2 beta))^2` (Azar et al. 2023, equation 17; per token, as its authors confirmed to TRL);
//! - sigmoid_norm: `-log sigmoid(beta d)` (Lambert et al. 2024, Tulu 3).
//!
//! The SFT term is the mean negative log-likelihood of all tokens of the step's chosen answers, as TRL's `sft` loss
//! (compare Pang et al. 2024, Iterative Reasoning Preference Optimization).

use crate::data::preferences::PairBatch;
use crate::recipe::{DpoKeys, DpoLoss};

/// Rounding error of a summed log-probability, relative to it; margins below it are ties.
const ROUNDING: f64 = 1e-6;

/// The log-probability of an answer, summed over its tokens, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnswerLogProbability {
    /// Under the model.
    pub policy: f64,
    /// Under the reference.
    pub reference: f64,
    /// Tokens of the answer.
    pub tokens: usize,
}

/// What the loss of a step is a mean over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreferenceStep {
    /// Pairs of the whole optimizer step.
    pub pairs: usize,
    /// Tokens of their chosen answers.
    pub chosen_tokens: usize,
}

/// One pair's part of a step's loss, and the factors of its tokens' gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairLoss {
    /// Its part of the step's loss; the parts of all pairs sum to it.
    pub loss: f64,
    /// Derivative of the step's loss by the negative log-likelihood of each token of the chosen answer.
    pub chosen_weight: f64,
    /// The same of the rejected answer.
    pub rejected_weight: f64,
}

impl AnswerLogProbability {
    fn difference(self) -> f64 {
        self.policy - self.reference
    }

    fn per_token(self) -> f64 {
        1.0 / self.tokens.max(1) as f64
    }
}

impl DpoKeys {
    /// One pair's part of the loss of a step, and its gradient.
    pub fn pair(
        &self,
        chosen: AnswerLogProbability,
        rejected: AnswerLogProbability,
        step: PreferenceStep,
    ) -> PairLoss {
        let beta = self.beta;
        let [per_chosen, per_rejected] = match self.loss {
            DpoLoss::Sigmoid | DpoLoss::Robust => [1.0, 1.0],
            DpoLoss::Ipo | DpoLoss::SigmoidNorm => [chosen.per_token(), rejected.per_token()],
        };
        let margin = per_chosen * chosen.difference() - per_rejected * rejected.difference();
        // The loss and its derivative by the margin.
        let (loss, slope) = match self.loss {
            DpoLoss::Sigmoid | DpoLoss::SigmoidNorm => {
                (-log_sigmoid(beta * margin), -beta * sigmoid(-beta * margin))
            }
            DpoLoss::Robust => {
                let wrong = self.label_smoothing;
                let [right, flipped] = [log_sigmoid(beta * margin), log_sigmoid(-beta * margin)];
                let slope = (1.0 - wrong) * sigmoid(-beta * margin) + wrong * sigmoid(beta * margin);
                let scale = 1.0 / (1.0 - 2.0 * wrong);
                ((wrong * flipped - (1.0 - wrong) * right) * scale, -beta * slope * scale)
            }
            DpoLoss::Ipo => {
                let distance = margin - 1.0 / (2.0 * beta);
                (distance * distance, 2.0 * distance)
            }
        };
        let share = 1.0 / step.pairs.max(1) as f64;
        let sft = self.sft_weight / step.chosen_tokens.max(1) as f64;
        PairLoss {
            loss: loss * share - sft * chosen.policy,
            chosen_weight: -slope * share * per_chosen + sft,
            rejected_weight: slope * share * per_rejected,
        }
    }

    /// The weights of a micro-batch's targets from their negative log-likelihoods. `references` has the reference's
    /// log-probabilities of each pair's answers; `each` gets every pair's place in the batch, its part of the step's loss and
    /// its answers, chosen first.
    pub fn weigh(
        &self,
        (packed, references): (&PairBatch, &[[f64; 2]]),
        step: PreferenceStep,
        losses: &[f32],
        mut each: impl FnMut(usize, f64, [AnswerLogProbability; 2]),
    ) -> Vec<f32> {
        let mut weights = vec![0.0; losses.len()];
        for (index, (ranges, references)) in packed.answers.iter().zip(references).enumerate() {
            let answers = [0, 1].map(|side| AnswerLogProbability {
                policy: -losses[ranges[side].clone()].iter().map(|&loss| f64::from(loss)).sum::<f64>(),
                reference: references[side],
                tokens: ranges[side].len(),
            });
            let part = self.pair(answers[0], answers[1], step);
            weights[ranges[0].clone()].fill(part.chosen_weight as f32);
            weights[ranges[1].clone()].fill(part.rejected_weight as f32);
            each(index, part.loss, answers);
        }
        weights
    }

    /// An answer's implicit reward, `beta (log policy - log reference)` (Rafailov et al. 2023, equation 5).
    pub fn reward(&self, answer: AnswerLogProbability) -> f64 {
        self.beta * answer.difference()
    }
}

/// Whether the chosen answer has the higher reward. As in TRL a tie is no success; a margin within the rounding error
/// of its log-probabilities is a tie.
pub fn prefers_chosen(chosen: AnswerLogProbability, rejected: AnswerLogProbability) -> bool {
    let size: f64 = [chosen, rejected].iter().map(|one| one.policy.abs() + one.reference.abs()).sum();
    chosen.difference() - rejected.difference() > ROUNDING * size
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use DpoLoss::{Ipo, Robust, Sigmoid, SigmoidNorm};

    fn answer(policy: f64, reference: f64, tokens: usize) -> AnswerLogProbability {
        AnswerLogProbability { policy, reference, tokens }
    }

    fn losses() -> Vec<DpoKeys> {
        let mut all = Vec::new();
        for loss in [Sigmoid, Robust, Ipo, SigmoidNorm] {
            let label_smoothing = if loss == Robust { 0.1 } else { 0.0 };
            for (beta, sft_weight) in [(0.1, 0.0), (0.5, 0.3)] {
                all.push(DpoKeys { loss, beta, label_smoothing, sft_weight, shuffle: true });
            }
        }
        all
    }

    /// One pair with D = 2; against TRL: `trainer/tests/prefer/reference.rs`.
    #[test]
    fn the_losses_have_their_values_by_hand() {
        let (chosen, rejected) = (answer(-10.0, -11.0, 4), answer(-13.0, -12.0, 8));
        let step = PreferenceStep { pairs: 1, chosen_tokens: 4 };
        let value = |loss: DpoKeys| loss.pair(chosen, rejected, step).loss;
        let with = |loss, label_smoothing| DpoKeys { loss, label_smoothing, ..Default::default() };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(value(with(Sigmoid, 0.0)), (1.0 + (-0.2f64).exp()).ln());
        let [right, wrong] = [(1.0 + (-0.2f64).exp()).ln(), (1.0 + 0.2f64.exp()).ln()];
        near(value(with(Robust, 0.2)), (0.8 * right - 0.2 * wrong) / 0.6);
        near(value(with(Robust, 0.0)), right);
        // d = 1/4 + 1/8.
        near(value(with(Ipo, 0.0)), (0.375f64 - 5.0).powi(2));
        near(value(with(SigmoidNorm, 0.0)), (1.0 + (-0.0375f64).exp()).ln());
        let sft = DpoKeys { sft_weight: 0.5, ..Default::default() };
        near(value(sft), right + 0.5 * 10.0 / 4.0);
    }

    #[test]
    fn the_weights_are_the_derivatives() {
        let step = PreferenceStep { pairs: 3, chosen_tokens: 50 };
        for loss in losses() {
            for (up, down) in [(0.0, 0.0), (3.0, -2.0), (-4.0, 1.0), (30.0, -30.0)] {
                let [chosen, rejected] = [answer(-40.0 + up, -40.0, 9), answer(-70.0 + down, -70.0, 17)];
                let found = loss.pair(chosen, rejected, step);
                let by = |chosen_more: f64, rejected_more: f64| {
                    let moved = |one: AnswerLogProbability, more| AnswerLogProbability {
                        policy: one.policy + more,
                        ..one
                    };
                    loss.pair(moved(chosen, chosen_more), moved(rejected, rejected_more), step).loss
                };
                let h = 1e-5;
                // The weight is the derivative by the negative log-likelihood.
                let chosen = (by(-h, 0.0) - by(h, 0.0)) / (2.0 * h);
                let rejected = (by(0.0, -h) - by(0.0, h)) / (2.0 * h);
                assert!((found.chosen_weight - chosen).abs() < 1e-8, "{loss:?} {found:?} {chosen}");
                assert!((found.rejected_weight - rejected).abs() < 1e-8, "{loss:?} {found:?} {rejected}");
            }
        }
    }

    #[test]
    fn extreme_margins_stay_finite() {
        let step = PreferenceStep { pairs: 1, chosen_tokens: 1 };
        for loss in losses() {
            for more in [-1e6, 1e6] {
                let found = loss.pair(answer(more, 0.0, 1), answer(0.0, 0.0, 1), step);
                let all = [found.loss, found.chosen_weight, found.rejected_weight];
                assert!(all.iter().all(|x| x.is_finite()), "{loss:?} {found:?}");
            }
        }
    }

    #[test]
    fn ties_are_no_success() {
        let [a, b] = [answer(-100.0, -100.0, 5), answer(-90.0, -90.0, 5)];
        assert!(!prefers_chosen(a, b) && !prefers_chosen(b, a));
        let rounded = answer(-100.0 + 1e-5, -100.0, 5);
        assert!(!prefers_chosen(rounded, b), "a difference within rounding is a tie");
        assert!(prefers_chosen(answer(-99.9, -100.0, 5), b) && !prefers_chosen(b, answer(-99.9, -100.0, 5)));
    }
}
