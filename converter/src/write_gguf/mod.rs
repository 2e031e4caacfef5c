//! Writes GGUF files for llama.cpp: version 3, like its `convert_hf_to_gguf.py`.
//!
//! The rows of Q and K have llama.cpp's order, norms and biases are f32, and a tied head is stored once. Blocks of 32 are identical
//! to ggml's; Q4_K uses our own search for scales.

mod blocks;
mod metadata;
mod q4_k;

#[cfg(all(test, feature = "ggml"))]
pub(crate) use blocks::quantize as quantize_block;

use crate::config::gguf;
use crate::encode::{CHUNK, Emit};
use crate::quantize::{Distortion, RowError};
use crate::read::{BlockType, SourceModel, SourceTensor};
use crate::write::write_error;
use crate::{ConversionProgress, ConversionStage, ConvertError, dequantize};
use metadata::ALIGN;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use thimble_files::AtomicFile;
use thimble_runtime::format::TensorRole;

/// The types of the matrices of a GGUF file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GgufType {
    /// The types of the source (for a `.thimble` file: the lossless GGML types, otherwise f32).
    #[default]
    Keep,
    /// One type for all, as far as [`GgufType::of`] allows.
    All(BlockType),
}

impl GgufType {
    /// The types that can be written.
    pub const TYPES: [BlockType; 9] = [
        BlockType::F32,
        BlockType::F16,
        BlockType::BF16,
        BlockType::Q8_0,
        BlockType::Q5_1,
        BlockType::Q5_0,
        BlockType::Q4_1,
        BlockType::Q4_0,
        BlockType::Q4_K,
    ];

    /// Every name on the command line.
    pub fn names() -> Vec<String> {
        std::iter::once("keep".to_owned()).chain(Self::TYPES.iter().map(BlockType::to_string)).collect()
    }

    /// The type of one tensor.
    ///
    /// Norms and biases are f32. With quantized bodies, embedding and head are Q8_0, unless the source has the requested type
    /// (llama.cpp uses Q6_K, or Q8_0 for rows that are not a multiple of 256). Q4_K falls back to Q5_0 for rows that are
    /// not a multiple of 256, as in llama.cpp, and every type to F16 for rows that are not a multiple of 32.
    pub fn of(self, tensor: &SourceTensor) -> BlockType {
        if tensor.role.is_vector() {
            return BlockType::F32;
        }
        let wanted = match self {
            GgufType::Keep => return tensor.kind,
            GgufType::All(kind) if kind == tensor.kind => return kind,
            GgufType::All(kind) => kind,
        };
        let edge = matches!(tensor.role, TensorRole::Embedding | TensorRole::Head);
        let wanted = if edge && wanted.block_len() > 1 { BlockType::Q8_0 } else { wanted };
        let fallback = [wanted, BlockType::Q5_0].into_iter().take(1 + usize::from(wanted == BlockType::Q4_K));
        let whole = |kind: &BlockType| tensor.columns.is_multiple_of(kind.block_len());
        fallback.into_iter().find(whole).unwrap_or(BlockType::F16)
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GgufType::Keep => f.write_str("keep"),
            GgufType::All(kind) => kind.fmt(f),
        }
    }
}

impl FromStr for GgufType {
    type Err = ConvertError;

    /// Parses a name, ignoring case.
    fn from_str(name: &str) -> Result<GgufType, ConvertError> {
        if name.eq_ignore_ascii_case("keep") {
            return Ok(GgufType::Keep);
        }
        let found = Self::TYPES.into_iter().find(|kind| kind.to_string().eq_ignore_ascii_case(name));
        found.map(GgufType::All).ok_or_else(|| ConvertError::UnknownName {
            what: "GGUF type",
            found: name.to_owned(),
            known: Self::names().join(", "),
        })
    }
}

/// The result of writing a GGUF file.
#[derive(Clone, Debug)]
pub struct GgufSummary {
    /// Bytes of the file.
    pub bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Tensors and bytes by type name.
    pub types: BTreeMap<String, (usize, u64)>,
    /// Relative root mean square error of all rounded tensors; zero if nothing was rounded.
    pub rounding: f64,
    /// Notes for the user: fallbacks, and what GGUF cannot store.
    pub notes: Vec<String>,
}

/// A tensor to write.
struct Target<'c> {
    tensor: &'c SourceTensor,
    kind: BlockType,
    length: u64,
}

/// Writes a model as a GGUF file, atomically and deterministically. Memory does not grow with the model.
///
/// # Errors
/// A model that llama.cpp cannot compute; weights that are not finite or do not fit the type; a destination that cannot be written.
pub fn write_gguf(
    model: &SourceModel,
    destination: &Path,
    kind: GgufType,
    progress: &mut dyn FnMut(ConversionProgress<'_>),
) -> Result<GgufSummary, ConvertError> {
    let targets = model.tensors().iter().map(|tensor| {
        let kind = kind.of(tensor);
        let row = kind.row_bytes(tensor.columns).unwrap_or(0);
        Target { tensor, kind, length: tensor.rows as u64 * row as u64 }
    });
    let targets: Vec<Target<'_>> = targets.collect();
    let mut notes = model.notes.clone();
    notes.extend(fallbacks(kind, &targets));
    let hyperparameters = gguf::write(&model.config)?;
    notes.extend(hyperparameters.notes.iter().cloned());
    let head = metadata::head(model, &hyperparameters, &targets, &mut notes)?;
    let divisors = hyperparameters.rope_freqs.iter().flatten().flat_map(|divisor| divisor.to_le_bytes());
    let mut divisors: Vec<u8> = divisors.collect();
    divisors.resize(divisors.len().next_multiple_of(ALIGN as usize), 0);
    let end = |at: u64, target: &Target<'_>| at.next_multiple_of(ALIGN) + target.length;
    let total = targets.iter().fold(head.len() as u64, end).next_multiple_of(ALIGN) + divisors.len() as u64;
    let mut summary = GgufSummary {
        bytes: total,
        parameters: model.config.parameters(),
        types: BTreeMap::new(),
        rounding: 0.0,
        notes,
    };
    let fail = |error| write_error(destination, total, error);
    let mut file = AtomicFile::create(destination).map_err(fail)?;
    let mut writer = file.writer();
    writer.write_all(&head).map_err(fail)?;
    let mut done = head.len() as u64;
    let mut all = Distortion::default();
    for target in &targets {
        let entry = summary.types.entry(target.kind.to_string()).or_default();
        *entry = (entry.0 + 1, entry.1 + target.length);
        // The header and every tensor are padded to the alignment.
        encode(model, target, &mut |bytes, distortion| {
            writer.write_all(bytes).map_err(fail)?;
            done += bytes.len() as u64;
            all.add(distortion);
            progress(ConversionProgress {
                stage: ConversionStage::Writing,
                tensor: &target.tensor.name,
                done,
                total,
            });
            Ok(())
        })?;
        let padding = done.next_multiple_of(ALIGN) - done;
        writer.write_all(&[0; ALIGN as usize][..padding as usize]).map_err(fail)?;
        done += padding;
    }
    // In the order of the directory: behind the model's tensors.
    writer.write_all(&divisors).map_err(fail)?;
    summary.rounding = all.relative();
    writer.flush().map_err(fail)?;
    drop(writer);
    file.publish().map_err(fail)?;
    Ok(summary)
}

/// A note for each type that some tensors have instead of the requested one.
fn fallbacks(wanted: GgufType, targets: &[Target<'_>]) -> Vec<String> {
    let GgufType::All(wanted) = wanted else { return Vec::new() };
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    let matrices = targets.iter().filter(|target| !target.tensor.role.is_vector());
    let edge = |role| matches!(role, TensorRole::Embedding | TensorRole::Head);
    for target in matrices.filter(|target| target.kind != wanted && !edge(target.tensor.role)) {
        let columns = target.tensor.columns;
        let length = if target.kind == BlockType::F16 { 32 } else { wanted.block_len() };
        let why =
            format!("{} instead of {wanted}: rows of {columns} are no multiple of {length}", target.kind);
        *others.entry(why).or_default() += 1;
    }
    let body = others.into_iter().map(|(why, count)| format!("{count} matrices are {why}"));
    let edges = targets.iter().filter(|t| edge(t.tensor.role) && t.kind != wanted).map(|t| {
        let what = if t.tensor.role == TensorRole::Head { "the head" } else { "the embedding" };
        format!("{what} is {}", t.kind)
    });
    body.chain(edges).collect()
}

/// Encodes one tensor in chunks of a few megabytes, in order.
fn encode(model: &SourceModel, target: &Target<'_>, emit: &mut Emit<'_>) -> Result<(), ConvertError> {
    let Target { tensor, kind, .. } = *target;
    let (source_row, row) = (tensor.row_bytes().max(1), kind.row_bytes(tensor.columns).unwrap_or(0).max(1));
    // Whole heads, if their rows are reordered.
    let rotated = matches!(tensor.role, TensorRole::Query | TensorRole::Key);
    let rotated = rotated && gguf::family(&model.config)?.interleaves();
    let heads = rotated.then_some(model.config.head_dim);
    let unit = heads.unwrap_or(1);
    let at_once = (CHUNK / source_row.max(row) / unit).max(1) * unit;
    let (mut source, mut out) = (Vec::new(), Vec::new());
    for start in (0..tensor.rows).step_by(at_once) {
        let end = tensor.rows.min(start + at_once);
        model.read_rows(tensor, start..end, &mut source)?;
        out.resize((end - start) * row, 0);
        let rows = out.par_chunks_exact_mut(row).enumerate();
        let distortions: Vec<Distortion> = rows
            .map(|(index, out)| {
                let from = heads.map_or(index, |dim| stored_row(index, dim));
                let bytes = &source[from * source_row..][..source_row];
                encode_row(tensor, kind, bytes, out)
                    .map_err(|error| error.in_tensor(&tensor.name, start + from, kind.to_string()))
            })
            .collect::<Result<_, _>>()?;
        let mut distortion = Distortion::default();
        distortions.into_iter().for_each(|l| distortion.add(l));
        emit(&out, distortion)?;
    }
    Ok(())
}

/// The row of Q or K at `row` in llama.cpp's order, with adjacent rotary pairs: the inverse of the reader's.
fn stored_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + within % 2 * (head_dim / 2) + within / 2
}

/// Encodes one row: unchanged if the source has the type, losslessly if it has another type on the same grid, otherwise
/// rounded.
fn encode_row(
    tensor: &SourceTensor,
    kind: BlockType,
    bytes: &[u8],
    out: &mut [u8],
) -> Result<Distortion, RowError> {
    let mut values = vec![0.0; tensor.columns];
    dequantize(tensor.kind, bytes, &mut values);
    if values.iter().any(|value| !value.is_finite()) {
        return Err(RowError::NotFinite { row: 0 });
    }
    if kind == tensor.kind {
        out.copy_from_slice(bytes);
        return Ok(Distortion::default());
    }
    let (source_size, same_length) =
        (tensor.kind.block_bytes(), [tensor.kind, kind].map(BlockType::block_len) == [blocks::LEN; 2]);
    let blocks = out.chunks_exact_mut(kind.block_bytes()).zip(values.chunks_exact(kind.block_len()));
    for (index, (out, values)) in blocks.enumerate() {
        // The source's block at the same position.
        let from = same_length.then(|| &bytes[index * source_size..][..source_size]);
        let carried = from.and_then(|from| blocks::carry_over(tensor.kind, from, kind, out));
        carried.or_else(|| encode_block(values, kind, out)).ok_or(RowError::TooLarge { row: 0 })?;
    }
    let mut stored = vec![0.0; tensor.columns];
    dequantize(kind, out, &mut stored);
    match stored.iter().all(|stored| stored.is_finite()) {
        true => Ok(Distortion::between(&values, &stored)),
        false => Err(RowError::TooLarge { row: 0 }),
    }
}

/// Encodes the numbers of one block; `None` if a scale is too large.
fn encode_block(values: &[f32], kind: BlockType, out: &mut [u8]) -> Option<()> {
    match (kind, values) {
        (_, &[value]) => kind.put_float(value, out),
        (BlockType::Q4_K, values) => q4_k::quantize(values.try_into().ok()?, out)?,
        (kind, values) => blocks::quantize(kind, values.try_into().ok()?, out)?,
    }
    Some(())
}
