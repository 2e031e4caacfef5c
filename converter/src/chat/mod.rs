//! From a Jinja chat template to the chat section of a model file.
//!
//! The template is rendered on a `battery` of conversations. Where literals around the messages reproduce
//! every one of them exactly, the literals are stored; otherwise the Jinja source is.

mod battery;
mod jinja;
mod reduce;
#[cfg(test)]
mod tests;

pub use jinja::{source, with_tokens};
use thimble_host::template::{JinjaTemplate, TemplateError};
use thimble_runtime::chat::{ChatTemplate, Jinja, Message, Speaker};
use thimble_runtime::format::FormatError;

/// Why a chat template cannot be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The template does not compile.
    #[error(transparent)]
    Compile(TemplateError),
    /// The template cannot even render one message of a user.
    #[error("one user message cannot be rendered: {0}")]
    Unusable(TemplateError),
    /// The section cannot hold it.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// The chat section for a Jinja `template`.
///
/// `bos` and `eos` are the texts of the begin and end tokens (`bos_token`, `eos_token` of the tokenizer's
/// configuration), empty where there are none. The literal form where the template can be reduced to it,
/// else the source. Errors for a template that does not compile or cannot render one user message.
pub fn derive(template: &str, bos: &str, eos: &str) -> Result<Vec<u8>, ChatError> {
    let compiled = JinjaTemplate::compile(template, bos, eos).map_err(ChatError::Compile)?;
    let hello = Message { speaker: Speaker::User, text: "Hello" };
    compiled.render(&[hello], true).map_err(ChatError::Unusable)?;
    let literals = reduce::reduce(&compiled, template, [bos, eos]);
    let section = match &literals {
        Some(literals) => ChatTemplate::Literal(literals.borrow()),
        None => ChatTemplate::Jinja(Jinja { source: template, bos, eos }),
    };
    let mut bytes = Vec::new();
    section.emit(&mut |piece| bytes.extend_from_slice(piece))?;
    Ok(bytes)
}
