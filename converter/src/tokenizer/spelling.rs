//! Writes a [`Vocabulary`] as GGUF's lists and as `tokenizer.json`.

use super::alphabet::spell;
use super::gguf::token_type;
use super::{TextStart, TokenizerError, Vocabulary, pattern};
use thimble_runtime::Token;
use tokenizers::decoders::byte_level::ByteLevel as Decoder;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// The lists of `tokenizer.ggml.*`, model `gpt2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufLists {
    /// The text of every token, one per row of the embedding.
    pub tokens: Vec<String>,
    /// GGML's type of every token.
    pub token_types: Vec<i32>,
    /// Merges by rank, spelled `left right`.
    pub merges: Vec<String>,
    /// Name of the pre-tokenizer.
    pub pre: String,
}

impl GgufLists {
    /// Appends unused tokens up to `rows`: llama.cpp needs one for each row of the embedding.
    pub fn pad(&mut self, rows: usize) {
        self.token_types.resize(self.tokens.len(), token_type::NORMAL);
        for id in self.tokens.len()..rows {
            self.tokens.push(format!("[PAD{id}]"));
            self.token_types.push(token_type::UNUSED);
        }
    }
}

impl Vocabulary {
    /// The text of each token as `tokenizer.json` and GGUF spell it; empty if no token has the id.
    pub(super) fn spelled(&self) -> Vec<String> {
        let mut spelled: Vec<String> = self.tokens.iter().map(|token| spell(token)).collect();
        for added in &self.added {
            spelled[added.id as usize] = added.text.clone();
        }
        spelled
    }

    /// The lists that [`Vocabulary::from_gguf`] reads, with llama.cpp's name of the pre-tokenizer.
    pub fn gguf_lists(&self) -> GgufLists {
        let spelled = self.spelled();
        let mut token_types: Vec<i32> = spelled
            .iter()
            .map(|text| if text.is_empty() { token_type::UNUSED } else { token_type::NORMAL })
            .collect();
        for added in &self.added {
            token_types[added.id as usize] =
                if added.special { token_type::CONTROL } else { token_type::USER_DEFINED };
        }
        let merge = |&(left, right, _): &(u32, u32, u32)| {
            format!("{} {}", spelled[left as usize], spelled[right as usize])
        };
        let merges = self.merges.iter().map(merge).collect();
        let unused = |(id, text): (usize, String)| if text.is_empty() { format!("[PAD{id}]") } else { text };
        let tokens = spelled.into_iter().enumerate().map(unused).collect();
        let pre = pattern::gguf_name(self.pattern, self.whole_words);
        GgufLists { tokens, token_types, merges, pre: pre.to_owned() }
    }

    /// The `tokenizer.json` that [`Vocabulary::from_tokenizer_json`] reads; `bos` is the begin-of-text token, which a text begins
    /// with if [`Vocabulary::adds_bos`] is set.
    ///
    /// # Errors
    /// The `tokenizers` crate rejects the vocabulary.
    pub fn tokenizer_json(&self, bos: Option<Token>) -> Result<String, TokenizerError> {
        let mut tokenizer = self.oracle()?;
        tokenizer.with_decoder(Some(Decoder::new(true, true, true)));
        tokenizer.with_post_processor(Some(match bos.filter(|_| self.adds_bos) {
            Some(Token(id)) => {
                let name = self.spelled().get(id as usize).cloned().unwrap_or_default();
                TextStart { id, name }.post_processor()?
            }
            None => ByteLevel::new(true, false, true).into(),
        }));
        tokenizer.to_string(true).map_err(|error| TokenizerError::Oracle(error.to_string()))
    }
}
