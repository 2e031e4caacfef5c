//! What is worth a curve when training on preferences, and what is worth a warning.

use super::Figures;
use super::preference_loss::{AnswerLogProbability, prefers_chosen};
use crate::recipe::DpoKeys;
use std::collections::VecDeque;

/// Steps over which the chosen answers' log-probability is averaged.
const WATCHED: usize = 10;
/// Steps between two warnings.
const WARN_EVERY: u64 = 100;
/// A fall of this many nats per token is worth a warning.
const FALL: f64 = 0.01;

/// Sums over the pairs of a step or a measurement.
#[derive(Clone, Debug, Default)]
pub(super) struct PreferenceFigures {
    pairs: f64,
    loss: f64,
    preferred: f64,
    /// Sums of the chosen and the rejected answers.
    answers: [AnswerSums; 2],
    /// Sum of half the squared log-ratio of each token.
    square: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct AnswerSums {
    reward: f64,
    policy: f64,
    difference: f64,
    tokens: f64,
}

impl PreferenceFigures {
    /// Adds a pair with its part of the loss, chosen answer first.
    pub(super) fn add(&mut self, keys: &DpoKeys, loss: f64, answers: [AnswerLogProbability; 2]) {
        self.pairs += 1.0;
        self.loss += loss;
        self.preferred += f64::from(u8::from(prefers_chosen(answers[0], answers[1])));
        for (sums, answer) in self.answers.iter_mut().zip(answers) {
            sums.reward += keys.reward(answer);
            sums.policy += answer.policy;
            sums.difference += answer.policy - answer.reference;
            sums.tokens += answer.tokens as f64;
        }
    }

    /// Adds the tokens of an answer: negative log-likelihoods of the model, log-probabilities of the reference.
    pub(super) fn add_tokens(&mut self, losses: &[f32], reference: &[f32]) {
        let ratios =
            losses.iter().zip(reference).map(|(&loss, &reference)| -f64::from(loss) - f64::from(reference));
        self.square += ratios.map(|ratio| 0.5 * ratio * ratio).sum::<f64>();
    }

    /// The loss of all pairs.
    pub(super) fn loss(&self) -> f64 {
        self.loss
    }

    /// Tokens of all answers.
    pub(super) fn tokens(&self) -> u64 {
        (self.answers[0].tokens + self.answers[1].tokens) as u64
    }

    /// Means over the pairs. `kl_from_reference` is half the squared log-ratio of model and reference, a mean over the
    /// tokens of both answers (Schulman's estimator k2); the answers are those of the data, not samples of the model.
    pub(super) fn named(&self) -> Figures {
        let mean = |sum: f64| sum / self.pairs.max(1.0);
        let [chosen, rejected] = self.answers;
        vec![
            ("reward_accuracy", mean(self.preferred)),
            ("reward_margin", mean(chosen.reward - rejected.reward)),
            ("reward_chosen", mean(chosen.reward)),
            ("reward_rejected", mean(rejected.reward)),
            ("logp_chosen", mean(chosen.policy)),
            ("logp_rejected", mean(rejected.policy)),
            ("kl_from_reference", self.square / (chosen.tokens + rejected.tokens).max(1.0)),
            ("tokens_chosen", mean(chosen.tokens)),
            ("tokens_rejected", mean(rejected.tokens)),
        ]
    }
}

/// Watches whether the chosen answers become less likely, which a growing margin hides.
#[derive(Debug, Default)]
pub(super) struct ChosenWatch {
    /// Change of the chosen answers' log-probability per token in the last steps.
    changes: VecDeque<f64>,
    steps: u64,
    /// The step of the last warning.
    warned: Option<u64>,
}

impl ChosenWatch {
    pub(super) fn record(&mut self, figures: &PreferenceFigures) {
        let chosen = figures.answers[0];
        self.steps += 1;
        self.changes.push_back(chosen.difference / chosen.tokens.max(1.0));
        if self.changes.len() > WATCHED {
            self.changes.pop_front();
        }
    }

    /// A sentence where they do, once in a while.
    pub(super) fn warning(&mut self) -> Option<String> {
        let fall = -self.changes.iter().sum::<f64>() / self.changes.len().max(1) as f64;
        let recent = self.warned.is_some_and(|step| self.steps < step + WARN_EVERY);
        // A number that is not finite is the guard's.
        if self.changes.len() < WATCHED || recent || !fall.is_finite() || fall < FALL {
            return None;
        }
        self.warned = Some(self.steps);
        Some(format!(
            "over the last {WATCHED} steps the chosen answers are less likely than under the reference, by {fall:.3} nats per \
             token: the margin grows only because the rejected ones fall faster. A lower learning rate, a larger beta or \
             objective.sft_weight counters it"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(change: f64) -> PreferenceFigures {
        let answer = |policy| AnswerLogProbability { policy, reference: -50.0, tokens: 10 };
        let mut figures = PreferenceFigures::default();
        figures.add(&DpoKeys::default(), 0.5, [answer(-50.0 + change), answer(-50.0 + 2.0 * change)]);
        figures
    }

    #[test]
    fn figures_are_means_over_the_pairs() {
        let mut both = figures(-1.0);
        let answer = |policy, tokens| AnswerLogProbability { policy, reference: -50.0, tokens };
        both.add(&DpoKeys::default(), 0.25, [answer(-52.0, 10), answer(-48.0, 20)]);
        both.add_tokens(&[2.0, 3.0], &[-1.0, -3.0]);
        let named = both.named();
        let value = |name: &str| named.iter().find(|(other, _)| *other == name).unwrap().1;
        assert_eq!((both.loss(), both.tokens()), (0.75, 50));
        assert_eq!((value("reward_accuracy"), value("tokens_rejected")), (0.5, 15.0));
        assert!((value("reward_chosen") + 0.15).abs() < 1e-12 && value("reward_rejected").abs() < 1e-12);
        assert!((value("reward_margin") + 0.15).abs() < 1e-12);
        assert_eq!((value("logp_chosen"), value("kl_from_reference")), (-51.5, 0.5 / 50.0));
    }

    #[test]
    fn falling_chosen_answers_are_told_once_in_a_while() {
        let mut watch = ChosenWatch::default();
        let mut told = Vec::new();
        for step in 1..=230 {
            watch.record(&figures(-1.0));
            if let Some(warning) = watch.warning() {
                assert!(warning.contains("0.100 nats"), "{warning}");
                told.push(step);
            }
        }
        assert_eq!(told, [10, 110, 210]);
        for _ in 0..300 {
            watch.record(&figures(0.5));
        }
        assert_eq!(watch.warning(), None);
        let mut broken = ChosenWatch::default();
        (0..20).for_each(|_| broken.record(&figures(f64::NAN)));
        assert_eq!(broken.warning(), None);
    }
}
