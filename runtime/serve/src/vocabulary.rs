//! The bytes of all tokens, without the model's file.

use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;

/// The bytes of each token, in one piece of memory.
#[derive(Debug)]
pub(crate) struct TokenTable {
    bytes: Vec<u8>,
    /// Where each token ends.
    ends: Vec<usize>,
}

impl TokenTable {
    /// The tokens of a model.
    pub(crate) fn of(file: &ModelFile<'_>) -> TokenTable {
        let tokenizer = file.tokenizer();
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(tokenizer.vocab()));
        for id in 0..tokenizer.vocab() as u32 {
            bytes.extend_from_slice(tokenizer.token_bytes(Token(id)));
            ends.push(bytes.len());
        }
        TokenTable { bytes, ends }
    }

    /// The bytes of a token; none if there is no such token.
    pub(crate) fn bytes(&self, token: Token) -> &[u8] {
        let at = token.index();
        let Some(&end) = self.ends.get(at) else { return &[] };
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..end]
    }

    /// A token as text. One that ends inside a character is written as its bytes: `bytes:\xe2\x82`, as OpenAI does.
    pub(crate) fn text(&self, token: Token) -> String {
        let bytes = self.bytes(token);
        match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
                format!("bytes:{escaped}")
            }
        }
    }
}
