//! Renders whole conversations for training, with the place of each answer.

use super::typed::{self, TypedRanges};
use super::{JinjaTemplate, TemplateError};
use std::ops::Range;
use thimble_runtime::chat::{ChatTemplate, Literals, Message, RenderError, Role, Segment};

/// A chat template that is compiled once, for many conversations.
#[derive(Debug)]
pub struct ChatRenderer<'f> {
    form: Form<'f>,
}

#[derive(Debug)]
enum Form<'f> {
    Literal(Literals<'f>),
    Jinja(Box<JinjaTemplate>),
}

/// A conversation as one text, without the beginning of another answer. Positions are byte offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedChat {
    /// The text.
    pub text: String,
    /// Where the messages' own text is, in order and disjoint; `None` if the template hides it.
    pub typed: Option<Vec<Range<usize>>>,
    /// For each assistant message, from the end of the generation prompt to the end of its content. A mark behind it that
    /// ends the answer is not included. `None` where the template leaves the message out.
    pub answers: Vec<Option<Range<usize>>>,
}

impl<'f> ChatRenderer<'f> {
    /// Compiles the template.
    ///
    /// # Errors
    /// [`TemplateError::Compile`].
    pub fn new(template: &ChatTemplate<'f>) -> Result<ChatRenderer<'f>, TemplateError> {
        let form = match template {
            ChatTemplate::Literal(literals) => Form::Literal(*literals),
            ChatTemplate::Jinja(jinja) => {
                Form::Jinja(Box::new(JinjaTemplate::compile(jinja.source, jinja.bos, jinja.eos)?))
            }
        };
        Ok(ChatRenderer { form })
    }

    /// A conversation as one text; with `generate`, the beginning of an answer follows.
    ///
    /// # Errors
    /// The template refuses the conversation or fails.
    pub fn text(&self, messages: &[Message<'_>], generate: bool) -> Result<String, TemplateError> {
        match &self.form {
            Form::Literal(literals) => Ok(literal_text(literals, messages, generate)?),
            Form::Jinja(_) if messages.is_empty() => Err(RenderError::Empty.into()),
            Form::Jinja(jinja) => jinja.render(messages, generate),
        }
    }

    /// A conversation up to the beginning of the answer, and where the messages' own text is.
    ///
    /// # Errors
    /// The template refuses the conversation or fails.
    pub fn prompt(&self, messages: &[Message<'_>]) -> Result<(String, TypedRanges), TemplateError> {
        let (text, found) = self.typed(messages, true, &[None])?;
        Ok((text, found.into_iter().next().flatten()))
    }

    fn typed(
        &self,
        messages: &[Message<'_>],
        generate: bool,
        searches: &[Option<usize>],
    ) -> Result<(String, Vec<TypedRanges>), TemplateError> {
        match &self.form {
            Form::Literal(literals) => literal_typed(literals, messages, generate, searches),
            Form::Jinja(_) if messages.is_empty() => Err(RenderError::Empty.into()),
            Form::Jinja(jinja) => jinja.render_typed(messages, generate, searches),
        }
    }

    /// A conversation with the places of its messages' text and of its answers.
    ///
    /// # Errors
    /// The template refuses the conversation or fails.
    pub fn conversation(&self, messages: &[Message<'_>]) -> Result<RenderedChat, TemplateError> {
        let assistant = |(_, message): &(usize, &Message<'_>)| message.role == Role::Assistant;
        let answers: Vec<usize> =
            messages.iter().enumerate().filter(assistant).map(|(index, _)| index).collect();
        let searches: Vec<Option<usize>> =
            std::iter::once(None).chain(answers.iter().copied().map(Some)).collect();
        let (text, found) = self.typed(messages, false, &searches)?;
        let mut found = found.into_iter();
        let typed = found.next().flatten();
        let answers = answers
            .iter()
            .zip(found)
            .map(|(&index, content)| self.answer(&text, &messages[..index], content.as_deref()))
            .collect();
        Ok(RenderedChat { text, typed, answers })
    }

    /// The place in `text` of the answer that follows the messages `before`, whose own text is at `content`.
    fn answer(
        &self,
        text: &str,
        before: &[Message<'_>],
        content: Option<&[Range<usize>]>,
    ) -> Option<Range<usize>> {
        let typed = content.and_then(|ranges| Some(ranges.first()?.start..ranges.last()?.end));
        // A template that treats the last message in its own way may render the beginning differently.
        let prompt = self.text(before, true).ok().filter(|prompt| text.starts_with(prompt.as_str()));
        match (prompt, typed) {
            // What lies between is the answer's too, such as the marks around its reasoning.
            (Some(prompt), Some(typed)) if prompt.len() <= typed.start => Some(prompt.len()..typed.end),
            (_, Some(typed)) => Some(typed),
            (Some(prompt), None) => Some(prompt.len()..prompt.len()),
            (None, None) => None,
        }
    }
}

fn literal_text(
    literals: &Literals<'_>,
    messages: &[Message<'_>],
    generate: bool,
) -> Result<String, RenderError> {
    let mut text = String::new();
    literals.render(messages, generate, &mut |segment| text.push_str(segment.text()))?;
    Ok(text)
}

/// As [`JinjaTemplate::render_typed`]; literals hide nothing.
fn literal_typed(
    literals: &Literals<'_>,
    messages: &[Message<'_>],
    generate: bool,
    searches: &[Option<usize>],
) -> Result<(String, Vec<TypedRanges>), TemplateError> {
    let mut text = String::new();
    let mut all = Vec::new();
    literals.render(messages, generate, &mut |segment| {
        let start = text.len();
        text.push_str(segment.text());
        if matches!(segment, Segment::Content(_)) {
            all.push(start..text.len());
        }
    })?;
    let render = |texts: &[String]| {
        let others = messages.iter().zip(texts).map(|(message, text)| Message { role: message.role, text });
        let others: Vec<Message<'_>> = others.collect();
        literal_text(literals, &others, generate).ok()
    };
    let one = |only: &Option<usize>| match only {
        None => Some(all.clone()),
        Some(_) => typed::typed(messages, *only, &[], &text, &render),
    };
    let found = searches.iter().map(one).collect();
    Ok((text, found))
}
