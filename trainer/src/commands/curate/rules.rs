//! `thimble-train curate rules`.

use super::display::Display;
use super::input::InputFlags;
use super::json_lines::JsonLines;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use thimble_curate::document::DocumentId;
use thimble_curate::each::EachDocument;
use thimble_curate::error::CurateError;
use thimble_curate::rules::{BlockedWords, Removal, Rules};
use thimble_trainer::error::{Error, Result};

/// Find documents that the cheap rules of a paper remove.
///
/// gopher-repetition and gopher-quality (Rae et al. 2021), c4 (Raffel et al. 2020; it also drops lines), fineweb (Penedo
/// et al. 2024), with their published thresholds; and a list of blocked words. The first rule that fails removes a document.
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    input: InputFlags,
    /// Rules to apply, in this order.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES",
        default_value = "gopher-repetition,gopher-quality,c4,fineweb",
        value_parser = clap::builder::PossibleValuesParser::new(Rules::NAMES)
    )]
    rules: Vec<String>,
    /// Remove documents with a word or phrase of this file (one a line).
    #[arg(long, value_name = "FILE")]
    blocked_words: Option<PathBuf>,
    /// Print `{"id", "keep"}` for each document; `rules`, `reason`, `value` and `threshold` for one that is removed; `text`
    /// for one whose lines were dropped; `error` for one that cannot be read.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    id: DocumentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<&'static str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    removal: Option<Removal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl Flags {
    fn rules(&self) -> Result<Vec<Rules>> {
        let unknown =
            |name: &String| Error::Usage(format!("--rules: expected {:?}, found {name}", Rules::NAMES));
        let named = self.rules.iter().map(|name| Rules::named(name).ok_or_else(|| unknown(name)));
        let mut rules = named.collect::<Result<Vec<_>>>()?;
        if let Some(path) = &self.blocked_words {
            rules.push(Rules::BlockedWords(BlockedWords::open(path)?));
        }
        Ok(rules)
    }

    pub(super) fn run(self) -> Result<()> {
        let rules = self.rules()?;
        let (sources, read) = self.input.resolve()?;
        let each = EachDocument { sources: &sources, read: &read, threads: self.input.threads() };
        let mut display = Display::new(&sources, 1);
        let mut lines = JsonLines::new();
        let (mut documents, mut size, mut kept, mut bad) = (0, 0, 0, 0u64);
        let mut removed: BTreeMap<(&str, String), u64> = BTreeMap::new();
        each.run(
            |document| decide(&rules, &document.text),
            |id, result, bytes| {
                documents += 1;
                size += bytes;
                let mut line = Line { id, keep: None, error: None, rules: None, removal: None, text: None };
                match result {
                    Ok(Ok(text)) => {
                        kept += 1;
                        (line.keep, line.text) = (Some(true), text);
                    }
                    Ok(Err((rules, removal))) => {
                        *removed.entry((rules, removal.reason.clone())).or_default() += 1;
                        (line.keep, line.rules, line.removal) = (Some(false), Some(rules), Some(removal));
                    }
                    Err(why) => {
                        bad += 1;
                        line.error = Some(why);
                    }
                }
                display.show(documents, size);
                match self.json {
                    true => lines.write(&line).map_err(|error| CurateError::Invalid(error.to_string())),
                    false => Ok(()),
                }
            },
        )?;
        lines.finish()?;
        display.finish(documents, size);
        if bad > 0 {
            eprintln!("warning: {bad} documents cannot be read; --json says which");
        }
        if !self.json {
            for ((rules, reason), count) in &removed {
                println!("{count:>10} {rules}: {reason}");
            }
            println!("{kept} of {documents} documents are kept");
        }
        Ok(())
    }
}

/// The text that is left, if lines were dropped; or the rules that remove it.
fn decide(rules: &[Rules], text: &str) -> std::result::Result<Option<String>, (&'static str, Removal)> {
    let mut edited: Option<String> = None;
    for rules in rules {
        let text = edited.as_deref().unwrap_or(text);
        if let Some(left) = rules.apply(text).map_err(|removal| (rules.name(), removal))? {
            edited = Some(left);
        }
    }
    Ok(edited)
}
