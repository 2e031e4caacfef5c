//! The shapes of rows in the wild, recognized by their fields.

use serde_json::{Map, Value};
use thimble_runtime::chat::{Message, Role};

/// A message of an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingMessage {
    /// Its author.
    pub role: Role,
    /// Its content.
    pub text: String,
}

/// What one row, or one instance in it, teaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConversationExample {
    /// A conversation for the model's chat template.
    Messages {
        /// All messages.
        messages: Vec<TrainingMessage>,
        /// Index of the first message that can have targets; those before it are given.
        taught_from: usize,
    },
    /// A text and its continuation.
    Completion {
        /// What is given.
        prompt: String,
        /// What the model learns to write.
        completion: String,
    },
}

/// Why a row is not an example: what was expected and what was found, without the row's place.
pub type ShapeResult<T> = std::result::Result<T, String>;

impl TrainingMessage {
    /// A message.
    pub fn new(role: Role, text: impl Into<String>) -> TrainingMessage {
        TrainingMessage { role, text: text.into() }
    }

    /// The borrowed form.
    pub fn as_message(&self) -> Message<'_> {
        Message { role: self.role, text: &self.text }
    }
}

impl ConversationExample {
    /// The examples of a row: `messages`, ShareGPT's `conversations`, alpaca (`instruction`, `input`, `output`) with its
    /// relatives, or `prompt` and `completion`. Rows of self-instruct have one for each of their `instances`.
    ///
    /// # Errors
    /// The row has none of these shapes, or a wrong value in one.
    pub fn of_row(row: &Value) -> ShapeResult<Vec<ConversationExample>> {
        let fields = row.as_object().ok_or_else(|| format!("expected a JSON object, found {}", kind(row)))?;
        let has = |name: &str| fields.get(name).is_some_and(|value| !value.is_null());
        for name in ["messages", "conversations", "conversation"] {
            if has(name) {
                let messages = with_system(fields, messages(&fields[name], name)?)?;
                return Ok(vec![ConversationExample::Messages { messages, taught_from: 0 }]);
            }
        }
        if has("prompt") && has("completion") {
            return Ok(vec![prompt_completion(fields)?]);
        }
        if has("instruction") && has("instances") {
            let instances = fields["instances"].as_array().filter(|instances| !instances.is_empty());
            let instances = instances.ok_or_else(|| {
                format!("instances: expected a list of objects, found {}", kind(&fields["instances"]))
            })?;
            let instance = |(index, instance): (usize, &Value)| {
                let instance = instance.as_object();
                let instance = instance.ok_or_else(|| format!("instances[{index}]: expected an object"))?;
                instruction(fields, instance).map_err(|what| format!("instances[{index}]: {what}"))
            };
            return instances.iter().enumerate().map(instance).collect();
        }
        if has("instruction") {
            return Ok(vec![instruction(fields, fields)?]);
        }
        let found: Vec<&str> = fields.keys().map(String::as_str).collect();
        let hint = if has("chosen") {
            "; preference pairs are for `thimble-train prefer`"
        } else if has("text") {
            "; plain text is for `thimble-train tokenize` and `pretrain`"
        } else {
            ""
        };
        Err(format!(
            "expected messages, conversations, instruction with output or response, or prompt with completion; found the \
             fields {}{hint}",
            if found.is_empty() { "of an empty object".to_owned() } else { found.join(", ") }
        ))
    }
}

impl ConversationExample {
    /// Whether it teaches an answer without text, after which the model would stop at once.
    pub fn has_empty_answer(&self) -> bool {
        match self {
            ConversationExample::Messages { messages, taught_from } => {
                let mut taught = messages.iter().skip(*taught_from);
                taught.any(|message| message.role == Role::Assistant && message.text.trim().is_empty())
            }
            ConversationExample::Completion { completion, .. } => completion.trim().is_empty(),
        }
    }
}

/// A list of messages, each with `role` and `content` or with `from` and `value`; `name` is for errors.
///
/// # Errors
/// Another type, no messages, an unknown role, or content that is not text.
pub fn messages(value: &Value, name: &str) -> ShapeResult<Vec<TrainingMessage>> {
    let list = value
        .as_array()
        .ok_or_else(|| format!("{name}: expected a list of messages, found {}", kind(value)))?;
    if list.is_empty() {
        return Err(format!("{name}: expected at least one message, found none"));
    }
    list.iter().enumerate().map(|(index, value)| message(value, &format!("{name}[{index}]"))).collect()
}

fn message(value: &Value, name: &str) -> ShapeResult<TrainingMessage> {
    let fields =
        value.as_object().ok_or_else(|| format!("{name}: expected an object, found {}", kind(value)))?;
    let either = |names: [&'static str; 2]| {
        let found = names.into_iter().find(|&key| fields.contains_key(key));
        found.ok_or_else(|| {
            let keys: Vec<&str> = fields.keys().map(String::as_str).collect();
            format!("{name}: expected {} or {}, found {}", names[0], names[1], keys.join(", "))
        })
    };
    let (author, content) = (either(["role", "from"])?, either(["content", "value"])?);
    let role = fields[author].as_str().and_then(role).ok_or_else(|| {
        format!(
            "{name}.{author}: expected system, user (human), assistant (gpt) or tool, found {}",
            fields[author]
        )
    })?;
    Ok(TrainingMessage { role, text: text(&fields[content], &format!("{name}.{content}"))? })
}

/// The role that a data set's word means.
fn role(word: &str) -> Option<Role> {
    match word.to_ascii_lowercase().as_str() {
        "system" | "developer" => Some(Role::System),
        "user" | "human" | "prompter" => Some(Role::User),
        "assistant" | "gpt" | "model" | "chatgpt" | "bot" | "ai" => Some(Role::Assistant),
        "tool" | "function" | "observation" | "ipython" => Some(Role::Tool),
        _ => None,
    }
}

/// A string, or the joined text parts of a list.
pub(in crate::data) fn text(value: &Value, name: &str) -> ShapeResult<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let part = |part: &Value| {
                let text =
                    part.get("type").is_none_or(|kind| kind == "text").then(|| part.get("text")?.as_str());
                let text = text.flatten();
                text.map(str::to_owned).ok_or_else(|| format!("{name}: expected parts of text, found {part}"))
            };
            parts.iter().map(part).collect()
        }
        other => Err(format!("{name}: expected a string, found {}", kind(other))),
    }
}

/// A string field that may be missing or null.
fn optional_text(fields: &Map<String, Value>, name: &str) -> ShapeResult<Option<String>> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => text(value, name).map(Some),
    }
}

/// The first of the fields that is there.
fn first_text(fields: &Map<String, Value>, names: &[&str]) -> ShapeResult<Option<String>> {
    for name in names {
        if let Some(text) = optional_text(fields, name)? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// The messages with the row's `system` in front, unless they begin with a system message.
pub(in crate::data) fn with_system(
    fields: &Map<String, Value>,
    messages: Vec<TrainingMessage>,
) -> ShapeResult<Vec<TrainingMessage>> {
    let system = first_text(fields, &["system", "system_prompt"])?.filter(|text| !text.is_empty());
    let system = system.filter(|_| messages.first().is_some_and(|message| message.role != Role::System));
    let system = system.map(|text| TrainingMessage::new(Role::System, text));
    Ok(system.into_iter().chain(messages).collect())
}

fn instruction(row: &Map<String, Value>, instance: &Map<String, Value>) -> ShapeResult<ConversationExample> {
    let mut question = text(&row["instruction"], "instruction")?;
    let answer = first_text(instance, &["output", "response"])?;
    let answer = answer.ok_or("expected output or response beside instruction, found neither")?;
    if let Some(input) = first_text(instance, &["input", "context"])?.filter(|input| !input.is_empty()) {
        question.push_str("\n\n");
        question.push_str(&input);
    }
    let messages =
        vec![TrainingMessage::new(Role::User, question), TrainingMessage::new(Role::Assistant, answer)];
    Ok(ConversationExample::Messages { messages: with_system(row, messages)?, taught_from: 0 })
}

fn prompt_completion(fields: &Map<String, Value>) -> ShapeResult<ConversationExample> {
    match (&fields["prompt"], &fields["completion"]) {
        (prompt @ Value::Array(_), completion @ Value::Array(_)) => {
            let mut all = with_system(fields, messages(prompt, "prompt")?)?;
            let taught_from = all.len();
            all.extend(messages(completion, "completion")?);
            Ok(ConversationExample::Messages { messages: all, taught_from })
        }
        (Value::String(prompt), Value::String(completion)) => {
            Ok(ConversationExample::Completion { prompt: prompt.clone(), completion: completion.clone() })
        }
        (prompt, completion) => Err(format!(
            "expected prompt and completion both strings or both lists of messages, found {} and {}",
            kind(prompt),
            kind(completion)
        )),
    }
}

/// A value's type, for messages.
pub(in crate::data) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
