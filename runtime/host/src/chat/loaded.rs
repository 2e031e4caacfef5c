//! A model file, a session on it and a sampler, as what a chat needs.

use super::session::CHUNK;
use super::{ChatError, ChatModel, Role};
use crate::template::{self, OwnedPiece, TemplateError};
use crate::text::{encode, encode_typed, end_of_text, has_special};
use crate::{Generator, KvFile};
use thimble_runtime::Token;
use thimble_runtime::chat::{Message, Speaker};
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::Sampler;
use thimble_runtime::sequence::Sequence;
use thimble_runtime::tokenizer::{Specials, Tokenizer};

/// How messages become the tokens that the model goes on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptFormat {
    /// The model's chat template.
    #[default]
    Chat,
    /// The last message as it is, special tokens parsed: a text to be continued.
    Text,
}

/// A model's session, and how the next token is chosen.
pub struct LoadedModel<'a, 'b> {
    /// The model.
    pub file: ModelFile<'a>,
    /// Its session.
    pub generator: Generator<'a>,
    /// What chooses tokens.
    pub sampler: Sampler<'b>,
    /// How messages become tokens.
    pub format: PromptFormat,
    /// Where keys and values are kept for a later session, if they are.
    pub kept: Option<KvFile>,
}

impl ChatModel for LoadedModel<'_, '_> {
    fn context(&self) -> usize {
        self.generator.context()
    }

    fn encode(&self, messages: &[(Role, &str)]) -> Result<Vec<Token>, ChatError> {
        if self.format == PromptFormat::Text {
            let text = messages.last().map_or("", |&(_, text)| text);
            let tokens = encode(&self.file.tokenizer(), text, Specials::Parse)?;
            return Ok(if tokens.is_empty() {
                end_of_text(&self.file).into_iter().collect()
            } else {
                tokens
            });
        }
        let message = |&(role, text)| Message { speaker: Speaker::from(role), text };
        encode_chat(&self.file, &messages.iter().map(message).collect::<Vec<_>>())
    }

    fn reuse(&mut self, tokens: &[Token]) -> usize {
        self.generator.reuse(tokens)
    }

    fn batch(&self) -> usize {
        let sequence = self.generator.sequence();
        if sequence.kind().has_gpu() { sequence.limits().batch } else { CHUNK }
    }

    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError> {
        self.generator.prefill(tokens)?;
        if tokens.len() > 1 {
            // A GPU may only have been told: done means that the logits are there. Behind a single token it goes on alone.
            self.generator.tokens_and_logits();
        }
        Ok(())
    }

    fn sample(&mut self) -> Token {
        self.generator.sample(&mut self.sampler)
    }

    fn bytes(&self, token: Token) -> &[u8] {
        self.file.tokenizer().token_bytes(token)
    }

    fn is_stop(&self, token: Token) -> bool {
        self.file.config().is_stop(token)
    }

    fn keep(&mut self) {
        if let Some(kept) = &mut self.kept {
            // Without the file a later session computes what would be in it.
            let _ = kept.save(&self.file, &mut self.generator);
        }
    }

    fn forget(&mut self) {
        let _ = self.generator.rewind(0);
        if let Some(kept) = &mut self.kept {
            let _ = kept.forget();
        }
    }
}

/// A model that is only lent.
impl<V: ChatModel + ?Sized> ChatModel for &mut V {
    fn context(&self) -> usize {
        (**self).context()
    }

    fn encode(&self, messages: &[(Role, &str)]) -> Result<Vec<Token>, ChatError> {
        (**self).encode(messages)
    }

    fn reuse(&mut self, tokens: &[Token]) -> usize {
        (**self).reuse(tokens)
    }

    fn batch(&self) -> usize {
        (**self).batch()
    }

    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError> {
        (**self).prefill(tokens)
    }

    fn sample(&mut self) -> Token {
        (**self).sample()
    }

    fn bytes(&self, token: Token) -> &[u8] {
        (**self).bytes(token)
    }

    fn is_stop(&self, token: Token) -> bool {
        (**self).is_stop(token)
    }

    fn keep(&mut self) {
        (**self).keep();
    }

    fn forget(&mut self) {
        (**self).forget();
    }
}

impl From<Role> for Speaker {
    fn from(role: Role) -> Speaker {
        match role {
            Role::System => Speaker::System,
            Role::User => Speaker::User,
            Role::Assistant => Speaker::Assistant,
        }
    }
}

/// The ids of a conversation up to the place where the answer begins. Special tokens are the template's alone: in
/// somebody's text they are plain text.
///
/// # Errors
/// The model has no template, or the template refuses the conversation.
pub fn encode_chat(file: &ModelFile<'_>, messages: &[Message<'_>]) -> Result<Vec<Token>, ChatError> {
    let template = file.chat().ok_or(ChatError::NoTemplate)?;
    let tokenizer = file.tokenizer();
    let pieces = match template::render(&template, messages, true) {
        // Nothing has to be told apart where nobody typed a control token.
        Err(TemplateError::Rewritten) if !any_special(&tokenizer, messages)? => {
            vec![OwnedPiece::Template(template::render_text(&template, messages, true)?)]
        }
        rendered => rendered?,
    };
    let (mut text, mut typed) = (String::new(), Vec::new());
    for piece in &pieces {
        let from = text.len();
        text.push_str(piece.text());
        if matches!(piece, OwnedPiece::Content(_)) {
            typed.push(from..text.len());
        }
    }
    // In one go, as transformers does: a word may begin in the template and end in a message.
    Ok(encode_typed(&tokenizer, &text, &typed)?)
}

fn any_special(tokenizer: &Tokenizer<'_>, messages: &[Message<'_>]) -> Result<bool, ChatError> {
    for message in messages {
        if has_special(tokenizer, message.text)? {
            return Ok(true);
        }
    }
    Ok(false)
}
