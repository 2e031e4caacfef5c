//! `thimble show`: what a person asks about a model.

use super::inspect_adapter;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::file_kind;
use crate::model::Location;
use crate::workspace::Mapped;
use crate::{json, terminal};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use thimble_chat::RecommendedSampling;
use thimble_chat::template::{self, ToolFormat};
use thimble_runtime::adapter::ADAPTER_MAGIC;
use thimble_runtime::format::ModelFile;

/// How the converter's note about a merged adapter begins.
const MERGED: &str = "merged with the adapter ";

/// `thimble show`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A name from `thimble list` that is on this machine, or the path of a model or an .adapter file
    #[arg(value_name = "MODEL")]
    model: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which model.
pub(crate) struct Job {
    location: Location,
    json: bool,
}

#[derive(Serialize)]
struct Output {
    name: String,
    file: PathBuf,
    bytes: u64,
    /// As the source calls itself.
    architecture: Option<String>,
    parameters: u64,
    layers: usize,
    hidden: usize,
    vocabulary: usize,
    /// In tokens.
    context: usize,
    /// Encodings of the weights, the largest part first.
    encodings: Vec<String>,
    bits_per_weight: f64,
    chat: bool,
    thinking: bool,
    /// Whether the chat template lists tools.
    tools: bool,
    /// Adapters that were merged into the weights.
    adapters: Vec<String>,
    licence: Option<String>,
    source: Option<String>,
    /// What the model's makers recommend.
    sampling: Map<String, Value>,
}

impl Job {
    /// Locates the model.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { location: Location::resolve(Some(&flags.model))?, json: flags.json })
    }

    /// Writes the table, or JSON.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let path = match &self.location {
            Location::Path(path) if file_kind::begins_with(path, &ADAPTER_MAGIC) => {
                return inspect_adapter::run(path, self.json, stdout);
            }
            Location::Path(_) => self.location.fetch(Notes::unless(self.json))?,
            _ => self.location.local()?,
        };
        let mapped = Mapped::open(&path)?;
        let output = Output::new(self.location.name(), path, &mapped.file()?);
        if self.json {
            return json::write_pretty(stdout, &output);
        }
        let table = output.table();
        // Provenance and the file's name are untrusted text.
        let printable = terminal::printable(&table);
        let table = if std::io::stdout().is_terminal() { &*printable } else { &*table };
        Ok(stdout.write_all(table.as_bytes())?)
    }
}

impl Output {
    fn new(name: String, file: PathBuf, model: &ModelFile<'_>) -> Output {
        let config = model.config();
        let mut by_encoding: BTreeMap<&str, u64> = BTreeMap::new();
        for tensor in model.tensors().iter() {
            *by_encoding.entry(tensor.encoding.name()).or_default() += tensor.length;
        }
        let weights: u64 = by_encoding.values().sum();
        let mut encodings: Vec<(&str, u64)> = by_encoding.into_iter().collect();
        encodings.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
        let provenance: Value = serde_json::from_str(model.provenance()).unwrap_or_default();
        let text = |key: &str| provenance[key].as_str().filter(|text| !text.is_empty()).map(str::to_string);
        let chat = model.chat();
        let tools = chat.as_ref().and_then(|chat| ToolFormat::of(chat).ok());
        let notes = provenance["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let adapters = notes.filter_map(|note| note.strip_prefix(MERGED));
        Output {
            name,
            file,
            bytes: model.bytes().len() as u64,
            architecture: text("architecture"),
            parameters: config.parameters(),
            layers: config.layers,
            hidden: config.hidden,
            vocabulary: config.vocab,
            context: config.context,
            encodings: encodings.into_iter().map(|(name, _)| name.to_string()).collect(),
            bits_per_weight: weights as f64 * 8.0 / config.parameters().max(1) as f64,
            thinking: chat.as_ref().is_some_and(template::has_thinking),
            tools: tools.is_some_and(|tools| tools.lists_tools),
            chat: chat.is_some(),
            adapters: adapters.map(str::to_string).collect(),
            licence: text("licence"),
            source: text("source"),
            sampling: RecommendedSampling::of(model).to_json(),
        }
    }

    fn table(&self) -> String {
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "not stated".to_string());
        let list = |items: &[String], none: &str| match items {
            [] => none.to_string(),
            items => items.join(", "),
        };
        let abilities: Vec<String> = [("tools", self.tools), ("thinking", self.thinking)]
            .into_iter()
            .filter(|(_, has)| *has)
            .map(|(name, _)| name.to_string())
            .collect();
        let template = match (self.chat, abilities.is_empty()) {
            (false, _) => "none: a base model, for `thimble run`".to_string(),
            (true, true) => "yes".to_string(),
            (true, false) => format!("yes, with {}", abilities.join(" and ")),
        };
        let sampling: Vec<String> =
            self.sampling.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let rows = [
            ("architecture", known(&self.architecture)),
            ("parameters", format!("{:.1} million", self.parameters as f64 / 1e6)),
            ("shape", format!("{} layers, hidden size {}", self.layers, self.hidden)),
            ("vocabulary", format!("{} tokens", self.vocabulary)),
            ("context", format!("{} tokens", self.context)),
            (
                "encoding",
                format!("{} ({:.2} bits per weight)", self.encodings.join(", "), self.bits_per_weight),
            ),
            ("size", format!("{:.1} MB", self.bytes as f64 / 1e6)),
            ("chat template", template),
            ("adapters", list(&self.adapters, "none merged")),
            ("sampling", list(&sampling, "no recommendation: thimble's defaults")),
            ("licence", known(&self.licence)),
            ("source", known(&self.source)),
            ("file", self.file.display().to_string()),
        ];
        let rows = rows.iter().map(|(name, value)| format!("  {name:<14} {value}\n"));
        [format!("{}\n", self.name)].into_iter().chain(rows).collect()
    }
}
