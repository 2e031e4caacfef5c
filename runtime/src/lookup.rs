//! Prompt lookup: what followed the last few tokens when they stood in the text before is proposed to follow again.
//!
//! A proposal is run behind the token that it follows, in the same forward pass. Where the sampler then draws the
//! proposed tokens, as many passes are saved; where it does not, the pass took a little longer for nothing. The tokens
//! are the same either way: each is drawn from the logits that a pass of its own would have given, in the same order.
//! (Prompt lookup decoding: Saxena 2023; the check is that of Leviathan et al. 2023, arXiv 2211.17192, for proposals
//! without probabilities.)

use crate::Token;

/// A pass of one token: times are in hundredths of it.
const PASS: usize = 100;
/// What may be lost for each pass.
const ALLOWANCE: usize = 2;
/// What a proposed token adds to a pass. Measured on two cores with AVX-512, without the head: 17 to 48; the head adds its
/// share.
const COST: usize = 60;
/// Most that is saved up, to be lost on later proposals.
const MOST_SAVED: usize = 4 * PASS;
/// Tokens that have to be the same for a proposal.
const LEAST_MATCH: usize = 2;
/// Tokens that are compared.
const MOST_MATCH: usize = 8;

/// Proposes tokens, as long as what that saved pays for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    most: usize,
    /// Time that may be lost.
    balance: usize,
}

impl Lookup {
    /// Most tokens of a proposal.
    pub const MOST: usize = 16;

    /// Proposes up to `most` tokens at a time, 16 at the most; 0 proposes nothing.
    pub fn new(most: usize) -> Lookup {
        Lookup { most: most.min(Lookup::MOST), balance: 0 }
    }

    /// How many of the tokens behind the best match in `history` are worth running.
    ///
    /// The match is the longest of up to 8 tokens, the latest among equals; the tokens are `history[start..][..count]`
    /// for the answer `(start, count)`.
    pub(crate) fn propose(&mut self, history: &[Token], room: usize) -> (usize, usize) {
        self.balance = (self.balance + ALLOWANCE).min(MOST_SAVED);
        let most = self.most.min(room).min(self.balance / COST);
        let Some((length, start)) = (most > 0).then(|| longest_match(history)).flatten() else {
            return (0, 0);
        };
        if length < LEAST_MATCH {
            return (0, 0);
        }
        let count = most.min(history.len() - start);
        self.balance -= COST * count;
        (start, count)
    }

    /// A proposed token was the one: a pass was saved.
    pub(crate) fn saved(&mut self) {
        self.balance = (self.balance + PASS).min(MOST_SAVED);
    }
}

/// The length of the longest earlier match of the end of `history`, and where what follows it begins.
fn longest_match(history: &[Token]) -> Option<(usize, usize)> {
    let (last, before) = history.split_last()?;
    let mut best: Option<(usize, usize)> = None;
    for end in (1..=before.len()).rev().filter(|&end| before[end - 1] == *last) {
        let pairs = before[..end].iter().rev().zip(history.iter().rev()).take(MOST_MATCH);
        let length = pairs.take_while(|(a, b)| a == b).count();
        if best.is_none_or(|(most, _)| length > most) {
            best = Some((length, end));
        }
        if length == MOST_MATCH {
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
        assert_eq!(longest_match(&long), Some((MOST_MATCH, 20)));
    }

    #[test]
    fn no_more_is_lost_than_allowed() {
        // A text that repeats itself, and a sampler that never does: every proposal is in vain.
        let text = tokens(&"abcd".repeat(50));
        for most in [1, 4, 16] {
            let mut lookup = Lookup::new(most);
            let mut lost = 0;
            let passes = 2000;
            for pass in 1..passes {
                let (_, count) = lookup.propose(&text, usize::MAX);
                assert!(count <= most);
                lost += COST * count;
                assert!(lost <= ALLOWANCE * pass, "{lost} of {pass}");
            }
            assert!(lost > ALLOWANCE * passes * 4 / 5, "it goes on trying: {lost}");
        }
    }

    #[test]
    fn what_was_saved_pays_for_longer_proposals() {
        let text = tokens(&"abcd".repeat(5));
        let mut lookup = Lookup::new(4);
        let first = (0..).find(|_| lookup.propose(&text, 8).1 > 0);
        assert_eq!(first, Some(COST / ALLOWANCE - 1));
        lookup.saved();
        assert_eq!(lookup.propose(&text, 8), (16, 1));
        (0..3).for_each(|_| lookup.saved());
        assert_eq!(lookup.propose(&text, 8), (16, 4));
        lookup.balance = MOST_SAVED;
        assert_eq!(lookup.propose(&text, 3).1, 3, "there is room for three");
        assert_eq!(Lookup { balance: MOST_SAVED, ..Lookup::new(0) }.propose(&text, 8).1, 0);
        assert_eq!(Lookup { balance: MOST_SAVED, ..Lookup::new(9) }.propose(&tokens("abcdxdcba"), 8).1, 0);
    }
}
