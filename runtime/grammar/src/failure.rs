//! What a matcher says of its failure.

use llguidance::Matcher;
use llguidance::api::StopReason;
use thimble_chat::ConstraintError;

/// Why the matcher failed.
pub(crate) fn failure(matcher: &Matcher) -> ConstraintError {
    let reason = match matcher.stop_reason() {
        StopReason::LexerTooComplex => "the limit of lexer states or of their work was reached".to_string(),
        StopReason::ParserTooComplex => "the limit of parser items was reached".to_string(),
        StopReason::NoExtensionBias => return ConstraintError::NoToken,
        _ => first_line(&matcher.get_error().unwrap_or_default()),
    };
    ConstraintError::TooComplex { reason }
}

/// The first line of a message of `llguidance`: a dump of its state may follow.
pub(crate) fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_string()
}
