//! `thimble list`: the catalogue, and which models and conversions are on this machine.

use crate::catalogue::{DEFAULT, ENTRIES, Entry};
use crate::converted::{Conversion, Index};
use crate::failure::Failure;
use crate::home::Home;
use crate::json;
use crate::repository;
use crate::workspace::Mapped;
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// `thimble list`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// Print a JSON array instead of the table
    #[arg(long)]
    json: bool,
}

/// Table or JSON.
pub(crate) struct Job {
    home: Home,
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// On the hub; `null` for a converted source and for a name of `thimble cp`.
    repository: Option<String>,
    /// The path that was converted; `null` for a model of the catalogue.
    source: Option<PathBuf>,
    /// `null` for a model of the store whose file this version cannot read.
    parameters: Option<u64>,
    /// Whether it was tuned for conversation, if that is known.
    instruct: Option<bool>,
    default: bool,
    /// Its file, if it is on this machine.
    path: Option<PathBuf>,
    bytes: Option<u64>,
}

impl Job {
    /// Locates the folder of models.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { home: Home::find()?, json: flags.json })
    }

    /// Writes the list.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let converted = Index::read(&self.home).conversions;
        let converted = converted.iter().map(|conversion| self.converted(conversion));
        let stored = self.home.stored();
        let stored = stored.iter().map(|name| self.stored(name));
        let rows = ENTRIES.iter().map(|entry| self.row(entry)).chain(stored).chain(converted);
        let rows: Vec<Row> = rows.collect();
        if self.json {
            return json::write_pretty(stdout, &rows);
        }
        let [name, parameters, size] = ["NAME", "PARAMETERS", "ON DISK"];
        writeln!(stdout, "{name:<24} {parameters:>10}  {size:>9}  REPOSITORY OR SOURCE")?;
        for row in &rows {
            let parameters = match row.parameters.map(|parameters| parameters as f64 / 1e6) {
                Some(millions) if millions < 1000.0 => format!("{millions:.0}M"),
                Some(millions) => format!("{:.1}B", millions / 1e3),
                None => "?".to_string(),
            };
            let size = row.bytes.map_or_else(|| "-".to_string(), |b| format!("{:.0} MB", b as f64 / 1e6));
            let mark = if row.default { "  (default)" } else { "" };
            let from = match (&row.source, &row.repository) {
                (Some(source), _) if source.exists() => source.display().to_string(),
                (Some(source), _) => format!("{} (gone)", source.display()),
                (None, repository) => repository.clone().unwrap_or_else(|| "(a copy)".to_string()),
            };
            writeln!(stdout, "{:<24} {parameters:>10}  {size:>9}  {from}{mark}", row.name)?;
        }
        writeln!(stdout, "\nmodels are kept in {}", self.home.folder().display())?;
        Ok(writeln!(stdout, "`thimble remove NAME` deletes one from this machine")?)
    }

    fn row(&self, entry: &Entry) -> Row {
        let path = self.home.model(entry.name);
        let bytes = std::fs::metadata(&path).ok().filter(|data| data.is_file()).map(|data| data.len());
        Row {
            name: entry.name.to_string(),
            repository: Some(entry.repository.to_string()),
            source: None,
            parameters: Some(entry.parameters),
            instruct: Some(entry.instruct),
            default: entry.name == DEFAULT,
            path: bytes.is_some().then_some(path),
            bytes,
        }
    }

    /// Another model of the store: of a repository, or one that `thimble cp` named. A file that is damaged or needs a newer thimble is on this
    /// machine, too.
    fn stored(&self, name: &str) -> Row {
        let path = self.home.model(name);
        let mapped = Mapped::open(&path).ok();
        let file = mapped.as_ref().and_then(|mapped| mapped.file().ok());
        Row {
            name: name.to_string(),
            repository: repository::is_repository(name).then(|| name.to_string()),
            source: None,
            parameters: file.as_ref().map(|file| file.config().parameters()),
            instruct: file.as_ref().map(|file| file.chat().is_some()),
            default: false,
            bytes: std::fs::metadata(&path).ok().map(|data| data.len()),
            path: Some(path),
        }
    }

    fn converted(&self, conversion: &Conversion) -> Row {
        let path = conversion.path(&self.home);
        let bytes = std::fs::metadata(&path).ok().map(|data| data.len());
        Row {
            name: conversion.name(),
            repository: None,
            source: Some(conversion.source.clone()),
            parameters: Some(conversion.parameters),
            instruct: None,
            default: false,
            path: bytes.is_some().then_some(path),
            bytes,
        }
    }
}
