//! A linear layer with its adapter.

use super::activations::{Activations, LayerActivations};
use super::parameters::LayerParameters;
use crate::error::Result;
use crate::ops::{Adapter, AdapterPass, BufferSpan, Ops, WeightMatrix};

/// A matrix, its adapter if it has one, and the memory of that adapter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projection {
    pub(super) weight: WeightMatrix,
    adapter: Option<(Adapter, BufferSpan)>,
    d_hidden: BufferSpan,
}

/// The matrices of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projections {
    pub(super) qkv: Projection,
    pub(super) output: Projection,
    pub(super) gate_up: Projection,
    pub(super) down: Projection,
}

impl Projections {
    pub(super) fn of(
        spans: &Activations,
        saved: &LayerActivations,
        weights: &LayerParameters,
    ) -> Projections {
        let [qkv, output, gate_up, down] = saved.adapters;
        let projection = |weight, adapter: Option<Adapter>, hidden| Projection {
            weight,
            adapter: adapter.map(|adapter| (adapter, hidden)),
            d_hidden: spans.d_adapter,
        };
        Projections {
            qkv: projection(weights.qkv, weights.adapters.qkv, qkv),
            output: projection(weights.output, weights.adapters.output, output),
            gate_up: projection(weights.gate_up, weights.adapters.gate_up, gate_up),
            down: projection(weights.down, weights.adapters.down, down),
        }
    }
}

impl Projection {
    /// As [`Ops::linear`], with the adapter.
    pub(super) fn forward(
        &self,
        ops: &mut impl Ops,
        input: BufferSpan,
        residual: Option<BufferSpan>,
        output: BufferSpan,
    ) -> Result<()> {
        ops.linear(input, self.weight, residual, output)?;
        match &self.adapter {
            Some((adapter, hidden)) => ops.adapter(adapter, input, *hidden, output),
            None => Ok(()),
        }
    }

    /// As [`Ops::linear_backward`], with the adapter.
    pub(super) fn backward(
        &self,
        ops: &mut impl Ops,
        input: BufferSpan,
        d_output: BufferSpan,
        d_input: BufferSpan,
    ) -> Result<()> {
        ops.linear_backward(input, self.weight, d_output, d_input)?;
        let Some((adapter, hidden)) = &self.adapter else { return Ok(()) };
        let d_hidden = BufferSpan { start: self.d_hidden.start, len: hidden.len };
        ops.adapter_backward(adapter, AdapterPass { input, hidden: *hidden, d_output, d_hidden, d_input })
    }
}
