//! Low-rank adapters.

use super::super::{Adapter, AdapterGradient, BufferSpan};
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

    /// Keeps `scale x d_output x B`, and adds its product with A to the gradient of the input.
    pub(super) fn adapter_to_input(
        &self,
        adapter: &Adapter,
        gradient: AdapterGradient,
        d_input: BufferSpan,
    ) -> Result<()> {
        let tokens = d_input.len / adapter.a.columns;
        let d_output = self.view(gradient.d_output, (tokens, gradient.d_output.len / tokens))?;
        let mut d_hidden = Vec::new();
        for (part, _) in adapter.parts() {
            let d_output = d_output.narrow(1, part.first_output, part.b.rows)?.contiguous()?;
            d_hidden.push(product(&d_output, &self.matrix(part.b)?)?.affine(f64::from(adapter.scale), 0.0)?);
        }
        let d_hidden = Tensor::cat(&d_hidden, 1)?;
        self.set(gradient.d_hidden, &d_hidden)?;
        let change = product(&d_hidden, &self.matrix(adapter.a)?)?.to_dtype(DType::F32)?;
        self.set(d_input, &(self.rows(d_input, adapter.a.columns)? + change)?)
    }

    /// Adds to the gradients of A and B.
    pub(super) fn adapter_to_weights(
        &self,
        adapter: &Adapter,
        input: BufferSpan,
        gradient: AdapterGradient,
    ) -> Result<()> {
        let (inputs, inner) = (adapter.a.columns, adapter.a.rows);
        let tokens = input.len / inputs;
        let d_output = self.view(gradient.d_output, (tokens, gradient.d_output.len / tokens))?;
        let hidden = self.view(gradient.hidden, (tokens, inner))?;
        for (part, first) in adapter.parts() {
            let d_output = d_output.narrow(1, part.first_output, part.b.rows)?.contiguous()?;
            let hidden = hidden.narrow(1, first, part.b.columns)?.contiguous()?;
            let d_b = product(&d_output.t()?, &hidden)?.to_dtype(DType::F32)?;
            self.add_gradient(part.b.start, &d_b.affine(f64::from(adapter.scale), 0.0)?)?;
        }
        let d_hidden = self.view(gradient.d_hidden, (tokens, inner))?;
        let input = self.view(input, (tokens, inputs))?;
        self.add_gradient(adapter.a.start, &product(&d_hidden.t()?, &input)?)
    }
}
