//! The tasks' data: a folder of JSON Lines files, or data sets on the hub.

mod hub;
mod parquet;
pub(crate) mod row;
pub(crate) mod table;

use crate::benchmarks::error::{EvalError, Result};
use crate::benchmarks::item::{self, Item};
use crate::benchmarks::task::Task;
pub use hub::HubDatasets;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use table::Table;

/// The rows to use of each task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Rows to skip.
    pub offset: usize,
    /// The limit of rows; all by default.
    pub limit: Option<usize>,
}

/// The source of the tasks' data.
#[derive(Clone, Debug)]
pub enum DataSource {
    /// `FOLDER/TASK/SPLIT.jsonl`.
    Folder(PathBuf),
    /// The hub's data sets.
    Hub(HubDatasets),
}

/// A file of a task's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Its name: the last two parts of its path.
    pub name: String,
    /// XXH3 of its content, in hexadecimal.
    pub checksum: String,
}

/// One task's items.
#[derive(Clone, Debug)]
pub struct BenchmarkData {
    /// The task.
    pub task: Task,
    /// The selected items, in the order of the file.
    pub items: Vec<Item>,
    /// Rows of the whole file.
    pub rows: usize,
    /// The files.
    pub files: Vec<DataFile>,
}

impl BenchmarkData {
    /// The error for an item's row.
    pub(crate) fn wrong(&self, item: &Item, reason: String) -> EvalError {
        let file = self.files.first().map(|file| file.name.clone()).unwrap_or_default();
        EvalError::Row { file: file.into(), line: item.line, reason }
    }
}

/// The splits of a task: the one to test, and GSM8K's examples.
fn splits(task: Task) -> (&'static str, Option<&'static str>) {
    match task {
        Task::Boolq | Task::Hellaswag | Task::Piqa | Task::Winogrande | Task::Truthfulqa => {
            ("validation", None)
        }
        Task::Gsm8k => ("test", Some("train")),
        _ => ("test", None),
    }
}

impl DataSource {
    /// The task's selected items.
    ///
    /// # Errors
    /// [`EvalError::Missing`] if there is no data, others for invalid data.
    pub fn load(&self, task: Task, selection: Selection) -> Result<BenchmarkData> {
        let (tested, examples) = splits(task);
        let tested = self.table(task, tested)?;
        let examples = examples.map(|split| self.table(task, split)).transpose()?;
        let rows = tested.len();
        let end = selection.limit.map_or(rows, |limit| rows.min(selection.offset.saturating_add(limit)));
        if selection.offset >= end {
            let offset = selection.offset;
            return Err(tested.wrong(match (selection.limit, rows) {
                (Some(0), _) => "--limit 0 selects no rows: raise it".to_string(),
                (_, 1) => format!("--offset {offset} skips the only row: lower it"),
                _ => format!("--offset {offset} skips all {rows} rows: lower it"),
            }));
        }
        let row = |index| Ok((index, tested.row(index)?));
        let selected = (selection.offset..end).map(row);
        let items = match &examples {
            Some(examples) => item::gsm8k(selected, selection.offset, examples)?,
            None => selected
                .map(|row| row.and_then(|(index, row)| item::choices(task, index, &row)))
                .collect::<Result<_>>()?,
        };
        let files = [Some(&tested), examples.as_ref()].into_iter().flatten().map(DataFile::of).collect();
        Ok(BenchmarkData { task, items, rows, files })
    }

    /// The user's own files of a task; none for data from the hub.
    pub(crate) fn files(&self, task: Task) -> Vec<PathBuf> {
        let DataSource::Folder(folder) = self else { return Vec::new() };
        let (tested, examples) = splits(task);
        [Some(tested), examples].into_iter().flatten().map(|split| file(folder, task, split)).collect()
    }

    fn table(&self, task: Task, split: &str) -> Result<Table> {
        match self {
            DataSource::Folder(folder) => {
                let file = file(folder, task, split);
                match Table::json_lines(&file) {
                    Err(EvalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                        Err(EvalError::Missing { reason: format!("there is no file {}", file.display()) })
                    }
                    table => table,
                }
            }
            DataSource::Hub(hub) => hub.table(task, split),
        }
    }
}

/// A split's file in a folder of data.
fn file(folder: &Path, task: Task, split: &str) -> PathBuf {
    folder.join(task.name()).join(format!("{split}.jsonl"))
}

impl DataFile {
    fn of(table: &Table) -> DataFile {
        let parts: Vec<_> = table.file().iter().map(|part| part.to_string_lossy()).collect();
        let name = parts[parts.len().saturating_sub(2)..].join("/");
        DataFile { name, checksum: format!("{:016x}", table.checksum()) }
    }
}

#[cfg(test)]
mod tests;
