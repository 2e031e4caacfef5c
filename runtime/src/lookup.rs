//! Prompt lookup decoding (Saxena 2023): drafts the tokens that followed an earlier occurrence of the last few tokens.
//!
//! Draft tokens run in the same forward pass as the token before them. Each one that the sampler then draws saves a pass;
//! rejected ones only make the pass longer. The output is the same either way: each token is drawn from the logits that a pass
//! of its own would have given, in the same order (Leviathan et al. 2023, arXiv 2211.17192, for drafts without probabilities).

use crate::Token;

/// Time of a pass of one token; the unit of other times is a hundredth of it.
const PASS: usize = 100;
/// Time that rejected drafts may cost per pass.
const ALLOWANCE: usize = 2;
/// Time that the first token of a draft adds to a pass: a pass of two tokens is still nearly bound by memory. Measured with
/// AVX-512: 9 to 30.
const FIRST_COST: usize = 30;
/// Time that each further token adds. Measured with AVX-512: 45 to 60.
const COST: usize = 60;
/// Largest budget for later drafts.
const MAX_BUDGET: usize = 4 * PASS;
/// Fewest matching tokens for a draft.
const MIN_MATCH: usize = 2;
/// Most tokens compared.
const MAX_MATCH: usize = 8;

/// Time that a draft of `count` tokens adds to a pass.
fn cost(count: usize) -> usize {
    if count == 0 { 0 } else { FIRST_COST + COST * (count - 1) }
}

/// Drafts tokens within a time budget: rejected drafts cost at most 2% beyond the time that accepted ones saved, and a third of
/// a pass once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptLookup {
    max_draft: usize,
    /// Time that drafts may cost.
    budget: usize,
}

impl PromptLookup {
    /// Most tokens of a draft.
    pub const MAX_DRAFT: usize = 16;

    /// Drafts up to `max_draft` tokens at a time, at most [`PromptLookup::MAX_DRAFT`]; 0 disables drafts.
    pub fn new(max_draft: usize) -> PromptLookup {
        PromptLookup { max_draft: max_draft.min(PromptLookup::MAX_DRAFT), budget: FIRST_COST }
    }

    /// Drafts the next tokens as `(start, count)`, a range of `history`: `history[start..][..count]`.
    ///
    /// They follow the longest match of up to 8 tokens, the latest among equals. `room` limits `count`.
    pub(crate) fn draft(&mut self, history: &[Token], room: usize) -> (usize, usize) {
        self.budget = (self.budget + ALLOWANCE).min(MAX_BUDGET);
        let affordable = self.budget.checked_sub(FIRST_COST).map_or(0, |left| 1 + left / COST);
        let max_draft = self.max_draft.min(room).min(affordable);
        let Some((length, start)) = (max_draft > 0).then(|| longest_match(history)).flatten() else {
            return (0, 0);
        };
        if length < MIN_MATCH {
            return (0, 0);
        }
        let count = max_draft.min(history.len() - start);
        self.budget -= cost(count);
        (start, count)
    }

    /// Records an accepted draft token, which saved a pass.
    pub(crate) fn accept(&mut self) {
        self.budget = (self.budget + PASS).min(MAX_BUDGET);
    }
}

/// The length of the longest earlier match of the end of `history`, and the index of the token after it.
fn longest_match(history: &[Token]) -> Option<(usize, usize)> {
    let (last, before) = history.split_last()?;
    let mut best: Option<(usize, usize)> = None;
    for end in (1..=before.len()).rev().filter(|&end| before[end - 1] == *last) {
        let pairs = before[..end].iter().rev().zip(history.iter().rev()).take(MAX_MATCH);
        let length = pairs.take_while(|(a, b)| a == b).count();
        if best.is_none_or(|(longest, _)| length > longest) {
            best = Some((length, end));
        }
        if length == MAX_MATCH {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(u32::from(byte))).collect()
    }

    #[test]
    fn the_longest_and_then_the_latest_match_is_taken() {
        for (text, expected) in [
            ("abcd.bc", Some((2, 3))),
            ("abcd.xbce.bc", Some((2, 8))),
            ("abcd.xbce.abc", Some((3, 3))),
            ("aaaa", Some((3, 3))),
            ("abc", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(longest_match(&tokens(text)), expected, "{text}");
        }
        let long = tokens(&"abcdefghij".repeat(3));
        assert_eq!(longest_match(&long), Some((MAX_MATCH, 20)));
    }

    #[test]
    fn rejected_drafts_stay_within_the_allowance() {
        // A repetitive text and a sampler that rejects every draft.
        let text = tokens(&"abcd".repeat(50));
        for max_draft in [1, 4, 16] {
            let mut lookup = PromptLookup::new(max_draft);
            let mut lost = 0;
            let passes = 2000;
            for pass in 1..passes {
                let (_, count) = lookup.draft(&text, usize::MAX);
                assert!(count <= max_draft);
                lost += cost(count);
                assert!(lost <= FIRST_COST + ALLOWANCE * pass, "{lost} of {pass}");
            }
            assert!(lost > ALLOWANCE * passes * 4 / 5, "it goes on trying: {lost}");
        }
    }

    #[test]
    fn accepted_drafts_pay_for_longer_ones() {
        let text = tokens(&"abcd".repeat(5));
        let mut lookup = PromptLookup::new(4);
        assert_eq!(lookup.draft(&text, 8), (16, 1), "the first may be tried at once");
        let next = (0..).find(|_| lookup.draft(&text, 8).1 > 0);
        assert_eq!(next, Some(FIRST_COST / ALLOWANCE - 2), "a rejected one has to be made up for");
        lookup.accept();
        assert_eq!(lookup.draft(&text, 8), (16, 2));
        (0..3).for_each(|_| lookup.accept());
        assert_eq!(lookup.draft(&text, 8), (16, 4));
        lookup.budget = MAX_BUDGET;
        assert_eq!(lookup.draft(&text, 3).1, 3, "there is room for three");
        assert_eq!(PromptLookup { budget: MAX_BUDGET, ..PromptLookup::new(0) }.draft(&text, 8).1, 0);
        assert_eq!(
            PromptLookup { budget: MAX_BUDGET, ..PromptLookup::new(9) }.draft(&tokens("abcdxdcba"), 8).1,
            0
        );
    }
}
