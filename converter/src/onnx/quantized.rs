//! Products and lookups with quantized weights, by the operators of onnxruntime.

use super::blocks;
use super::graph::{Attribute, Graph};
use super::initializer::{Content, ElementType, StoredTensor};
use thimble_runtime::format::TensorRole;

/// The least accurate type of activations that `MatMulNBits` may use: 1 is f32, 4 is 8-bit integers.
const ACCURACY_LEVEL: i64 = 4;

/// A matrix whose rows are quantized in blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct QuantizedMatrix<'a> {
    /// Its name.
    pub(super) name: &'a str,
    pub(super) role: TensorRole,
    pub(super) layer: u16,
    /// Outputs.
    pub(super) rows: usize,
    /// Inputs.
    pub(super) columns: usize,
}

impl QuantizedMatrix<'_> {
    /// Bits of a code: 8 for embedding and head, on which quality depends most, else 4.
    fn bits(&self) -> u32 {
        if matches!(self.role, TensorRole::Embedding | TensorRole::Head) { 8 } else { 4 }
    }

    fn blocks(&self) -> usize {
        self.columns.div_ceil(blocks::LEN)
    }

    /// Names of codes, scales and zero points.
    fn names(&self) -> [String; 3] {
        let codes = format!("{}_Q{}", self.name, self.bits());
        [codes, format!("{}_scales", self.name), format!("{}_zero_points", self.name)]
    }

    /// Adds codes of this shape and scales, and zero points if they differ between blocks.
    fn store(&self, graph: &mut Graph, shape: &[usize]) {
        let ([codes, scales, zero_points], bits) = (self.names(), self.bits());
        let (role, layer) = (self.role, self.layer);
        let content = Content::Stored(StoredTensor::Codes { role, layer, bits });
        graph.constant(&codes, ElementType::U8, shape, content);
        let content = Content::Stored(StoredTensor::Scales);
        graph.constant(&scales, ElementType::F32, &[self.rows, self.blocks()], content);
        if bits == 4 {
            let content = Content::Stored(StoredTensor::ZeroPoints);
            let shape = [self.rows, self.blocks().div_ceil(2)];
            graph.constant(&zero_points, ElementType::U8, &shape, content);
        }
    }
}

impl Graph {
    /// The product of the last dimension of `x` with a matrix. `table` is one with the same numbers that is in the graph
    /// for [`Graph::quantized_rows`].
    pub(super) fn quantized_product(
        &mut self,
        name: &str,
        x: &str,
        matrix: &QuantizedMatrix<'_>,
        table: Option<&QuantizedMatrix<'_>>,
    ) -> String {
        let bits = matrix.bits();
        let shape = [matrix.rows, matrix.blocks(), blocks::LEN * bits as usize / 8];
        let [codes, mut scales, zero_points] = matrix.names();
        match table.map(QuantizedMatrix::names) {
            Some([table, table_scales, _]) => {
                self.constant(&codes, ElementType::U8, &shape, Content::Shared(table));
                scales = table_scales;
            }
            None => matrix.store(self, &shape),
        }
        let inputs = [x, &codes, &scales, &zero_points];
        let inputs = if bits == 4 { &inputs[..] } else { &inputs[..3] };
        let integers = [
            ("K", matrix.columns as i64),
            ("N", matrix.rows as i64),
            ("bits", i64::from(bits)),
            ("block_size", blocks::LEN as i64),
            ("accuracy_level", ACCURACY_LEVEL),
        ];
        let attributes = integers.map(|(name, value)| (name, Attribute::Integer(value)));
        let output = self.node_with(name, "MatMulNBits", inputs, &attributes);
        self.of_onnxruntime();
        output
    }

    /// The rows of a matrix of whole blocks at `indices`.
    pub(super) fn quantized_rows(
        &mut self,
        name: &str,
        indices: &str,
        matrix: &QuantizedMatrix<'_>,
    ) -> String {
        matrix.store(self, &[matrix.rows, matrix.columns]);
        let [codes, scales, _] = matrix.names();
        let integers = [
            ("bits", i64::from(matrix.bits())),
            ("block_size", blocks::LEN as i64),
            ("gather_axis", 0),
            ("quantize_axis", 1),
        ];
        let attributes = integers.map(|(name, value)| (name, Attribute::Integer(value)));
        let output = self.node_with(name, "GatherBlockQuantized", &[&codes, indices, &scales], &attributes);
        self.of_onnxruntime();
        output
    }
}
