//! Tools: what a model may call, its calls, and how an answer with calls is read.

mod definition;
mod parser;
mod values;

pub(crate) use definition::check;
pub use definition::{ToolChoice, ToolDefinition, ToolError};
pub use parser::{CallError, CallParser, CallPiece};
pub use values::{CallSyntax, ToolCall, ToolRound};
