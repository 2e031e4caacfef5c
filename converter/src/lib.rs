//! Turns a Hugging Face folder, a GGUF or a `.thimble` file into a `.thimble` file, a GGUF file or a Hugging Face folder.
//!
//! The features `calibrate` (candle) and `plot` bring what a plain conversion does without.
//!
//! [`read::open`] makes a [`SourceModel`] of either; a [`Quant`] says how each tensor is stored; [`convert`]
//! streams it to disk a few megabytes at a time, so memory does not grow with the model.

#[cfg(feature = "calibrate")]
mod allocate;
#[cfg(feature = "calibrate")]
pub mod calibrate;
pub mod chat;
mod dequantize;
mod error;
pub mod export;
#[cfg(feature = "ggml")]
pub mod ggml;
pub mod pack;
mod plan;
pub mod quantize;
pub mod read;
pub mod recipe;
pub mod report;
mod sections;
pub mod tokenizer;
pub mod write;
pub mod write_gguf;

pub use dequantize::dequantize;
pub use error::ConvertError;
pub use read::{BlockType, Sections, SourceModel};
pub use recipe::{Quant, SizeTarget, Table};
pub use unfinished::remove_unfinished;

use plan::ConversionPlan;
use quantize::{Loss, Refusal, Rounded, Rows, encode_panel};
use rayon::prelude::*;
use read::Stored;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thimble_files::AtomicFile;
use thimble_runtime::format::{Config, Encoding, PANEL, TensorRecord};
use write::{FileWriter, write_error};

/// Source bytes that are read at once.
const CHUNK: usize = 8 << 20;

/// How to convert.
#[derive(Clone, Debug, Default)]
pub struct ConversionOptions {
    /// How to store the weights.
    pub quant: Quant,
    /// Encodings for tensors by name, before those of `quant`.
    pub table: Option<Table>,
    /// Encodings chosen for a size, in place of those of `quant` and `table`: see [`SizeTarget`].
    pub target: Option<SizeTarget>,
    /// A file that keeps what is measured for a target, so that other targets need no second measurement.
    pub sensitivities: Option<PathBuf>,
    /// Text on whose activations matrices are rounded with error compensation; otherwise each is rounded by itself.
    pub calibration: Option<String>,
    /// The model's name in the file; otherwise the source's own.
    pub name: Option<String>,
    /// Where the source comes from, for provenance; otherwise its file name.
    pub source: Option<String>,
    /// The licence; otherwise the source's own.
    pub licence: Option<String>,
}

/// What a conversion is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversionStage {
    /// Measuring how much each tensor matters; progress counts tensors.
    Measuring,
    /// Rounding for the activations on a text; progress counts layers.
    Calibrating,
    /// Writing; progress counts bytes.
    Writing,
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
pub struct ConversionProgress<'a> {
    /// What is being done.
    pub stage: ConversionStage,
    /// The tensor that is being written, by its name in the source; otherwise empty.
    pub tensor: &'a str,
    /// Bytes of the finished file that are written; or tensors or layers that are done.
    pub done: u64,
    /// How many there will be.
    pub total: u64,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct ConversionSummary {
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
    /// The chosen encodings and the expected divergence from the source in nats per token, where there was a target.
    pub chosen: Option<(Table, f64)>,
    /// Each tensor, in the order of the file.
    pub tensors: Vec<TensorSummary>,
}

/// How one tensor was stored.
#[derive(Clone, Debug)]
pub struct TensorSummary {
    /// Its name in the source.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub columns: usize,
    /// How its numbers are stored.
    pub encoding: Encoding,
    /// Bytes in the file.
    pub bytes: u64,
    /// What rounding changed, relative root mean square; zero where nothing was rounded.
    pub error: f64,
}

/// Converts `source` (a folder, a `.gguf` or a `.safetensors` file) to the file `destination`.
///
/// The same input gives the same bytes. The file appears complete or not at all.
pub fn convert(
    source: &Path,
    destination: &Path,
    options: &ConversionOptions,
    progress: &mut dyn FnMut(ConversionProgress<'_>),
) -> Result<ConversionSummary, ConvertError> {
    let model = read::open(source)?;
    let sections = Sections::of(&model)?;
    convert_model(&model, sections, destination, options, progress)
}

/// Converts an opened source whose tokenizer and chat sections are made.
pub fn convert_model(
    model: &SourceModel,
    sections: Sections,
    destination: &Path,
    options: &ConversionOptions,
    progress: &mut dyn FnMut(ConversionProgress<'_>),
) -> Result<ConversionSummary, ConvertError> {
    let ConversionPlan { contents, chosen, notes } =
        ConversionPlan::make(model, sections, options, progress)?;
    let tensors = &contents.tensors;
    let mut rounded = match &options.calibration {
        None => vec![None::<Rounded>; tensors.len()],
        #[cfg(feature = "calibrate")]
        Some(text) => {
            let windows =
                calibrate::windows(&contents.tokenizer, &model.config, text, calibrate::CALIBRATION)?;
            calibrate::calibrate(model, tensors, &windows, &mut |done, total| {
                progress(ConversionProgress::steps(ConversionStage::Calibrating, done, total));
            })?
        }
        #[cfg(not(feature = "calibrate"))]
        Some(_) => return Err(ConvertError::LeftOut { what: "calibration", feature: "calibrate" }),
    };
    let mut summary = ConversionSummary {
        config: model.config,
        bytes: 0,
        encodings: BTreeMap::new(),
        rounding: 0.0,
        worst: None,
        notes,
        chosen,
        tensors: Vec::with_capacity(tensors.len()),
    };
    for record in tensors {
        let entry = summary.encodings.entry(record.encoding.name()).or_default();
        *entry = (entry.0 + 1, entry.1 + record.length);
    }
    let fail = |needed| move |error| write_error(destination, needed, error);
    let mut file = AtomicFile::create(destination).map_err(fail(0))?;
    let mut writer = FileWriter::new(file.writer(), contents).map_err(fail(0))?;
    summary.bytes = writer.file_len();
    let total = summary.bytes;
    let mut done = total - writer.weights_left();
    let mut all = Loss::default();
    for (tensor, rounded) in model.tensors().iter().zip(&mut rounded) {
        let Some(record) = writer.next_tensor().map_err(fail(total))? else { break };
        let stage = ConversionStage::Writing;
        progress(ConversionProgress { stage, tensor: &tensor.name, done, total });
        let mut loss = Loss::default();
        let mut emit = |bytes: &[u8], cost| {
            writer.weights(bytes).map_err(fail(total))?;
            loss.add(cost);
            done = total - writer.weights_left();
            progress(ConversionProgress { stage, tensor: &tensor.name, done, total });
            Ok(())
        };
        match rounded.take() {
            Some(rounded) => emit(&rounded.bytes, rounded.loss)?,
            None => encode(model, tensor, &record, &mut emit)?,
        }
        summary.tensors.push(TensorSummary {
            name: tensor.name.clone(),
            rows: tensor.rows,
            columns: tensor.columns,
            encoding: record.encoding,
            bytes: record.length,
            error: loss.relative(),
        });
        if loss.relative() > summary.worst.as_ref().map_or(0.0, |(_, worst)| *worst) {
            summary.worst = Some((tensor.name.clone(), loss.relative()));
        }
        all.add(loss);
    }
    summary.rounding = all.relative();
    writer.finish().map_err(fail(total))?;
    file.publish().map_err(fail(total))?;
    progress(ConversionProgress { stage: ConversionStage::Writing, tensor: "", done: total, total });
    Ok(summary)
}

#[cfg(feature = "calibrate")]
impl ConversionProgress<'_> {
    fn steps(stage: ConversionStage, done: usize, total: usize) -> ConversionProgress<'static> {
        ConversionProgress { stage, tensor: "", done: done as u64, total: total as u64 }
    }
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

/// Takes over the panels of a tensor that a `.thimble` file holds in the encoding wanted.
fn copy_panels(
    model: &SourceModel,
    tensor: &Stored,
    encoding: Encoding,
    emit: &mut Emit<'_>,
) -> Result<(), ConvertError> {
    let panel_bytes = encoding.panel_bytes(tensor.columns).unwrap_or(1).max(1);
    let panels = tensor.rows.div_ceil(PANEL);
    let at_once = (CHUNK / panel_bytes).max(1);
    let mut out = Vec::new();
    for first in (0..panels).step_by(at_once) {
        let end = panels.min(first + at_once);
        out.resize((end - first) * panel_bytes, 0);
        let offset = tensor.offset + (first * panel_bytes) as u64;
        model.files[tensor.file].read_at(offset, &mut out)?;
        emit(&out, Loss::default())?;
    }
    Ok(())
}

/// Encodes one tensor in pieces of a few megabytes, in order.
fn encode(
    model: &SourceModel,
    tensor: &Stored,
    record: &TensorRecord,
    emit: &mut Emit<'_>,
) -> Result<(), ConvertError> {
    let (encoding, columns) = (record.encoding, tensor.columns);
    let refuse = |first: usize, refusal| refused(tensor, encoding, first, refusal);
    let mut source = Vec::new();
    if encoding == Encoding::Vector {
        model.read_rows(tensor, 0..1, &mut source)?;
        let mut values = vec![0.0; columns];
        dequantize(tensor.kind, &source, &mut values);
        if values.iter().any(|v| !v.is_finite()) {
            return Err(refuse(0, Refusal::NotFinite { row: 0 }));
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        return emit(&bytes, Loss::default());
    }
    if tensor.packed == Some(encoding) {
        return copy_panels(model, tensor, encoding, emit);
    }
    // The layout was computed from the same shape, so neither overflows nor is zero.
    let panel_bytes = encoding.panel_bytes(columns).unwrap_or(1).max(1);
    let panel_source = (tensor.row_bytes() * PANEL).max(1);
    let panels_at_once = (CHUNK / panel_source.max(panel_bytes)).max(1);
    let mut out = Vec::new();
    for start in (0..tensor.rows).step_by(panels_at_once * PANEL) {
        let end = tensor.rows.min(start + panels_at_once * PANEL);
        model.read_rows(tensor, start..end, &mut source)?;
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
