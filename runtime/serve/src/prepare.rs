//! From a request to jobs: templates, tokenizer and grammars, on threads of their own.

use crate::api::chat::{ChatFields, CommonFields};
use crate::api::completion::CompletionFields;
use crate::api::embedding::EmbeddingFields;
use crate::api::messages::{self, RequestMessage};
use crate::api::sampling::SamplingFields;
use crate::api::shape::{ShapeFields, ToolChoiceFields};
use crate::api::{self, Input};
use crate::error::ApiError;
use crate::schedule::{Generation, Work};
use serde_json::Value;
use std::sync::{Arc, OnceLock};
use thimble_chat::tools::{ToolChoice, ToolDefinition, ToolError};
use thimble_chat::{ChatError, ChatPrompt, Toolset, encode_chat, encode_text, opens_reasoning};
use thimble_grammar::{Grammar, GrammarLimits, GrammarSource, Vocabulary, tool_grammar};
use thimble_host::encode_prompt_text;
use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::{Sampler, Sampling};
use thimble_runtime::tokenizer::Specials;

/// Turns requests into jobs for one model.
pub(crate) struct Preparer<'f> {
    file: ModelFile<'f>,
    context: usize,
    vocabulary: OnceLock<Arc<Vocabulary>>,
}

/// A sequence to run, and what is done with it.
pub(crate) struct Sequence {
    /// Its tokens.
    pub(crate) prompt: Arc<[Token]>,
    /// What to do with them, once for each answer.
    pub(crate) works: Vec<Work>,
    /// The text of the prompt, if it has to be repeated.
    pub(crate) echo: Option<String>,
}

/// How an answer is read.
#[derive(Clone, Default)]
pub(crate) struct Reading {
    /// It ends before one of these texts.
    pub(crate) stops: Vec<String>,
    /// The tools that it may call.
    pub(crate) tools: Option<Toolset>,
    /// Whether it may have several calls.
    pub(crate) one_call: bool,
    /// Whether it may begin with reasoning.
    pub(crate) reasons: bool,
    /// Whether the prompt has begun the reasoning.
    pub(crate) opened: bool,
}

/// A request that can be scheduled.
pub(crate) struct Prepared {
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) reading: Reading,
}

impl<'f> Preparer<'f> {
    /// A preparer for sequences of at most `context` tokens.
    pub(crate) fn new(file: ModelFile<'f>, context: usize) -> Preparer<'f> {
        Preparer { file, context, vocabulary: OnceLock::new() }
    }

    /// The jobs of a chat request.
    pub(crate) fn chat(&self, object: &Value) -> Result<Prepared, ApiError> {
        let fields: ChatFields = api::fields(object)?;
        let common: CommonFields = api::fields(object)?;
        let sampling: SamplingFields = api::fields(object)?;
        let shape: ShapeFields = api::fields(object)?;
        fields.check()?;
        let choices = common.choices()?;
        let log_probabilities = fields.alternatives()?;
        let max_tokens = fields.max_tokens()?.unwrap_or(usize::MAX);
        let thinking = fields.thinking();
        let said = messages::read(fields.messages)?;
        let tools = self.tools(fields.tools, fields.tool_choice)?;
        let shaped = shape.source()?;
        let calls = tools.as_ref().is_some_and(|tools| *tools.choice() != ToolChoice::None);
        let source = match (shaped, &tools) {
            (Some((param, _)), Some(_)) if calls => {
                let message = format!(
                    "{param} and tools that may be called exclude each other: set tool_choice to none"
                );
                return Err(ApiError::invalid(Some(param), message));
            }
            (Some(shaped), _) => Some(shaped),
            (None, Some(tools)) => {
                let grammar = tool_grammar(tools);
                let grammar = grammar.map_err(|error| ApiError::invalid(Some("tools"), error.to_string()))?;
                grammar.map(|source| ("tools", source))
            }
            (None, None) => None,
        };
        let must_call = tools.as_ref().is_some_and(Toolset::must_call);
        let is_value = source.is_some() && (!calls || must_call);
        let stops = common.stops()?;
        if let (Some((param, _)), true) = (&source, is_value) {
            check_no_stops(param, &stops)?;
        }
        let thinking = if is_value { Some(false) } else { thinking };
        let prompt = self.encode_chat(&said, tools.as_ref(), thinking)?;
        self.check_prompt("messages", &prompt, 1)?;
        let tokenizer = self.file.tokenizer();
        let opened = !is_value && opens_reasoning(&prompt, |token| tokenizer.token_bytes(token));
        let reading = Reading {
            stops,
            tools: tools.filter(|_| calls),
            one_call: fields.parallel_tool_calls == Some(false),
            reasons: !is_value,
            opened,
        };
        let settings = Settings {
            // What follows the end of a value would belong to it.
            stops: source.is_some() || !common.ignore_eos.unwrap_or(false),
            sampling: sampling.sampling(&self.file, Sampling::ANSWER)?,
            biases: sampling.biases(&self.file)?.into(),
            grammar: source.map(|(param, source)| self.compile(param, &source)).transpose()?,
            max_tokens,
            log_probabilities,
            scores_prompt: false,
        };
        let works = settings.works(0, choices)?;
        Ok(Prepared { sequences: vec![Sequence { prompt: prompt.into(), works, echo: None }], reading })
    }

    /// The jobs of a request to continue texts.
    pub(crate) fn completion(&self, object: &Value) -> Result<Prepared, ApiError> {
        let fields: CompletionFields = api::fields(object)?;
        let common: CommonFields = api::fields(object)?;
        let sampling: SamplingFields = api::fields(object)?;
        let shape: ShapeFields = api::fields(object)?;
        let choices = common.choices()?;
        fields.check(choices)?;
        let (max_tokens, log_probabilities) = (fields.max_tokens()?, fields.alternatives()?);
        let echo = fields.echo.unwrap_or(false);
        let (source, stops) = (shape.source()?, common.stops()?);
        if let Some((param, _)) = &source {
            check_no_stops(param, &stops)?;
        }
        let settings = Settings {
            stops: source.is_some() || !common.ignore_eos.unwrap_or(false),
            sampling: sampling.sampling(&self.file, Sampling::CONTINUATION)?,
            biases: sampling.biases(&self.file)?.into(),
            grammar: source.map(|(param, source)| self.compile(param, &source)).transpose()?,
            max_tokens,
            log_probabilities,
            scores_prompt: echo && log_probabilities.is_some(),
        };
        let inputs = fields.prompt.map_or_else(|| vec![Input::Text(String::new())], api::Inputs::into_vec);
        check_count("prompt", inputs.len(), choices)?;
        let mut sequences = Vec::with_capacity(inputs.len());
        for (number, input) in inputs.into_iter().enumerate() {
            let (prompt, text) = match input {
                Input::Text(text) => {
                    let tokens = encode_prompt_text(&self.file, &text);
                    (
                        tokens.map_err(|error| ApiError::invalid(Some("prompt"), error.to_string()))?,
                        Some(text),
                    )
                }
                Input::Tokens(ids) => (ids.into_iter().map(Token).collect(), None),
            };
            self.check_prompt("prompt", &prompt, usize::from(max_tokens > 0))?;
            let text =
                || text.or_else(|| thimble_chat::decode(&self.file.tokenizer(), &prompt)).unwrap_or_default();
            let echo = echo.then(text);
            sequences.push(Sequence {
                works: settings.works(number * choices, choices)?,
                prompt: prompt.into(),
                echo,
            });
        }
        let reading = Reading { stops, ..Reading::default() };
        Ok(Prepared { sequences, reading })
    }

    /// The jobs of a request to embed texts.
    pub(crate) fn embedding(&self, object: &Value) -> Result<Prepared, ApiError> {
        let fields: EmbeddingFields = api::fields(object)?;
        fields.check_dimensions(self.file.config().hidden)?;
        let (pooling, inputs) = (fields.pooling()?, fields.input.into_vec());
        check_count("input", inputs.len(), 1)?;
        let mut sequences = Vec::with_capacity(inputs.len());
        for input in inputs {
            let prompt = match input {
                Input::Text(text) => {
                    let (tokenizer, config) = (self.file.tokenizer(), self.file.config());
                    let tokens = encode_text(&tokenizer, config, &text, Specials::Escape);
                    tokens.map_err(|error| ApiError::invalid(Some("input"), error.to_string()))?
                }
                Input::Tokens(ids) => ids.into_iter().map(Token).collect(),
            };
            self.check_prompt("input", &prompt, 0)?;
            sequences.push(Sequence { prompt: prompt.into(), works: vec![Work::Embed(pooling)], echo: None });
        }
        Ok(Prepared { sequences, reading: Reading::default() })
    }

    fn tools(
        &self,
        tools: Option<Vec<Value>>,
        choice: Option<ToolChoiceFields>,
    ) -> Result<Option<Toolset>, ApiError> {
        let choice = choice.map(ToolChoiceFields::choice).transpose()?;
        let tools = tools.unwrap_or_default();
        if tools.is_empty() {
            return match choice {
                Some(ToolChoice::Required | ToolChoice::Named(_)) => {
                    Err(ApiError::invalid(Some("tool_choice"), "tool_choice requires tools"))
                }
                _ => Ok(None),
            };
        }
        let refused = |error: &dyn std::fmt::Display| ApiError::invalid(Some("tools"), error.to_string());
        let tools =
            ToolDefinition::read(&Value::Array(tools).to_string()).map_err(|error| refused(&error))?;
        let tools = Toolset::new(&self.file, tools, choice.unwrap_or_default());
        tools.map(Some).map_err(|error| match error {
            ChatError::Tools(ToolError::Unknown { .. }) => {
                ApiError::invalid(Some("tool_choice"), error.to_string())
            }
            error => refused(&error),
        })
    }

    fn encode_chat(
        &self,
        said: &[RequestMessage],
        tools: Option<&Toolset>,
        thinking: Option<bool>,
    ) -> Result<Vec<Token>, ApiError> {
        let messages = said.iter().map(RequestMessage::as_chat).collect();
        let tokens = encode_chat(&self.file, &ChatPrompt { messages, tools, thinking });
        tokens.map_err(|error| {
            let remedy = match error {
                ChatError::NoTemplate => "; use /v1/completions",
                _ => "",
            };
            ApiError::invalid(Some("messages"), format!("{error}{remedy}"))
        })
    }

    /// Checks the tokens of a prompt; `answer` is the least that has to fit behind them.
    fn check_prompt(&self, param: &str, prompt: &[Token], answer: usize) -> Result<(), ApiError> {
        let (room, vocab) = (self.context - answer.min(self.context), self.file.config().vocab);
        if prompt.is_empty() {
            let message = format!("{param} is empty, expected at least one token");
            return Err(ApiError::invalid(Some(param), message));
        }
        if prompt.len() > room {
            return Err(ApiError::too_long(param, prompt.len(), room));
        }
        match prompt.iter().find(|token| token.index() >= vocab) {
            Some(token) => {
                let message = format!("{param} has the token {}, expected ids below {vocab}", token.0);
                Err(ApiError::invalid(Some(param), message))
            }
            None => Ok(()),
        }
    }

    fn compile(&self, param: &str, source: &GrammarSource) -> Result<Grammar, ApiError> {
        let vocabulary = match self.vocabulary.get() {
            Some(vocabulary) => vocabulary,
            None => {
                let made = Vocabulary::of(&self.file).map_err(|error| ApiError::internal(&error))?;
                self.vocabulary.get_or_init(|| made)
            }
        };
        let grammar = Grammar::compile(vocabulary, source, &GrammarLimits::default());
        grammar.map_err(|error| ApiError::invalid(Some(param), format!("{param}: {error}")))
    }
}

/// Most texts of a request, counted with the answers to each.
const MOST_SEQUENCES: usize = 2048;

fn check_count(param: &str, texts: usize, choices: usize) -> Result<(), ApiError> {
    if texts == 0 || texts.saturating_mul(choices) > MOST_SEQUENCES {
        let message = format!(
            "{param} has {texts} texts, expected 1 to {MOST_SEQUENCES}, counted with the answers to each"
        );
        return Err(ApiError::invalid(Some(param), message));
    }
    Ok(())
}

/// Refuses texts that could end an answer of a given shape before it is whole.
fn check_no_stops(param: &str, stops: &[String]) -> Result<(), ApiError> {
    if stops.is_empty() {
        return Ok(());
    }
    let message =
        format!("stop and {param} exclude each other: an answer of a given shape ends where it is complete");
    Err(ApiError::invalid(Some("stop"), message))
}

/// What all answers of a request have in common.
struct Settings {
    sampling: Sampling,
    biases: Arc<[(Token, f32)]>,
    grammar: Option<Grammar>,
    max_tokens: usize,
    stops: bool,
    log_probabilities: Option<usize>,
    scores_prompt: bool,
}

impl Settings {
    /// The work of `count` answers; the first is number `first` of its request. Each has a seed of its own.
    fn works(&self, first: usize, count: usize) -> Result<Vec<Work>, ApiError> {
        let work = |number: usize| {
            let seed = self.sampling.seed.wrapping_add(number as u64);
            let sampler = Sampler::new(Sampling { seed, ..self.sampling });
            Ok(Work::Generate(Box::new(Generation {
                sampler: sampler.map_err(|error| ApiError::invalid(None, error.to_string()))?,
                biases: Arc::clone(&self.biases),
                grammar: self.grammar.clone(),
                max_tokens: self.max_tokens,
                stops: self.stops,
                log_probabilities: self.log_probabilities,
                scores_prompt: self.scores_prompt,
            })))
        };
        (first..first + count).map(work).collect()
    }
}
