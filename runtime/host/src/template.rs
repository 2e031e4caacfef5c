//! Chat templates with the standard library at hand: the literal form, and Jinja source through `minijinja`.
//!
//! Jinja source comes from model files, so it is treated as hostile: no files, no includes, bounded work.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind, context};
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thimble_runtime::chat::{ChatTemplate, Message, Piece, RenderError};

/// Why a chat cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The source is not a template that `minijinja` understands.
    #[error("the chat template does not compile: {detail}")]
    Compile {
        /// What `minijinja` says, with the line.
        detail: String,
    },
    /// The template itself refuses this conversation (`raise_exception`).
    #[error("the chat template refuses this conversation: {message}")]
    Refused {
        /// The template's words.
        message: String,
    },
    /// The template fails on this conversation.
    #[error("the chat template fails on this conversation: {detail}")]
    Failed {
        /// What `minijinja` says.
        detail: String,
    },
    /// The template changes the messages, so that its own text cannot be told from theirs.
    #[error(
        "the chat template rewrites the text of messages in a way that hides which text is the template's \
         own, so control tokens cannot be kept apart from typed text"
    )]
    Rewritten,
    /// The literal form cannot render this conversation.
    #[error(transparent)]
    Literal(#[from] RenderError),
}

/// A piece of a rendered conversation; see [`Piece`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedPiece {
    /// The template's own text: special tokens in it are meant.
    Template(String),
    /// Somebody's text: what looks like a special token is only text.
    Content(String),
}

impl OwnedPiece {
    /// The text, whoever wrote it.
    pub fn text(&self) -> &str {
        self.as_piece().text()
    }

    /// The borrowed form.
    pub fn as_piece(&self) -> Piece<'_> {
        match self {
            OwnedPiece::Template(text) => Piece::Template(text),
            OwnedPiece::Content(text) => Piece::Content(text),
        }
    }
}

/// Renders a conversation with either form of template.
///
/// Neighbouring pieces of the same kind are joined and empty ones left out, so that the tokenizer sees the
/// template's text in as few pieces as possible.
pub fn render(
    template: &ChatTemplate<'_>,
    messages: &[Message<'_>],
    add_generation_prompt: bool,
) -> Result<Vec<OwnedPiece>, TemplateError> {
    let mut pieces = Vec::new();
    match template {
        ChatTemplate::Literal(literals) => {
            literals.render(messages, add_generation_prompt, &mut |piece| push(&mut pieces, piece))?;
        }
        ChatTemplate::Jinja(jinja) => {
            if messages.is_empty() {
                return Err(RenderError::Empty.into());
            }
            let jinja = JinjaTemplate::compile(jinja.source, jinja.bos, jinja.eos)?;
            jinja.render_pieces(messages, add_generation_prompt, &mut |piece| push(&mut pieces, piece))?;
        }
    }
    Ok(pieces)
}

fn push(pieces: &mut Vec<OwnedPiece>, piece: Piece<'_>) {
    match (pieces.last_mut(), piece) {
        (_, Piece::Template("") | Piece::Content("")) => {}
        (Some(OwnedPiece::Template(last)), Piece::Template(text)) => last.push_str(text),
        (Some(OwnedPiece::Content(last)), Piece::Content(text)) => last.push_str(text),
        (_, Piece::Template(text)) => pieces.push(OwnedPiece::Template(text.to_owned())),
        (_, Piece::Content(text)) => pieces.push(OwnedPiece::Content(text.to_owned())),
    }
}

/// A compiled Jinja chat template, set up the way transformers does: `trim_blocks`, `lstrip_blocks`, loop
/// controls, `raise_exception`, `strftime_now`, Python's string methods, `{% generation %}` ignored.
#[derive(Debug)]
pub struct JinjaTemplate {
    environment: Environment<'static>,
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
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
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
        let source = without_generation_tags(source);
        let compiled = environment.add_template_owned(NAME, source);
        compiled.map_err(|error| uncompiled(&error))?;
        Ok(JinjaTemplate { environment, bos: bos.to_owned(), eos: eos.to_owned(), asked_time })
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
        let text = |index: usize| messages[index].text.to_owned();
        self.render_with(messages, add_generation_prompt, &text)
    }

    fn render_with(
        &self,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
        text: &dyn Fn(usize) -> String,
    ) -> Result<String, TemplateError> {
        let message = |(index, message): (usize, &Message<'_>)| {
            context! { role => message.speaker.name(), content => text(index) }
        };
        let messages: Vec<Value> = messages.iter().enumerate().map(message).collect();
        let variables = context! {
            messages, add_generation_prompt,
            bos_token => self.bos.as_str(), eos_token => self.eos.as_str(),
            // transformers passes these where there are none.
            tools => (), documents => (),
        };
        let template = self.environment.get_template(NAME);
        template.and_then(|template| template.render(variables)).map_err(|error| failure(&error))
    }

    /// The conversation in pieces: renders it with marks instead of the messages' texts, cuts there, and
    /// checks that the pieces with the real texts (whole or trimmed) make what the template makes of them.
    fn render_pieces(
        &self,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
        emit: &mut dyn FnMut(Piece<'_>),
    ) -> Result<(), TemplateError> {
        let real = self.render(messages, add_generation_prompt)?;
        // A mark that occurs in no text. It is short and has no white space, capitals or punctuation.
        let fresh = (0_u32..).map(|number| format!("q{number}z")).find(|mark| !real.contains(mark.as_str()));
        let stem = fresh.unwrap_or_default();
        let mark = |index: usize| format!("{stem}{index}{stem}");
        let marked = self.render_with(messages, add_generation_prompt, &mark)?;
        let marks: Vec<String> = (0..messages.len()).map(mark).collect();

        let mut pieces = Vec::new();
        let mut rest = marked.as_str();
        while let Some(at) = rest.find(&stem) {
            let found = marks.iter().position(|mark| rest[at..].starts_with(mark.as_str()));
            let index = found.ok_or(TemplateError::Rewritten)?;
            pieces.push((&rest[..at], index));
            rest = &rest[at + marks[index].len()..];
        }
        let mut real = real.as_str();
        for (place, &(before, index)) in pieces.iter().enumerate() {
            real = real.strip_prefix(before).ok_or(TemplateError::Rewritten)?;
            let next = pieces.get(place + 1).map_or(rest, |&(text, _)| text);
            let text = messages[index].text;
            let forms = [text, text.trim_end(), text.trim_start(), text.trim()];
            let fits = |form: &&str| real.strip_prefix(form).is_some_and(|after| after.starts_with(next));
            let form = forms.into_iter().find(fits).ok_or(TemplateError::Rewritten)?;
            emit(Piece::Template(before));
            emit(Piece::Content(form));
            real = &real[form.len()..];
        }
        if real != rest {
            return Err(TemplateError::Rewritten);
        }
        emit(Piece::Template(rest));
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

/// transformers' `tojson`: Python's `json.dumps(ensure_ascii=False)`, not the HTML-safe one of Jinja.
fn tojson(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let mut json = Vec::new();
    let written = match indent {
        None => serde::Serialize::serialize(
            value,
            &mut serde_json::Serializer::with_formatter(&mut json, PythonSpacing),
        ),
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            serde::Serialize::serialize(
                value,
                &mut serde_json::Serializer::with_formatter(&mut json, formatter),
            )
        }
    };
    let failed = |detail: String| minijinja::Error::new(ErrorKind::BadSerialization, detail);
    written.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(json).map_err(|error| failed(error.to_string()))
}

/// A space behind every comma and colon.
struct PythonSpacing;

impl serde_json::ser::Formatter for PythonSpacing {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now()).map_err(|error| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}"))
    })
}

/// transformers' `{% generation %}` marks what to train on; for rendering it is a block that is always on.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}").map(|end| end + 2) else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        let inner = &tag[2..end - 2];
        match inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
