//! Low-rank adapters.

use super::super::{Adapter, AdapterPass, BufferSpan};
use super::blocks::product;
use super::tensors::CandleOps;
use candle_core::{DType, Result, Tensor};

impl CandleOps {
    /// Keeps `input x A^T`, and adds each part's `scale x hidden x B^T` to its columns of the output.
    pub(super) fn adapter_forward(
        &self,
        adapter: &Adapter,
        input: BufferSpan,
        [hidden, output]: [BufferSpan; 2],
    ) -> Result<()> {
        let tokens = input.len / adapter.a.columns;
        let inner = product(&self.view(input, (tokens, adapter.a.columns))?, &self.matrix(adapter.a)?.t()?)?;
        self.set(hidden, &inner)?;
        let sums = self.rows(output, output.len / tokens)?;
        let mut pieces = Vec::new();
        let mut end = 0;
        for (part, first) in adapter.parts() {
            let hidden = inner.narrow(1, first, part.b.columns)?.contiguous()?;
            let change = product(&hidden, &self.matrix(part.b)?.t()?)?.to_dtype(DType::F32)?;
            pieces.push(sums.narrow(1, end, part.first_output - end)?);
            end = part.first_output + part.b.rows;
            let change = change.affine(f64::from(adapter.scale), 0.0)?;
            pieces.push((sums.narrow(1, part.first_output, part.b.rows)? + change)?);
        }
        pieces.push(sums.narrow(1, end, sums.dim(1)? - end)?);
        pieces.retain(|piece| piece.elem_count() > 0);
        self.set(output, &Tensor::cat(&pieces, 1)?)
    }

    /// Adds to the gradients of A, B and the input.
    pub(super) fn adapter_gradient(&self, adapter: &Adapter, pass: AdapterPass) -> Result<()> {
        let (inputs, inner) = (adapter.a.columns, adapter.a.rows);
        let tokens = pass.input.len / inputs;
        let d_output = self.view(pass.d_output, (tokens, pass.d_output.len / tokens))?;
        let hidden = self.view(pass.hidden, (tokens, inner))?;
        let scale = f64::from(adapter.scale);
        let mut d_hidden = Vec::new();
        for (part, first) in adapter.parts() {
            let d_output = d_output.narrow(1, part.first_output, part.b.rows)?.contiguous()?;
            let hidden = hidden.narrow(1, first, part.b.columns)?.contiguous()?;
            let d_b = product(&d_output.t()?, &hidden)?.to_dtype(DType::F32)?.affine(scale, 0.0)?;
            self.add_gradient(part.b.start, &d_b)?;
            d_hidden.push(product(&d_output, &self.matrix(part.b)?)?.affine(scale, 0.0)?);
        }
        let d_hidden = Tensor::cat(&d_hidden, 1)?;
        let input = self.view(pass.input, (tokens, inputs))?;
        self.add_gradient(adapter.a.start, &product(&d_hidden.t()?, &input)?)?;
        let change = product(&d_hidden, &self.matrix(adapter.a)?)?.to_dtype(DType::F32)?;
        self.set(pass.d_input, &(self.rows(pass.d_input, inputs)? + change)?)
    }
}
