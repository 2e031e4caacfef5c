//! A text cut into windows of equal length, each evaluated alone.

use crate::failure::Failure;
use thimble_runtime::Token;

/// Tokens per window: `asked`, or `default` if the context is long enough, or the context.
pub(crate) fn length(asked: Option<usize>, default: usize, context: usize) -> Result<usize, Failure> {
    let window = asked.unwrap_or(default.min(context));
    match window > context {
        true => Err(Failure::Usage(format!(
            "--window {window} is longer than the context of {context}: lower it to {context} or less"
        ))),
        false => Ok(window),
    }
}

/// The first `most` whole windows; at least one.
pub(crate) fn cut(tokens: &[Token], window: usize, most: Option<usize>) -> Result<Vec<&[Token]>, Failure> {
    let windows: Vec<_> = tokens.chunks_exact(window).take(most.unwrap_or(usize::MAX)).collect();
    match (windows.is_empty(), tokens.len()) {
        (false, _) => Ok(windows),
        (true, 0) => {
            Err(Failure::Other(format!("--input is empty: expected at least one window of {window} tokens")))
        }
        (true, found) => Err(Failure::Other(format!(
            "the text has {found} tokens, fewer than one window of {window}: lower --window"
        ))),
    }
}
