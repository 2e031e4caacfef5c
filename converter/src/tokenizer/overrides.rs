//! GGUF keys of this crate for what the name of a pre-tokenizer does not tell.

use super::{TokenizerError, Vocabulary, pattern};
use thimble_runtime::tokenizer::Pattern;

/// Properties of a vocabulary that differ from those of its pre-tokenizer in a GGUF file (`tokenizer.ggml.pre`); `None`
/// where they are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GgufOverrides {
    /// Whether each digit is a word before the pattern of GPT-2 cuts the others.
    pub digits_apart: Option<bool>,
    /// [`Vocabulary::whole_words`].
    pub whole_words: Option<bool>,
    /// [`Vocabulary::nfc`].
    pub nfc: Option<bool>,
}

impl GgufOverrides {
    /// The differences between `vocabulary` and what [`Vocabulary::from_gguf`] reads with the pre-tokenizer `pre`.
    ///
    /// # Errors
    /// An unknown pre-tokenizer.
    pub fn of(vocabulary: &Vocabulary, pre: &str) -> Result<GgufOverrides, TokenizerError> {
        let named = pattern::from_gguf(pre)?;
        let other = |own: bool, named: bool| (own != named).then_some(own);
        let digits_apart = |pattern: Pattern| pattern == Pattern::Gpt2Digits;
        Ok(GgufOverrides {
            digits_apart: other(digits_apart(vocabulary.pattern), digits_apart(named.pattern)),
            whole_words: other(vocabulary.whole_words, named.whole_words),
            nfc: other(vocabulary.nfc, named.nfc),
        })
    }

    /// Reads the keys with `flag`.
    pub(crate) fn read<E>(flag: impl Fn(&str) -> Result<Option<bool>, E>) -> Result<GgufOverrides, E> {
        let [(digits_apart, _), (whole_words, _), (nfc, _)] = GgufOverrides::default().keys();
        Ok(GgufOverrides {
            digits_apart: flag(digits_apart)?,
            whole_words: flag(whole_words)?,
            nfc: flag(nfc)?,
        })
    }

    /// The keys with their values.
    pub(crate) fn keys(&self) -> [(&'static str, Option<bool>); 3] {
        [
            ("thimble.tokenizer.digits_apart", self.digits_apart),
            ("thimble.tokenizer.whole_words", self.whole_words),
            ("thimble.tokenizer.nfc", self.nfc),
        ]
    }

    /// The vocabulary that [`Vocabulary::from_gguf`] reads, with these properties.
    pub fn apply(&self, vocabulary: Vocabulary) -> Vocabulary {
        let pattern = if self.digits_apart == Some(true) { Pattern::Gpt2Digits } else { vocabulary.pattern };
        let whole_words = self.whole_words.unwrap_or(vocabulary.whole_words);
        let nfc = self.nfc.unwrap_or(vocabulary.nfc);
        Vocabulary { pattern, whole_words, nfc, ..vocabulary }
    }
}

impl Vocabulary {
    /// Why llama.cpp, which ignores the keys, tokenizes text differently with the pre-tokenizer `pre`.
    pub(crate) fn gguf_notes(&self, overrides: &GgufOverrides, pre: &str) -> Vec<String> {
        let mut notes = Vec::new();
        match overrides.whole_words {
            Some(true) => notes.push(format!(
                "llama.cpp merges every word with the pre-tokenizer {pre}, but this tokenizer keeps words that are tokens: \
                 some texts get other tokens"
            )),
            Some(false) => notes.push(format!(
                "llama.cpp keeps words that are tokens with the pre-tokenizer {pre}, but this tokenizer merges every word: \
                 some texts get other tokens"
            )),
            None => {}
        }
        if self.nfc {
            notes.push(
                "llama.cpp does not normalize text to NFC as this tokenizer does: text in another form gets other tokens"
                    .to_owned(),
            );
        }
        notes
    }
}
