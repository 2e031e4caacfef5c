//! What a grammar may cost.

use llguidance::api::ParserLimits;
use std::time::Duration;

/// Limits of a grammar, so that a hostile one is refused and not compiled for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrammarLimits {
    /// Longest source, bytes.
    pub source_bytes: usize,
    /// Deepest nesting of brackets in the source.
    pub nesting: usize,
    /// Longest time to compile.
    pub compile_time: Duration,
    /// Most symbols in the productions.
    pub grammar_size: usize,
    /// Work to build the regular expressions, in nodes; about 50 for each microsecond.
    pub lexer_work: u64,
    /// Most states of the lexer, about 1.5 kB each.
    pub lexer_states: usize,
    /// Most bytes of the lexer before the first token: each answer has a copy.
    pub start_bytes: usize,
    /// Most items of the parser for one mask.
    pub mask_items: usize,
    /// Work of the lexer for one mask, in nodes; about 14 for each microsecond.
    pub mask_lexer_work: u64,
}

impl Default for GrammarLimits {
    /// A megabyte of source, 128 levels, two seconds and about 100 MB.
    fn default() -> GrammarLimits {
        GrammarLimits {
            source_bytes: 1 << 20,
            nesting: 128,
            compile_time: Duration::from_secs(2),
            grammar_size: 500_000,
            lexer_work: 1_000_000,
            lexer_states: 50_000,
            start_bytes: 32 << 20,
            mask_items: 50_000,
            mask_lexer_work: 200_000,
        }
    }
}

impl GrammarLimits {
    pub(crate) fn parser(&self) -> ParserLimits {
        ParserLimits {
            initial_lexer_fuel: self.lexer_work,
            step_lexer_fuel: self.mask_lexer_work,
            step_max_items: self.mask_items,
            max_lexer_states: self.lexer_states,
            max_grammar_size: self.grammar_size,
            verbose_errors: false,
            ..ParserLimits::default()
        }
    }
}
