//! Renders conversations in which tools are called, with the template's own means as far as it has them.
//!
//! What a template can do is found out by rendering a few conversations with marked names. What it lacks is written into
//! plain messages: a system block that lists the tools, calls in an answer, results in a user's message.

use super::typed::{self, TypedRanges};
use super::{JinjaTemplate, TemplateError, TemplateOptions};
use crate::message::ChatMessage;
use crate::tools::{CallSyntax, ToolCall, ToolDefinition};
use minijinja::value::Value;
use serde_json::json;
use std::cell::Cell;
use std::fmt::Write;
use thimble_runtime::chat::{ChatTemplate, Message, RenderError, Role, SystemRule};

/// What a chat template does with tools, and how its model writes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolFormat {
    /// Whether the template lists the tools; otherwise a system block does, for which the model may not be trained.
    pub lists_tools: bool,
    /// Whether the template writes calls.
    writes_calls: bool,
    /// Whether it writes results.
    writes_results: bool,
    /// Whether it takes only one call in a message.
    one_call: bool,
    /// Whether it takes a system message.
    takes_system: bool,
    /// How the model writes calls.
    pub syntax: CallSyntax,
}

/// A name that no template has.
const MARK: &str = "qzxjmark";
/// Another one.
const OTHER_MARK: &str = "qzxjother";

impl ToolFormat {
    /// A template that knows nothing of tools.
    const GENERIC: ToolFormat = ToolFormat {
        lists_tools: false,
        writes_calls: false,
        writes_results: false,
        one_call: false,
        takes_system: true,
        syntax: CallSyntax::Tagged,
    };

    /// What `template` does with tools.
    ///
    /// # Errors
    /// [`TemplateError::Compile`].
    pub fn of(template: &ChatTemplate<'_>) -> Result<ToolFormat, TemplateError> {
        match template {
            ChatTemplate::Literal(literals) => {
                let takes_system = literals.system_rule != SystemRule::Refused;
                Ok(ToolFormat { takes_system, ..ToolFormat::GENERIC })
            }
            ChatTemplate::Jinja(jinja) => {
                Ok(ToolFormat::of_jinja(&JinjaTemplate::compile(jinja.source, jinja.bos, jinja.eos)?))
            }
        }
    }

    fn of_jinja(jinja: &JinjaTemplate) -> ToolFormat {
        let user = || Said::new(Role::User, "Hi");
        let call = |name: &str| ToolCall {
            id: "call_1".to_owned(),
            name: name.to_owned(),
            arguments: json!({ OTHER_MARK: "x" }),
        };
        let calls = |calls: Vec<ToolCall>| Said { calls, ..Said::new(Role::Assistant, "") };
        let result = || Said { result_of: Some(call(MARK)), ..Said::new(Role::Tool, OTHER_MARK) };
        let render = |said: &[Said], tools: &[ToolDefinition]| {
            let rendered = jinja.render_values(values(said), true, &listed(tools));
            rendered.map(|(text, _)| text).ok()
        };
        let takes_system = render(&[Said::new(Role::System, MARK), user()], &[]);
        let takes_system = takes_system.is_some_and(|text| text.contains(MARK));
        let generic = ToolFormat { takes_system, ..ToolFormat::GENERIC };
        let Some(list) = listing(jinja) else { return generic };
        let written = render(&[user(), calls(vec![call(MARK)])], &[]).unwrap_or_default();
        let answered = render(&[user(), calls(vec![call(MARK)]), result()], &[]).unwrap_or_default();
        let writes_calls = written.contains(MARK) && written.contains(OTHER_MARK);
        let shows = if writes_calls { &written } else { &list };
        let tagged = shows.split("<tool_call>").skip(1).any(|call| call.trim_start().starts_with('{'));
        let bare = writes_calls && shows.contains("\"parameters\": {\"qzxj");
        let syntax = match (tagged, bare) {
            (true, _) => CallSyntax::Tagged,
            (false, true) => CallSyntax::Bare,
            // Calls that cannot be read back: the model gets a form that can.
            (false, false) => return generic,
        };
        ToolFormat {
            lists_tools: true,
            writes_calls,
            writes_results: answered.matches(OTHER_MARK).count() > written.matches(OTHER_MARK).count(),
            one_call: writes_calls && render(&[user(), calls(vec![call(MARK), call(MARK)])], &[]).is_none(),
            takes_system,
            syntax,
        }
    }
}

/// What the template writes with a tool, if it lists tools.
fn listing(jinja: &JinjaTemplate) -> Option<String> {
    let tool = ToolDefinition {
        name: MARK.to_owned(),
        description: "d".to_owned(),
        parameters: json!({ "type": "object", "properties": {} }),
    };
    let said = values(&[Said::new(Role::User, "Hi")]);
    let (text, _) = jinja.render_values(said, true, &listed(&[tool])).ok()?;
    text.contains(MARK).then_some(text)
}

/// Whether the template lists tools, so that literals would lose them.
pub fn lists_tools(jinja: &JinjaTemplate) -> bool {
    listing(jinja).is_some()
}

/// Renders a conversation with calls, results or `tools` as one text, with the byte ranges of what people, the model and
/// tools wrote in it; `None` if the template hides them.
///
/// # Errors
/// The template refuses the conversation or fails.
pub fn render_with_tools(
    template: &ChatTemplate<'_>,
    format: ToolFormat,
    messages: &[ChatMessage<'_>],
    tools: &[ToolDefinition],
    options: TemplateOptions,
) -> Result<(String, TypedRanges), TemplateError> {
    let jinja = match template {
        ChatTemplate::Literal(_) => None,
        ChatTemplate::Jinja(jinja) => {
            let compiled = JinjaTemplate::compile(jinja.source, jinja.bos, jinja.eos)?;
            Some(compiled.with_thinking(options.thinking))
        }
    };
    let offered = listed(if format.lists_tools { tools } else { &[] });
    let slots = slots(messages);
    let render = |texts: &mut dyn Iterator<Item = &str>| -> Result<(String, u64), TemplateError> {
        let said = format.lower(with_texts(messages, texts), tools);
        match (&jinja, template) {
            (Some(jinja), _) if !said.is_empty() => {
                jinja.render_values(values(&said), options.generate, &offered)
            }
            (None, ChatTemplate::Literal(literals)) => {
                let messages: Vec<Message<'_>> = said.iter().map(Said::message).collect();
                let mut text = String::new();
                literals.render(&messages, options.generate, &mut |segment| text.push_str(segment.text()))?;
                Ok((text, 1))
            }
            _ => Err(RenderError::Empty.into()),
        }
    };
    let (real, cost) = render(&mut slots.iter().map(|slot| slot.text))?;
    let left = Cell::new(super::jinja::most_renderings(cost));
    let again = |texts: &[String]| {
        left.set(left.get().checked_sub(1)?);
        Some(render(&mut texts.iter().map(String::as_str)).ok()?.0)
    };
    let literals = jinja.as_ref().map_or(&[][..], JinjaTemplate::literals);
    let typed = typed::typed(&slots, None, literals, &real, &again);
    Ok((real, typed))
}

/// Everything in the messages that a person, the model or a tool wrote, in order.
pub(crate) fn slots<'m>(messages: &'m [ChatMessage<'_>]) -> Vec<Message<'m>> {
    let mut slots = Vec::new();
    for message in messages {
        slots.push(message.message());
        for call in message.calls {
            let mut texts = vec![call.name.as_str()];
            strings(&call.arguments, &mut texts);
            slots.extend(texts.into_iter().map(|text| Message { role: Role::Assistant, text }));
        }
    }
    slots
}

/// The strings and keys of a JSON value, in order.
fn strings<'v>(value: &'v serde_json::Value, texts: &mut Vec<&'v str>) {
    match value {
        serde_json::Value::String(text) => texts.push(text),
        serde_json::Value::Array(values) => values.iter().for_each(|value| strings(value, texts)),
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                texts.push(key);
                strings(value, texts);
            }
        }
        _ => {}
    }
}

/// The same value with other strings.
fn with_strings(value: &serde_json::Value, texts: &mut dyn Iterator<Item = &str>) -> serde_json::Value {
    let next = |old: &str, texts: &mut dyn Iterator<Item = &str>| texts.next().unwrap_or(old).to_owned();
    match value {
        serde_json::Value::String(text) => next(text, texts).into(),
        serde_json::Value::Array(values) => values.iter().map(|value| with_strings(value, texts)).collect(),
        serde_json::Value::Object(fields) => {
            let pair = |(key, value): (&String, &serde_json::Value)| {
                let key = next(key, texts);
                (key, with_strings(value, texts))
            };
            fields.iter().map(pair).collect()
        }
        other => other.clone(),
    }
}

/// A message as a template gets it.
struct Said {
    role: Role,
    text: String,
    calls: Vec<ToolCall>,
    result_of: Option<ToolCall>,
}

impl Said {
    fn new(role: Role, text: impl Into<String>) -> Said {
        Said { role, text: text.into(), calls: Vec::new(), result_of: None }
    }

    fn message(&self) -> Message<'_> {
        Message { role: self.role, text: &self.text }
    }
}

/// The messages with the texts of [`slots`].
fn with_texts(messages: &[ChatMessage<'_>], texts: &mut dyn Iterator<Item = &str>) -> Vec<Said> {
    let said = messages.iter().map(|message| {
        let text = texts.next().unwrap_or_default().to_owned();
        let call = |call: &ToolCall| {
            let name = texts.next().unwrap_or_default().to_owned();
            ToolCall { id: call.id.clone(), name, arguments: with_strings(&call.arguments, texts) }
        };
        let calls = message.calls.iter().map(call).collect();
        Said { role: message.role, text, calls, result_of: message.result_of.cloned() }
    });
    said.collect()
}

impl ToolFormat {
    /// Rewrites what the template has no place for.
    fn lower(self, said: Vec<Said>, tools: &[ToolDefinition]) -> Vec<Said> {
        let mut lowered: Vec<Said> = Vec::with_capacity(said.len());
        let mut said = said.into_iter().peekable();
        while let Some(mut message) = said.next() {
            if !message.calls.is_empty() && !self.writes_calls {
                message.text = self.write_calls(&message.text, &std::mem::take(&mut message.calls));
                lowered.push(message);
            } else if message.calls.len() > 1 && self.one_call {
                for call in std::mem::take(&mut message.calls) {
                    let text = std::mem::take(&mut message.text);
                    lowered.push(Said { calls: vec![call], ..Said::new(message.role, text) });
                    lowered.extend(said.next_if(|next| next.role == Role::Tool));
                }
            } else if message.role == Role::Tool && !self.writes_results {
                let mut text = String::new();
                let mut result = Some(message);
                while let Some(message) = result {
                    let gap = if text.is_empty() { "" } else { "\n" };
                    // Writing to a string cannot fail.
                    let _ = write!(text, "{gap}<tool_response>\n{}\n</tool_response>", message.text);
                    result = said.next_if(|next| next.role == Role::Tool);
                }
                lowered.push(Said::new(Role::User, text));
            } else {
                lowered.push(message);
            }
        }
        if !self.lists_tools && !tools.is_empty() {
            self.add_block(&mut lowered, &block(tools));
        }
        lowered
    }

    /// Calls behind the text of an answer, as the model writes them.
    fn write_calls(self, text: &str, calls: &[ToolCall]) -> String {
        let mut out = text.to_owned();
        let [open, close] = self.syntax.around();
        for call in calls {
            let gap = if out.is_empty() { "" } else { "\n" };
            let name = super::json::text(&call.name);
            let arguments = super::json::of(&call.arguments);
            let _ = write!(
                out,
                "{gap}{open}{{\"name\": {name}, \"{}\": {arguments}}}{close}",
                self.syntax.arguments()
            );
        }
        out
    }

    /// Adds the list of tools to the system message, or to the first message if there can be none.
    fn add_block(self, said: &mut Vec<Said>, block: &str) {
        match said.first_mut() {
            Some(first) if first.role == Role::System || !self.takes_system => {
                first.text = match first.role {
                    Role::System => format!("{}\n\n{block}", first.text),
                    _ => format!("{block}\n\n{}", first.text),
                };
            }
            _ => said.insert(0, Said::new(Role::System, block)),
        }
    }
}

/// The list of tools for a template without one.
fn block(tools: &[ToolDefinition]) -> String {
    let mut out = String::from("You can call these tools:\n<tools>\n");
    for tool in tools {
        let _ = writeln!(out, "{}", super::json::of(&tool.to_json()));
    }
    out.push_str(
        "</tools>\n\nTo call a tool, write its name and its arguments as JSON between <tool_call> and </tool_call>:\n\
         <tool_call>\n{\"name\": \"the tool's name\", \"arguments\": {\"an argument\": \"its value\"}}\n</tool_call>\n\
         Its result follows between <tool_response> and </tool_response>. Call a tool only if you need it to answer.",
    );
    out
}

/// The variable `tools`.
fn listed(tools: &[ToolDefinition]) -> Value {
    match tools.is_empty() {
        true => Value::from(()),
        false => tools.iter().map(|tool| super::json::jinja(&tool.to_json())).collect(),
    }
}

/// The variable `messages`, as transformers documents it.
fn values(said: &[Said]) -> Vec<Value> {
    let value = |said: &Said| {
        let mut fields: Vec<(&str, Value)> =
            vec![("role", said.role.name().into()), ("content", said.text.as_str().into())];
        if !said.calls.is_empty() {
            let call = |call: &ToolCall| {
                let function = json!({ "name": call.name, "arguments": call.arguments });
                super::json::jinja(&json!({ "id": call.id, "type": "function", "function": function }))
            };
            fields.push(("tool_calls", said.calls.iter().map(call).collect()));
        }
        if let Some(call) = &said.result_of {
            fields.push(("tool_call_id", call.id.as_str().into()));
            fields.push(("name", call.name.as_str().into()));
        }
        Value::from_pairs(fields)
    };
    said.iter().map(value).collect()
}

#[cfg(test)]
#[path = "tools_tests.rs"]
mod tests;
