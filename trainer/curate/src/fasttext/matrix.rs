//! Matrices of a model: 32-bit floats, or product-quantized.

use super::cursor::{Cursor, Fault};
use std::ops::Range;

/// Centroids of a codebook.
const CENTROIDS: usize = 256;
/// Independent sums of a dot product.
const LANES: usize = 8;

/// A matrix whose values lie in the bytes of the model's file.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Dense(Range<usize>),
    Quantized { codes: Range<usize>, codebook: Codebook, norms: Option<(Range<usize>, Codebook)> },
}

/// The centroids of every part of a vector.
#[derive(Clone, Debug)]
struct Codebook {
    parts: usize,
    /// Values of a part, the last one aside.
    width: usize,
    last_width: usize,
    centroids: Vec<f32>,
}

impl Matrix {
    /// Reads a matrix of `columns` columns and at least `rows` rows.
    pub(super) fn read(
        cursor: &mut Cursor<'_>,
        (rows, columns): (usize, usize),
        quantized: bool,
        what: &str,
    ) -> Result<Matrix, Fault> {
        let most = i32::MAX as usize;
        let has_norms = quantized && cursor.flag("whether norms are quantized")?;
        let found_rows = cursor.long_count(most, "the rows of a matrix")?;
        let found_columns = cursor.long_count(most, "the columns of a matrix")?;
        if found_columns != columns || found_rows < rows {
            return Err(format!(
                "expected {columns} columns and at least {rows} rows in {what}, found {found_columns} and {found_rows}"
            ));
        }
        let size = |a: usize, b: usize| {
            a.checked_mul(b)
                .ok_or_else(|| format!("expected a size that fits into memory for {what}, found {a} x {b}"))
        };
        let values = if quantized {
            let found = cursor.count(most, "the number of codes")?;
            let codes = cursor.range(found, "the codes of a matrix")?;
            let codebook = Codebook::read(cursor, columns)?;
            let expected = size(found_rows, codebook.parts)?;
            if found != expected {
                return Err(format!("expected {expected} codes in {what}, found {found}"));
            }
            let norms = match has_norms {
                true => {
                    let codes = cursor.range(found_rows, "the codes of norms")?;
                    Some((codes, Codebook::read(cursor, 1)?))
                }
                false => None,
            };
            Values::Quantized { codes, codebook, norms }
        } else {
            let bytes = size(size(found_rows, columns)?, 4)?;
            Values::Dense(cursor.range(bytes, what)?)
        };
        Ok(Matrix { rows: found_rows, columns, values })
    }

    /// Adds a row to `sum`, which has as many values as the matrix has columns.
    #[inline]
    pub(super) fn add_row(&self, file: &[u8], row: usize, sum: &mut [f32]) {
        match &self.values {
            Values::Dense(range) => {
                let row = &file[range.start + row * self.columns * 4..][..self.columns * 4];
                for (sum, bytes) in sum.iter_mut().zip(row.as_chunks::<4>().0) {
                    *sum += f32::from_le_bytes(*bytes);
                }
            }
            Values::Quantized { codes, codebook, norms } => {
                let norm = row_norm(file, norms.as_ref(), row);
                let codes = &file[codes.start + row * codebook.parts..][..codebook.parts];
                if codebook.width == 2 && codebook.last_width == 2 {
                    let (sums, _) = sum.as_chunks_mut::<2>();
                    for (part, (sum, &code)) in sums.iter_mut().zip(codes).enumerate() {
                        let at = (part * CENTROIDS + usize::from(code)) * 2;
                        let centroid = &codebook.centroids[at..at + 2];
                        sum[0] += norm * centroid[0];
                        sum[1] += norm * centroid[1];
                    }
                    return;
                }
                for (part, &code) in codes.iter().enumerate() {
                    let sum = &mut sum[part * codebook.width..];
                    for (sum, value) in sum.iter_mut().zip(codebook.centroid(part, code)) {
                        *sum += norm * value;
                    }
                }
            }
        }
    }

    /// The dot product of a row and `vector`.
    pub(super) fn dot(&self, file: &[u8], row: usize, vector: &[f32]) -> f32 {
        match &self.values {
            Values::Dense(range) => {
                let row = &file[range.start + row * self.columns * 4..][..self.columns * 4];
                let (row, _) = row.as_chunks::<4>();
                let mut sums = [0f32; LANES];
                let (wide_rows, rest_row) = row.as_chunks::<LANES>();
                let (wide, rest) = vector.as_chunks::<LANES>();
                for (row, vector) in wide_rows.iter().zip(wide) {
                    for ((sum, weight), x) in sums.iter_mut().zip(row).zip(vector) {
                        *sum += f32::from_le_bytes(*weight) * x;
                    }
                }
                let rest: f32 = rest_row.iter().zip(rest).map(|(row, x)| f32::from_le_bytes(*row) * x).sum();
                sums.iter().sum::<f32>() + rest
            }
            Values::Quantized { codes, codebook, norms } => {
                let codes = &file[codes.start + row * codebook.parts..][..codebook.parts];
                let mut sum = 0.0;
                for (part, &code) in codes.iter().enumerate() {
                    let vector = &vector[part * codebook.width..];
                    for (x, value) in vector.iter().zip(codebook.centroid(part, code)) {
                        sum += x * value;
                    }
                }
                sum * row_norm(file, norms.as_ref(), row)
            }
        }
    }
}

fn row_norm(file: &[u8], norms: Option<&(Range<usize>, Codebook)>, row: usize) -> f32 {
    norms.map_or(1.0, |(codes, codebook)| codebook.centroid(0, file[codes.start + row])[0])
}

impl Codebook {
    /// Reads the codebook of vectors with `columns` values.
    fn read(cursor: &mut Cursor<'_>, columns: usize) -> Result<Codebook, Fault> {
        let most = i32::MAX as usize;
        let found = cursor.count(most, "the dimensions of a codebook")?;
        let parts = cursor.count(most, "the parts of a vector")?;
        let width = cursor.count(most, "the values of a part")?;
        let last_width = cursor.count(most, "the values of the last part")?;
        let fits = found == columns
            && width > 0
            && parts == columns.div_ceil(width)
            && last_width == columns - (parts - 1) * width;
        if !fits {
            return Err(format!(
                "expected a codebook for {columns} values, found one for {found}: {parts} parts of {width}, the last of \
                 {last_width}"
            ));
        }
        let bytes = cursor.range(columns * CENTROIDS * 4, "the centroids of a codebook")?;
        let values = cursor.bytes(&bytes).as_chunks::<4>().0;
        let centroids = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Codebook { parts, width, last_width, centroids })
    }

    #[inline]
    fn centroid(&self, part: usize, code: u8) -> &[f32] {
        let width = if part + 1 == self.parts { self.last_width } else { self.width };
        &self.centroids[part * CENTROIDS * self.width + usize::from(code) * width..][..width]
    }
}
