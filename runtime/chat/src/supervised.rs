//! Encodes whole conversations for training: the tokens, and which of them the assistant generates.

use crate::ChatError;
use crate::encode::{encode_typed, has_special};
use crate::template::{ChatRenderer, RenderedChat, TemplateError};
use std::ops::Range;
use thimble_runtime::Token;
use thimble_runtime::chat::{Message, Role};
use thimble_runtime::tokenizer::{EncodeError, Tokenizer};

/// The tokens of a conversation with the assistant's part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedChat {
    /// All tokens.
    pub tokens: Vec<Token>,
    /// The tokens that the assistant generates: for each answer its message's index, and the index range of its tokens with
    /// the one that ends it. In order and disjoint; empty where the conversation has no answer.
    pub answers: Vec<(usize, Range<usize>)>,
    /// Whether special tokens of the template end the answers.
    pub ended: bool,
}

/// The tokens of a whole conversation, as [`crate::encode_chat`] encodes its beginning: only the template can produce
/// special tokens.
///
/// An answer reaches from the end of the generation prompt to the first special token of the template behind its content,
/// which ends it and belongs to it; what follows, such as a line break, does not. A token with a part of an answer counts.
///
/// # Errors
/// The template refuses the conversation, or the tokenizer its text; [`TemplateError::Rewritten`] if a message contains a
/// special token and the template hides where.
pub fn encode_conversation(
    renderer: &ChatRenderer<'_>,
    tokenizer: &Tokenizer<'_>,
    messages: &[Message<'_>],
) -> Result<EncodedChat, ChatError> {
    let rendered = render(renderer, tokenizer, messages)?;
    let text = TokenizedText::of(tokenizer, &rendered)?;
    // A template that leaves an answer open at the end of a conversation closes none: what follows an earlier one opens the
    // next message.
    let closes = match messages.iter().rposition(|message| message.role == Role::Assistant) {
        Some(last) if last + 1 < messages.len() => {
            let until = render(renderer, tokenizer, &messages[..=last])?;
            TokenizedText::of(tokenizer, &until)?.closes(&until)?
        }
        Some(_) => text.closes(&rendered)?,
        None => true,
    };
    let assistant = messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
    let mut ranges = Vec::new();
    for ((index, _), answer) in assistant.zip(rendered.answers.iter().cloned()) {
        let Some(answer) = answer else { continue };
        let begin = text.begin(&answer)?;
        let end = match text.special_at_or_behind(text.index(answer.end)?.max(begin)).filter(|_| closes) {
            Some(special) => special + 1,
            None => text.index_behind(answer.end)?,
        };
        if begin < end {
            ranges.push((index, begin..end));
        }
    }
    Ok(EncodedChat { tokens: text.tokens, answers: ranges, ended: closes })
}

/// The tokens of a conversation up to the beginning of the answer, as [`crate::encode_chat`], with a compiled template.
///
/// # Errors
/// As [`encode_conversation`].
pub fn encode_prompt(
    renderer: &ChatRenderer<'_>,
    tokenizer: &Tokenizer<'_>,
    messages: &[Message<'_>],
) -> Result<Vec<Token>, ChatError> {
    let (text, typed) = renderer.prompt(messages)?;
    let typed = match typed {
        Some(typed) => typed,
        None if any_special(tokenizer, messages)? => return Err(TemplateError::Rewritten.into()),
        None => Vec::new(),
    };
    Ok(encode_typed(tokenizer, &text, &typed)?)
}

/// The tokens of `prompt` followed by `completion`, without a template, with the completion as the answer. The tokenizer's
/// begin-of-text token `bos` comes first if given; nothing in the texts is a special token.
///
/// # Errors
/// The tokenizer rejects the text.
pub fn encode_completion(
    tokenizer: &Tokenizer<'_>,
    bos: Option<Token>,
    prompt: &str,
    completion: &str,
) -> Result<EncodedChat, EncodeError> {
    let text = format!("{prompt}{completion}");
    let everything = 0..text.len();
    let typed = std::slice::from_ref(&everything);
    let tokenized = TokenizedText::new(tokenizer, &text, if text.is_empty() { &[] } else { typed })?;
    let range = tokenized.index(prompt.len())?..tokenized.tokens.len();
    let before = usize::from(bos.is_some());
    let tokens = bos.into_iter().chain(tokenized.tokens).collect();
    let answers =
        if range.is_empty() { Vec::new() } else { vec![(1, range.start + before..range.end + before)] };
    Ok(EncodedChat { tokens, answers, ended: false })
}

/// A conversation as text, in which no message can forge a special token.
fn render(
    renderer: &ChatRenderer<'_>,
    tokenizer: &Tokenizer<'_>,
    messages: &[Message<'_>],
) -> Result<RenderedChat, ChatError> {
    let rendered = renderer.conversation(messages)?;
    if rendered.typed.is_none() && any_special(tokenizer, messages)? {
        return Err(TemplateError::Rewritten.into());
    }
    Ok(rendered)
}

fn any_special(tokenizer: &Tokenizer<'_>, messages: &[Message<'_>]) -> Result<bool, EncodeError> {
    for message in messages {
        if has_special(tokenizer, message.text)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A text with its tokens and the places of both.
struct TokenizedText<'t> {
    tokenizer: &'t Tokenizer<'t>,
    text: &'t str,
    typed: &'t [Range<usize>],
    tokens: Vec<Token>,
    /// The byte offset of each token's end; `None` if the tokenizer normalizes the text.
    ends: Option<Vec<usize>>,
}

impl<'t> TokenizedText<'t> {
    fn of(
        tokenizer: &'t Tokenizer<'t>,
        rendered: &'t RenderedChat,
    ) -> Result<TokenizedText<'t>, EncodeError> {
        TokenizedText::new(tokenizer, &rendered.text, rendered.typed.as_deref().unwrap_or_default())
    }

    fn new(
        tokenizer: &'t Tokenizer<'t>,
        text: &'t str,
        typed: &'t [Range<usize>],
    ) -> Result<TokenizedText<'t>, EncodeError> {
        let tokens = encode_typed(tokenizer, text, typed)?;
        let mut end = 0;
        let ends: Vec<usize> = tokens
            .iter()
            .map(|&token| {
                end += tokenizer.token_bytes(token).len();
                end
            })
            .collect();
        let ends = (end == text.len()).then_some(ends);
        Ok(TokenizedText { tokenizer, text, typed, tokens, ends })
    }

    /// The token at which the targets of an answer begin: behind the template's special tokens before the content.
    fn begin(&self, answer: &Range<usize>) -> Result<usize, EncodeError> {
        let content = self.typed.iter().find(|range| range.end > answer.start);
        let content = content.map_or(answer.end, |range| range.start.min(answer.end));
        let (begin, content) = (self.index(answer.start)?, self.index(content)?);
        let before = self.tokens.get(begin..content).unwrap_or(&[]);
        let special = before.iter().rposition(|&token| self.tokenizer.is_special(token));
        Ok(special.map_or(begin, |special| begin + special + 1))
    }

    /// Whether a special token of the template follows the last answer, with which the text ends.
    fn closes(&self, rendered: &RenderedChat) -> Result<bool, EncodeError> {
        match rendered.answers.last() {
            Some(Some(last)) => Ok(self.special_at_or_behind(self.index(last.end)?).is_some()),
            _ => Ok(true),
        }
    }

    /// The first special token from `index` on. Only the template makes one: typed text never does.
    fn special_at_or_behind(&self, index: usize) -> Option<usize> {
        let rest = self.tokens.get(index..)?;
        Some(index + rest.iter().position(|&token| self.tokenizer.is_special(token))?)
    }

    /// The token that contains the byte at `at`, or begins there.
    fn index(&self, at: usize) -> Result<usize, EncodeError> {
        match &self.ends {
            Some(ends) => Ok(ends.partition_point(|&end| end <= at)),
            None => Ok(self.common(at)?.0),
        }
    }

    /// The first token without a byte before `at`.
    fn index_behind(&self, at: usize) -> Result<usize, EncodeError> {
        match &self.ends {
            Some(ends) => Ok(ends.partition_point(|&end| end < at) + usize::from(at > 0)),
            None => {
                let (common, all) = self.common(at)?;
                Ok((common + usize::from(common < all)).min(self.tokens.len()))
            }
        }
    }

    /// How many tokens the text before `at` shares with the whole text, and how many it has.
    fn common(&self, at: usize) -> Result<(usize, usize), EncodeError> {
        let typed: Vec<Range<usize>> = self
            .typed
            .iter()
            .map(|range| range.start..range.end.min(at))
            .filter(|range| range.start < range.end)
            .collect();
        let before = encode_typed(self.tokenizer, &self.text[..at], &typed)?;
        let common = before.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count();
        Ok((common, before.len()))
    }
}
