//! A linear layer with its adapter.

use super::activations::{Activations, LayerActivations};
use super::parameters::LayerParameters;
use crate::error::Result;
use crate::ops::{Adapter, AdapterGradient, BufferSpan, Ops, WeightMatrix};

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

    /// As [`Ops::linear_input_gradient`], with the adapter.
    pub(super) fn input_gradient(
        &self,
        ops: &mut impl Ops,
        d_output: BufferSpan,
        d_input: BufferSpan,
    ) -> Result<()> {
        ops.linear_input_gradient(self.weight, d_output, d_input)?;
        match &self.adapter {
            Some((adapter, hidden)) => {
                ops.adapter_input_gradient(adapter, self.gradient(*hidden, d_output), d_input)
            }
            None => Ok(()),
        }
    }

    /// As [`Ops::linear_weight_gradient`], with the adapter. Follows [`Projection::input_gradient`] before that of another
    /// projection.
    pub(super) fn weight_gradient(
        &self,
        ops: &mut impl Ops,
        input: BufferSpan,
        d_output: BufferSpan,
    ) -> Result<()> {
        ops.linear_weight_gradient(self.weight, input, d_output)?;
        match &self.adapter {
            Some((adapter, hidden)) => {
                ops.adapter_weight_gradient(adapter, input, self.gradient(*hidden, d_output))
            }
            None => Ok(()),
        }
    }

    fn gradient(&self, hidden: BufferSpan, d_output: BufferSpan) -> AdapterGradient {
        let d_hidden = BufferSpan { start: self.d_hidden.start, len: hidden.len };
        AdapterGradient { hidden, d_output, d_hidden }
    }
}
