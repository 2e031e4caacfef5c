//! What adapters need of a model's buffers, and their dispatches: two products for each adapted matrix, the second of which adds
//! to the output of the model's own.

use crate::Device;
use crate::dispatch::{Epilogue, Operands, Product};
use crate::kernels::Kernels;
use crate::plan::{padded, qkv_width};
use crate::weights::WeightPartition;
use thimble_runtime::adapter::AdapterRecord;
use thimble_runtime::format::{Config, TensorRole};

/// Products of one layer that share an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Qkv,
    Output,
    GateUp,
    Down,
}

/// Buffers that adapters read and write; a model that can have none does not keep them.
pub(crate) struct LowRankBuffers {
    pub(crate) kernels: Kernels,
    pub(crate) state: wgpu::Buffer,
    pub(crate) x: wgpu::Buffer,
    pub(crate) qkv: wgpu::Buffer,
    pub(crate) attended: wgpu::Buffer,
    pub(crate) gate_up: wgpu::Buffer,
    pub(crate) activated: wgpu::Buffer,
    /// Inputs times A, `[batch, rank]` for each of three products that share an input.
    pub(crate) inner: [wgpu::Buffer; 3],
    /// Elements per row of `inner`.
    pub(crate) inner_stride: usize,
    /// The norms before attention and before the feed-forward network of each layer.
    pub(crate) norms: Vec<[wgpu::Buffer; 2]>,
}

/// An uploaded matrix, in pieces.
pub(crate) type Pieces = Vec<(WeightPartition<'static>, wgpu::Buffer)>;

/// The matrices of an adapter on the device.
pub(crate) struct UploadedAdapter {
    /// [`AdapterFile::id`](thimble_runtime::adapter::AdapterFile::id).
    pub(crate) id: u64,
    /// Each record with A and B.
    pub(crate) matrices: Vec<(AdapterRecord, Pieces, Pieces)>,
    pub(crate) bytes: u64,
}

/// The dispatches of one adapter in one layer, for each [`Group`].
#[derive(Default)]
pub(crate) struct LowRankDispatches {
    groups: [Vec<Product>; 4],
}

impl LowRankDispatches {
    /// Those that follow the model's own products of a group.
    pub(crate) fn of(&self, group: Group) -> &[Product] {
        &self.groups[group as usize]
    }

    /// Adds products; those of A come first, because all of a group's inputs are there before its outputs change.
    pub(crate) fn push(&mut self, group: Group, products: Vec<Product>) {
        self.groups[group as usize].extend(products);
    }
}

/// Where a matrix stands: its group, its place among those that share an input, and its first row in their output.
pub(crate) fn place(role: TensorRole, config: &Config) -> (Group, usize, usize) {
    match role {
        TensorRole::Key => (Group::Qkv, 1, config.q_dim()),
        TensorRole::Value => (Group::Qkv, 2, config.q_dim() + config.kv_dim()),
        TensorRole::Output => (Group::Output, 0, 0),
        TensorRole::Gate => (Group::GateUp, 0, 0),
        TensorRole::Up => (Group::GateUp, 1, config.ffn),
        TensorRole::Down => (Group::Down, 0, 0),
        // An adapter file has no other roles.
        _ => (Group::Qkv, 0, 0),
    }
}

impl LowRankBuffers {
    /// The product of A with a group's input, times `scale`.
    pub(crate) fn narrow(
        &mut self,
        device: &Device,
        config: &Config,
        pieces: &Pieces,
        (record, scale): (&AdapterRecord, f32),
    ) -> Vec<Product> {
        let (group, index, _) = place(record.role, config);
        let [attention_norm, ffn_norm] = &self.norms[usize::from(record.layer)];
        let (input, columns, norm) = match group {
            Group::Qkv => (&self.x, config.hidden, Some(attention_norm)),
            Group::Output => (&self.attended, config.q_dim(), None),
            Group::GateUp => (&self.x, config.hidden, Some(ffn_norm)),
            Group::Down => (&self.activated, config.ffn, None),
        };
        let output = (&self.inner[index], self.inner_stride);
        let operands = Operands::new(&self.state, (input, padded(columns)), output, Epilogue::Store);
        let norm = norm.map(|norm| (norm, config.norm_eps));
        let operands = Operands { norm, scale, ..operands };
        let kernels = &mut self.kernels;
        pieces.iter().map(|(part, buffer)| Product::new(device, kernels, (part, buffer), &operands)).collect()
    }

    /// The product of B with that, which is added to the group's output.
    pub(crate) fn wide(
        &mut self,
        device: &Device,
        config: &Config,
        pieces: &Pieces,
        record: &AdapterRecord,
    ) -> Vec<Product> {
        let (group, index, _) = place(record.role, config);
        let output = match group {
            Group::Qkv => (&self.qkv, padded(qkv_width(config))),
            Group::Output | Group::Down => (&self.x, padded(config.hidden)),
            Group::GateUp => (&self.gate_up, padded(2 * config.ffn)),
        };
        let input = (&self.inner[index], self.inner_stride);
        let operands = Operands::new(&self.state, input, output, Epilogue::Add);
        let kernels = &mut self.kernels;
        pieces.iter().map(|(part, buffer)| Product::new(device, kernels, (part, buffer), &operands)).collect()
    }
}
