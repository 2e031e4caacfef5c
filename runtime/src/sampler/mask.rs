//! Which tokens may come next.

use crate::Token;

/// A set of allowed tokens: bit `t % 32` of word `t / 32` for token `t`, 1 if it is allowed. Tokens after the last word are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenMask<'a> {
    words: &'a [u32],
}

impl<'a> TokenMask<'a> {
    /// The set with these words.
    pub const fn new(words: &'a [u32]) -> TokenMask<'a> {
        TokenMask { words }
    }

    /// Whether `token` is allowed.
    pub fn allows(&self, token: Token) -> bool {
        let word = self.words.get(token.index() / 32).copied().unwrap_or(0);
        word >> (token.0 % 32) & 1 == 1
    }

    /// The lowest allowed token below `vocab`.
    pub fn first(&self, vocab: usize) -> Option<Token> {
        let index = self.words.iter().position(|&word| word != 0)?;
        let token = index * 32 + self.words[index].trailing_zeros() as usize;
        (token < vocab).then_some(Token(token as u32))
    }

    /// Sets the logits of all tokens that are not allowed to minus infinity; `logits` is `[vocab]`.
    pub fn apply(&self, logits: &mut [f32]) {
        let (masked, beyond) = logits.split_at_mut(logits.len().min(self.words.len() * 32));
        beyond.fill(f32::NEG_INFINITY);
        for (logits, &word) in masked.chunks_mut(32).zip(self.words) {
            match word {
                0 => logits.fill(f32::NEG_INFINITY),
                u32::MAX => {}
                _ => {
                    for (bit, logit) in logits.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TokenMask;
    use crate::Token;
    use std::vec::Vec;

    #[test]
    fn a_mask_keeps_the_logits_of_its_tokens() {
        // Words that are empty, full and mixed, and logits that end before, at and after them.
        let words = [0, u32::MAX, 0x8000_0001];
        let mask = TokenMask::new(&words);
        for vocab in [0, 1, 31, 32, 33, 63, 64, 65, 95, 96, 97, 130] {
            let mut logits: Vec<f32> = (0..vocab).map(|token| token as f32).collect();
            mask.apply(&mut logits);
            for (token, &logit) in logits.iter().enumerate() {
                let allowed = matches!(token, 32..=64 | 95);
                assert_eq!(mask.allows(Token(token as u32)), allowed, "token {token}");
                let expected = if allowed { token as f32 } else { f32::NEG_INFINITY };
                assert_eq!(logit, expected, "token {token} of {vocab}");
            }
        }
        assert!(!mask.allows(Token(u32::MAX)));
        assert_eq!(mask.first(130), Some(Token(32)));
        assert_eq!(mask.first(32), None);
        assert_eq!(TokenMask::new(&[0; 4]).first(128), None);
    }
}
