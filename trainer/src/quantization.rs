//! The rounding of a quantized model file, as a run that trains for it sees it.
//!
//! The converter chooses the scales once, in a calibrated conversion of the model that the run begins with. The run
//! folder keeps that file; it is what rounds the masters in every step, and in the export.

use crate::error::{Error, Result};
use crate::init_from;
use crate::model::Parameters;
use crate::recipe::QuantizationScales;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use thimble_converter::calibrate::default_text;
use thimble_converter::quantize::MatrixRounding;
use thimble_converter::{ConversionOptions, ConvertError, Quant, Sections, Table, convert_model, pack};
use thimble_files::MappedModel;
use thimble_runtime::format::TensorRole;

/// The calibrated conversion in a run folder.
const START: &str = "start.thimble";

/// The model that is to be quantized, and how.
#[derive(Clone, Copy, Debug)]
pub struct QuantizationSource<'a> {
    /// As `init_from` names it.
    pub model: &'a str,
    /// A preset of the converter, or the file of a quantization recipe.
    pub quant: &'a str,
}

/// The rounding of every quantized matrix of a model.
pub struct ModelRounding {
    matrices: Vec<(Range<usize>, MatrixRounding)>,
}

/// The calibrated conversion of the model that a run begins with.
pub struct StartFile {
    path: PathBuf,
    model: MappedModel,
}

impl StartFile {
    /// Opens the run's, which is made if there is none yet: minutes, for a model of 135 million parameters.
    ///
    /// # Errors
    /// The source cannot be read or converted, or the file cannot be written.
    pub fn open_or_create(run: &Path, source: &QuantizationSource<'_>) -> Result<StartFile> {
        let path = run.join(START);
        if !path.exists() {
            create(&path, source)?;
        }
        StartFile::open(run)
    }

    /// Removes the run's, if there is one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(run: &Path) -> Result<()> {
        let path = run.join(START);
        if path.exists() { std::fs::remove_file(&path).map_err(Error::file(&path, "remove")) } else { Ok(()) }
    }

    /// Opens the run's.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn open(run: &Path) -> Result<StartFile> {
        let path = run.join(START);
        let refuse = |error: &dyn std::fmt::Display| Error::Invalid(format!("{}: {error}", path.display()));
        let model = MappedModel::read(&path).map_err(|error| refuse(&error))?;
        model.file().and_then(|file| file.verify()).map_err(|error| refuse(&error))?;
        Ok(StartFile { path, model })
    }

    /// The rounding that starts with the file's scales. `weights`, those of the model that was converted, become the
    /// masters of the first step: the numbers that the file stores, from which each has as far to go before it rounds
    /// otherwise. From their own, those near the middle between two numbers would change over with the noise of the first
    /// gradients, and what the calibration chose would be lost.
    ///
    /// # Errors
    /// The file is of another model.
    pub fn rounding(
        &self,
        parameters: &Parameters,
        weights: &mut [f32],
        scales: QuantizationScales,
    ) -> Result<ModelRounding> {
        let mut matrices = Vec::new();
        self.matrices(parameters, |range, mut rounding, stored| {
            weights[range.clone()].copy_from_slice(stored);
            if scales == QuantizationScales::Trained {
                rounding.follow(&weights[range.clone()]);
            }
            matrices.push((range, rounding));
        })?;
        Ok(ModelRounding { matrices })
    }

    /// Calls `take` with each quantized matrix's place in the flat buffer, its rounding, and its stored numbers.
    fn matrices(
        &self,
        parameters: &Parameters,
        mut take: impl FnMut(Range<usize>, MatrixRounding, &[f32]),
    ) -> Result<()> {
        let refuse = |what: String| Error::Invalid(format!("{}: {what}", self.path.display()));
        let file = self.model.file().map_err(|error| refuse(error.to_string()))?;
        for record in file.tensors().iter() {
            let (rows, columns) = (record.rows as usize, record.columns as usize);
            let bytes = file.tensor_bytes(&record);
            let Some(rounding) = MatrixRounding::of_stored(record.encoding, bytes, rows, columns) else {
                continue;
            };
            let name = record.role.hugging_face(record.layer).to_string();
            let named = parameters.find(&name).filter(|named| named.len() == rows * columns);
            let named = named.ok_or_else(|| {
                refuse(format!("tensor {name} of {rows} x {columns} is not one of the run's model"))
            })?;
            let mut stored = vec![0.0; rows * columns];
            let unpacked: Option<()> = stored
                .par_chunks_mut(columns)
                .enumerate()
                .map(|(row, out)| pack::unpack_row(record.encoding, bytes, row, out))
                .collect();
            unpacked.ok_or_else(|| refuse(format!("tensor {name} is cut short")))?;
            take(named.range(), rounding, &stored);
        }
        Ok(())
    }
}

/// Steps in the root mean square of a tensor that is not rounded.
const STEPS_OF_FLOATS: f64 = 16.0;

impl ModelRounding {
    /// How far apart the numbers are that the weights of each trainable tensor can have: of a matrix that is rounded the
    /// mean of its spans, of another tensor a share of its root mean square; 0 of the embedding and the head.
    ///
    /// Learning rates times these move all tensors equally fast, whatever their encodings. Embedding and head stay as the
    /// file stores them: a text has few of the vocabulary's tokens, and presets give these matrices more bits than others.
    pub fn steps(&self, parameters: &Parameters, weights: &[f32]) -> Vec<(Range<usize>, f64)> {
        let rounded: BTreeMap<usize, f64> =
            self.matrices.iter().map(|(range, of)| (range.start, f64::from(of.mean_step()))).collect();
        let step = |range: Range<usize>| {
            let squares = weights[range.clone()].iter().map(|&weight| f64::from(weight).powi(2)).sum::<f64>();
            let of_floats = (squares / range.len().max(1) as f64).sqrt() / STEPS_OF_FLOATS;
            rounded.get(&range.start).copied().unwrap_or(of_floats)
        };
        let vocabulary =
            [TensorRole::Embedding, TensorRole::Head].map(|role| role.hugging_face(0).to_string());
        let steps = parameters.trained().iter().map(|named| {
            let step = if vocabulary.contains(&named.name) { 0.0 } else { step(named.range()) };
            (named.range(), step)
        });
        steps.collect()
    }

    /// Rounds the flat buffer's matrices as the file stores them; everything else is copied.
    pub fn round(&self, masters: &[f32], rounded: &mut [f32]) {
        rounded.copy_from_slice(masters);
        for (range, rounding) in &self.matrices {
            rounding.round(&masters[range.clone()], &mut rounded[range.clone()]);
        }
    }
}

/// Converts a source, calibrated on the converter's own text.
fn create(path: &Path, source: &QuantizationSource<'_>) -> Result<()> {
    let QuantizationSource { model, quant } = *source;
    let opened = init_from::open(model)?;
    let options = ConversionOptions { calibration: Some(default_text().to_owned()), ..options(quant)? };
    eprintln!("choosing the scales of {quant}: a calibrated conversion of {model}");
    let convert = || {
        let sections = Sections::of(&opened)?;
        convert_model(&opened, sections, path, &options, &mut |_| ())
    };
    let done = convert().map_err(|error| Error::Invalid(format!("{model}: {error}")))?;
    if done.encodings.keys().all(|name| !is_quantized(name)) {
        // Nothing would be rounded.
        std::fs::remove_file(path).map_err(Error::file(path, "remove"))?;
        return Err(only_floats(quant));
    }
    Ok(())
}

fn only_floats(quant: &str) -> Error {
    Error::Usage(format!(
        "quant = {quant:?}: expected encodings of few bits, such as those of q4, found only floats"
    ))
}

fn is_quantized(name: &str) -> bool {
    let mut all = thimble_runtime::format::Encoding::matrices();
    all.any(|encoding| encoding.is_quantized() && encoding.name() == name)
}

/// The encodings that a preset's name or a recipe's file asks for.
///
/// # Errors
/// It is neither, it is a preset of floats, or the file cannot be read.
pub fn options(quant: &str) -> Result<ConversionOptions> {
    let refuse = |error: ConvertError| Error::Usage(format!("quant = {quant:?}: {error}"));
    let path = Path::new(quant);
    if path.extension().is_none_or(|extension| extension != "toml") {
        let preset = quant.parse::<Quant>().map_err(refuse)?;
        return match preset {
            Quant::Keep | Quant::F32 | Quant::F16 | Quant::BF16 => Err(only_floats(quant)),
            preset => Ok(ConversionOptions { quant: preset, ..Default::default() }),
        };
    }
    let text = std::fs::read_to_string(path).map_err(Error::file(path, "read"))?;
    let table = Table::parse(&text, quant).map_err(refuse)?;
    Ok(ConversionOptions { table: Some(table), ..Default::default() })
}
