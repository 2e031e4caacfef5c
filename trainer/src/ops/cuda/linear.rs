//! Products with weights, and with low-rank adapters.

use super::super::{Adapter, AdapterGradient, BufferSpan, WeightMatrix};
use super::launcher::{BF16, FactorMatrix, Launcher, NumberFormat, Product};
use super::memory::CudaOps;
use crate::error::Result;

impl<L: Launcher> CudaOps<L> {
    pub(super) fn multiply_forward(
        &self,
        input: BufferSpan,
        weight: WeightMatrix,
        residual: Option<BufferSpan>,
        output: BufferSpan,
    ) -> Result<()> {
        self.launcher.multiply(&Product {
            shape: [input.len / weight.columns, weight.rows, weight.columns],
            factor: 1.0,
            left: FactorMatrix::new(self.at(input), weight.columns),
            right: FactorMatrix::new(self.matrix(weight), weight.columns).transpose(),
            output: self.at(output),
            stride: weight.rows,
            format: NumberFormat::Bf16,
            added: residual.map(|residual| self.at(residual)),
        })
    }

    pub(super) fn multiply_input_gradient(
        &self,
        weight: WeightMatrix,
        d_output: BufferSpan,
        d_input: BufferSpan,
    ) -> Result<()> {
        self.launcher.multiply(&Product {
            shape: [d_output.len / weight.rows, weight.columns, weight.rows],
            factor: 1.0,
            left: FactorMatrix::new(self.at(d_output), weight.rows),
            right: FactorMatrix::new(self.matrix(weight), weight.columns),
            output: self.at(d_input),
            stride: weight.columns,
            format: NumberFormat::Bf16,
            added: None,
        })
    }

    pub(super) fn multiply_weight_gradient(
        &self,
        weight: WeightMatrix,
        input: BufferSpan,
        d_output: BufferSpan,
    ) -> Result<()> {
        let Some(gradient) = self.gradient(weight.range()) else { return Ok(()) };
        self.launcher.multiply(&Product {
            shape: [weight.rows, weight.columns, input.len / weight.columns],
            factor: 1.0,
            left: FactorMatrix::new(self.at(d_output), weight.rows).transpose(),
            right: FactorMatrix::new(self.at(input), weight.columns),
            output: gradient,
            stride: weight.columns,
            format: NumberFormat::F32,
            added: Some(gradient),
        })
    }

    pub(super) fn adapt(
        &self,
        adapter: &Adapter,
        input: BufferSpan,
        hidden: BufferSpan,
        output: BufferSpan,
    ) -> Result<()> {
        self.multiply_forward(input, adapter.a, None, hidden)?;
        let (tokens, inner) = (input.len / adapter.a.columns, adapter.a.rows);
        let width = output.len / tokens;
        for (part, first) in adapter.parts() {
            let columns = self.at(output).behind(part.first_output * BF16);
            self.launcher.multiply(&Product {
                shape: [tokens, part.b.rows, part.b.columns],
                factor: adapter.scale,
                left: FactorMatrix::new(self.at(hidden).behind(first * BF16), inner),
                right: FactorMatrix::new(self.matrix(part.b), part.b.columns).transpose(),
                output: columns,
                stride: width,
                format: NumberFormat::Bf16,
                added: Some(columns),
            })?;
        }
        Ok(())
    }

    pub(super) fn adapter_to_input(
        &self,
        adapter: &Adapter,
        gradient: AdapterGradient,
        d_input: BufferSpan,
    ) -> Result<()> {
        let (tokens, inner) = (d_input.len / adapter.a.columns, adapter.a.rows);
        let width = gradient.d_output.len / tokens;
        for (part, first) in adapter.parts() {
            self.launcher.multiply(&Product {
                shape: [tokens, part.b.columns, part.b.rows],
                factor: adapter.scale,
                left: FactorMatrix::new(self.at(gradient.d_output).behind(part.first_output * BF16), width),
                right: FactorMatrix::new(self.matrix(part.b), part.b.columns),
                output: self.at(gradient.d_hidden).behind(first * BF16),
                stride: inner,
                format: NumberFormat::Bf16,
                added: None,
            })?;
        }
        self.launcher.multiply(&Product {
            shape: [tokens, adapter.a.columns, inner],
            factor: 1.0,
            left: FactorMatrix::new(self.at(gradient.d_hidden), inner),
            right: FactorMatrix::new(self.matrix(adapter.a), adapter.a.columns),
            output: self.at(d_input),
            stride: adapter.a.columns,
            format: NumberFormat::Bf16,
            added: Some(self.at(d_input)),
        })
    }

    pub(super) fn adapter_to_weights(
        &self,
        adapter: &Adapter,
        input: BufferSpan,
        gradient: AdapterGradient,
    ) -> Result<()> {
        let (tokens, inner) = (input.len / adapter.a.columns, adapter.a.rows);
        let width = gradient.d_output.len / tokens;
        for (part, first) in adapter.parts() {
            let Some(d_b) = self.gradient(part.b.range()) else { continue };
            self.launcher.multiply(&Product {
                shape: [part.b.rows, part.b.columns, tokens],
                factor: adapter.scale,
                left: FactorMatrix::new(self.at(gradient.d_output).behind(part.first_output * BF16), width)
                    .transpose(),
                right: FactorMatrix::new(self.at(gradient.hidden).behind(first * BF16), inner),
                output: d_b,
                stride: part.b.columns,
                format: NumberFormat::F32,
                added: Some(d_b),
            })?;
        }
        self.multiply_weight_gradient(adapter.a, input, gradient.d_hidden)
    }
}
