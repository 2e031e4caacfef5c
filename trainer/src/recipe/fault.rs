//! Faults of a recipe: place, key, and a sentence.

use std::fmt;

/// Where a key was written: a line of the file, or a `--set` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// File (or name of a built-in recipe) and line, from 1.
    Line(String, usize),
    /// The override as it was typed, without `--set`.
    Override(String),
    /// The flag that stands for the key, as it was typed.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(origin, line) => write!(f, "{origin}:{line}"),
            Place::Override(text) => write!(f, "--set '{text}'"),
            Place::Flag(typed) => f.write_str(typed),
        }
    }
}

/// One fault of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(super) place: Option<Place>,
    /// The dotted key, as `--set` takes it: `stages.0.context`; empty for the text as a whole.
    pub key: String,
    /// What was expected, what was found.
    pub what: String,
}

impl Fault {
    pub(super) fn new(place: Place, key: impl Into<String>, what: impl Into<String>) -> Fault {
        Fault { place: Some(place), key: key.into(), what: what.into() }
    }

    /// A fault without a place.
    pub(super) fn of_key(key: impl Into<String>, what: impl Into<String>) -> Fault {
        Fault { place: None, key: key.into(), what: what.into() }
    }

    /// The line of the file, from 1; none for an override and for a recipe that was not read from text.
    pub fn line(&self) -> Option<usize> {
        match &self.place {
            Some(Place::Line(_, line)) => Some(*line),
            _ => None,
        }
    }

    /// Whether it is in a `--set`, or in a flag that stands for one.
    pub fn is_override(&self) -> bool {
        matches!(self.place, Some(Place::Override(_) | Place::Flag(_)))
    }

    /// The `KEY=VALUE` of the `--set` that it is in.
    pub fn override_text(&self) -> Option<&str> {
        match &self.place {
            Some(Place::Override(text)) => Some(text),
            _ => None,
        }
    }

    /// The fault in a key that a flag wrote, named as the flag was typed.
    #[must_use]
    pub fn typed_as(self, flag: String) -> Fault {
        Fault { place: Some(Place::Flag(flag)), ..self }
    }

    /// The fault named by its key alone.
    #[must_use]
    pub fn without_place(self) -> Fault {
        Fault { place: None, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() && !matches!(self.place, Some(Place::Flag(_))) {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// All faults of a recipe, at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RecipeError {
    /// In the order in which the recipe is written.
    pub faults: Vec<Fault>,
}

impl From<Fault> for RecipeError {
    fn from(fault: Fault) -> RecipeError {
        RecipeError { faults: vec![fault] }
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n       ")?; // under what follows "error: "
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// The known name that `found` is probably a misspelling of.
pub(super) fn nearest<'k>(found: &str, known: &[&'k str]) -> Option<&'k str> {
    let score = |name: &str| strsim::normalized_damerau_levenshtein(&found.to_lowercase(), name);
    let best = known.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    let is_part = found.len() >= 3 && (best.starts_with(found) || found.starts_with(best));
    (score(best) >= 0.5 || is_part).then_some(best)
}
