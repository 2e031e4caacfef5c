//! Exports a model as a Hugging Face folder, which `transformers` and [`crate::read::open`] load.

mod json_files;

use crate::quantize::Distortion;
use crate::read::{BlockType, SourceModel, SourceTensor, TokenizerSource};
use crate::write::write_error;
use crate::{ConversionProgress, ConversionStage, ConvertError, dequantize};
use safetensors::Dtype as TensorType;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::str::FromStr;
use thimble_files::AtomicFolder;

/// Numbers dequantized at once.
const CHUNK: usize = 2 << 20;

/// The type of the exported weights, norms included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats: lossless for every source.
    #[default]
    F32,
    /// 16-bit brain floats.
    BF16,
    /// 16-bit IEEE floats.
    F16,
}

impl Dtype {
    /// Every type.
    pub const ALL: [Dtype; 3] = [Dtype::F32, Dtype::BF16, Dtype::F16];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        self.forms().0
    }

    /// The name on the command line, PyTorch's name, and the types of GGML and safetensors.
    fn forms(self) -> (&'static str, &'static str, BlockType, TensorType) {
        match self {
            Dtype::F32 => ("f32", "float32", BlockType::F32, TensorType::F32),
            Dtype::BF16 => ("bf16", "bfloat16", BlockType::BF16, TensorType::BF16),
            Dtype::F16 => ("f16", "float16", BlockType::F16, TensorType::F16),
        }
    }

    /// Appends a number; returns the value that a reader sees.
    fn put(self, value: f32, out: &mut Vec<u8>) -> f32 {
        match self {
            Dtype::F32 => {
                out.extend(value.to_le_bytes());
                value
            }
            Dtype::BF16 => {
                let stored = half::bf16::from_f32(value);
                out.extend(stored.to_le_bytes());
                stored.to_f32()
            }
            Dtype::F16 => {
                let stored = half::f16::from_f32(value);
                out.extend(stored.to_le_bytes());
                stored.to_f32()
            }
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dtype {
    type Err = ConvertError;

    fn from_str(name: &str) -> Result<Dtype, ConvertError> {
        let found = Dtype::ALL.into_iter().find(|dtype| dtype.name() == name);
        found.ok_or_else(|| ConvertError::UnknownName {
            what: "type",
            found: name.to_owned(),
            known: Dtype::ALL.map(Dtype::name).join(", "),
        })
    }
}

/// The result of an export.
#[derive(Clone, Debug)]
pub struct ExportSummary {
    /// Bytes of `model.safetensors`.
    pub bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Relative root mean square error of rounding to a 16-bit type.
    pub rounding: f64,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Writes a model as a folder with config.json, model.safetensors, tokenizer.json, tokenizer_config.json,
/// special_tokens_map.json and generation_config.json. The folder appears complete or not at all.
///
/// # Errors
/// The folder exists; weights that are not finite or do not fit the type; a destination that cannot be written.
pub fn export(
    model: &SourceModel,
    folder: &Path,
    dtype: Dtype,
    progress: &mut dyn FnMut(ConversionProgress<'_>),
) -> Result<ExportSummary, ConvertError> {
    let failed = |error| write_error(folder, 0, error);
    let output = AtomicFolder::create(folder).map_err(failed)?;
    write_metadata(model, output.path(), dtype, |_| ())?;
    let path = output.path().join("model.safetensors");
    let (bytes, distortion) = weights(model, &path, dtype, progress)?;
    output.publish().map_err(failed)?;
    Ok(ExportSummary {
        bytes,
        parameters: model.config.parameters(),
        rounding: distortion.relative(),
        notes: model.notes.clone(),
    })
}

/// Writes every file of a folder but the weights; `edit` changes `config.json`.
///
/// # Errors
/// No family or tokenizer format has the model's options; a file that cannot be written.
pub fn write_metadata(
    model: &SourceModel,
    folder: &Path,
    dtype: Dtype,
    edit: impl FnOnce(&mut Value),
) -> Result<(), ConvertError> {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|error| write_error(&path, 0, error))
    };
    let vocabulary = model.tokenizer.vocabulary()?;
    let (tokenizer, vocabulary) = match &model.tokenizer {
        TokenizerSource::Json(bytes) => (bytes.clone(), vocabulary),
        _ => (vocabulary.tokenizer_json(model.config.bos)?.into_bytes(), vocabulary),
    };
    write("tokenizer.json", &tokenizer)?;
    let mut files = json_files::all(model, &vocabulary, dtype)?;
    if let Some((_, config)) = files.iter_mut().find(|(name, _)| *name == "config.json") {
        edit(config);
    }
    for (name, json) in files {
        // Values of texts and numbers always have a JSON form.
        write(name, format!("{json:#}\n").as_bytes())?;
    }
    write("README.md", json_files::card(model).as_bytes())
}

/// Writes `model.safetensors`, a few megabytes at a time.
fn weights(
    model: &SourceModel,
    path: &Path,
    dtype: Dtype,
    progress: &mut dyn FnMut(ConversionProgress<'_>),
) -> Result<(u64, Distortion), ConvertError> {
    let fail = |source: io::Error| ConvertError::Write { path: path.to_owned(), source };
    let (_, _, kind, safetensors_type) = dtype.forms();
    let mut end = 0;
    let info = |tensor: &SourceTensor| {
        let start = end;
        end += tensor.rows * tensor.columns * kind.block_bytes();
        let shape =
            if tensor.role.is_vector() { vec![tensor.columns] } else { vec![tensor.rows, tensor.columns] };
        let info = TensorInfo { dtype: safetensors_type, shape, data_offsets: (start, end) };
        (tensor.role.hugging_face(tensor.layer).to_string(), info)
    };
    let tensors = model.tensors().iter().map(info).collect();
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let unsound = |source| ConvertError::Safetensors { path: path.to_owned(), source };
    let metadata = Metadata::new(Some(format), tensors).map_err(unsound)?;
    let mut header = serde_json::to_vec(&metadata)
        .map_err(|source| ConvertError::Json { path: path.to_owned(), source })?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let total = (8 + header.len() + end) as u64;
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(fail)?);
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(fail)?;
    out.write_all(&header).map_err(fail)?;
    let mut done = (8 + header.len()) as u64;
    let mut distortion = Distortion::default();
    for tensor in model.tensors() {
        let at_once = (CHUNK / tensor.columns.max(1)).max(1);
        let (mut source, mut bytes) = (Vec::new(), Vec::new());
        for start in (0..tensor.rows).step_by(at_once) {
            let rows = start..tensor.rows.min(start + at_once);
            let mut values = vec![0.0; rows.len() * tensor.columns];
            model.read_rows(tensor, rows, &mut source)?;
            dequantize(tensor.kind, &source, &mut values);
            bytes.clear();
            for (at, &value) in values.iter().enumerate() {
                let (name, row) = (tensor.name.clone(), start + at / tensor.columns);
                if !value.is_finite() {
                    return Err(ConvertError::NotFinite { name, row });
                }
                let stored = dtype.put(value, &mut bytes);
                if !stored.is_finite() {
                    return Err(ConvertError::TooLarge { name, row, format: kind.to_string() });
                }
                distortion.error += f64::from(value - stored).powi(2);
                distortion.energy += f64::from(value).powi(2);
            }
            out.write_all(&bytes).map_err(fail)?;
            done += bytes.len() as u64;
            progress(ConversionProgress {
                stage: ConversionStage::Writing,
                tensor: &tensor.name,
                done,
                total,
            });
        }
    }
    out.flush().map_err(fail)?;
    Ok((total, distortion))
}
