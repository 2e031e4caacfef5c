//! How much memory encoding a text takes.

use super::added::{Escaped, Span};
use super::pre_tokenizer::Words;
use super::{Tokenizer, merge, nfc};

impl Tokenizer<'_> {
    /// Most tokens of `text`: one for each byte, of its normal form if it is normalized.
    pub fn most_tokens(&self, text: &str) -> usize {
        match self.nfc && !nfc::is_normalized(text.as_bytes()) {
            true => nfc::most_bytes(text.len()),
            false => text.len(),
        }
    }

    /// Bytes of scratch memory for `text`, for either value of [`Specials`](super::Specials) and any typed ranges: none for most texts.
    ///
    /// A text that is already normalized needs [`Tokenizer::scratch_bytes`] of its longest word; another one about 75 bytes
    /// for each of its bytes.
    pub fn scratch_for(&self, text: &str) -> usize {
        let words = Self::scratch_bytes(self.longest_word(text));
        if self.nfc && !nfc::is_normalized(text.as_bytes()) {
            let longest = nfc::most_bytes(text.len());
            return nfc::scratch_bytes(text.len()).saturating_add(Self::scratch_bytes(longest)).max(words);
        }
        words
    }

    /// Bytes of the longest word of `text` before normalization, for either value of [`Specials`](super::Specials).
    pub fn longest_word(&self, text: &str) -> usize {
        let mut longest = 0;
        for escaped in [Escaped::Nowhere, Escaped::Everywhere] {
            let _: Result<(), core::convert::Infallible> = self.spans(text.as_bytes(), escaped, |span| {
                if let Span::Text(text) = span {
                    longest = Words::new(text, self.pattern).map(<[u8]>::len).fold(longest, usize::max);
                }
                Ok(())
            });
        }
        longest
    }

    /// Scratch bytes for words of up to `longest_word_bytes` bytes: none up to 64, else about 13 per byte.
    pub fn scratch_bytes(longest_word_bytes: usize) -> usize {
        merge::scratch_bytes(longest_word_bytes)
    }
}
