//! Turns a Hugging Face folder or a GGUF file into a `.thimble` file.
//!
//! [`read::open`] makes a [`Checkpoint`] of either; a [`Quant`] says how each tensor is stored; [`convert`]
//! streams it to disk a few megabytes at a time, so memory does not grow with the model.

pub mod calibrate;
pub mod chat;
mod dequantize;
mod error;
pub mod pack;
pub mod quantize;
pub mod read;
pub mod recipe;
mod sections;
pub mod tokenizer;
pub mod write;

pub use dequantize::dequantize;
pub use error::ConvertError;
pub use read::{BlockType, Checkpoint};
pub use recipe::{Quant, Table};
pub use sections::Sections;

use quantize::{Loss, Refusal, Rows, encode_panel};
use rayon::prelude::*;
use read::Stored;
use std::collections::BTreeMap;
use std::path::Path;
use thimble_runtime::format::{Config, Encoding, PANEL, TensorRecord};
use write::{AtomicFile, Contents, FileWriter, write_error};

/// Source bytes that are read at once.
const CHUNK: usize = 8 << 20;

/// How to convert.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How to store the weights.
    pub quant: Quant,
    /// Encodings for tensors by name, before those of `quant`.
    pub table: Option<Table>,
    /// The model's name in the file; otherwise the source's own.
    pub name: Option<String>,
    /// Where the source comes from, for provenance; otherwise its file name.
    pub source: Option<String>,
    /// The licence; otherwise the source's own.
    pub licence: Option<String>,
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The tensor that is being written, by its name in the source.
    pub tensor: &'a str,
    /// Bytes of the finished file that are written.
    pub done: u64,
    /// Bytes of the finished file.
    pub total: u64,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The model's hyperparameters.
    pub config: Config,
    /// Bytes of the file.
    pub bytes: u64,
    /// Tensors and bytes by encoding name.
    pub encodings: BTreeMap<&'static str, (usize, u64)>,
    /// What rounding cost over all rounded tensors, relative root mean square; zero if nothing was rounded.
    pub rounding: f64,
    /// The tensor that lost most, and its relative root mean square.
    pub worst: Option<(String, f64)>,
    /// What the file's provenance notes.
    pub notes: Vec<String>,
}

/// Converts `source` (a folder, a `.gguf` or a `.safetensors` file) to the file `destination`.
///
/// The same input gives the same bytes. The file appears complete or not at all.
pub fn convert(
    source: &Path,
    destination: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Summary, ConvertError> {
    let checkpoint = read::open(source)?;
    let sections = Sections::of(&checkpoint)?;
    convert_checkpoint(&checkpoint, sections, destination, options, progress)
}

/// Converts an opened source whose tokenizer and chat sections are made.
pub fn convert_checkpoint(
    checkpoint: &Checkpoint,
    sections: Sections,
    destination: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Summary, ConvertError> {
    let table = options.table.clone().unwrap_or_default();
    let encodings = table.encodings(checkpoint.tensors(), options.quant)?;
    let tensors = write::layout(checkpoint.tensors().iter().zip(encodings.iter().copied()))?;
    let notes = sections::notes(checkpoint, &encodings, &sections);
    let mut summary = Summary {
        config: checkpoint.config,
        bytes: 0,
        encodings: BTreeMap::new(),
        rounding: 0.0,
        worst: None,
        notes,
    };
    for record in &tensors {
        let entry = summary.encodings.entry(record.encoding.name()).or_default();
        *entry = (entry.0 + 1, entry.1 + record.length);
    }
    let contents = Contents {
        config: checkpoint.config,
        provenance: sections::provenance(checkpoint, options, &summary.notes),
        tokenizer: sections.tokenizer,
        chat: sections.chat,
        tensors,
    };
    let mut file = AtomicFile::create(destination)?;
    let fail = |needed| move |error| write_error(destination, needed, error);
    let mut writer = FileWriter::new(file.writer(), contents).map_err(fail(0))?;
    summary.bytes = writer.file_len();
    let total = summary.bytes;
    let mut done = total - writer.weights_left();
    let mut all = Loss::default();
    for tensor in checkpoint.tensors() {
        let Some(record) = writer.next_tensor().map_err(fail(total))? else { break };
        progress(Progress { tensor: &tensor.name, done, total });
        let mut loss = Loss::default();
        encode(checkpoint, tensor, &record, &mut |bytes, cost| {
            writer.weights(bytes).map_err(fail(total))?;
            loss.add(cost);
            done = total - writer.weights_left();
            progress(Progress { tensor: &tensor.name, done, total });
            Ok(())
        })?;
        if loss.relative() > summary.worst.as_ref().map_or(0.0, |(_, worst)| *worst) {
            summary.worst = Some((tensor.name.clone(), loss.relative()));
        }
        all.add(loss);
    }
    summary.rounding = all.relative();
    writer.finish().map_err(fail(total))?;
    file.publish()?;
    progress(Progress { tensor: "", done: total, total });
    Ok(summary)
}

/// A row that cannot be stored as an error; `first` is the tensor's row that the refusal counts from.
pub(crate) fn refused(tensor: &Stored, encoding: Encoding, first: usize, refusal: Refusal) -> ConvertError {
    let name = tensor.name.clone();
    match refusal {
        Refusal::NotFinite { row } => ConvertError::NotFinite { name, row: first + row },
        Refusal::TooLarge { row } => ConvertError::TooLarge { name, row: first + row, encoding },
    }
}

/// Takes the next bytes of a tensor and what rounding cost them.
type Emit<'e> = dyn FnMut(&[u8], Loss) -> Result<(), ConvertError> + 'e;

/// Encodes one tensor in pieces of a few megabytes, in order.
fn encode(
    checkpoint: &Checkpoint,
    tensor: &Stored,
    record: &TensorRecord,
    emit: &mut Emit<'_>,
) -> Result<(), ConvertError> {
    let (encoding, columns) = (record.encoding, tensor.columns);
    let refuse = |first: usize, refusal| refused(tensor, encoding, first, refusal);
    let mut source = Vec::new();
    if encoding == Encoding::Vector {
        checkpoint.read_rows(tensor, 0..1, &mut source)?;
        let mut values = vec![0.0; columns];
        dequantize(tensor.kind, &source, &mut values);
        if values.iter().any(|v| !v.is_finite()) {
            return Err(refuse(0, Refusal::NotFinite { row: 0 }));
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        return emit(&bytes, Loss::default());
    }
    // The layout was computed from the same shape, so neither overflows nor is zero.
    let panel_bytes = encoding.panel_bytes(columns).unwrap_or(1).max(1);
    let panel_source = (tensor.row_bytes() * PANEL).max(1);
    let panels_at_once = (CHUNK / panel_source.max(panel_bytes)).max(1);
    let mut out = Vec::new();
    for start in (0..tensor.rows).step_by(panels_at_once * PANEL) {
        let end = tensor.rows.min(start + panels_at_once * PANEL);
        checkpoint.read_rows(tensor, start..end, &mut source)?;
        out.resize((end - start).div_ceil(PANEL) * panel_bytes, 0);
        let panels = out.par_chunks_exact_mut(panel_bytes).zip(source.par_chunks(panel_source));
        let losses: Vec<Loss> = panels
            .enumerate()
            .map(|(index, (panel, bytes))| {
                let rows = Rows { kind: tensor.kind, bytes, columns };
                encode_panel(encoding, rows, panel).map_err(|r| refuse(start + index * PANEL, r))
            })
            .collect::<Result<_, _>>()?;
        let mut loss = Loss::default();
        losses.into_iter().for_each(|l| loss.add(l));
        emit(&out, loss)?;
    }
    Ok(())
}
