//! Compilation on threads whose number is bounded.

use crate::compilers::THREADS;
use crate::error::GrammarError;
use crate::failure::{first_line, refused};
use crate::limits::GrammarLimits;
use crate::source::GrammarSource;
use crate::vocabulary::Vocabulary;
use llguidance::api::{GrammarInit, StopReason};
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Logger, Matcher, TokenParser};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;
use thimble_files::contain;

/// Stack of the thread that compiles, bytes: parsers recurse as deep as sources nest.
const STACK: usize = 32 << 20;

/// A compiled grammar before the first token.
pub(crate) struct Compiled {
    pub(crate) matcher: Matcher,
    /// About what it holds, bytes.
    pub(crate) bytes: usize,
}

/// Compiles on another thread, within the limit of time.
pub(crate) fn compile(
    vocabulary: &Arc<Vocabulary>,
    source: &GrammarSource,
    limits: &GrammarLimits,
) -> Result<Compiled, GrammarError> {
    let language = source.language();
    let too_complex = |reason: String| GrammarError::TooComplex { language, reason };
    let deadline = Instant::now() + limits.compile_time;
    let seconds = limits.compile_time.as_secs_f64();
    let permit = vocabulary.compilers.permit(limits.compile_time).ok_or_else(|| {
        too_complex(format!("{THREADS} others are being compiled, and none was ready within {seconds} s"))
    })?;
    let (sender, receiver) = channel();
    let work = {
        let (vocabulary, source, limits) = (Arc::clone(vocabulary), source.clone(), *limits);
        move || {
            // Before anybody is told: what was refused does not count any more.
            let compiled = matcher(&vocabulary, &source, &limits);
            drop(permit);
            // Nobody waits any more after the limit of time.
            let _ = sender.send(compiled);
        }
    };
    let spawned = thread::Builder::new().name("grammar".to_string()).stack_size(STACK).spawn(work);
    spawned.map_err(|error| too_complex(format!("there is no thread to compile it on ({error})")))?;
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(compiled) => compiled,
        Err(RecvTimeoutError::Timeout) => {
            Err(too_complex(format!("compiling it takes more than {seconds} s")))
        }
        Err(RecvTimeoutError::Disconnected) => {
            Err(too_complex("the thread that compiled it ended".to_string()))
        }
    }
}

/// A matcher before the first token, whose first mask and forced tokens were computed: a grammar without any answer, or with
/// a beginning that exceeds a limit, fails here.
fn matcher(
    vocabulary: &Vocabulary,
    source: &GrammarSource,
    limits: &GrammarLimits,
) -> Result<Compiled, GrammarError> {
    let language = source.language();
    let too_complex = |reason: String| GrammarError::TooComplex { language, reason };
    let grammar = source.grammar(limits)?;
    let parser = vocabulary.factory.create_parser_from_init_ext(
        GrammarInit::Serialized(grammar),
        Logger::new(0, 0),
        InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() },
        limits.parser(),
    );
    let mut parser = parser.map_err(|error| refused(source, &format!("{error:#}")))?;
    let begun =
        contain("llguidance", || begin(&mut parser)).map_err(|error| too_complex(error.to_string()))?;
    if let Err((stop, reason)) = begun {
        return Err(match stop {
            StopReason::NoExtensionBias => {
                let reason = "no token of this model begins one".to_string();
                GrammarError::Empty { language, reason }
            }
            StopReason::LexerTooComplex | StopReason::ParserTooComplex => too_complex(first_line(&reason)),
            _ => refused(source, &reason),
        });
    }
    let bytes = parser.parser.lexer_stats().num_bytes;
    if bytes > limits.start_bytes {
        let (found, most) = (bytes >> 20, limits.start_bytes >> 20);
        return Err(too_complex(format!("its beginning takes {found} MB, the limit is {most}")));
    }
    Ok(Compiled { matcher: Matcher::new(Ok(parser)), bytes })
}

/// Computes the first mask and the tokens that are forced, and returns what failed.
fn begin(parser: &mut TokenParser) -> Result<(), (StopReason, String)> {
    parser.start_without_prompt();
    if let Err(error) = parser.compute_mask() {
        return Err((parser.stop_reason(), error.to_string()));
    }
    parser.compute_ff_tokens();
    match parser.parser.get_error() {
        None => Ok(()),
        Some(error) => Err((error.stop_reason(), error.message())),
    }
}
