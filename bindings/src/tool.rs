//! Tools: functions of the app that a model may call.

/// A function of the app that a model may call.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ToolDefinition {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// What it does and when to call it, for the model.
    pub description: String,
    /// The JSON Schema of its arguments, an object, as JSON.
    pub parameters: String,
}

/// A call that a model makes: the app runs the tool and returns a [`ToolResult`].
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ToolCall {
    /// Tells the calls of a conversation apart.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// A JSON object.
    pub arguments: String,
}

/// What a tool returned.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ToolResult {
    /// [`ToolCall::id`].
    pub call_id: String,
    /// What the model reads: text, often JSON.
    pub content: String,
}
