//! From a Jinja chat template to the chat section of a model file.
//!
//! The template is rendered on a `battery` of conversations. Where literals around the messages reproduce
//! every one of them exactly, the literals are stored; otherwise the Jinja source is.

mod jinja;
mod reduce;
mod test_conversations;
#[cfg(test)]
mod tests;

pub use jinja::{define_tokens, to_jinja};
use thimble_host::template::{JinjaTemplate, TemplateError};
use thimble_runtime::chat::{ChatTemplate, Jinja, Message, Speaker};
use thimble_runtime::format::FormatError;

/// Why a chat template cannot be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatTemplateError {
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

/// Instructions for one message from which on a template is not tried to be reduced; ordinary ones take less than a hundred.
const MAX_COST: u64 = 5_000;

/// The chat section for a Jinja `template`.
///
/// `bos` and `eos` are the texts of the begin and end tokens (`bos_token`, `eos_token` of the tokenizer's
/// configuration), empty where there are none. The literal form where the template can be reduced to it,
/// else the source. Errors for a template that does not compile or cannot render one user message.
pub fn derive(template: &str, bos: &str, eos: &str) -> Result<Vec<u8>, ChatTemplateError> {
    let compiled = JinjaTemplate::compile(template, bos, eos).map_err(ChatTemplateError::Compile)?;
    let hello = Message { speaker: Speaker::User, text: "Hello" };
    // The battery renders thousands of conversations.
    let cheap = compiled.cost(&[hello]).map_err(ChatTemplateError::Unusable)? <= MAX_COST;
    let literals = if cheap { reduce::reduce(&compiled, template, [bos, eos]) } else { None };
    let section = match &literals {
        Some(literals) => ChatTemplate::Literal(literals.borrow()),
        None => ChatTemplate::Jinja(Jinja { source: template, bos, eos }),
    };
    let mut bytes = Vec::new();
    section.emit(&mut |piece| bytes.extend_from_slice(piece))?;
    Ok(bytes)
}

/// What is wrong with a template in the form that the host renders, in conversations that every chat comes to: the first
/// fault. The literal form has none.
pub fn find_fault(template: &ChatTemplate<'_>) -> Option<String> {
    use Speaker::{Assistant, System, User};
    let source = template.jinja()?;
    let says = |speaker, text| Message { speaker, text };
    let thinks = "<think>\nhm\n</think>\n\nYes, <b>7</b>.\n";
    // With what looks like control tokens, the template's own among them.
    let head: String = source.chars().take(60).collect();
    let typed = format!("a {head} <s> <|im_end|></s> \"b\" 12");
    let chats: [&[Message<'_>]; 4] = [
        &[says(User, "Hello"), says(Assistant, thinks), says(User, "Why?")],
        &[
            says(User, "Hello"),
            says(Assistant, ""),
            says(User, "a\n\nb"),
            says(Assistant, "c"),
            says(User, "\n"),
        ],
        &[says(User, &typed), says(Assistant, thinks), says(User, &typed)],
        &[says(System, "Be <brief>."), says(User, &typed)],
    ];
    chats.into_iter().find_map(|chat| {
        match thimble_chat::template::render(template, chat, true) {
            Err(TemplateError::Rewritten) => Some(
                "the chat template makes something of messages that hides which text is whose: a conversation with a \
                 control token in a message will be refused"
                    .to_owned(),
            ),
            Err(error @ TemplateError::Failed { .. }) => Some(format!("{error}: one of {} messages", chat.len())),
            // What a template refuses, it refuses on purpose.
            _ => None,
        }
    })
}
