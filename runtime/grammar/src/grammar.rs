//! Compiled grammars.

use crate::cache::lock;
use crate::constraint::GrammarConstraint;
use crate::error::GrammarError;
use crate::failure::first_line;
use crate::limits::GrammarLimits;
use crate::source::GrammarSource;
use crate::vocabulary::Vocabulary;
use llguidance::api::GrammarInit;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Logger, Matcher};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use thimble_chat::ConstraintError;

/// Stack of the thread that compiles, bytes: parsers recurse as deep as sources nest.
const STACK: usize = 32 << 20;

/// A compiled grammar for one vocabulary; cheap to clone.
#[derive(Clone)]
pub struct Grammar {
    language: &'static str,
    /// A matcher before the first token. Locked only to clone it.
    start: Arc<Mutex<Matcher>>,
}

impl Grammar {
    /// Compiles `source`, or finds it among the 16 grammars that `vocabulary` used last.
    ///
    /// Works on a thread of its own; one that exceeds [`GrammarLimits::compile_time`] ends by itself later.
    ///
    /// # Errors
    /// [`GrammarError`].
    pub fn compile(
        vocabulary: &Arc<Vocabulary>,
        source: &GrammarSource,
        limits: &GrammarLimits,
    ) -> Result<Grammar, GrammarError> {
        let language = source.language();
        if let Some(start) = vocabulary.cache.find(source, limits) {
            return Ok(Grammar { language, start });
        }
        let start = Arc::new(Mutex::new(compile_afresh(vocabulary, source, limits)?));
        vocabulary.cache.keep(source, limits, &start);
        Ok(Grammar { language, start })
    }

    /// The language of its source, in words.
    pub fn language(&self) -> &'static str {
        self.language
    }

    /// A constraint for a new answer.
    ///
    /// # Errors
    /// [`ConstraintError::TooComplex`].
    pub fn constraint(&self) -> Result<GrammarConstraint, ConstraintError> {
        GrammarConstraint::new(lock(&self.start).deep_clone())
    }
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar").field("language", &self.language).finish_non_exhaustive()
    }
}

/// Compiles on another thread, within the limit of time.
fn compile_afresh(
    vocabulary: &Arc<Vocabulary>,
    source: &GrammarSource,
    limits: &GrammarLimits,
) -> Result<Matcher, GrammarError> {
    let language = source.language();
    let too_complex = |reason: String| GrammarError::TooComplex { language, reason };
    let (sender, receiver) = channel();
    let work = {
        let (vocabulary, source, limits) = (Arc::clone(vocabulary), source.clone(), *limits);
        move || {
            // Nobody waits any more after the limit of time.
            let _ = sender.send(matcher(&vocabulary, &source, &limits));
        }
    };
    let spawned = thread::Builder::new().name("grammar".to_string()).stack_size(STACK).spawn(work);
    spawned.map_err(|error| too_complex(format!("there is no thread to compile it on ({error})")))?;
    match receiver.recv_timeout(limits.compile_time) {
        Ok(compiled) => compiled,
        Err(RecvTimeoutError::Timeout) => {
            let seconds = limits.compile_time.as_secs_f64();
            Err(too_complex(format!("compiling it takes more than {seconds} s")))
        }
        Err(RecvTimeoutError::Disconnected) => {
            Err(too_complex("the thread that compiled it ended".to_string()))
        }
    }
}

/// A matcher before the first token, whose first mask was computed: a grammar without any answer fails here.
fn matcher(
    vocabulary: &Vocabulary,
    source: &GrammarSource,
    limits: &GrammarLimits,
) -> Result<Matcher, GrammarError> {
    let language = source.language();
    let grammar = source.grammar(limits)?;
    let parser = vocabulary.factory.create_parser_from_init_ext(
        GrammarInit::Serialized(grammar),
        Logger::new(0, 0),
        InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() },
        limits.parser(),
    );
    let parser = parser.map_err(|error| refused(source, &format!("{error:#}")))?;
    let mut matcher = Matcher::new(Ok(parser));
    match matcher.compute_mask_or_eos() {
        Ok(mask) if mask.is_zero() => {
            let reason = "no token of this model begins one".to_string();
            Err(GrammarError::Empty { language, reason })
        }
        Ok(_) => Ok(matcher),
        Err(error) => match matcher.stop_reason() {
            llguidance::api::StopReason::NoExtensionBias => {
                let reason = "no token of this model begins one".to_string();
                Err(GrammarError::Empty { language, reason })
            }
            _ => Err(refused(source, &error.to_string())),
        },
    }
}

/// A message of `llguidance` as an error: a keyword of JSON Schema by name, a limit, or a fault in the source.
fn refused(source: &GrammarSource, message: &str) -> GrammarError {
    let language = source.language();
    let reason = first_line(message);
    if matches!(source, GrammarSource::JsonSchema(_)) {
        let known = [
            (
                "oneOf constraints",
                "oneOf",
                "the alternatives may overlap: use anyOf, or give each a `const` that differs",
            ),
            (
                "min/maxProperties",
                "minProperties",
                "it counts optional properties: make them required, or leave it out",
            ),
            (
                "patternProperty regexes",
                "patternProperties",
                "the patterns may overlap: use patterns that exclude each other",
            ),
            (
                "not present in a registry",
                "$ref",
                "it is in another document, and nothing is fetched: put it under $defs",
            ),
            (
                "regex parse error",
                "pattern",
                "expected a regular expression without look-around and back-references",
            ),
            ("nchor '", "$ref", "nothing has this anchor"),
            ("'multipleOf'", "multipleOf", "it has too many digits"),
            ("$dynamicRef", "$dynamicRef", "use $ref"),
            (
                "circular references",
                "$ref",
                "it refers to itself next to other keywords: move them into the definition",
            ),
        ];
        for (text, keyword, reason) in known {
            if message.contains(text) {
                let (keyword, reason) = (keyword.to_string(), reason.to_string());
                return GrammarError::Keyword { keyword, at: "#".to_string(), reason };
            }
        }
    }
    let limits = ["too large", "too complex", "fuel", "too big", "limit", "exceeded", "size"];
    if message.contains("nsatisfiable") {
        GrammarError::Empty { language, reason }
    } else if limits.iter().any(|limit| message.contains(limit)) {
        GrammarError::TooComplex { language, reason }
    } else {
        GrammarError::Syntax { language, reason }
    }
}
