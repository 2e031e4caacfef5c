//! Converts a Jinja chat template to the chat section of a model file.
//!
//! The template renders a set of test conversations. If literals around the messages reproduce all of them exactly, and it
//! lists no tools, the section stores the literals, otherwise the Jinja source.

mod jinja;
mod reduce;
mod test_conversations;
#[cfg(test)]
mod tests;

pub use jinja::{define_tokens, to_jinja};
use thimble_chat::template::{
    JinjaTemplate, TemplateError, TemplateOptions, has_thinking_variable, lists_tools,
};
use thimble_runtime::chat::{ChatTemplate, Jinja, Message, Role};
use thimble_runtime::format::FormatError;

/// Why a chat template cannot be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatTemplateError {
    /// The template does not compile.
    #[error("{0}; fix or remove chat_template in the source")]
    Compile(TemplateError),
    /// The template cannot render a single user message.
    #[error(
        "the chat template cannot render a single user message ({}); fix or remove chat_template in the source",
        reason(.0)
    )]
    Unusable(TemplateError),
    /// The section cannot store it.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// The error without the words that name the template.
fn reason(error: &TemplateError) -> String {
    match error {
        TemplateError::Refused { message } => format!("it refuses: {message}"),
        TemplateError::Failed { detail } => detail.clone(),
        other => other.to_string(),
    }
}

/// The limit of instructions per message for a reduction; ordinary templates take less than a hundred.
const MAX_COST: u64 = 5_000;

/// The chat section for a Jinja `template`.
///
/// `bos` and `eos` are the texts of `bos_token` and `eos_token`, empty if there are none. The section has the literal
/// form if the template can be reduced to it, otherwise the source.
///
/// # Errors
/// The template does not compile or cannot render a user message.
pub fn derive(template: &str, bos: &str, eos: &str) -> Result<Vec<u8>, ChatTemplateError> {
    let compiled = JinjaTemplate::compile(template, bos, eos).map_err(ChatTemplateError::Compile)?;
    let hello = Message { role: Role::User, text: "Hello" };
    // A reduction renders thousands of conversations.
    let cheap = compiled.cost(&[hello]).map_err(ChatTemplateError::Unusable)? <= MAX_COST;
    // Literals have no mode for thinking, and no place for tools.
    let reducible = cheap && !has_thinking_variable(template) && !lists_tools(&compiled);
    let literals = if reducible { reduce::reduce(&compiled, template, [bos, eos]) } else { None };
    let section = match &literals {
        Some(literals) => ChatTemplate::Literal(literals.borrow()),
        None => ChatTemplate::Jinja(Jinja { source: template, bos, eos }),
    };
    let mut bytes = Vec::new();
    section.emit(&mut |piece| bytes.extend_from_slice(piece))?;
    Ok(bytes)
}

/// The first problem that a template has with common conversations, if any. The literal form has none.
pub fn find_fault(template: &ChatTemplate<'_>) -> Option<String> {
    use Role::{Assistant, System, User};
    let source = template.jinja()?;
    let says = |role, text| Message { role, text };
    let thinks = "<think>\nhm\n</think>\n\nYes, <b>7</b>.\n";
    // Messages that look like control tokens, including the template's own.
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
        match thimble_chat::template::render(template, chat, TemplateOptions::ANSWER) {
            Err(TemplateError::Rewritten) => Some(
                "the chat template rewrites messages, so a conversation with a special token in a message will be refused"
                    .to_owned(),
            ),
            Err(TemplateError::Failed { detail }) => {
                Some(format!("the chat template fails on a conversation of {} messages ({detail})", chat.len()))
            }
            // Templates refuse conversations on purpose.
            _ => None,
        }
    })
}
