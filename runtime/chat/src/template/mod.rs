//! Chat templates with the standard library at hand: the literal form, and Jinja source through `minijinja`.
//!
//! Jinja source comes from model files, so it is treated as hostile: no files, no includes,
//! a bound on the instructions.

mod filters;
mod jinja;
mod json;
mod lexer;
mod python;
mod source;
mod strings;
#[cfg(test)]
mod tests;
mod typed;

pub use jinja::JinjaTemplate;

use thimble_runtime::chat::{ChatTemplate, Message, Piece, RenderError};

/// Why a chat cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The source is not a template that `minijinja` understands.
    #[error("the chat template does not compile: {detail}")]
    Compile {
        /// What `minijinja` says, with the line.
        detail: String,
    },
    /// The template itself refuses this conversation (`raise_exception`).
    #[error("the chat template refuses this conversation: {message}")]
    Refused {
        /// The template's words.
        message: String,
    },
    /// The template fails on this conversation.
    #[error("the chat template fails on this conversation: {detail}")]
    Failed {
        /// What `minijinja` says.
        detail: String,
    },
    /// The template makes something of the messages that hides which text is its own.
    #[error(
        "the chat template makes something of the messages' text that hides which text is the template's own, and one \
         of them holds a control token: take it out of the message"
    )]
    Rewritten,
    /// The literal form cannot render this conversation.
    #[error(transparent)]
    Literal(#[from] RenderError),
}

/// A piece of a rendered conversation; see [`Piece`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedPiece {
    /// The template's own text: special tokens in it are meant.
    Template(String),
    /// Somebody's text: what looks like a special token is only text.
    Content(String),
}

impl OwnedPiece {
    /// The text, whoever wrote it.
    pub fn text(&self) -> &str {
        self.as_piece().text()
    }

    /// The borrowed form.
    pub fn as_piece(&self) -> Piece<'_> {
        match self {
            OwnedPiece::Template(text) => Piece::Template(text),
            OwnedPiece::Content(text) => Piece::Content(text),
        }
    }
}

/// Renders a conversation with either form of template.
///
/// Neighbouring pieces of the same kind are joined and empty ones left out. White space at the ends of a message may be in
/// a piece of the template's.
///
/// # Errors
/// The template refuses the conversation, or fails on it; [`TemplateError::Rewritten`] where it cannot be known which text
/// is whose.
pub fn render(
    template: &ChatTemplate<'_>,
    messages: &[Message<'_>],
    add_generation_prompt: bool,
) -> Result<Vec<OwnedPiece>, TemplateError> {
    let mut pieces = Vec::new();
    match template {
        ChatTemplate::Literal(literals) => {
            literals.render(messages, add_generation_prompt, &mut |piece| push(&mut pieces, piece))?;
        }
        ChatTemplate::Jinja(jinja) => {
            if messages.is_empty() {
                return Err(RenderError::Empty.into());
            }
            let jinja = JinjaTemplate::compile(jinja.source, jinja.bos, jinja.eos)?;
            jinja.render_pieces(messages, add_generation_prompt, &mut |piece| push(&mut pieces, piece))?;
        }
    }
    Ok(pieces)
}

/// The text of a conversation, whoever wrote what.
///
/// # Errors
/// As for [`render`], but never [`TemplateError::Rewritten`].
pub fn render_text(
    template: &ChatTemplate<'_>,
    messages: &[Message<'_>],
    add_generation_prompt: bool,
) -> Result<String, TemplateError> {
    match template {
        ChatTemplate::Literal(_) => {
            let pieces = render(template, messages, add_generation_prompt)?;
            Ok(pieces.iter().map(OwnedPiece::text).collect())
        }
        ChatTemplate::Jinja(jinja) => JinjaTemplate::compile(jinja.source, jinja.bos, jinja.eos)?
            .render(messages, add_generation_prompt),
    }
}

fn push(pieces: &mut Vec<OwnedPiece>, piece: Piece<'_>) {
    match (pieces.last_mut(), piece) {
        (_, Piece::Template("") | Piece::Content("")) => {}
        (Some(OwnedPiece::Template(last)), Piece::Template(text)) => last.push_str(text),
        (Some(OwnedPiece::Content(last)), Piece::Content(text)) => last.push_str(text),
        (_, Piece::Template(text)) => pieces.push(OwnedPiece::Template(text.to_owned())),
        (_, Piece::Content(text)) => pieces.push(OwnedPiece::Content(text.to_owned())),
    }
}
