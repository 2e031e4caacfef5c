//! TensorBoard event files: TFRecord framing around `tensorflow.Event` messages.
//!
//! Field numbers are those of tensorflow/core/util/event.proto and core/framework/{summary,tensor}.proto.

use super::metrics::{SampleText, StepMetrics, ValidationPoint};
use crate::error::{Error, Result};
use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The folder's name in a run folder.
pub const FOLDER_NAME: &str = "tensorboard";

const PREFIX: &str = "events.out.tfevents.";

/// `tensorflow.Event`.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "EventKind", tags = "3, 5, 7")]
    what: Option<EventKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum EventKind {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// `tensorflow.SessionLog`; a start at step N makes a reader forget what earlier files said of N and later.
#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SessionLog.SessionStatus.START`.
const START: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
    #[prost(oneof = "Content", tags = "2, 8")]
    content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Content {
    #[prost(float, tag = "2")]
    Simple(f32),
    #[prost(message, tag = "8")]
    Tensor(Tensor),
}

/// `tensorflow.SummaryMetadata`.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin: Option<Plugin>,
}

#[derive(Clone, PartialEq, Message)]
struct Plugin {
    #[prost(string, tag = "1")]
    name: String,
}

/// `tensorflow.TensorProto`.
#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    strings: Vec<Vec<u8>>,
}

/// `DataType.DT_STRING`.
const STRING: i32 = 7;

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "2")]
    dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, tag = "1")]
    size: i64,
}

impl Event {
    fn encode_record(&self) -> Vec<u8> {
        record(&self.encode_to_vec())
    }
}

/// One TFRecord: length, its masked checksum, the bytes, theirs (tensorflow/core/lib/io/record_writer.h).
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_checksum(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_checksum(data).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted so that it stays good for data that contains checksums.
fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn scalar(tag: &str, value: f64) -> Value {
    Value { tag: tag.into(), metadata: None, content: Some(Content::Simple(value as f32)) }
}

fn text(tag: String, markdown: String) -> Value {
    let shape = Shape { dimensions: vec![Dimension { size: 1 }] };
    let tensor = Tensor { dtype: STRING, shape: Some(shape), strings: vec![markdown.into_bytes()] };
    let plugin = Plugin { name: "text".into() };
    Value { tag, metadata: Some(Metadata { plugin: Some(plugin) }), content: Some(Content::Tensor(tensor)) }
}

/// The event file of one start of a run; every event is written at once.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Creates a file in `run`/tensorboard for a run with `finished` steps: TensorBoard drops later steps of earlier
    /// files. A new run (`finished` = 0) removes the files of the run before it.
    ///
    /// # Errors
    /// [`Error::File`] when the folder cannot be written to.
    pub fn create(run: &Path, finished: u64) -> Result<EventFile> {
        let folder = run.join(FOLDER_NAME);
        std::fs::create_dir_all(&folder).map_err(Error::file(&folder, "create"))?;
        let mut after = 0;
        for entry in std::fs::read_dir(&folder).map_err(Error::file(&folder, "read"))? {
            let entry = entry.map_err(Error::file(&folder, "read"))?;
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            if finished == 0 {
                std::fs::remove_file(entry.path()).map_err(Error::file(&entry.path(), "remove"))?;
            } else {
                let second = rest.split('.').next().and_then(|second| second.parse().ok());
                after = after.max(second.map_or(0, |second: u64| second.saturating_add(1)));
            }
        }
        // TensorBoard reads the files in the order of their names, and a resumed run's must come last, whatever the
        // clock says. The third part of the name is usually a host; here it is the program.
        let second = after.max(wall_time() as u64);
        let path = folder.join(format!("{PREFIX}{second:010}.thimble-train.{}", std::process::id()));
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let mut events = EventFile { file: file.map_err(Error::file(&path, "create"))?, path };
        events.write(0, EventKind::FileVersion("brain.Event:2".into()))?;
        if finished > 0 {
            events.write(finished + 1, EventKind::SessionLog(SessionLog { status: START }))?;
        }
        Ok(events)
    }

    /// Writes loss, learning rate, gradient norm, tokens per second, the MFU where known, and the objective's figures.
    ///
    /// # Errors
    /// [`Error::File`], as on a full disk.
    pub fn step(&mut self, step: &StepMetrics) -> Result<()> {
        let mut value = vec![
            scalar("loss", step.loss),
            scalar("learning_rate", step.learning_rate),
            scalar("gradient_norm", step.gradient_norm),
            scalar("tokens_per_second", step.tokens_per_second),
        ];
        value.extend(step.mfu.map(|mfu| scalar("mfu_causal", mfu)));
        value.extend(step.figures.iter().map(|(name, figure)| scalar(name, *figure)));
        self.write(step.step, EventKind::Summary(Summary { value }))
    }

    /// Writes held-out loss, perplexity where there is one, and figures.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn validation(&mut self, point: &ValidationPoint) -> Result<()> {
        let mut value = vec![scalar("validation/loss", point.loss)];
        value.extend(point.perplexity.map(|perplexity| scalar("validation/perplexity", perplexity)));
        let figures = point.figures.iter();
        value.extend(figures.map(|(name, figure)| scalar(&format!("validation/{name}"), *figure)));
        self.write(point.step, EventKind::Summary(Summary { value }))
    }

    /// Writes a text under a tag of its prompt.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn sample(&mut self, sample: &SampleText) -> Result<()> {
        let prompt: Vec<&str> = sample.prompt.split_whitespace().collect();
        let bold = match sample.prompt.trim() {
            "" => String::new(),
            words => format!("**{}**", escape(words)),
        };
        let gap = &sample.prompt[sample.prompt.trim_end().len()..];
        let markdown = format!("{bold}{}", escape(&format!("{gap}{}", sample.text)));
        let value = vec![text(format!("sample/{}", prompt.join(" ")), markdown)];
        self.write(sample.step, EventKind::Summary(Summary { value }))
    }

    fn write(&mut self, step: u64, what: EventKind) -> Result<()> {
        let event = Event { wall_time: wall_time(), step: step as i64, what: Some(what) };
        self.file.write_all(&event.encode_record()).map_err(Error::file(&self.path, "write"))
    }
}

/// Seconds since 1970.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// Markdown that shows `text` as it is: TensorBoard renders text summaries.
fn escape(text: &str) -> String {
    let mut markdown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => markdown.push_str("&lt;"),
            '&' => markdown.push_str("&amp;"),
            '\n' => markdown.push_str("  \n"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' => markdown.extend(['\\', character]),
            _ => markdown.push(character),
        }
    }
    markdown
}

#[cfg(test)]
mod tests;
