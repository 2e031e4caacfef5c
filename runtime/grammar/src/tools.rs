//! A grammar for answers that call tools: a call names an existing tool, and its arguments match the tool's schema.

use crate::error::GrammarError;
use crate::schema;
use crate::source::GrammarSource;
use serde_json::{Value, json};
use std::fmt::Write;
use thimble_chat::Toolset;
use thimble_chat::tools::{CallSyntax, ToolChoice, ToolDefinition};

/// Most calls in an answer that must have some.
const MOST_CALLS: usize = 8;

/// The grammar of answers with calls of `tools`; `None` if there may be none.
///
/// With [`ToolChoice::Auto`], the answer is free up to the mark of a call, and again behind it. Arguments are written as
/// Python's `json.dumps` does, like those in the model's prompt.
///
/// # Errors
/// [`GrammarError::Tool`], with what a schema has that a grammar cannot enforce.
pub fn tool_grammar(tools: &Toolset) -> Result<Option<GrammarSource>, GrammarError> {
    let choice = tools.choice();
    let named = |tool: &&ToolDefinition| match choice {
        ToolChoice::Named(name) => tool.name == *name,
        _ => true,
    };
    let callable: Vec<&ToolDefinition> = tools.offered().iter().filter(named).collect();
    let syntax = tools.format().syntax;
    let [open, close] = syntax.around();
    // From the mark on the answer is a call, whatever the model would write next.
    let mark = open.trim_end();
    let gap = &open[mark.len()..];
    let mut rules = String::new();
    for (number, tool) in callable.iter().enumerate() {
        let begin = format!("{gap}{{\"name\": {}, \"{}\": ", json!(tool.name), syntax.arguments());
        let end = format!("}}{close}");
        // Writing to a string cannot fail.
        let _ = writeln!(rules, "call_{number}: {} arguments_{number} {}", json!(begin), json!(end));
        let _ = writeln!(rules, "arguments_{number}: %json {}", arguments(tool)?);
    }
    let names: Vec<String> = (0..callable.len()).map(|number| format!("call_{number}")).collect();
    let call = format!("call: {}\n", names.join(" | "));
    let start = match (choice, syntax) {
        (ToolChoice::None, _) => return Ok(None),
        (ToolChoice::Auto, CallSyntax::Tagged) => {
            format!("start: (head call)* TEXT\nhead[lazy]: /(.|\\n)*{mark}/\nTEXT: /(.|\\n)*/\n")
        }
        // Text begins neither with a brace nor with a tag of this kind.
        (ToolChoice::Auto, CallSyntax::Bare) => {
            "start: call | TEXT\nTEXT: /[ \\t\\r\\n]*([^{< \\t\\r\\n](.|\\n)*|<([^|](.|\\n)*)?)?/\n"
                .to_owned()
        }
        (ToolChoice::Required, CallSyntax::Tagged) => {
            format!("start: one (\"\\n\" one){{0,{}}}\none: {} call\n", MOST_CALLS - 1, json!(mark))
        }
        (ToolChoice::Named(_), CallSyntax::Tagged) => format!("start: {} call\n", json!(mark)),
        (_, CallSyntax::Bare) => "start: call\n".to_owned(),
    };
    Ok(Some(GrammarSource::Lark(start + &call + &rules)))
}

/// The schema of a tool's arguments, for the grammar.
fn arguments(tool: &ToolDefinition) -> Result<Value, GrammarError> {
    let mut schema = tool.parameters.clone();
    if let Value::Object(fields) = &mut schema {
        // Arguments are an object, and tools know no others than those that they describe.
        fields.entry("type").or_insert_with(|| "object".into());
        if fields.contains_key("properties") {
            fields.entry("additionalProperties").or_insert(Value::Bool(false));
        }
    }
    let of_tool = |source| GrammarError::Tool { tool: tool.name.clone(), source: Box::new(source) };
    let mut schema = schema::prepare(&schema.to_string()).map_err(of_tool)?;
    if let Some(Value::Object(options)) = schema.get_mut("x-guidance") {
        options.insert("item_separator".to_owned(), ", ".into());
        options.insert("key_separator".to_owned(), ": ".into());
    }
    Ok(schema)
}
