//! What a model gets to answer: messages, and the tools that it may call; and their tokens.

use crate::ChatError;
use crate::encode::{encode_typed, has_special};
use crate::message::ChatMessage;
use crate::template::{self, OwnedSegment, TemplateError, TemplateOptions, ToolFormat};
use crate::tools::{CallParser, ToolChoice, ToolDefinition, ToolError};
use std::sync::Arc;
use thimble_runtime::Token;
use thimble_runtime::chat::Message;
use thimble_runtime::format::ModelFile;
use thimble_runtime::tokenizer::Tokenizer;

/// Tools that a model may call, in the form that its template has for them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Toolset {
    format: ToolFormat,
    tools: Arc<[ToolDefinition]>,
    choice: ToolChoice,
}

impl Toolset {
    /// Offers `tools` to the model in `file`.
    ///
    /// # Errors
    /// The model has no template, or [`ToolError`]: there are no tools, two have one name, the choice names none of them, or
    /// a definition contains a special token.
    pub fn new(
        file: &ModelFile<'_>,
        tools: Vec<ToolDefinition>,
        choice: ToolChoice,
    ) -> Result<Toolset, ChatError> {
        let template = file.chat().ok_or(ChatError::NoTemplate)?;
        let tokenizer = file.tokenizer();
        for tool in &tools {
            let name = || tool.name.clone();
            let special = has_special(&tokenizer, &tool.to_json().to_string());
            let special =
                special.map_err(|error| ToolError::Encode { tool: name(), detail: error.to_string() })?;
            if special {
                return Err(ToolError::Special { name: name() }.into());
            }
        }
        Ok(Toolset::with_format(ToolFormat::of(&template)?, tools, choice)?)
    }

    /// Offers `tools` in this form.
    ///
    /// # Errors
    /// As for [`Toolset::new`], apart from special tokens.
    pub fn with_format(
        format: ToolFormat,
        tools: Vec<ToolDefinition>,
        choice: ToolChoice,
    ) -> Result<Toolset, ToolError> {
        crate::tools::check(&tools)?;
        match &choice {
            ToolChoice::Named(name) if tools.iter().all(|tool| tool.name != *name) => {
                let known = tools.iter().map(|tool| tool.name.clone()).collect();
                Err(ToolError::Unknown { name: name.clone(), known })
            }
            _ => Ok(Toolset { format, tools: tools.into(), choice }),
        }
    }

    /// The same tools, for an answer in which the model decides about calls: the one that follows results.
    #[must_use]
    pub fn with_auto_choice(&self) -> Toolset {
        Toolset { choice: ToolChoice::Auto, ..self.clone() }
    }

    /// What the model's template does with tools.
    pub fn format(&self) -> ToolFormat {
        self.format
    }

    /// The tools.
    pub fn tools(&self) -> &[ToolDefinition] {
        &self.tools
    }

    /// Which calls an answer may have.
    pub fn choice(&self) -> &ToolChoice {
        &self.choice
    }

    /// The tools that the model is told about.
    pub fn offered(&self) -> &[ToolDefinition] {
        if self.choice == ToolChoice::None { &[] } else { &self.tools }
    }

    /// Whether an answer must have calls.
    pub fn must_call(&self) -> bool {
        matches!(self.choice, ToolChoice::Required | ToolChoice::Named(_))
    }

    /// A parser for the next answer; `None` if it may have no calls.
    pub fn parser(&self) -> Option<CallParser> {
        let calls = self.choice != ToolChoice::None;
        calls.then(|| CallParser::new(self.format.syntax, Arc::clone(&self.tools)))
    }
}

/// What a model answers.
#[derive(Clone, Debug)]
pub struct ChatPrompt<'a> {
    /// The messages, oldest first.
    pub messages: Vec<ChatMessage<'a>>,
    /// The tools, if there are any.
    pub tools: Option<&'a Toolset>,
    /// [`crate::template::TemplateOptions::thinking`].
    pub thinking: Option<bool>,
}

impl<'a> ChatPrompt<'a> {
    /// Messages without tools.
    pub fn new(messages: &[Message<'a>], thinking: Option<bool>) -> ChatPrompt<'a> {
        let messages = messages.iter().map(|&message| message.into()).collect();
        ChatPrompt { messages, tools: None, thinking }
    }

    /// The content of the last message.
    pub fn last_text(&self) -> &str {
        self.messages.last().map_or("", |message| &message.text)
    }
}

/// The tokens of a conversation up to the beginning of the answer. Only the template can produce special tokens: in what
/// people, the model and tools wrote they are plain text.
///
/// # Errors
/// The model has no template, or the template refuses the conversation.
pub fn encode_chat(file: &ModelFile<'_>, prompt: &ChatPrompt<'_>) -> Result<Vec<Token>, ChatError> {
    let template = file.chat().ok_or(ChatError::NoTemplate)?;
    let tokenizer = file.tokenizer();
    let options = TemplateOptions { generate: true, thinking: prompt.thinking };
    let tools = prompt.tools.map_or(&[][..], Toolset::offered);
    if !tools.is_empty() || !prompt.messages.iter().all(ChatMessage::is_plain) {
        let format = prompt.tools.map_or_else(|| ToolFormat::of(&template), |tools| Ok(tools.format()))?;
        let (text, typed) = template::render_with_tools(&template, format, &prompt.messages, tools, options)?;
        let typed = match typed {
            Some(typed) => typed,
            None if !any_special(&tokenizer, &template::slots(&prompt.messages))? => Vec::new(),
            None => return Err(TemplateError::Rewritten.into()),
        };
        return Ok(encode_typed(&tokenizer, &text, &typed)?);
    }
    let messages: Vec<Message<'_>> = prompt.messages.iter().map(ChatMessage::message).collect();
    let pieces = match template::render(&template, &messages, options) {
        // Without special tokens in the messages, nothing has to be told apart.
        Err(TemplateError::Rewritten) if !any_special(&tokenizer, &messages)? => {
            vec![OwnedSegment::Template(template::render_text(&template, &messages, options)?)]
        }
        rendered => rendered?,
    };
    let (mut text, mut typed) = (String::new(), Vec::new());
    for piece in &pieces {
        let from = text.len();
        text.push_str(piece.text());
        if matches!(piece, OwnedSegment::Content(_)) {
            typed.push(from..text.len());
        }
    }
    // At once, as transformers does: a word may begin in the template and end in a message.
    Ok(encode_typed(&tokenizer, &text, &typed)?)
}

fn any_special(tokenizer: &Tokenizer<'_>, messages: &[Message<'_>]) -> Result<bool, ChatError> {
    for message in messages {
        if has_special(tokenizer, message.text)? {
            return Ok(true);
        }
    }
    Ok(false)
}
