//! `thimble inspect` of an adapter.

use crate::adapters;
use crate::failure::Failure;
use crate::{json, terminal};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use thimble_runtime::adapter::AdapterRecord;

#[derive(Serialize)]
struct Output {
    file: PathBuf,
    bytes: u64,
    /// Identifies the base model; `null` if it is not known.
    base_fingerprint: Option<String>,
    /// Layers of the base model; `null` if they are not known.
    layers: Option<u32>,
    rank: usize,
    parameters: u64,
    matrices: Vec<Matrices>,
    provenance: Value,
}

/// The adapted matrices of one kind.
#[derive(Serialize)]
struct Matrices {
    matrix: String,
    layers: usize,
    rows: u32,
    columns: u32,
    encoding: &'static str,
}

/// Writes the table, or JSON.
pub(super) fn run(path: &Path, as_json: bool, stdout: &mut dyn Write) -> Result<(), Failure> {
    let adapter = adapters::open(path)?;
    let file = adapters::view(&adapter)?;
    let mut kinds: BTreeMap<u16, (usize, AdapterRecord)> = BTreeMap::new();
    let mut parameters = 0;
    for record in file.records() {
        kinds.entry(record.role as u16).or_insert((0, record)).0 += 1;
        parameters += u64::from(record.rank) * (u64::from(record.rows) + u64::from(record.columns));
    }
    let matrices = kinds.into_values().map(|(layers, record)| Matrices {
        matrix: record.role.to_string(),
        layers,
        rows: record.rows,
        columns: record.columns,
        encoding: record.encoding.name(),
    });
    let output = Output {
        file: path.to_path_buf(),
        bytes: file.bytes().len() as u64,
        base_fingerprint: file.header().fingerprint.map(|fingerprint| format!("{fingerprint:016x}")),
        layers: file.header().layers,
        rank: file.rank(),
        parameters,
        matrices: matrices.collect(),
        provenance: serde_json::from_str(file.provenance())
            .unwrap_or_else(|_| Value::String(file.provenance().to_string())),
    };
    if as_json {
        return json::write_pretty(stdout, &output);
    }
    // Provenance and the file's name are untrusted text.
    let table = output.table();
    let table = if std::io::stdout().is_terminal() { terminal::printable(&table) } else { table.into() };
    Ok(stdout.write_all(table.as_bytes())?)
}

impl Output {
    fn table(&self) -> String {
        let unknown = || "not known".to_string();
        let mut lines = vec![format!("{}: {:.1} MB", self.file.display(), self.bytes as f64 / 1e6)];
        lines.push("\nadapter".to_string());
        for (name, value) in [
            ("base fingerprint", self.base_fingerprint.clone().unwrap_or_else(unknown)),
            ("base layers", self.layers.map_or_else(unknown, |layers| layers.to_string())),
            ("largest rank", self.rank.to_string()),
            ("parameters", self.parameters.to_string()),
        ] {
            lines.push(format!("  {name:<18} {value}"));
        }
        lines.push("\nadapted matrices".to_string());
        for Matrices { matrix, layers, rows, columns, encoding } in &self.matrices {
            lines.push(format!("  {matrix:<18} {rows} x {columns} in {layers} layers, {encoding}"));
        }
        lines.push("\nprovenance".to_string());
        match &self.provenance {
            Value::Object(fields) => {
                lines.extend(fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                    format!("  {name:<18} {text}")
                }))
            }
            other => lines.push(format!("  {other}")),
        }
        lines.join("\n") + "\n"
    }
}
