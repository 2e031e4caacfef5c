//! What is wrong with a recipe: the place, the key, and a sentence.

use super::tree::Place;
use std::fmt;

/// One thing that is wrong with a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    place: Option<Place>,
    /// The dotted key, as `--set` takes it: `stages.0.context`; empty for the text as a whole.
    pub key: String,
    /// What was expected, what was found.
    pub what: String,
}

impl Fault {
    pub(super) fn new(place: Place, key: impl Into<String>, what: impl Into<String>) -> Fault {
        Fault { place: Some(place), key: key.into(), what: what.into() }
    }

    /// A fault of a recipe whose text is not at hand.
    pub(super) fn of_key(key: impl Into<String>, what: impl Into<String>) -> Fault {
        Fault { place: None, key: key.into(), what: what.into() }
    }

    pub(super) fn at(self, place: Place) -> Fault {
        Fault { place: Some(place), ..self }
    }

    /// The line of the file, from 1; none for an override and for a recipe that was not read from text.
    pub fn line(&self) -> Option<usize> {
        match &self.place {
            Some(Place::Line(_, line)) => Some(*line),
            _ => None,
        }
    }

    /// Whether `--set` is to blame.
    pub fn is_override(&self) -> bool {
        matches!(self.place, Some(Place::Override(_)))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// Everything that was found wrong with a recipe, at least one thing.
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
