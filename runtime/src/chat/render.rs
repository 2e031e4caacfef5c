//! From messages to pieces of text.

use super::{Around, Literals, SystemRule};
use thiserror::Error;

/// Who says something in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// Instructions for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Speaker {
    /// The name that templates and chat files use for the role.
    pub const fn name(self) -> &'static str {
        match self {
            Speaker::System => "system",
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
        }
    }

    /// The speaker of that name.
    pub fn from_name(name: &str) -> Option<Speaker> {
        [Speaker::System, Speaker::User, Speaker::Assistant].into_iter().find(|s| s.name() == name)
    }
}

/// One message of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'t> {
    /// Who said it.
    pub speaker: Speaker,
    /// What was said.
    pub text: &'t str,
}

/// A piece of a rendered conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    /// The template's own text: special tokens in it are meant.
    Template(&'t str),
    /// Somebody's text: what looks like a special token is only text.
    Content(&'t str),
}

impl<'t> Piece<'t> {
    /// The text, whoever wrote it.
    pub fn text(self) -> &'t str {
        match self {
            Piece::Template(text) | Piece::Content(text) => text,
        }
    }
}

/// Why a conversation cannot be rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RenderError {
    /// No messages.
    #[error("a conversation without messages cannot be rendered")]
    Empty,
    /// The template is in the form that the host renders.
    #[error("this model's chat template is Jinja source, which only the host crate renders")]
    Jinja,
    /// The template takes no system messages.
    #[error("this model's chat template takes no system message (message {index})")]
    System {
        /// Place of the message.
        index: usize,
    },
    /// The template takes turns only.
    #[error(
        "message {index} is the {}'s, but this model's chat template takes one system message in front, \
         then user and assistant by turns",
        speaker.name()
    )]
    Turn {
        /// Place of the message.
        index: usize,
        /// Who speaks out of turn.
        speaker: Speaker,
    },
    /// A template that puts the system message into the first user message has no such message.
    #[error("this model's chat template needs a user message behind the system message")]
    SystemAlone,
}

impl Literals<'_> {
    /// See [`super::ChatTemplate::render`].
    pub fn render(
        &self,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
        emit: &mut dyn FnMut(Piece<'_>),
    ) -> Result<(), RenderError> {
        self.check(messages)?;
        let mut emit = |piece: Piece<'_>| {
            if !piece.text().is_empty() {
                emit(piece);
            }
        };
        emit(Piece::Template(self.begin));
        let system = messages.first().filter(|m| m.speaker == Speaker::System);
        if system.is_none() {
            emit(Piece::Template(self.default_system));
        }
        let mut folded = system.filter(|_| self.system_rule == SystemRule::Folded);
        for message in &messages[usize::from(folded.is_some())..] {
            let around = self.around(message.speaker);
            emit(Piece::Template(around.prefix));
            if let Some(system) = folded.take() {
                emit(Piece::Template(self.system.prefix));
                emit(Piece::Content(self.system.content(system.text)));
                emit(Piece::Template(self.system.suffix));
            }
            emit(Piece::Content(around.content(message.text)));
            emit(Piece::Template(around.suffix));
        }
        emit(Piece::Template(if add_generation_prompt { self.generate } else { self.end }));
        Ok(())
    }

    fn around(&self, speaker: Speaker) -> &Around<'_> {
        match speaker {
            Speaker::System => &self.system,
            Speaker::User => &self.user,
            Speaker::Assistant => &self.assistant,
        }
    }

    fn check(&self, messages: &[Message<'_>]) -> Result<(), RenderError> {
        let first = messages.first().ok_or(RenderError::Empty)?;
        if self.system_rule == SystemRule::Refused
            && let Some(index) = messages.iter().position(|m| m.speaker == Speaker::System)
        {
            return Err(RenderError::System { index });
        }
        let turns = usize::from(first.speaker == Speaker::System);
        if self.system_rule == SystemRule::Folded && turns == messages.len() {
            return Err(RenderError::SystemAlone);
        }
        if self.regular_only {
            let turns = messages.iter().enumerate().skip(turns);
            for ((index, message), due) in turns.zip([Speaker::User, Speaker::Assistant].iter().cycle()) {
                if message.speaker != *due {
                    return Err(RenderError::Turn { index, speaker: message.speaker });
                }
            }
        }
        Ok(())
    }
}

impl Around<'_> {
    fn content<'t>(&self, text: &'t str) -> &'t str {
        if self.trim { text.trim_matches(is_python_space) } else { text }
    }
}

/// What Python's `str.strip`, and so Jinja's `trim`, takes for white space: Unicode's, and the four separators of ASCII.
pub fn is_python_space(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\x1c'..='\x1f')
}
