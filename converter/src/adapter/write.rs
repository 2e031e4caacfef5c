//! Writes `.adapter` files.

use super::{SourceAdapter, SourceLowRank};
use crate::read::BlockType;
use crate::write::write_error;
use crate::{ConvertError, Quant, pack};
use half::f16;
use serde_json::json;
use std::path::Path;
use thimble_runtime::adapter::{ADAPTER_HEADER, AdapterHeader, AdapterRecord};
use thimble_runtime::format::{ALIGN, Encoding, PANEL, checksum};

/// The result of writing an adapter file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdapterSummary {
    /// Bytes of the file.
    pub bytes: u64,
    /// Adapted matrices.
    pub matrices: usize,
    /// Numbers in A and B of all of them.
    pub parameters: u64,
    /// Largest rank.
    pub rank: usize,
    /// Whether the base model is known.
    pub has_fingerprint: bool,
}

impl SourceAdapter {
    /// Writes the adapter to `destination`, which appears complete or not at all; `quant` is `keep` or a float type.
    ///
    /// # Errors
    /// A quantized type, a number that the type cannot hold, or a file that cannot be written.
    pub fn write(&self, destination: &Path, quant: Quant) -> Result<AdapterSummary, ConvertError> {
        let bytes = self.bytes(quant)?;
        let written = thimble_files::write(destination, &bytes);
        written.map_err(|error| write_error(destination, bytes.len() as u64, error))?;
        Ok(AdapterSummary {
            bytes: bytes.len() as u64,
            matrices: self.matrices.len(),
            parameters: self.matrices.iter().map(|m| (m.a.len() + m.b.len()) as u64).sum(),
            rank: self.matrices.iter().map(|matrix| matrix.rank).max().unwrap_or(0),
            has_fingerprint: self.fingerprint.is_some(),
        })
    }

    /// The bytes of the file.
    fn bytes(&self, quant: Quant) -> Result<Vec<u8>, ConvertError> {
        let (mut table, mut weights) = (Vec::new(), Vec::new());
        for matrix in &self.matrices {
            let encoding = encoding(quant, matrix.kind)?;
            align(&mut weights);
            table.extend(matrix.record(encoding, weights.len() as u64).emit());
            for (numbers, columns) in [(&matrix.a, matrix.columns), (&matrix.b, matrix.rank)] {
                align(&mut weights);
                store(matrix, encoding, (numbers, columns), &mut weights)?;
            }
        }
        let provenance = json!({
            "source": self.source,
            "base": self.base,
            "converter": concat!("thimble-converter ", env!("CARGO_PKG_VERSION")),
        });
        let provenance = provenance.to_string();
        let header = AdapterHeader {
            matrices: self.matrices.len() as u32,
            provenance: provenance.len() as u32,
            file_len: 0,
            fingerprint: self.fingerprint,
            layers: self.layers,
        };
        let start = header.weights();
        let header = AdapterHeader { file_len: start + weights.len() as u64, ..header };
        let mut file = vec![0; ADAPTER_HEADER];
        file.extend(table);
        file.extend(provenance.bytes());
        file.resize(start as usize, 0);
        let fits = header.emit(checksum(&weights), &mut file);
        fits.ok_or_else(|| ConvertError::unsupported("the adapter's table", "too long", "7,168 matrices"))?;
        file.extend(weights);
        Ok(file)
    }
}

impl SourceLowRank {
    fn record(&self, encoding: Encoding, offset: u64) -> AdapterRecord {
        AdapterRecord {
            role: self.role,
            layer: self.layer,
            encoding,
            rank: self.rank as u16,
            rows: self.rows as u32,
            columns: self.columns as u32,
            scale: self.scale,
            offset,
        }
    }
}

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGN as usize), 0);
}

/// The encoding of numbers of a source's type.
fn encoding(quant: Quant, kind: BlockType) -> Result<Encoding, ConvertError> {
    Ok(match (quant, kind) {
        (Quant::F32, _) => Encoding::F32,
        (Quant::F16, _) | (Quant::Keep, BlockType::F16) => Encoding::F16,
        (Quant::BF16, _) | (Quant::Keep, BlockType::BF16) => Encoding::BF16,
        (Quant::Keep, _) => Encoding::F32,
        (other, _) => {
            return Err(ConvertError::unsupported(
                "--quant of an adapter",
                other.name(),
                "keep, f32, f16, bf16",
            ));
        }
    })
}

/// Appends the panels of a matrix.
fn store(
    matrix: &SourceLowRank,
    encoding: Encoding,
    (numbers, columns): (&[f32], usize),
    out: &mut Vec<u8>,
) -> Result<(), ConvertError> {
    let too_large = |x: &f32| encoding == Encoding::F16 && f16::from_f32(*x).is_infinite();
    if let Some(at) = numbers.iter().position(too_large) {
        let name = matrix.role.hugging_face(matrix.layer).to_string();
        return Err(ConvertError::TooLarge { name, row: at / columns, format: encoding.name().to_owned() });
    }
    for rows in numbers.chunks(PANEL * columns) {
        let start = out.len();
        out.resize(start + columns * encoding.block_bytes(), 0);
        for (row, numbers) in rows.chunks_exact(columns).enumerate() {
            pack::put_floats(encoding, &mut out[start..], row, numbers);
        }
    }
    Ok(())
}
