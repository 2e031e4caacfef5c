//! The data files of a graph: where each constant lies, and its bytes, written a few megabytes at a time.

use super::blocks::{self, NBitBlock};
use super::initializer::{Content, ElementType, Initializer, Location, StoredTensor};
use crate::quantize::Distortion;
use crate::read::{SourceModel, SourceTensor};
use crate::write::write_error;
use crate::{ConversionProgress, ConversionStage, ConvertError, dequantize};
use rayon::prelude::*;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use thimble_runtime::format::TensorRole;

/// Numbers dequantized at once.
const CHUNK: usize = 2 << 20;
/// Offsets are multiples of a page, so that runtimes can map tensors.
const ALIGN: u64 = 4096;
/// Longest data file, unless one tensor is longer: browsers cannot hold 2 GiB in one buffer.
const FILE_LIMIT: u64 = 2_000_000_000;

/// The data files of a graph.
#[derive(Debug, Default)]
pub(super) struct DataLayout {
    /// Names of the files.
    pub(super) files: Vec<String>,
    /// Where each stored or shared initializer lies.
    pub(super) locations: HashMap<String, Location>,
    /// Bytes of all tensors.
    pub(super) total: u64,
}

impl DataLayout {
    /// Lays out the constants for the model file `file`: `file_data`, `file_data_1` and so on, as
    /// transformers.js looks for them.
    pub(super) fn new(constants: &[Initializer], file: &str) -> DataLayout {
        DataLayout::with_limit(constants, file, FILE_LIMIT)
    }

    pub(super) fn with_limit(constants: &[Initializer], file: &str, limit: u64) -> DataLayout {
        let mut layout = DataLayout { files: vec![format!("{file}_data")], ..DataLayout::default() };
        let mut end = 0u64;
        for initializer in constants {
            let location = match &initializer.content {
                Content::Inline(_) => continue,
                Content::Shared(other) => layout.locations.get(other).cloned(),
                Content::Stored(_) => {
                    let mut offset = end.next_multiple_of(ALIGN);
                    if offset > 0 && offset + initializer.length() > limit {
                        layout.files.push(format!("{file}_data_{}", layout.files.len()));
                        offset = 0;
                    }
                    end = offset + initializer.length();
                    layout.total += initializer.length();
                    layout.files.last().map(|file| Location { file: file.clone(), offset })
                }
            };
            layout.locations.extend(location.map(|location| (initializer.name.clone(), location)));
        }
        layout
    }
}

/// Writes the data files.
pub(super) struct DataWriter<'a> {
    pub(super) model: &'a SourceModel,
    pub(super) folder: &'a Path,
    pub(super) layout: &'a DataLayout,
    pub(super) progress: &'a mut dyn FnMut(ConversionProgress<'_>),
    pub(super) distortion: Distortion,
    pub(super) done: u64,
    /// Of the last codes.
    pub(super) scales: Vec<u8>,
    /// Of the last codes.
    pub(super) zero_points: Vec<u8>,
}

impl DataWriter<'_> {
    /// Writes the constants in them.
    pub(super) fn write(&mut self, constants: &[Initializer]) -> Result<(), ConvertError> {
        for name in &self.layout.files {
            let path = self.folder.join(name);
            let failed = |error| write_error(&path, self.layout.total, error);
            let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(failed)?);
            for initializer in constants {
                let Content::Stored(stored) = &initializer.content else { continue };
                let Some(location) = self.layout.locations.get(&initializer.name) else { continue };
                if location.file == *name {
                    out.seek(SeekFrom::Start(location.offset)).map_err(failed)?;
                    self.tensor(initializer, *stored, &mut |bytes| out.write_all(bytes).map_err(failed))?;
                }
            }
            out.flush().map_err(failed)?;
        }
        Ok(())
    }

    /// Writes the bytes of a tensor through `out`.
    fn tensor(
        &mut self,
        initializer: &Initializer,
        stored: StoredTensor,
        out: &mut dyn FnMut(&[u8]) -> Result<(), ConvertError>,
    ) -> Result<(), ConvertError> {
        let (model, total) = (self.model, self.layout.total);
        let mut done = self.done;
        let progress = &mut *self.progress;
        let mut put = |bytes: &[u8]| -> Result<(), ConvertError> {
            out(bytes)?;
            done += bytes.len() as u64;
            let (stage, tensor) = (ConversionStage::Writing, initializer.name.as_str());
            progress(ConversionProgress { stage, tensor, done, total });
            Ok(())
        };
        let distortion = &mut self.distortion;
        match stored {
            StoredTensor::Rows { role, layer, kind } => {
                let tensor = find(model, role, layer)?;
                for rows in chunks(tensor.rows, tensor.columns) {
                    let values = values(model, tensor, rows.clone())?;
                    put(&numbers(&values, kind, tensor, |at| rows.start + at / tensor.columns, distortion)?)?;
                }
            }
            StoredTensor::Transposed { role, layer, kind } => {
                let tensor = find(model, role, layer)?;
                let matrix = values(model, tensor, 0..tensor.rows)?;
                for columns in chunks(tensor.columns, tensor.rows) {
                    let values: Vec<f32> = columns
                        .into_par_iter()
                        .flat_map_iter(|column| matrix[column..].iter().step_by(tensor.columns).copied())
                        .collect();
                    put(&numbers(&values, kind, tensor, |at| at % tensor.rows, distortion)?)?;
                }
            }
            StoredTensor::Codes { role, layer, bits } => {
                let tensor = find(model, role, layer)?;
                (self.scales, self.zero_points) = Default::default();
                for rows in chunks(tensor.rows, tensor.columns) {
                    let values = values(model, tensor, rows.clone())?;
                    let quantized = quantize(&values, bits, tensor, rows.start)?;
                    let mut codes = Vec::new();
                    for row in quantized {
                        codes.extend(row.codes);
                        self.scales.extend(row.scales);
                        self.zero_points.extend(row.zero_points);
                        distortion.add(row.distortion);
                    }
                    put(&codes)?;
                }
            }
            StoredTensor::Scales => put(&self.scales)?,
            StoredTensor::ZeroPoints => put(&self.zero_points)?,
            StoredTensor::Cosines | StoredTensor::Sines => {
                let config = &model.config;
                let mut frequencies = vec![0.0; config.head_dim / 2];
                config.rope.inverse_frequencies(&mut frequencies);
                let part = usize::from(matches!(stored, StoredTensor::Sines));
                let row = |position: usize| {
                    let rotation = move |&frequency| config.rope.rotation(position, frequency);
                    frequencies.iter().flat_map(move |f| rotation(f)[part].to_le_bytes())
                };
                for positions in chunks(config.context, frequencies.len()) {
                    put(&positions.flat_map(row).collect::<Vec<u8>>())?;
                }
            }
        }
        self.done = done;
        Ok(())
    }
}

/// The model's tensor of a role.
fn find(model: &SourceModel, role: TensorRole, layer: u16) -> Result<&SourceTensor, ConvertError> {
    let found = role.index(&model.config, layer).and_then(|index| model.tensors().get(index));
    found.ok_or_else(|| ConvertError::MissingTensor { name: role.hugging_face(layer).to_string() })
}

/// Ranges of rows with about [`CHUNK`] numbers each.
fn chunks(rows: usize, columns: usize) -> impl Iterator<Item = Range<usize>> {
    let at_once = (CHUNK / columns.max(1)).max(1);
    (0..rows).step_by(at_once).map(move |start| start..rows.min(start + at_once))
}

/// Rows of a tensor, checked to be finite.
fn values(model: &SourceModel, tensor: &SourceTensor, rows: Range<usize>) -> Result<Vec<f32>, ConvertError> {
    let mut values = vec![0.0; rows.len() * tensor.columns];
    let mut source = Vec::new();
    for part in chunks(rows.len(), tensor.columns) {
        let out = &mut values[part.start * tensor.columns..part.end * tensor.columns];
        model.read_rows(tensor, rows.start + part.start..rows.start + part.end, &mut source)?;
        dequantize(tensor.kind, &source, out);
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => {
            let row = rows.start + at / tensor.columns;
            Err(ConvertError::NotFinite { name: tensor.name.clone(), row })
        }
        None => Ok(values),
    }
}

/// Numbers in the bytes of a type; `row` is the row of the number at an index.
fn numbers(
    values: &[f32],
    kind: ElementType,
    tensor: &SourceTensor,
    row: impl Fn(usize) -> usize,
    distortion: &mut Distortion,
) -> Result<Vec<u8>, ConvertError> {
    if kind == ElementType::F32 {
        return Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }
    let stored: Vec<half::f16> = values.iter().map(|&value| half::f16::from_f32(value)).collect();
    if let Some(at) = stored.iter().position(|stored| !stored.is_finite()) {
        let (name, format) = (tensor.name.clone(), "F16".to_owned());
        return Err(ConvertError::TooLarge { name, row: row(at), format });
    }
    let seen: Vec<f32> = stored.iter().map(|stored| stored.to_f32()).collect();
    distortion.add(Distortion::between(values, &seen));
    Ok(stored.iter().flat_map(|stored| stored.to_le_bytes()).collect())
}

/// One quantized row.
#[derive(Default)]
struct QuantizedRow {
    codes: Vec<u8>,
    scales: Vec<u8>,
    zero_points: Vec<u8>,
    distortion: Distortion,
}

/// Quantizes rows in blocks; `first` is the number of the first row.
fn quantize(
    values: &[f32],
    bits: u32,
    tensor: &SourceTensor,
    first: usize,
) -> Result<Vec<QuantizedRow>, ConvertError> {
    let rows = values.par_chunks_exact(tensor.columns).enumerate();
    rows.map(|(row, values)| {
        let mut out = QuantizedRow::default();
        for (index, values) in values.chunks(blocks::LEN).enumerate() {
            let too_large = || ConvertError::TooLarge {
                name: tensor.name.clone(),
                row: first + row,
                format: format!("{bits}-bit blocks"),
            };
            let block = NBitBlock::new(bits, values).ok_or_else(too_large)?;
            out.distortion.error += f64::from(block.error(values));
            out.distortion.energy += values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            out.scales.extend(block.scale.to_le_bytes());
            if bits == 8 {
                out.codes.extend(block.codes);
                continue;
            }
            // The first of two is in the low half of a byte.
            out.codes.extend(block.codes.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4));
            match out.zero_points.last_mut().filter(|_| index % 2 == 1) {
                Some(last) => *last |= block.zero_point << 4,
                None => out.zero_points.push(block.zero_point),
            }
        }
        Ok(out)
    })
    .collect()
}
