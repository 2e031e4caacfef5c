//! The table of an adapter: one record for each adapted matrix.

use super::AdapterFormatError;
use crate::format::{ALIGN, Encoding, TensorRole, align_up, read_f32, read_u16, read_u32, read_u64};

/// Size of a record, bytes.
pub const ADAPTER_RECORD: usize = 32;
/// Largest rank.
pub const MAX_RANK: usize = 4096;

/// The low-rank matrices beside one matrix of a model: A, `[rank, columns]`, and B, `[rows, rank]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterRecord {
    /// The adapted matrix: one of [`AdapterRecord::ROLES`].
    pub role: TensorRole,
    /// Its layer.
    pub layer: u16,
    /// The encoding of A and B: f32, f16 or bf16.
    pub encoding: Encoding,
    /// Rows of A and columns of B.
    pub rank: u16,
    /// Rows of the adapted matrix: outputs.
    pub rows: u32,
    /// Columns of the adapted matrix: inputs.
    pub columns: u32,
    /// Factor of `B A`: alpha / rank, or alpha / sqrt(rank) with rank stabilization (Kalajdzievski 2023).
    pub scale: f32,
    /// Offset of A in the weights; B follows at the next multiple of 64.
    pub offset: u64,
}

impl AdapterRecord {
    /// The matrices that can be adapted, in the order of a layer.
    pub const ROLES: [TensorRole; 7] = [
        TensorRole::Query,
        TensorRole::Key,
        TensorRole::Value,
        TensorRole::Output,
        TensorRole::Gate,
        TensorRole::Up,
        TensorRole::Down,
    ];
    /// The encodings of A and B.
    pub const ENCODINGS: [Encoding; 3] = [Encoding::F32, Encoding::F16, Encoding::BF16];

    /// The record that [`AdapterRecord::parse`] reads.
    pub fn emit(&self) -> [u8; ADAPTER_RECORD] {
        let mut out = [0; ADAPTER_RECORD];
        out[0..2].copy_from_slice(&(self.role as u16).to_le_bytes());
        out[2..4].copy_from_slice(&self.layer.to_le_bytes());
        out[4..6].copy_from_slice(&(self.encoding as u16).to_le_bytes());
        out[6..8].copy_from_slice(&self.rank.to_le_bytes());
        out[8..12].copy_from_slice(&self.rows.to_le_bytes());
        out[12..16].copy_from_slice(&self.columns.to_le_bytes());
        out[16..20].copy_from_slice(&self.scale.to_le_bytes());
        out[24..32].copy_from_slice(&self.offset.to_le_bytes());
        out
    }

    /// Reads record `index` of a table.
    ///
    /// # Errors
    /// A field that is out of range.
    pub fn parse(record: &[u8], index: u32) -> Result<AdapterRecord, AdapterFormatError> {
        let wrong =
            |field, expected, found: u64| AdapterFormatError::Record { index, field, expected, found };
        let half = |at| read_u16(record, at).unwrap_or(0);
        let word = |at| read_u32(record, at).unwrap_or(0);
        let role = Self::ROLES.into_iter().find(|role| *role as u16 == half(0));
        let role = role.ok_or(wrong("role", "a projection of a layer", half(0).into()))?;
        let encoding = Self::ENCODINGS.into_iter().find(|encoding| *encoding as u16 == half(4));
        let encoding = encoding.ok_or(wrong("encoding", "f32, f16 or bf16", half(4).into()))?;
        let (layer, rank, rows, columns) = (half(2), half(6), word(8), word(12));
        if layer >= 1024 {
            return Err(wrong("layer", "0 to 1,023", layer.into()));
        }
        if !(1..=MAX_RANK).contains(&usize::from(rank)) {
            return Err(wrong("rank", "1 to 4,096", rank.into()));
        }
        for (field, size) in [("rows", rows), ("columns", columns)] {
            if !(1..=1 << 18).contains(&size) {
                return Err(wrong(field, "1 to 262,144", size.into()));
            }
        }
        let scale = read_f32(record, 16).unwrap_or(0.0);
        if !scale.is_finite() {
            return Err(wrong("scale", "a finite number", word(16).into()));
        }
        if record.get(20..24) != Some(&[0; 4]) {
            return Err(AdapterFormatError::Reserved { part: "table" });
        }
        let offset = read_u64(record, 24).unwrap_or(0);
        Ok(AdapterRecord { role, layer, encoding, rank, rows, columns, scale, offset })
    }

    /// What the table is sorted by.
    pub(super) fn key(&self) -> (u16, u16) {
        (self.layer, self.role as u16)
    }

    /// Bytes of A.
    pub fn a_bytes(&self) -> u64 {
        self.bytes(self.rank.into(), self.columns)
    }

    /// Bytes of B.
    pub fn b_bytes(&self) -> u64 {
        self.bytes(self.rows, self.rank.into())
    }

    fn bytes(&self, rows: u32, columns: u32) -> u64 {
        // Rows, columns and rank are limited, so that nothing overflows.
        self.encoding.tensor_bytes(rows as usize, columns as usize).map_or(u64::MAX, |bytes| bytes as u64)
    }

    /// Offset of B, and the end of the matrices, in the weights; `None` on overflow.
    pub fn extent(&self) -> Option<(u64, u64)> {
        let b = align_up(self.offset.checked_add(self.a_bytes())?, ALIGN)?;
        Some((b, b.checked_add(self.b_bytes())?))
    }
}
