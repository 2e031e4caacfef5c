//! Cheap rules, each named after its paper, with its published thresholds.

mod blocked_words;
mod c4;
mod characters;
mod fineweb;
mod gopher_quality;
mod gopher_repetition;
mod words;

pub use blocked_words::BlockedWords;
pub use c4::C4;
pub use fineweb::FineWeb;
pub use gopher_quality::GopherQuality;
pub use gopher_repetition::GopherRepetition;

use serde::Serialize;
use std::cell::OnceCell;
use std::collections::HashSet;
use words::Words;

/// A set of rules.
#[derive(Clone, Debug, PartialEq)]
pub enum Rules {
    /// `gopher-quality`: sizes, symbols, stop words.
    GopherQuality(GopherQuality),
    /// `gopher-repetition`: repeated lines, paragraphs and n-grams.
    GopherRepetition(GopherRepetition),
    /// `c4`: drops lines, and documents of which little stays.
    C4(C4),
    /// `fineweb`: line ends, short lines, repeated lines, lists.
    FineWeb(FineWeb),
    /// `blocked-words`: a list of the user's.
    BlockedWords(BlockedWords),
}

/// Why a document is removed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Removal {
    /// The rule, as datatrove's filters name it.
    pub reason: String,
    /// What was measured.
    pub value: f64,
    /// What it may be at most, or must be at least.
    pub threshold: f64,
}

impl Removal {
    pub(crate) fn new(reason: &str, value: f64, threshold: f64) -> Removal {
        Removal { reason: reason.to_owned(), value, threshold }
    }
}

impl Rules {
    /// The rules of a name, with the published thresholds; none for an unknown name.
    pub fn named(name: &str) -> Option<Rules> {
        Some(match name {
            "gopher-quality" => Rules::GopherQuality(GopherQuality::default()),
            "gopher-repetition" => Rules::GopherRepetition(GopherRepetition::default()),
            "c4" => Rules::C4(C4::default()),
            "fineweb" => Rules::FineWeb(FineWeb::default()),
            _ => return None,
        })
    }

    /// The names that [`Rules::named`] knows, in the order in which FineWeb applied them.
    pub const NAMES: [&'static str; 4] = ["gopher-repetition", "gopher-quality", "c4", "fineweb"];

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Rules::GopherQuality(_) => "gopher-quality",
            Rules::GopherRepetition(_) => "gopher-repetition",
            Rules::C4(_) => "c4",
            Rules::FineWeb(_) => "fineweb",
            Rules::BlockedWords(_) => "blocked-words",
        }
    }

    /// Applies the rules to a text: `None` if it stays as it is, the text that is left if lines were dropped.
    ///
    /// # Errors
    /// Why the document is removed.
    pub fn apply(&self, text: &str) -> Result<Option<String>, Removal> {
        // No rule has a share of nothing.
        if text.is_empty() {
            return Err(Removal::new("empty", 0.0, 1.0));
        }
        let document = Document { text, words: OnceCell::new() };
        match self {
            Rules::GopherQuality(rules) => rules.check(&document)?,
            Rules::GopherRepetition(rules) => rules.check(&document)?,
            Rules::FineWeb(rules) => rules.check(&document)?,
            Rules::BlockedWords(rules) => rules.check(text)?,
            Rules::C4(rules) => {
                return rules.edit(text).map(|edited| Some(edited).filter(|edited| edited != text));
            }
        }
        Ok(None)
    }
}

/// A text, with its words once they are needed.
struct Document<'t> {
    text: &'t str,
    words: OnceCell<Words<'t>>,
}

impl<'t> Document<'t> {
    fn words(&self) -> &Words<'t> {
        self.words.get_or_init(|| Words::of(self.text))
    }
}

/// Removes what measures more than `most`. A share of nothing is no number, and removes nothing.
fn above(reason: &str, value: f64, most: f64) -> Result<(), Removal> {
    if value > most { Err(Removal::new(reason, value, most)) } else { Ok(()) }
}

/// Removes what measures less than `least`.
fn below(reason: &str, value: f64, least: f64) -> Result<(), Removal> {
    if value < least { Err(Removal::new(reason, value, least)) } else { Ok(()) }
}

/// How many of `parts` were there before, and the characters of those.
fn duplicates(parts: &[&str]) -> (usize, usize) {
    let mut seen = HashSet::with_capacity(parts.len());
    let copies = parts.iter().filter(|part| !seen.insert(**part));
    copies.fold((0, 0), |(count, characters), part| (count + 1, characters + characters::length(part)))
}
