//! Compiled grammars, and those that a vocabulary keeps.

use crate::constraint::{GrammarConstraint, first_line};
use crate::error::GrammarError;
use crate::limits::GrammarLimits;
use crate::source::GrammarSource;
use crate::vocabulary::Vocabulary;
use llguidance::api::GrammarInit;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Logger, Matcher};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use thimble_chat::ConstraintError;

/// Stack of the thread that compiles, bytes: parsers recurse as deep as sources nest.
const STACK: usize = 32 << 20;
/// Most grammars that a vocabulary keeps.
const KEPT: usize = 16;

/// A compiled grammar for one vocabulary; cheap to clone.
#[derive(Clone)]
pub struct Grammar {
    language: &'static str,
    /// A matcher before the first token. Locked only to clone it.
    start: Arc<Mutex<Matcher>>,
}

/// The grammars that were compiled last, the latest at the end.
#[derive(Default)]
pub(crate) struct Cache {
    kept: Mutex<Vec<(GrammarSource, GrammarLimits, Grammar)>>,
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
        if let Some(kept) = vocabulary.cache.find(source, limits) {
            return Ok(kept);
        }
        let grammar = Grammar::compile_afresh(vocabulary, source, limits)?;
        vocabulary.cache.keep(source, limits, &grammar);
        Ok(grammar)
    }

    fn compile_afresh(
        vocabulary: &Arc<Vocabulary>,
        source: &GrammarSource,
        limits: &GrammarLimits,
    ) -> Result<Grammar, GrammarError> {
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
        let start = match receiver.recv_timeout(limits.compile_time) {
            Ok(compiled) => compiled?,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = limits.compile_time.as_secs_f64();
                return Err(too_complex(format!("compiling it takes more than {seconds} s")));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(too_complex("the thread that compiled it ended".to_string()));
            }
        };
        Ok(Grammar { language, start: Arc::new(Mutex::new(start)) })
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    fn find(&self, source: &GrammarSource, limits: &GrammarLimits) -> Option<Grammar> {
        let mut kept = lock(&self.kept);
        let at = kept.iter().position(|(known, under, _)| known == source && under == limits)?;
        let found = kept.remove(at);
        let grammar = found.2.clone();
        kept.push(found);
        Some(grammar)
    }

    fn keep(&self, source: &GrammarSource, limits: &GrammarLimits, grammar: &Grammar) {
        let mut kept = lock(&self.kept);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((source.clone(), *limits, grammar.clone()));
    }
}
