//! The tensor table: one record for each tensor, in canonical order.

use super::{
    ALIGN, Config, Encoding, FormatError, SectionKind, TensorRole, align_up, read_u16, read_u32, read_u64,
};

/// Size of a record of the tensor table, bytes.
pub const TENSOR_RECORD: usize = 32;

/// Shape, encoding and location of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorRecord {
    /// The tensor's role.
    pub role: TensorRole,
    /// Its layer, or [`TensorRole::NO_LAYER`].
    pub layer: u16,
    /// Its encoding.
    pub encoding: Encoding,
    /// Rows: outputs.
    pub rows: u32,
    /// Columns: inputs.
    pub columns: u32,
    /// Offset in the tensor section.
    pub offset: u64,
    /// Length without padding, bytes.
    pub length: u64,
}

impl TensorRecord {
    /// The record that [`TensorTable::parse`] reads.
    pub fn emit(&self) -> [u8; TENSOR_RECORD] {
        let mut out = [0; TENSOR_RECORD];
        out[0..2].copy_from_slice(&(self.role as u16).to_le_bytes());
        out[2..4].copy_from_slice(&self.layer.to_le_bytes());
        out[4..6].copy_from_slice(&(self.encoding as u16).to_le_bytes());
        out[8..12].copy_from_slice(&self.rows.to_le_bytes());
        out[12..16].copy_from_slice(&self.columns.to_le_bytes());
        out[16..24].copy_from_slice(&self.offset.to_le_bytes());
        out[24..32].copy_from_slice(&self.length.to_le_bytes());
        out
    }

    fn parse(record: &[u8], config: &Config, index: usize) -> Result<TensorRecord, FormatError> {
        let (role, layer) = TensorRole::at(config, index);
        let found_role = read_u16(record, 0).unwrap_or(0);
        let found_layer = read_u16(record, 2).unwrap_or(0);
        if (role as u16, layer) != (found_role, found_layer) {
            let index = index as u32;
            return Err(FormatError::TensorOrder { index, role, layer, found_role, found_layer });
        }
        let encoding = Encoding::from_number(read_u16(record, 4).unwrap_or(0))?;
        if (encoding == Encoding::Vector) != role.is_vector() {
            return Err(FormatError::TensorEncoding { role, layer, encoding: encoding.name() });
        }
        if record[6..8] != [0; 2] {
            return Err(FormatError::Reserved { kind: SectionKind::TensorTable });
        }
        let shape = role.shape(config);
        let (rows, columns) = (shape.0 as u32, shape.1 as u32);
        let found_rows = read_u32(record, 8).unwrap_or(0);
        let found_columns = read_u32(record, 12).unwrap_or(0);
        if (rows, columns) != (found_rows, found_columns) {
            return Err(FormatError::TensorShape { role, layer, rows, columns, found_rows, found_columns });
        }
        let offset = read_u64(record, 16).unwrap_or(0);
        let length = read_u64(record, 24).unwrap_or(0);
        let expected = encoding.tensor_bytes(shape.0, shape.1);
        let expected = expected.ok_or(FormatError::TensorOverflow { role, layer })? as u64;
        if length != expected {
            return Err(FormatError::TensorLength { role, layer, expected, found: length });
        }
        Ok(TensorRecord { role, layer, encoding, rows, columns, offset, length })
    }
}

/// The tensor table of a file, checked against its configuration.
#[derive(Clone, Copy, Debug)]
pub struct TensorTable<'f> {
    records: &'f [u8],
    config: Config,
}

impl<'f> TensorTable<'f> {
    /// Parses the table; checks order, shapes, encodings and sizes, and that the tensors tile `tensors_len` bytes.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(records: &'f [u8], config: Config, tensors_len: u64) -> Result<Self, FormatError> {
        let kind = SectionKind::TensorTable;
        let count = TensorRole::count(&config);
        if !records.len().is_multiple_of(TENSOR_RECORD) {
            let [expected, found] = [(count * TENSOR_RECORD) as u64, records.len() as u64];
            return Err(FormatError::SectionLength { kind, expected, found });
        }
        let found = records.len() / TENSOR_RECORD;
        if found != count {
            return Err(FormatError::TensorCount { expected: count as u64, found: found as u64 });
        }
        let mut end = 0u64;
        for (index, record) in records.chunks_exact(TENSOR_RECORD).enumerate() {
            let record = TensorRecord::parse(record, &config, index)?;
            let TensorRecord { role, layer, offset, length, .. } = record;
            let overflow = FormatError::TensorOverflow { role, layer };
            let expected = align_up(end, ALIGN).ok_or(overflow)?;
            if offset != expected {
                return Err(FormatError::TensorOffset { role, layer, expected, found: offset });
            }
            end = offset.checked_add(length).ok_or(overflow)?;
        }
        if end != tensors_len {
            let kind = SectionKind::Tensors;
            return Err(FormatError::SectionLength { kind, expected: end, found: tensors_len });
        }
        Ok(TensorTable { records, config })
    }

    /// The record of a tensor, if the model has it; `layer` is [`TensorRole::NO_LAYER`] outside the layers.
    pub fn find(&self, role: TensorRole, layer: u16) -> Option<TensorRecord> {
        self.get(role.index(&self.config, layer)?)
    }

    /// The record at `index` in canonical order, if there is one.
    pub fn get(&self, index: usize) -> Option<TensorRecord> {
        let record = self.records.chunks_exact(TENSOR_RECORD).nth(index)?;
        TensorRecord::parse(record, &self.config, index).ok()
    }

    /// All records in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = TensorRecord> + '_ {
        (0..TensorRole::count(&self.config)).filter_map(|index| self.get(index))
    }
}
