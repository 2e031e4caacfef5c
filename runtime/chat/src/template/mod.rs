//! Renders both forms of chat templates: literals, and Jinja source through `minijinja`.
//!
//! Jinja source comes from model files, so it is untrusted: no files, no includes, and a limit on the instructions.

mod answers;
mod filters;
mod jinja;
mod json;
mod lexer;
mod python;
mod source;
mod strings;
#[cfg(test)]
mod tests;
mod tools;
mod typed;

pub use answers::{ChatRenderer, RenderedChat};
pub use jinja::JinjaTemplate;
pub(crate) use tools::slots;
pub use tools::{ToolFormat, lists_tools, render_with_tools};
pub use typed::TypedRanges;

use thimble_runtime::chat::{ChatTemplate, Message, RenderError, Segment};

/// Why a chat cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The source does not compile.
    #[error("the chat template does not compile: {detail}")]
    Compile {
        /// The error of `minijinja`, with the line.
        detail: String,
    },
    /// The template refuses this conversation (`raise_exception`).
    #[error("the chat template refuses this conversation: {message}")]
    Refused {
        /// The template's message.
        message: String,
    },
    /// The template fails on this conversation.
    #[error("the chat template fails on this conversation: {detail}")]
    Failed {
        /// The error of `minijinja`.
        detail: String,
    },
    /// The template rewrites the messages, so that its own text cannot be told from theirs.
    #[error(
        "a message contains a special token such as <|im_end|>, which this model's chat template would treat as its own: \
         remove it from the message"
    )]
    Rewritten,
    /// The literal form cannot render this conversation.
    #[error(transparent)]
    Literal(#[from] RenderError),
}

/// A piece of a rendered conversation; see [`Segment`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedSegment {
    /// The template's text: special tokens count.
    Template(String),
    /// A message's text: special tokens are plain text.
    Content(String),
}

impl OwnedSegment {
    /// The text of either kind.
    pub fn text(&self) -> &str {
        self.as_segment().text()
    }

    /// The borrowed form.
    pub fn as_segment(&self) -> Segment<'_> {
        match self {
            OwnedSegment::Template(text) => Segment::Template(text),
            OwnedSegment::Content(text) => Segment::Content(text),
        }
    }
}

/// What a template gets besides the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemplateOptions {
    /// Whether the beginning of an answer follows the messages (`add_generation_prompt`).
    pub generate: bool,
    /// Whether the model thinks before it answers (`enable_thinking`); `None` leaves the variable undefined, for the
    /// template's own default. Templates without such a mode ignore it.
    pub thinking: Option<bool>,
}

impl TemplateOptions {
    /// The messages alone.
    pub const MESSAGES: TemplateOptions = TemplateOptions { generate: false, thinking: None };
    /// The messages and the beginning of an answer.
    pub const ANSWER: TemplateOptions = TemplateOptions { generate: true, thinking: None };
}

/// Whether the template has a mode for thinking that [`TemplateOptions::thinking`] sets.
pub fn has_thinking(template: &ChatTemplate<'_>) -> bool {
    template.jinja().is_some_and(has_thinking_variable)
}

/// Whether Jinja source names the variable of transformers for thinking.
pub fn has_thinking_variable(source: &str) -> bool {
    source.contains(jinja::THINKING)
}

/// Renders a conversation with either form of template.
///
/// Adjacent pieces of the same kind are merged, and empty ones omitted. White space at the ends of a message may end up in
/// a piece of the template.
///
/// # Errors
/// The template refuses the conversation or fails; [`TemplateError::Rewritten`] if the messages' text cannot be told apart.
pub fn render(
    template: &ChatTemplate<'_>,
    messages: &[Message<'_>],
    options: TemplateOptions,
) -> Result<Vec<OwnedSegment>, TemplateError> {
    let mut pieces = Vec::new();
    match template {
        ChatTemplate::Literal(literals) => {
            literals.render(messages, options.generate, &mut |piece| push(&mut pieces, piece))?;
        }
        ChatTemplate::Jinja(jinja) => {
            if messages.is_empty() {
                return Err(RenderError::Empty.into());
            }
            let jinja = JinjaTemplate::compile(jinja.source, jinja.bos, jinja.eos)?;
            let jinja = jinja.with_thinking(options.thinking);
            jinja.render_pieces(messages, options.generate, &mut |piece| push(&mut pieces, piece))?;
        }
    }
    Ok(pieces)
}

/// Renders a conversation as one text.
///
/// # Errors
/// As for [`render`], but never [`TemplateError::Rewritten`].
pub fn render_text(
    template: &ChatTemplate<'_>,
    messages: &[Message<'_>],
    options: TemplateOptions,
) -> Result<String, TemplateError> {
    match template {
        ChatTemplate::Literal(_) => {
            let pieces = render(template, messages, options)?;
            Ok(pieces.iter().map(OwnedSegment::text).collect())
        }
        ChatTemplate::Jinja(jinja) => JinjaTemplate::compile(jinja.source, jinja.bos, jinja.eos)?
            .with_thinking(options.thinking)
            .render(messages, options.generate),
    }
}

fn push(pieces: &mut Vec<OwnedSegment>, piece: Segment<'_>) {
    match (pieces.last_mut(), piece) {
        (_, Segment::Template("") | Segment::Content("")) => {}
        (Some(OwnedSegment::Template(last)), Segment::Template(text)) => last.push_str(text),
        (Some(OwnedSegment::Content(last)), Segment::Content(text)) => last.push_str(text),
        (_, Segment::Template(text)) => pieces.push(OwnedSegment::Template(text.to_owned())),
        (_, Segment::Content(text)) => pieces.push(OwnedSegment::Content(text.to_owned())),
    }
}
