//! `thimble list`: the catalogue, and which models are on this machine.

use crate::catalogue::{DEFAULT, ENTRIES, Entry};
use crate::failure::Failure;
use crate::home::Home;
use crate::json;
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
    name: &'static str,
    repository: &'static str,
    parameters: u64,
    instruct: bool,
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
        let rows = ENTRIES.each_ref().map(|entry| self.row(entry));
        if self.json {
            return json::write_pretty(stdout, &rows);
        }
        let [name, parameters, size] = ["NAME", "PARAMETERS", "ON DISK"];
        writeln!(stdout, "{name:<24} {parameters:>10}  {size:>9}  REPOSITORY")?;
        for row in &rows {
            let parameters = match row.parameters as f64 / 1e6 {
                millions if millions < 1000.0 => format!("{millions:.0}M"),
                millions => format!("{:.1}B", millions / 1e3),
            };
            let size = row.bytes.map_or_else(|| "-".to_string(), |b| format!("{:.0} MB", b as f64 / 1e6));
            let mark = if row.default { "  (default)" } else { "" };
            writeln!(stdout, "{:<24} {parameters:>10}  {size:>9}  {}{mark}", row.name, row.repository)?;
        }
        Ok(writeln!(stdout, "\nmodels are kept in {}", self.home.folder().display())?)
    }

    fn row(&self, entry: &Entry) -> Row {
        let path = self.home.model(entry.name);
        let bytes = std::fs::metadata(&path).ok().filter(|data| data.is_file()).map(|data| data.len());
        Row {
            name: entry.name,
            repository: entry.repository,
            parameters: entry.parameters,
            instruct: entry.instruct,
            default: entry.name == DEFAULT,
            path: bytes.is_some().then_some(path),
            bytes,
        }
    }
}
