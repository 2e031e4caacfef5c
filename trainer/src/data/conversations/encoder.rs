//! Examples to tokens, through a model's own tokenizer and chat template.

use super::shapes::{ConversationExample, ShapeResult, TrainingMessage};
use crate::data::token_set::hash_hex;
use crate::error::{Error, Result};
use crate::init_from;
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;
use thimble_chat::template::ChatRenderer;
use thimble_chat::{EncodedChat, encode_completion, encode_conversation};
use thimble_converter::chat::define_tokens;
use thimble_converter::read::{self, Sections, SourceModel};
use thimble_runtime::Token;
use thimble_runtime::chat::{ChatTemplate, Jinja, Message, Role};
use thimble_runtime::format::Config;
use thimble_runtime::tokenizer::Tokenizer;

/// A model's tokenizer and chat template.
#[derive(Clone, Debug)]
pub struct ConversationEncoder {
    sections: Sections,
    /// The template as the model has it, which can have a place for messages that literals have none for.
    source: Option<JinjaSource>,
    config: Config,
    /// The token that ends an answer which the template leaves open, and completions.
    end: Option<Token>,
    hash: String,
}

/// A chat template's own text, and the tokens that it refers to.
#[derive(Clone, Debug)]
struct JinjaSource {
    template: String,
    bos: String,
    eos: String,
}

/// The tokens of an example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizedExample {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Index ranges of the tokens that are targets, in order and disjoint.
    pub targets: Vec<Range<usize>>,
}

impl TokenizedExample {
    /// Whether each token is a target.
    pub fn mask(&self) -> Vec<bool> {
        let mut mask = vec![false; self.ids.len()];
        for range in &self.targets {
            mask[range.clone()].fill(true);
        }
        mask
    }

    /// Makes every token a target.
    pub fn target_all(&mut self) {
        self.targets = std::iter::once(0..self.ids.len()).collect();
    }

    /// Keeps the first `length` tokens.
    pub fn truncate(&mut self, length: usize) {
        self.ids.truncate(length);
        for range in &mut self.targets {
            range.end = range.end.min(length);
        }
        self.targets.retain(|range| range.start < range.end);
    }

    /// Targets with a token before them, from which they can be predicted.
    pub fn target_count(&self) -> usize {
        self.targets.iter().map(|range| range.end - range.start.max(1).min(range.end)).sum()
    }

    /// Whether one of these tokens is a target with a token before it.
    pub fn trains(&self, tokens: &[u32]) -> bool {
        let ids = |range: &Range<usize>| &self.ids[range.start.max(1).min(range.end)..range.end];
        self.targets.iter().flat_map(ids).any(|id| tokens.contains(id))
    }
}

impl ConversationEncoder {
    /// The encoder of a model: a Hugging Face folder (also without weights), or what [`init_from::open`] opens.
    ///
    /// # Errors
    /// The files are missing or of no model, or the converter cannot represent the tokenizer or the template.
    pub fn open(model: &Path) -> Result<ConversationEncoder> {
        let wrong = |error: &dyn std::fmt::Display| Error::Invalid(format!("{}: {error}", model.display()));
        let source = if model.is_dir() {
            read::open_without_weights(model).map_err(|error| wrong(&error))?
        } else {
            init_from::open(&model.to_string_lossy())?
        };
        ConversationEncoder::of(&source).map_err(|error| wrong(&error))
    }

    /// The encoder of an opened model.
    ///
    /// # Errors
    /// The converter cannot represent the tokenizer or the template.
    pub fn of(source: &SourceModel) -> Result<ConversationEncoder> {
        let sections = Sections::of(source).map_err(|error| Error::Invalid(error.to_string()))?;
        let config = source.config;
        let tokenizer = parse_tokenizer(&sections, &config)?;
        let named = tokenizer.special(&source.eos_text).filter(|_| !source.eos_text.is_empty());
        let end = named.or(config.stop.iter().flatten().next().copied());
        let all = [sections.tokenizer.as_slice(), sections.chat.as_deref().unwrap_or_default()].concat();
        let template = source.chat_template.as_deref();
        let jinja = template.map(|template| JinjaSource {
            template: define_tokens(template, &source.named_tokens).into_owned(),
            bos: source.bos_text.clone(),
            eos: source.eos_text.clone(),
        });
        Ok(ConversationEncoder { hash: hash_hex(&all), sections, source: jinja, config, end })
    }

    /// A hash of the tokenizer and the template.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The token that ends an answer which the template leaves open, and completions.
    pub fn end(&self) -> Option<u32> {
        self.end.map(|token| token.0)
    }

    /// The tokens at which the model's answers end.
    pub fn stops(&self) -> Vec<u32> {
        let stops = self.config.stop.iter().flatten().copied();
        stops.chain(self.end).map(|token| token.0).collect()
    }

    /// Whether the model has a chat template.
    pub fn has_template(&self) -> bool {
        self.sections.chat.is_some()
    }

    /// The tokens of examples, in their order; for each the tokens or why there are none, without a place.
    ///
    /// # Errors
    /// The template does not compile.
    pub fn encode_all(&self, examples: &[ConversationExample]) -> Result<Vec<ShapeResult<TokenizedExample>>> {
        self.map_all(examples, |encoder, example| encoder.encode(example))
    }

    /// What `encode` makes of each of the items, in their order. Each thread parses tokenizer and template once.
    ///
    /// # Errors
    /// The template does not compile.
    pub fn map_all<T: Sync, R: Send>(
        &self,
        items: &[T],
        encode: impl Fn(&ExampleEncoder<'_>, &T) -> ShapeResult<R> + Sync,
    ) -> Result<Vec<ShapeResult<R>>> {
        self.for_thread()?;
        let with = |encoder: &mut Result<ExampleEncoder<'_>>, item: &T| match encoder {
            Ok(encoder) => encode(encoder, item),
            Err(error) => Err(error.to_string()),
        };
        Ok(items.par_iter().map_init(|| self.for_thread(), with).collect())
    }

    /// The tokens of one example.
    ///
    /// # Errors
    /// The template or the tokenizer refuses it; the sentence has no place.
    pub fn encode(&self, example: &ConversationExample) -> ShapeResult<TokenizedExample> {
        self.for_thread().map_err(|error| error.to_string())?.encode(example)
    }

    /// The tokens of messages up to the beginning of an answer, as a chat encodes them.
    ///
    /// # Errors
    /// There is no template, or it or the tokenizer refuses the messages; the sentence has no place.
    pub fn encode_prompt(&self, messages: &[TrainingMessage]) -> ShapeResult<Vec<u32>> {
        self.for_thread().map_err(|error| error.to_string())?.encode_prompt(messages)
    }

    /// The encoder with tokenizer and template parsed.
    ///
    /// # Errors
    /// The template does not compile.
    pub fn for_thread(&self) -> Result<ExampleEncoder<'_>> {
        let wrong =
            |error: &dyn std::fmt::Display| Error::Invalid(format!("the model's chat template: {error}"));
        let renderer = match &self.sections.chat {
            Some(section) => {
                let template = ChatTemplate::parse(section).map_err(|error| wrong(&error))?;
                Some(ChatRenderer::new(&template).map_err(|error| wrong(&error))?)
            }
            None => None,
        };
        let own = self.source.as_ref().map(|JinjaSource { template, bos, eos }| {
            ChatRenderer::new(&ChatTemplate::Jinja(Jinja { source: template, bos, eos }))
        });
        Ok(ExampleEncoder {
            encoder: self,
            tokenizer: parse_tokenizer(&self.sections, &self.config)?,
            renderer,
            own: own.transpose().map_err(|error| wrong(&error))?,
        })
    }
}

fn parse_tokenizer<'s>(sections: &'s Sections, config: &Config) -> Result<Tokenizer<'s>> {
    Tokenizer::parse(&sections.tokenizer, config.vocab)
        .map_err(|error| Error::Invalid(format!("the model's tokenizer: {error}")))
}

/// A [`ConversationEncoder`] with its sections parsed; each thread has its own.
pub struct ExampleEncoder<'e> {
    encoder: &'e ConversationEncoder,
    tokenizer: Tokenizer<'e>,
    renderer: Option<ChatRenderer<'e>>,
    /// The template that is not reduced.
    own: Option<ChatRenderer<'e>>,
}

impl ExampleEncoder<'_> {
    fn renderer(&self) -> ShapeResult<&ChatRenderer<'_>> {
        self.renderer.as_ref().ok_or_else(|| {
            "expected a model with a chat template, found none: add chat_template.jinja to the model's folder, or give rows \
             with prompt and completion as strings"
                .to_owned()
        })
    }

    /// The renderer that has a place for all of the messages: for a tool's, literals have none.
    fn renderer_of(&self, messages: &[Message<'_>]) -> ShapeResult<&ChatRenderer<'_>> {
        const REMEDY: &str =
            "leave such rows out, or tune from a Hugging Face folder whose chat template knows tools";
        let Some(tool) = messages.iter().position(|message| message.role == Role::Tool) else {
            return self.renderer();
        };
        let renderer = self.own.as_ref().map_or_else(|| self.renderer(), Ok)?;
        let text = renderer.text(messages, false).map_err(|error| format!("{error}; {REMEDY}"))?;
        match text.contains(messages[tool].text.trim()) {
            true => Ok(renderer),
            false => Err(format!(
                "message {tool} is a tool's, which the model's chat template leaves out; {REMEDY}"
            )),
        }
    }

    /// As [`ConversationEncoder::encode_prompt`].
    ///
    /// # Errors
    /// As there.
    pub fn encode_prompt(&self, messages: &[TrainingMessage]) -> ShapeResult<Vec<u32>> {
        let messages: Vec<Message<'_>> = messages.iter().map(TrainingMessage::as_message).collect();
        let tokens = thimble_chat::encode_prompt(self.renderer_of(&messages)?, &self.tokenizer, &messages);
        Ok(ids(&tokens.map_err(|error| error.to_string())?))
    }

    /// As [`ConversationEncoder::encode`].
    ///
    /// # Errors
    /// As there.
    pub fn encode(&self, example: &ConversationExample) -> ShapeResult<TokenizedExample> {
        match example {
            ConversationExample::Messages { messages, taught_from } => self.messages(messages, *taught_from),
            // A model that chats gets the completion as an answer.
            ConversationExample::Completion { prompt, completion } if self.renderer.is_some() => {
                let messages = [
                    TrainingMessage::new(Role::User, prompt),
                    TrainingMessage::new(Role::Assistant, completion),
                ];
                self.messages(&messages, 1)
            }
            ConversationExample::Completion { prompt, completion } => {
                let bos = self.encoder.config.bos.filter(|_| self.tokenizer.adds_bos());
                let encoded = encode_completion(&self.tokenizer, bos, prompt, completion);
                Ok(self.closed(encoded.map_err(|error| error.to_string())?))
            }
        }
    }

    fn messages(&self, messages: &[TrainingMessage], taught_from: usize) -> ShapeResult<TokenizedExample> {
        let messages: Vec<Message<'_>> = messages.iter().map(TrainingMessage::as_message).collect();
        let encoded = encode_conversation(self.renderer_of(&messages)?, &self.tokenizer, &messages);
        let mut encoded = encoded.map_err(|error| error.to_string())?;
        encoded.answers.retain(|(message, _)| *message >= taught_from);
        Ok(self.closed(encoded))
    }

    /// The example of an encoded chat. An end token follows an answer that the template leaves open, because nothing else
    /// would teach the model to stop.
    fn closed(&self, encoded: EncodedChat) -> TokenizedExample {
        let EncodedChat { tokens, answers, ended } = encoded;
        let mut ids = ids(&tokens);
        let mut targets: Vec<Range<usize>> = answers.into_iter().map(|(_, range)| range).collect();
        if let (false, Some(end), Some(last)) = (ended, self.encoder.end, targets.last_mut()) {
            // What the template writes behind the answer is not generated.
            ids.truncate(last.end);
            ids.push(end.0);
            last.end += 1;
        }
        TokenizedExample { ids, targets }
    }
}

fn ids(tokens: &[Token]) -> Vec<u32> {
    tokens.iter().map(|token| token.0).collect()
}
