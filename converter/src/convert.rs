//! Converts a source to a `.thimble` file.

use crate::adapter;
#[cfg(feature = "calibrate")]
use crate::allocate;
#[cfg(feature = "calibrate")]
use crate::calibrate;
use crate::encode::encode;
use crate::plan::ConversionPlan;
use crate::quantize::{Distortion, QuantizedTensor};
use crate::read::{self, SourceModel};
use crate::write::{FileWriter, write_error};
use crate::{ConversionOptions, ConversionProgress, ConversionStage, ConvertError, Sections, Table};
use std::collections::BTreeMap;
use std::path::Path;
use thimble_files::AtomicFile;
use thimble_runtime::format::{Config, Encoding};

/// The result of a conversion.
#[derive(Clone, Debug)]
pub struct ConversionSummary {
    /// The model's hyperparameters.
    pub config: Config,
    /// Bytes of the file.
    pub bytes: u64,
    /// Tensors and bytes by encoding name.
    pub encodings: BTreeMap<&'static str, (usize, u64)>,
    /// Relative root mean square error of all rounded tensors; zero if nothing was rounded.
    pub rounding: f64,
    /// The tensor with the largest relative root mean square error, and that error.
    pub worst: Option<(String, f64)>,
    /// The notes of the file's provenance.
    pub notes: Vec<String>,
    /// With a size target: the chosen encodings and the expected divergence from the source in nats per token.
    pub chosen: Option<(Table, f64)>,
    /// The tensors in file order.
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
    /// Its encoding.
    pub encoding: Encoding,
    /// Bytes in the file.
    pub bytes: u64,
    /// Relative root mean square error of rounding; zero if nothing was rounded.
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
    let mut model = read::open(source)?;
    for (path, weight) in &options.merge {
        model.merge(&adapter::open(path)?, *weight, options.any_base)?;
    }
    let sections = Sections::of(&model)?;
    convert_model(&model, sections, destination, options, progress)
}

/// Converts an opened source with the given tokenizer and chat sections.
pub fn convert_model(
    model: &SourceModel,
    sections: Sections,
    destination: &Path,
    options: &ConversionOptions,
    progress: &mut dyn FnMut(ConversionProgress<'_>),
) -> Result<ConversionSummary, ConvertError> {
    let ConversionPlan { contents, chosen, notes } = plan(model, sections, options, progress)?;
    let tensors = &contents.tensors;
    let mut rounded = match &options.calibration {
        None => vec![None::<QuantizedTensor>; tensors.len()],
        #[cfg(feature = "calibrate")]
        Some(text) => {
            let windows =
                calibrate::windows(&contents.tokenizer, &model.config, text, calibrate::CALIBRATION)?;
            calibrate::calibrate(model, tensors, &windows, &mut |done, total| {
                progress(ConversionProgress::steps(ConversionStage::Calibrating, done, total));
            })?
        }
        #[cfg(not(feature = "calibrate"))]
        Some(_) => return Err(ConvertError::MissingFeature { what: "calibration", feature: "calibrate" }),
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
    let mut all = Distortion::default();
    for (tensor, rounded) in model.tensors().iter().zip(&mut rounded) {
        let Some(record) = writer.next_tensor().map_err(fail(total))? else { break };
        let stage = ConversionStage::Writing;
        progress(ConversionProgress { stage, tensor: &tensor.name, done, total });
        let mut distortion = Distortion::default();
        let mut emit = |bytes: &[u8], cost| {
            writer.weights(bytes).map_err(fail(total))?;
            distortion.add(cost);
            done = total - writer.weights_left();
            progress(ConversionProgress { stage, tensor: &tensor.name, done, total });
            Ok(())
        };
        match rounded.take() {
            Some(rounded) => emit(&rounded.bytes, rounded.distortion)?,
            None => encode(model, tensor, &record, &mut emit)?,
        }
        summary.tensors.push(TensorSummary {
            name: tensor.name.clone(),
            rows: tensor.rows,
            columns: tensor.columns,
            encoding: record.encoding,
            bytes: record.length,
            error: distortion.relative(),
        });
        if distortion.relative() > summary.worst.as_ref().map_or(0.0, |(_, worst)| *worst) {
            summary.worst = Some((tensor.name.clone(), distortion.relative()));
        }
        all.add(distortion);
    }
    summary.rounding = all.relative();
    writer.finish().map_err(fail(total))?;
    file.publish().map_err(fail(total))?;
    progress(ConversionProgress { stage: ConversionStage::Writing, tensor: "", done: total, total });
    Ok(summary)
}

/// Chooses the encodings that the options ask for.
fn plan(
    model: &SourceModel,
    sections: Sections,
    options: &ConversionOptions,
    progress: &mut dyn FnMut(ConversionProgress<'_>),
) -> Result<ConversionPlan, ConvertError> {
    match options.target {
        None => {
            let table = options.table.clone().unwrap_or_default();
            let encodings = table.encodings(model.tensors(), options.quant)?;
            ConversionPlan::new(model, &sections, options, &encodings, None)
        }
        #[cfg(feature = "calibrate")]
        Some(target) => allocate::plan(model, &sections, options, target, progress),
        #[cfg(not(feature = "calibrate"))]
        Some(_) => {
            let _ = progress;
            Err(ConvertError::MissingFeature {
                what: "a choice of encodings for a size",
                feature: "calibrate",
            })
        }
    }
}
