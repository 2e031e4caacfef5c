//! Renders messages with literals.

use super::{Literals, MessageFormat, SystemRule};
use thiserror::Error;

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A program that the model called: its result. Only Jinja templates have a place for it.
    Tool,
}

impl Role {
    /// The name in templates and chat files.
    pub const fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }

    /// The role of a conversation between people and models with this name.
    pub fn from_name(name: &str) -> Option<Role> {
        [Role::System, Role::User, Role::Assistant].into_iter().find(|s| s.name() == name)
    }
}

/// One message of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'t> {
    /// Its author.
    pub role: Role,
    /// Its content.
    pub text: &'t str,
}

/// A segment of a rendered conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment<'t> {
    /// Text of the template, which can contain special tokens.
    Template(&'t str),
    /// Text of a message, in which special tokens are plain text.
    Content(&'t str),
}

impl<'t> Segment<'t> {
    /// The text.
    pub fn text(self) -> &'t str {
        match self {
            Segment::Template(text) | Segment::Content(text) => text,
        }
    }
}

/// Why a conversation cannot be rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RenderError {
    /// There are no messages.
    #[error("a conversation without messages cannot be rendered")]
    Empty,
    /// The template is Jinja source.
    #[error("this model's chat template is Jinja source, which only thimble-chat renders")]
    Jinja,
    /// The template rejects system messages.
    #[error("this model's chat template takes no system message (message {index})")]
    System {
        /// Index of the message.
        index: usize,
    },
    /// The template requires user and assistant messages in turn.
    #[error(
        "message {index} is the {}'s, but this model's chat template takes one system message in front, \
         then user and assistant by turns",
        role.name()
    )]
    Turn {
        /// Index of the message.
        index: usize,
        /// Its role.
        role: Role,
    },
    /// A message of a tool.
    #[error(
        "message {index} is a tool's, for which this model's chat template, as it is stored, has no place"
    )]
    Tool {
        /// Index of the message.
        index: usize,
    },
    /// There is no user message for the system message to become part of.
    #[error("this model's chat template needs a user message behind the system message")]
    SystemAlone,
}

impl Literals<'_> {
    /// See [`super::ChatTemplate::render`].
    pub fn render(
        &self,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
        emit: &mut dyn FnMut(Segment<'_>),
    ) -> Result<(), RenderError> {
        self.check(messages)?;
        let mut emit = |segment: Segment<'_>| {
            if !segment.text().is_empty() {
                emit(segment);
            }
        };
        emit(Segment::Template(self.begin));
        let system = messages.first().filter(|m| m.role == Role::System);
        if system.is_none() {
            emit(Segment::Template(self.default_system));
        }
        let mut folded = system.filter(|_| self.system_rule == SystemRule::Folded);
        for message in &messages[usize::from(folded.is_some())..] {
            let format = self.format(message.role);
            emit(Segment::Template(format.prefix));
            if let Some(system) = folded.take() {
                emit(Segment::Template(self.system.prefix));
                emit(Segment::Content(self.system.content(system.text)));
                emit(Segment::Template(self.system.suffix));
            }
            emit(Segment::Content(format.content(message.text)));
            emit(Segment::Template(format.suffix));
        }
        emit(Segment::Template(if add_generation_prompt { self.generate } else { self.end }));
        Ok(())
    }

    fn format(&self, role: Role) -> &MessageFormat<'_> {
        match role {
            Role::System => &self.system,
            // Those of tools are refused before.
            Role::User | Role::Tool => &self.user,
            Role::Assistant => &self.assistant,
        }
    }

    fn check(&self, messages: &[Message<'_>]) -> Result<(), RenderError> {
        let first = messages.first().ok_or(RenderError::Empty)?;
        if self.system_rule == SystemRule::Refused
            && let Some(index) = messages.iter().position(|m| m.role == Role::System)
        {
            return Err(RenderError::System { index });
        }
        if let Some(index) = messages.iter().position(|m| m.role == Role::Tool) {
            return Err(RenderError::Tool { index });
        }
        let turns = usize::from(first.role == Role::System);
        if self.system_rule == SystemRule::Folded && turns == messages.len() {
            return Err(RenderError::SystemAlone);
        }
        if self.regular_only {
            let turns = messages.iter().enumerate().skip(turns);
            for ((index, message), due) in turns.zip([Role::User, Role::Assistant].iter().cycle()) {
                if message.role != *due {
                    return Err(RenderError::Turn { index, role: message.role });
                }
            }
        }
        Ok(())
    }
}

impl MessageFormat<'_> {
    fn content<'t>(&self, text: &'t str) -> &'t str {
        if self.trim { text.trim_matches(is_python_space) } else { text }
    }
}

/// Whether Python's `str.strip`, and so Jinja's `trim`, strips it: Unicode white space and the four ASCII separators.
pub fn is_python_space(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\x1c'..='\x1f')
}
