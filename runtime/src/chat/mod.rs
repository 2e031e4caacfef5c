//! Chat templates: literal text around each message, or Jinja source for `thimble-chat`.
//!
//! Models come with Jinja templates. The converter reduces a template to [`Literals`] if they reproduce it exactly; then
//! [`ChatTemplate::render`] needs no allocation. Other templates are stored as [`Jinja`] source, which `thimble-chat` renders.
//! `FORMAT.md` describes the layout in the file.
//!
//! Rendering yields [`Segment`]s, which separate the template's text from the messages', so that nobody can forge a special
//! token by typing it.

mod parts;
mod render;
#[cfg(test)]
mod tests;

pub use render::{Message, RenderError, Role, Segment, is_python_space};

use crate::format::{FormatError, SectionKind, read_u32};
use parts::{JINJA_PARTS, LITERAL_PARTS, Parts};

/// A chat template in either form; a view of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatTemplate<'f> {
    /// Literals, which the runtime renders.
    Literal(Literals<'f>),
    /// Jinja source, which `thimble-chat` renders.
    Jinja(Jinja<'f>),
}

/// A template that only adds text around messages.
///
/// A conversation is [`begin`](Self::begin), then [`default_system`](Self::default_system) unless it starts
/// with a system message, then prefix, content and suffix of each message, then
/// [`generate`](Self::generate) or [`end`](Self::end).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Literals<'f> {
    /// Start of the text: usually the begin-of-text token.
    pub begin: &'f str,
    /// Follows `begin` if the first message is not a system message.
    pub default_system: &'f str,
    /// End of the text if an answer is to be generated.
    pub generate: &'f str,
    /// End of the text otherwise.
    pub end: &'f str,
    /// Format of system messages. For [`SystemRule::Folded`]: of the system text inside the first user message.
    pub system: MessageFormat<'f>,
    /// Format of user messages.
    pub user: MessageFormat<'f>,
    /// Format of assistant messages.
    pub assistant: MessageFormat<'f>,
    /// Treatment of system messages.
    pub system_rule: SystemRule,
    /// Whether conversations have to be regular: an optional system message, then user and assistant messages in turn.
    pub regular_only: bool,
}

/// The format of one role's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageFormat<'f> {
    /// Text before the content.
    pub prefix: &'f str,
    /// Text after the content.
    pub suffix: &'f str,
    /// Whether to strip white space from both ends of the content ([`is_python_space`]).
    pub trim: bool,
}

/// How a template treats system messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SystemRule {
    /// Like other messages.
    #[default]
    Message,
    /// A system message at the start becomes part of the first user message.
    Folded,
    /// System messages are errors.
    Refused,
}

/// A template that is not reducible to [`Literals`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jinja<'f> {
    /// The template's source.
    pub source: &'f str,
    /// Text of the begin-of-text token (`bos_token`); empty if there is none.
    pub bos: &'f str,
    /// Text of the end-of-text token (`eos_token`); empty if there is none.
    pub eos: &'f str,
}

const FORM_LITERAL: u32 = 1;
const FORM_JINJA: u32 = 2;

const TRIM_SYSTEM: u32 = 1;
const TRIM_USER: u32 = 1 << 1;
const TRIM_ASSISTANT: u32 = 1 << 2;
const REGULAR_ONLY: u32 = 1 << 3;
const SYSTEM_FOLDED: u32 = 1 << 4;
const SYSTEM_REFUSED: u32 = 1 << 5;
const KNOWN_FLAGS: u32 = (1 << 6) - 1;

/// Bytes before the table of lengths: form and flags.
const HEAD: usize = 8;

fn wrong<T>(what: &'static str) -> Result<T, FormatError> {
    Err(FormatError::Chat { what })
}

impl<'f> ChatTemplate<'f> {
    /// Parses the section without copying.
    ///
    /// # Errors
    /// [`FormatError::Chat`], [`FormatError::Reserved`], [`FormatError::NotUtf8`].
    pub fn parse(bytes: &'f [u8]) -> Result<ChatTemplate<'f>, FormatError> {
        let (Some(form), Some(flags)) = (read_u32(bytes, 0), read_u32(bytes, 4)) else {
            return wrong("the section is shorter than its head of 8 bytes");
        };
        match form {
            FORM_LITERAL => Literals::parse(flags, bytes).map(ChatTemplate::Literal),
            FORM_JINJA if flags != 0 => Err(FormatError::Reserved { kind: SectionKind::Chat }),
            FORM_JINJA => {
                let [source, bos, eos] = Parts::<JINJA_PARTS>::parse(bytes)?.texts;
                Ok(ChatTemplate::Jinja(Jinja { source, bos, eos }))
            }
            _ => wrong("unknown form, expected 1 (literal) or 2 (Jinja)"),
        }
    }

    /// Writes the section that [`ChatTemplate::parse`] reads.
    ///
    /// # Errors
    /// [`FormatError::Chat`] if a text has 4 GiB or more.
    pub fn emit(&self, write: &mut dyn FnMut(&[u8])) -> Result<(), FormatError> {
        match self {
            ChatTemplate::Literal(literals) => {
                Parts { texts: literals.texts() }.emit(FORM_LITERAL, literals.flags(), write)
            }
            ChatTemplate::Jinja(Jinja { source, bos, eos }) => {
                Parts { texts: [source, bos, eos] }.emit(FORM_JINJA, 0, write)
            }
        }
    }

    /// The Jinja source; `None` for literals.
    pub fn jinja(&self) -> Option<&'f str> {
        match self {
            ChatTemplate::Literal(_) => None,
            ChatTemplate::Jinja(jinja) => Some(jinja.source),
        }
    }

    /// Renders a conversation: calls `emit` with its segments, in order.
    ///
    /// # Errors
    /// [`RenderError`], before anything is emitted; [`RenderError::Jinja`] for Jinja source.
    pub fn render(
        &self,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
        emit: &mut dyn FnMut(Segment<'_>),
    ) -> Result<(), RenderError> {
        match self {
            ChatTemplate::Literal(literals) => literals.render(messages, add_generation_prompt, emit),
            ChatTemplate::Jinja(_) => Err(RenderError::Jinja),
        }
    }
}

impl<'f> Literals<'f> {
    fn texts(&self) -> [&'f str; LITERAL_PARTS] {
        let Literals { begin, default_system, generate, end, system, user, assistant, .. } = *self;
        let formats = [system, user, assistant];
        let [system, user, assistant] = formats.map(|format| (format.prefix, format.suffix));
        [begin, default_system, generate, end, system.0, system.1, user.0, user.1, assistant.0, assistant.1]
    }

    fn flags(&self) -> u32 {
        let set = |on: bool, flag: u32| if on { flag } else { 0 };
        set(self.system.trim, TRIM_SYSTEM)
            | set(self.user.trim, TRIM_USER)
            | set(self.assistant.trim, TRIM_ASSISTANT)
            | set(self.regular_only, REGULAR_ONLY)
            | set(self.system_rule == SystemRule::Folded, SYSTEM_FOLDED)
            | set(self.system_rule == SystemRule::Refused, SYSTEM_REFUSED)
    }

    fn parse(flags: u32, bytes: &'f [u8]) -> Result<Literals<'f>, FormatError> {
        if flags & !KNOWN_FLAGS != 0 {
            return Err(FormatError::Reserved { kind: SectionKind::Chat });
        }
        let on = |flag: u32| flags & flag != 0;
        let system_rule = match (on(SYSTEM_FOLDED), on(SYSTEM_REFUSED)) {
            (false, false) => SystemRule::Message,
            (true, false) => SystemRule::Folded,
            (false, true) => SystemRule::Refused,
            (true, true) => return wrong("system messages are both folded and refused"),
        };
        if system_rule == SystemRule::Folded && !on(REGULAR_ONLY) {
            return wrong("system messages are folded, but irregular conversations allowed");
        }
        let texts = Parts::<LITERAL_PARTS>::parse(bytes)?.texts;
        let [begin, default_system, generate, end, formats @ ..] = texts;
        let [system, system_end, user, user_end, assistant, assistant_end] = formats;
        let format = |prefix, suffix, trim| MessageFormat { prefix, suffix, trim: on(trim) };
        Ok(Literals {
            begin,
            default_system,
            generate,
            end,
            system: format(system, system_end, TRIM_SYSTEM),
            user: format(user, user_end, TRIM_USER),
            assistant: format(assistant, assistant_end, TRIM_ASSISTANT),
            system_rule,
            regular_only: on(REGULAR_ONLY),
        })
    }
}
