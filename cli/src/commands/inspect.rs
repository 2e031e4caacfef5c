//! `thimble inspect`: what a file contains, and the memory it needs.

use super::inspect_adapter;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::file_kind;
use crate::flags::machine::MachineFlags;
use crate::flags::sampling::LOOKUP;
use crate::model::Location;
use crate::workspace::{self, Mapped};
use crate::{json, terminal};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use thimble_host::InferenceSettings;
use thimble_runtime::Token;
use thimble_runtime::adapter::ADAPTER_MAGIC;
use thimble_runtime::format::{Config, Encoding, ModelFile, RopeScaling, TensorRecord, TensorRole};

/// `thimble inspect`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A .thimble file, an .adapter file, a GGUF file or a Hugging Face folder, or a name from `thimble list` that is on this machine
    #[arg(value_name = "FILE")]
    file: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineFlags,
}

/// Which file.
pub(crate) struct Job {
    location: Location,
    flags: Flags,
}

#[derive(Serialize)]
struct Output {
    file: PathBuf,
    bytes: u64,
    config: Configuration,
    parts: Vec<Part>,
    encodings: Vec<Tensors>,
    parameters: u64,
    bits_per_weight: f64,
    memory: InferenceMemory,
    chat: Option<&'static str>,
    provenance: Value,
    /// The stop tokens with their text.
    #[serde(skip)]
    stops: Vec<String>,
}

#[derive(Serialize)]
struct Configuration {
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ffn: usize,
    vocab: usize,
    context: usize,
    rope_theta: f32,
    rope_scaling: Option<String>,
    norm_eps: f32,
    tied: bool,
    /// What a plain Llama lacks: optional tensors of each layer, and options with their numbers of layers.
    options: Vec<String>,
    bos: Option<u32>,
    stop: Vec<u32>,
}

#[derive(Serialize)]
struct Part {
    name: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Tensors {
    encoding: &'static str,
    tensors: usize,
    weights: u64,
    bytes: u64,
    bits_per_weight: f64,
}

#[derive(Serialize)]
struct InferenceMemory {
    context: usize,
    bytes: usize,
    backend: &'static str,
}

impl Job {
    /// Locates the file.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { location: Location::resolve(Some(&flags.file))?, flags })
    }

    /// Writes the table, or JSON.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let path = match &self.location {
            Location::Path(path) if file_kind::begins_with(path, &ADAPTER_MAGIC) => {
                return inspect_adapter::run(path, self.flags.json, stdout);
            }
            Location::Path(_) => self.location.fetch(Notes::unless(self.flags.json))?,
            _ => self.location.local()?,
        };
        let mapped = Mapped::open(&path)?;
        let file = mapped.file()?;
        let needed = InferenceSettings {
            context: Some(file.config().context),
            lookup: LOOKUP,
            ..InferenceSettings::default()
        };
        let plan = workspace::plan(file.config(), &self.flags.machine.settings(needed))?;
        let memory =
            InferenceMemory { context: plan.context(), bytes: plan.bytes(), backend: plan.kernels().name() };
        let output = Output::new(path, &file, memory);
        if self.flags.json {
            return json::write_pretty(stdout, &output);
        }
        let mut table = Vec::new();
        output.table(&mut table)?;
        // Provenance and the file's name are untrusted text.
        let table = String::from_utf8_lossy(&table);
        let table = if std::io::stdout().is_terminal() { terminal::printable(&table) } else { table };
        Ok(stdout.write_all(table.as_bytes())?)
    }
}

impl Output {
    fn new(path: PathBuf, file: &ModelFile<'_>, memory: InferenceMemory) -> Output {
        let config = file.config();
        let bits = |bytes: u64, weights: u64| bytes as f64 * 8.0 / weights.max(1) as f64;
        let weights = |tensor: &TensorRecord| u64::from(tensor.rows) * u64::from(tensor.columns);
        let encodings = Encoding::ALL.into_iter().filter_map(|encoding| {
            let all: Vec<TensorRecord> = file.tensors().iter().filter(|t| t.encoding == encoding).collect();
            let (count, bytes) = (all.iter().map(weights).sum(), all.iter().map(|t| t.length).sum());
            let name = encoding.name();
            let bits_per_weight = bits(bytes, count);
            let tensors =
                Tensors { encoding: name, tensors: all.len(), weights: count, bytes, bits_per_weight };
            (!all.is_empty()).then_some(tensors)
        });
        let encodings: Vec<Tensors> = encodings.collect();
        let part = |section: thimble_runtime::format::SectionRecord| Part {
            name: section.kind.to_string(),
            bytes: section.length,
        };
        Output {
            file: path,
            bytes: file.bytes().len() as u64,
            config: Configuration {
                hidden: config.hidden,
                layers: config.layers,
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_dim: config.head_dim,
                ffn: config.ffn,
                vocab: config.vocab,
                context: config.context,
                rope_theta: config.rope.theta,
                rope_scaling: Some(config.rope.scaling)
                    .filter(|scaling| *scaling != RopeScaling::None)
                    .map(|scaling| scaling.to_string()),
                norm_eps: config.norm_eps,
                tied: config.tied,
                options: options(config),
                bos: config.bos.map(|token| token.0),
                stop: config.stop.iter().flatten().map(|token| token.0).collect(),
            },
            parts: file.sections().map(part).collect(),
            bits_per_weight: bits(encodings.iter().map(|t| t.bytes).sum(), config.parameters()),
            encodings,
            parameters: config.parameters(),
            memory,
            chat: file.chat().map(|chat| if chat.jinja().is_some() { "jinja" } else { "literals" }),
            stops: config.stop.iter().flatten().map(|token| token_text(file, *token)).collect(),
            // Files of other converters need not have JSON here.
            provenance: serde_json::from_str(file.provenance())
                .unwrap_or_else(|_| Value::String(file.provenance().to_string())),
        }
    }

    fn table(&self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Output { config, memory, .. } = self;
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        writeln!(out, "{}: {:.1} MB", self.file.display(), megabytes(self.bytes))?;
        writeln!(out, "\nconfiguration")?;
        let head = if config.tied { "tied to the embedding" } else { "its own" };
        let rows = [
            ("parameters", self.parameters.to_string()),
            ("layers", config.layers.to_string()),
            ("hidden size", config.hidden.to_string()),
            (
                "heads",
                format!(
                    "{} ({} for keys and values), {} wide",
                    config.heads, config.kv_heads, config.head_dim
                ),
            ),
            ("feed-forward size", config.ffn.to_string()),
            ("vocabulary", config.vocab.to_string()),
            ("context", config.context.to_string()),
            ("RoPE theta", config.rope_theta.to_string()),
            ("RoPE scaling", config.rope_scaling.clone().unwrap_or_default()),
            ("options", config.options.join("; ")),
            ("head", head.to_string()),
            ("stop tokens", self.stops.join(", ")),
            ("chat template", template(self.chat).to_string()),
        ];
        let optional = ["RoPE scaling", "options"];
        for (name, value) in
            rows.iter().filter(|(name, value)| !(optional.contains(name) && value.is_empty()))
        {
            writeln!(out, "  {name:<18} {value}")?;
        }
        writeln!(out, "\nbytes per part")?;
        for part in &self.parts {
            writeln!(out, "  {:<18} {:>12}", part.name, part.bytes)?;
        }
        writeln!(out, "\nweights")?;
        for t in &self.encodings {
            let line = format!(
                "{:>12} bytes {:>4} tensors {:>6.3} bits per weight",
                t.bytes, t.tensors, t.bits_per_weight
            );
            writeln!(out, "  {:<18} {line}", t.encoding)?;
        }
        writeln!(out, "  {:<18} {:>38.3} bits per weight", "all", self.bits_per_weight)?;
        writeln!(out, "\nmemory besides the file")?;
        writeln!(
            out,
            "  {:.1} MB at most for a context of {} tokens ({}); --context N shows another",
            megabytes(memory.bytes as u64),
            memory.context,
            memory.backend
        )?;
        writeln!(out, "\nprovenance")?;
        match &self.provenance {
            Value::Object(fields) => {
                for (name, value) in fields.iter().filter(|(_, value)| !is_empty(value)) {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                    writeln!(out, "  {name:<18} {text}")?;
                }
            }
            other => writeln!(out, "  {other}")?,
        }
        Ok(())
    }
}

/// What a plain Llama lacks: optional tensors of each layer, and options with their numbers of layers.
fn options(config: &Config) -> Vec<String> {
    let plain: Vec<TensorRole> = TensorRole::of_layer(&Config::PLAIN).collect();
    let tensors = TensorRole::of_layer(config).filter(|role| !plain.contains(role));
    let mut layers: BTreeMap<String, usize> = BTreeMap::new();
    for layer in 0..config.layers {
        *layers.entry(config.layer(layer).to_string()).or_default() += 1;
    }
    let layers = layers.into_iter().filter(|(option, _)| !option.is_empty());
    let layers = layers.map(|(option, count)| format!("{option} in {count} of {} layers", config.layers));
    tensors.map(|role| role.to_string()).chain(layers).collect()
}

/// A token's id and text.
fn token_text(file: &ModelFile<'_>, token: Token) -> String {
    let text = String::from_utf8_lossy(file.tokenizer().token_bytes(token)).into_owned();
    format!("{} {text:?}", token.0)
}

fn template(kind: Option<&'static str>) -> &'static str {
    match kind {
        Some("jinja") => "a Jinja template",
        Some(_) => "fixed texts around each message",
        None => "none: a base model",
    }
}

/// Whether a field has no content.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
