//! A quantization recipe as a table: patterns of tensor names, each with an encoding.
//!
//! ```toml
//! base = "q4"                    # for tensors that no pattern matches; the default is --quant
//!
//! [[tensor]]
//! pattern = "layers.*.down"      # embedding, head, or layers.N.query (key, value, output, gate, up, down)
//! encoding = "q5nl"
//!
//! [[tensor]]
//! pattern = "layers.0-2,29.*"    # ranges and lists of layers; `*` stands for any part of a name
//! encoding = "q6"
//! ```
//!
//! If several patterns match a tensor, the last one wins.

use super::Quant;
use crate::ConvertError;
use crate::read::SourceTensor;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use thimble_runtime::format::{Config, Encoding, TensorRole};

/// An encoding for the tensors that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The pattern; the module documentation describes the syntax.
    pub pattern: String,
    /// The encoding's name.
    pub encoding: String,
}

/// Encodings by pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The preset for tensors that no rule matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The rules; later rules override earlier ones.
    #[serde(default, rename = "tensor")]
    pub rules: Vec<Rule>,
}

/// Names of the matrices of a layer.
const PARTS: [(&str, TensorRole); 7] = [
    ("query", TensorRole::Query),
    ("key", TensorRole::Key),
    ("value", TensorRole::Value),
    ("output", TensorRole::Output),
    ("gate", TensorRole::Gate),
    ("up", TensorRole::Up),
    ("down", TensorRole::Down),
];

/// A tensor's name in tables; norms have none.
pub fn path(role: TensorRole, layer: u16) -> Option<String> {
    match role {
        TensorRole::Embedding => Some("embedding".to_owned()),
        TensorRole::Head => Some("head".to_owned()),
        _ => {
            let (part, _) = PARTS.iter().find(|(_, r)| *r == role)?;
            Some(format!("layers.{layer}.{part}"))
        }
    }
}

impl Table {
    /// Reads a table from TOML text; `place` names it in errors.
    pub fn parse(text: &str, place: &str) -> Result<Table, ConvertError> {
        let invalid = |error: &dyn Display| {
            let reason = error.to_string();
            fault(format!("the recipe {place} is invalid: {}", reason.trim_end()))
        };
        let table: Table = toml::from_str(text).map_err(|error| invalid(&error))?;
        for rule in &table.rules {
            encoding(&rule.encoding).map_err(|error| invalid(&error))?;
        }
        if let Some(base) = &table.base {
            base.parse::<Quant>().map_err(|error| invalid(&error))?;
        }
        Ok(table)
    }

    /// The table as TOML text, which [`Table::parse`] reads back.
    pub fn to_toml(&self) -> String {
        // Two levels of text keys always have a TOML form.
        toml::to_string(self).unwrap_or_default()
    }

    /// The table for these encodings, with one rule for each run of layers.
    pub fn of(config: &Config, encodings: &[Encoding]) -> Table {
        let mut rules = Vec::new();
        let mut runs: Vec<(&str, u16, u16, Encoding)> = Vec::new();
        for (index, &encoding) in encodings.iter().enumerate() {
            let (role, layer) = TensorRole::at(config, index);
            let Some(path) = path(role, layer) else { continue };
            let Some((part, _)) = PARTS.iter().find(|(_, r)| *r == role) else {
                rules.push(Rule { pattern: path, encoding: encoding.name().to_owned() });
                continue;
            };
            match runs.iter_mut().rev().find(|(p, ..)| p == part) {
                Some(run) if run.2 + 1 == layer && run.3 == encoding => run.2 = layer,
                _ => runs.push((part, layer, layer, encoding)),
            }
        }
        for (part, _) in PARTS {
            for (_, first, last, encoding) in runs.iter().filter(|(p, ..)| *p == part) {
                let layers = if first == last { first.to_string() } else { format!("{first}-{last}") };
                rules.push(Rule {
                    pattern: format!("layers.{layers}.{part}"),
                    encoding: encoding.name().to_owned(),
                });
            }
        }
        Table { base: None, rules }
    }

    /// The encoding of every tensor: that of the last matching rule, otherwise that of `base` or `quant`.
    ///
    /// # Errors
    /// A rule that matches no matrix of this model.
    pub fn encodings(&self, tensors: &[SourceTensor], quant: Quant) -> Result<Vec<Encoding>, ConvertError> {
        let base = self.base.as_deref().map_or(Ok(quant), str::parse)?;
        let mut encodings: Vec<Encoding> = tensors.iter().map(|tensor| base.encoding(tensor)).collect();
        let paths: Vec<Option<String>> = tensors.iter().map(|t| path(t.role, t.layer)).collect();
        for rule in &self.rules {
            let encoding = encoding(&rule.encoding)?;
            let mut found = false;
            for (path, slot) in paths.iter().zip(&mut encodings) {
                if path.as_deref().is_some_and(|path| matches(&rule.pattern, path)) {
                    (*slot, found) = (encoding, true);
                }
            }
            if !found {
                return Err(unmatched(&rule.pattern, &paths));
            }
        }
        Ok(encodings)
    }
}

fn fault(reason: String) -> ConvertError {
    ConvertError::Recipe { reason }
}

/// The matrix encoding of this name.
pub(crate) fn encoding(name: &str) -> Result<Encoding, ConvertError> {
    Encoding::matrices().find(|e| e.name() == name).ok_or_else(|| {
        let known: Vec<&str> = Encoding::matrices().map(Encoding::name).collect();
        let hint = nearest(name, known.iter().copied()).map(|n| format!(", did you mean {n}?"));
        fault(format!(
            "no encoding is called {name:?}{} (known: {})",
            hint.unwrap_or_default(),
            known.join(", ")
        ))
    })
}

/// The known name most similar to an unknown one.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let similarity = |known: &str| strsim::jaro_winkler(name, known);
    known
        .map(|k| (similarity(k), k))
        .filter(|(s, _)| *s > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

fn unmatched(pattern: &str, paths: &[Option<String>]) -> ConvertError {
    let hint = match nearest(pattern, paths.iter().flatten().map(String::as_str)) {
        Some(nearest) => format!("the nearest name is {nearest}"),
        None => {
            "names are embedding, head and layers.N.query, key, value, output, gate, up or down".to_owned()
        }
    };
    fault(format!("the recipe's pattern {pattern:?} matches no matrix of this model; {hint}"))
}

/// Whether a pattern matches a tensor's path.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('.'), path.split('.'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if pattern.split(',').any(|one| names(one.trim(), part)) => {}
            _ => return false,
        }
    }
}

/// Whether one alternative of a pattern's part matches a path's part.
fn names(pattern: &str, part: &str) -> bool {
    if let (Some((first, last)), Ok(layer)) = (pattern.split_once('-'), part.parse::<u16>())
        && let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>())
    {
        return (first..=last).contains(&layer);
    }
    match pattern.split_once('*') {
        None => pattern == part,
        Some((before, rest)) => {
            let Some(part) = part.strip_prefix(before) else { return false };
            part.char_indices().map(|(at, _)| at).chain([part.len()]).any(|at| names(rest, &part[at..]))
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
