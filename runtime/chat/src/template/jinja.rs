//! Jinja templates, with the environment of transformers.

use super::typed::{self, TypedRanges};
use super::{TemplateError, filters, python, source};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};
use std::cell::Cell;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thimble_files::contain;
use thimble_runtime::chat::{Message, Segment};

/// A compiled Jinja chat template, in the environment of transformers: `trim_blocks`, `lstrip_blocks`, loop
/// controls, `raise_exception`, `strftime_now`, Python's methods; `{% generation %}` has no effect.
#[derive(Debug)]
pub struct JinjaTemplate {
    environment: Environment<'static>,
    literals: Vec<String>,
    bos: String,
    eos: String,
    read_clock: Arc<AtomicBool>,
}

const NAME: &str = "chat";
/// The variable of transformers that turns thinking on and off.
pub(super) const THINKING: &str = "enable_thinking";

/// Instruction limit of one rendering: enough for thousands of messages.
const FUEL: u64 = 5_000_000;
/// Instruction limit of all renderings that locate the messages' text.
const SEARCH_FUEL: u64 = 4 * FUEL;

/// The argument of `raise_exception`, carried in minijinja's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl JinjaTemplate {
    /// Compiles `source`; `bos` and `eos` are the texts of the special tokens, empty if there are none.
    pub fn compile(source: &str, bos: &str, eos: &str) -> Result<JinjaTemplate, TemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| compile_error(&error))?);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(python::write);
        python::install(&mut environment);
        filters::install(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            let error = minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception");
            Err(error.with_source(Raised(message)))
        });
        let read_clock = Arc::new(AtomicBool::new(false));
        let read = Arc::clone(&read_clock);
        environment.add_function("strftime_now", move |format: String| {
            read.store(true, Ordering::Relaxed);
            strftime_now(&format)
        });
        let source::Rewritten { source, literals } = source::rewrite(source);
        let compiled = contain("minijinja", || environment.add_template_owned(NAME, source));
        let compiled = compiled.map_err(|panic| TemplateError::Compile { detail: panic.to_string() })?;
        compiled.map_err(|error| compile_error(&error))?;
        Ok(JinjaTemplate { environment, literals, bos: bos.to_owned(), eos: eos.to_owned(), read_clock })
    }

    /// The same template with `enable_thinking`; `None` leaves the variable undefined.
    #[must_use]
    pub fn with_thinking(mut self, thinking: Option<bool>) -> JinjaTemplate {
        match thinking {
            Some(thinking) => self.environment.add_global(THINKING, thinking),
            None => self.environment.remove_global(THINKING),
        }
        self
    }

    /// Whether a rendering so far read the clock.
    pub fn depends_on_time(&self) -> bool {
        self.read_clock.load(Ordering::Relaxed)
    }

    /// Renders a conversation as one text.
    pub fn render(
        &self,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let texts = messages.iter().map(|message| message.text);
        Ok(self.render_with(messages, texts, add_generation_prompt)?.0)
    }

    /// Instructions to render a conversation; ordinary templates take a few dozen per message.
    ///
    /// # Errors
    /// As for [`JinjaTemplate::render`].
    pub fn cost(&self, messages: &[Message<'_>]) -> Result<u64, TemplateError> {
        Ok(self.render_with(messages, messages.iter().map(|message| message.text), true)?.1)
    }

    /// The text, and the instructions to render it.
    fn render_with<'t>(
        &self,
        messages: &[Message<'_>],
        texts: impl Iterator<Item = &'t str>,
        add_generation_prompt: bool,
    ) -> Result<(String, u64), TemplateError> {
        let message = |(message, text): (&Message<'_>, &str)| {
            context! { role => message.role.name(), content => text }
        };
        let messages: Vec<Value> = messages.iter().zip(texts).map(message).collect();
        self.render_values(messages, add_generation_prompt, &Value::from(()))
    }

    /// The text for these messages and tools, and the instructions to render it.
    pub(super) fn render_values(
        &self,
        messages: Vec<Value>,
        add_generation_prompt: bool,
        tools: &Value,
    ) -> Result<(String, u64), TemplateError> {
        let mut variables = context! {
            messages, add_generation_prompt,
            bos_token => self.bos.as_str(), eos_token => self.eos.as_str(),
            // transformers passes these even if they are empty.
            tools => tools, documents => (),
        };
        if !tools.is_none() && self.takes_xml_tools() {
            variables = context! { xml_tools => tools, ..variables };
        }
        let rendered = contain("minijinja", || {
            let rendered = self.environment.get_template(NAME)?.render_captured(variables)?;
            let consumed = rendered.state().fuel_levels().map_or(0, |(consumed, _)| consumed);
            Ok((rendered.into_output(), consumed))
        });
        let rendered = rendered.map_err(|panic| TemplateError::Failed { detail: panic.to_string() })?;
        rendered.map_err(|error| render_error(&error))
    }

    /// Whether the template calls its tools as SmolLM3's does.
    fn takes_xml_tools(&self) -> bool {
        let undeclared = self.environment.get_template(NAME).map(|t| t.undeclared_variables(false));
        undeclared.is_ok_and(|names| names.contains("xml_tools") && !names.contains("tools"))
    }

    /// The string literals of the source.
    pub(super) fn literals(&self) -> &[String] {
        &self.literals
    }

    /// Renders a conversation in pieces: the messages' text apart from the template's.
    pub(super) fn render_pieces(
        &self,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
        emit: &mut dyn FnMut(Segment<'_>),
    ) -> Result<(), TemplateError> {
        let (real, typed) = self.render_typed(messages, add_generation_prompt, &[None])?;
        let typed = typed.into_iter().next().flatten();
        let mut from = 0;
        for range in typed.ok_or(TemplateError::Rewritten)? {
            emit(Segment::Template(&real[from..range.start]));
            emit(Segment::Content(&real[range.clone()]));
            from = range.end;
        }
        emit(Segment::Template(&real[from..]));
        Ok(())
    }
}

impl JinjaTemplate {
    /// A conversation as one text, with the byte ranges of the messages' text for each of `searches`: of all messages, or
    /// of the one with that index; `None` where the template hides them.
    pub(super) fn render_typed(
        &self,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
        searches: &[Option<usize>],
    ) -> Result<(String, Vec<TypedRanges>), TemplateError> {
        let texts = messages.iter().map(|message| message.text);
        let (real, cost) = self.render_with(messages, texts, add_generation_prompt)?;
        let most = most_renderings(cost);
        let typed = |only: &Option<usize>| {
            let left = Cell::new(most);
            let render = |texts: &[String]| {
                left.set(left.get().checked_sub(1)?);
                let texts = texts.iter().map(String::as_str);
                Some(self.render_with(messages, texts, add_generation_prompt).ok()?.0)
            };
            typed::typed(messages, *only, &self.literals, &real, &render)
        };
        let found = searches.iter().map(typed).collect();
        Ok((real, found))
    }
}

/// How often a conversation may be rendered to locate its texts, if one rendering takes `cost` instructions.
pub(super) fn most_renderings(cost: u64) -> u64 {
    (SEARCH_FUEL / cost.max(1)).max(2)
}

fn compile_error(error: &minijinja::Error) -> TemplateError {
    TemplateError::Compile { detail: describe(error) }
}

fn render_error(error: &minijinja::Error) -> TemplateError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TemplateError::Refused { message: message.clone() };
        }
        cause = inner.source();
    }
    TemplateError::Failed { detail: describe(error) }
}

/// minijinja's message in one line, with the line of the template.
fn describe(error: &minijinja::Error) -> String {
    error.to_string().replace('\n', " ")
}

fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now()).map_err(|error| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}"))
    })
}
