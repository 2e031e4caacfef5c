//! Jinja source, set up the way transformers does.

use super::{TemplateError, filters, python, source, typed};
use crate::contain::contain;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thimble_runtime::chat::{Message, Piece};

/// A compiled Jinja chat template, set up the way transformers does: `trim_blocks`, `lstrip_blocks`, loop
/// controls, `raise_exception`, `strftime_now`, Python's methods, `{% generation %}` ignored.
#[derive(Debug)]
pub struct JinjaTemplate {
    environment: Environment<'static>,
    literals: Vec<String>,
    bos: String,
    eos: String,
    asked_time: Arc<AtomicBool>,
}

const NAME: &str = "chat";

/// Instructions that one rendering may take: thousands of messages, but no endless loops.
const FUEL: u64 = 5_000_000;

/// What `raise_exception` was called with, carried inside minijinja's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl JinjaTemplate {
    /// Compiles `source`; `bos` and `eos` are the texts of the special tokens, empty where there are none.
    pub fn compile(source: &str, bos: &str, eos: &str) -> Result<JinjaTemplate, TemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| uncompiled(&error))?);
        environment.set_fuel(Some(FUEL));
        python::install(&mut environment);
        filters::install(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            let error = minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception");
            Err(error.with_source(Raised(message)))
        });
        let asked_time = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&asked_time);
        environment.add_function("strftime_now", move |format: String| {
            asked.store(true, Ordering::Relaxed);
            strftime_now(&format)
        });
        let source::Rewritten { source, literals } = source::rewrite(source);
        let compiled = contain("minijinja", || environment.add_template_owned(NAME, source));
        let compiled = compiled.map_err(|panic| TemplateError::Compile { detail: panic.to_string() })?;
        compiled.map_err(|error| uncompiled(&error))?;
        Ok(JinjaTemplate { environment, literals, bos: bos.to_owned(), eos: eos.to_owned(), asked_time })
    }

    /// Whether any rendering so far asked for the time of day.
    pub fn depends_on_time(&self) -> bool {
        self.asked_time.load(Ordering::Relaxed)
    }

    /// The conversation as one text.
    pub fn render(
        &self,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let texts = messages.iter().map(|message| message.text);
        self.render_with(messages, texts, add_generation_prompt)
    }

    fn render_with<'t>(
        &self,
        messages: &[Message<'_>],
        texts: impl Iterator<Item = &'t str>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let message = |(message, text): (&Message<'_>, &str)| {
            context! { role => message.speaker.name(), content => text }
        };
        let messages: Vec<Value> = messages.iter().zip(texts).map(message).collect();
        let variables = context! {
            messages, add_generation_prompt,
            bos_token => self.bos.as_str(), eos_token => self.eos.as_str(),
            // transformers passes these where there are none.
            tools => (), documents => (),
        };
        let rendered = contain("minijinja", || {
            self.environment.get_template(NAME).and_then(|template| template.render(variables))
        });
        let rendered = rendered.map_err(|panic| TemplateError::Failed { detail: panic.to_string() })?;
        rendered.map_err(|error| failure(&error))
    }

    /// The conversation in pieces: the messages' text apart from the template's.
    pub(super) fn render_pieces(
        &self,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
        emit: &mut dyn FnMut(Piece<'_>),
    ) -> Result<(), TemplateError> {
        let real = self.render(messages, add_generation_prompt)?;
        let render = |texts: &[String]| {
            self.render_with(messages, texts.iter().map(String::as_str), add_generation_prompt).ok()
        };
        let typed = typed::typed(messages, &self.literals, &real, &render);
        let mut from = 0;
        for range in typed.ok_or(TemplateError::Rewritten)? {
            emit(Piece::Template(&real[from..range.start]));
            emit(Piece::Content(&real[range.clone()]));
            from = range.end;
        }
        emit(Piece::Template(&real[from..]));
        Ok(())
    }
}

fn uncompiled(error: &minijinja::Error) -> TemplateError {
    TemplateError::Compile { detail: describe(error) }
}

fn failure(error: &minijinja::Error) -> TemplateError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TemplateError::Refused { message: message.clone() };
        }
        cause = inner.source();
    }
    TemplateError::Failed { detail: describe(error) }
}

/// minijinja's message on one line, with the line of the template.
fn describe(error: &minijinja::Error) -> String {
    error.to_string().replace('\n', " ")
}

fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now()).map_err(|error| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}"))
    })
}
