//! Embeddings of texts.

use crate::{ApiError, Model};
use thimble_runtime::embedding;
use thimble_runtime::tokenizer::Specials;

/// How the hidden states of a text become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, uniffi::Enum)]
pub enum Pooling {
    /// The mean over all tokens.
    #[default]
    Mean,
    /// The state of the last token, the only one that has seen the whole text.
    Last,
}

#[uniffi::export]
impl Model {
    /// The embeddings of texts, of length 1 each: their scalar product is their cosine similarity. The mean over all tokens
    /// unless `pooling` is set. Text that looks like a special token is plain text. Waits for the model and takes as much
    /// memory as a chat until it returns: do not call it on a UI thread.
    ///
    /// # Errors
    /// [`ApiError::ContextFull`] if a text is longer than the context; a text has no tokens.
    #[uniffi::method(default(pooling = None))]
    pub fn embed(&self, texts: Vec<String>, pooling: Option<Pooling>) -> Result<Vec<Vec<f32>>, ApiError> {
        let pooling = match pooling.unwrap_or_default() {
            Pooling::Mean => embedding::Pooling::Mean,
            Pooling::Last => embedding::Pooling::Last,
        };
        let mut embeddings = Vec::with_capacity(texts.len());
        self.with_generator(&mut |file, generator| {
            for text in &texts {
                let tokens =
                    thimble_chat::encode_text(&file.tokenizer(), file.config(), text, Specials::Escape);
                let tokens = tokens.map_err(ApiError::other)?;
                embeddings.push(thimble_host::embed(generator, &tokens, pooling)?);
            }
            Ok(())
        })?;
        Ok(embeddings)
    }
}
