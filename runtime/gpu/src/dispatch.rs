//! Dispatches: a pipeline with its bind group and workgroup counts.

use crate::Device;
use crate::kernels::{Entry, Kernel, Kernels};
use crate::weights::WeightPartition;
use thimble_runtime::format::PANEL;

/// Largest batch that is multiplied token by token; a tile of 64 tokens would be mostly empty.
pub(crate) const MAX_VECTOR_TOKENS: usize = 8;

/// A compute pass that counts its dispatches.
pub(crate) struct ComputePass {
    pass: wgpu::ComputePass<'static>,
    /// Dispatches recorded so far.
    pub(crate) dispatches: u64,
}

impl ComputePass {
    /// Begins a pass, which has to be dropped before its encoder is finished.
    pub(crate) fn begin(encoder: &mut wgpu::CommandEncoder) -> ComputePass {
        ComputePass { pass: encoder.begin_compute_pass(&Default::default()).forget_lifetime(), dispatches: 0 }
    }

    fn dispatch(&mut self, kernel: &Kernel, bind: &wgpu::BindGroup, groups: [u32; 3]) {
        self.pass.set_pipeline(&kernel.pipeline);
        self.pass.set_bind_group(0, bind, &[]);
        self.pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        self.dispatches += 1;
    }
}

/// The operands of a matrix product besides the weights.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub(crate) state: &'a wgpu::Buffer,
    pub(crate) input: &'a wgpu::Buffer,
    /// Elements per input row, a multiple of 32.
    pub(crate) in_stride: usize,
    pub(crate) output: &'a wgpu::Buffer,
    /// Elements per output row.
    pub(crate) out_stride: usize,
    pub(crate) epilogue: Epilogue<'a>,
    /// Whether the input is the rows that logits are computed for, not all tokens of the batch.
    pub(crate) head: bool,
    /// RMS norm of the input: weights, padded to a multiple of 32, and epsilon.
    pub(crate) norm: Option<(&'a wgpu::Buffer, f32)>,
    /// Factor of what [`Epilogue::Store`] and [`Epilogue::Add`] put into the output.
    pub(crate) scale: f32,
}

impl<'a> Operands<'a> {
    /// Operands without a norm; input and output come with their strides.
    pub(crate) fn new(
        state: &'a wgpu::Buffer,
        (input, in_stride): (&'a wgpu::Buffer, usize),
        (output, out_stride): (&'a wgpu::Buffer, usize),
        epilogue: Epilogue<'a>,
    ) -> Operands<'a> {
        let (head, norm, scale) = (false, None, 1.0);
        Operands { state, input, in_stride, output, out_stride, epilogue, head, norm, scale }
    }
}

/// The operation that a product applies to its sums.
#[derive(Clone, Copy)]
pub(crate) enum Epilogue<'a> {
    /// Overwrites the output.
    Store,
    /// Adds to the output.
    Add,
    /// The first half of the rows are gates, the second half is `up`.
    Swiglu,
    /// Rows are query, key and value heads: applies RoPE and stores keys and values in the cache.
    StoreQkv(QkvStore<'a>),
}

/// The buffers and the shape for [`Epilogue::StoreQkv`].
#[derive(Clone, Copy)]
pub(crate) struct QkvStore<'a> {
    pub(crate) head_dim: usize,
    /// Bytes per cache element.
    pub(crate) element_bytes: u32,
    pub(crate) shape: &'a wgpu::Buffer,
    pub(crate) angles: &'a wgpu::Buffer,
    pub(crate) keys: &'a wgpu::Buffer,
    pub(crate) values: &'a wgpu::Buffer,
}

/// Whether one workgroup can compute rows `distance` apart as pairs: one partition, and whole panels on either side.
pub(crate) fn can_pair(partitions: &[WeightPartition<'_>], distance: usize) -> bool {
    matches!(
        partitions,
        [one] if distance > 0 && distance.is_multiple_of(PANEL) && one.rows.is_multiple_of(2 * distance)
    )
}

/// A matrix product with one partition of weights.
pub(crate) struct Product {
    vector: Kernel,
    tiled: Kernel,
    bind: wgpu::BindGroup,
    /// Workgroups in the dimension of rows, for the vector and the tiled kernel.
    groups: [u32; 2],
}

impl Product {
    /// A product with `weights`, uploaded to `buffer`.
    pub(crate) fn new(
        device: &Device,
        kernels: &mut Kernels,
        (weights, buffer): (&WeightPartition<'_>, &wgpu::Buffer),
        operands: &Operands<'_>,
    ) -> Product {
        let pair_distance = match operands.epilogue {
            Epilogue::Store | Epilogue::Add => 0,
            Epilogue::Swiglu => weights.rows / 2,
            Epilogue::StoreQkv(store) => store.head_dim / 2,
        };
        let shape = kernels.uniform([
            weights.rows as u32,
            weights.columns as u32,
            weights.panel_words(),
            operands.in_stride as u32,
            operands.out_stride as u32,
            weights.first_row as u32,
            u32::from(matches!(operands.epilogue, Epilogue::Add)),
            u32::from(operands.head),
            pair_distance as u32,
            u32::from(operands.norm.is_some()),
            operands.norm.map_or(0, |(_, epsilon)| epsilon.to_bits()),
            operands.scale.to_bits(),
        ]);
        // Without a norm the shader does not read the binding.
        let norm = operands.norm.map_or(operands.input, |(weight, _)| weight);
        let mut buffers = vec![&shape, operands.state, buffer, operands.input, operands.output, norm];
        let encoding = weights.encoding;
        let variant = device.matmul_variant().of(encoding);
        let (vector, tiled) = match operands.epilogue {
            Epilogue::StoreQkv(QkvStore { element_bytes, shape, angles, keys, values, .. }) => {
                buffers.extend([shape, angles, keys, values]);
                (Entry::VectorQkv(encoding, element_bytes), Entry::TiledQkv(encoding, element_bytes, variant))
            }
            _ => (Entry::Vector(encoding), Entry::Tiled(encoding, variant)),
        };
        let (vector, tiled) = (kernels.get(vector), kernels.get(tiled));
        let bind = vector.bind(device, &buffers);
        let (rows, tile) = if pair_distance > 0 { (weights.rows / 2, 32) } else { (weights.rows, 64) };
        Product { vector, tiled, bind, groups: [rows.div_ceil(PANEL) as u32, rows.div_ceil(tile) as u32] }
    }

    pub(crate) fn record(&self, pass: &mut ComputePass, tokens: usize) {
        let count = tokens as u32;
        if tokens <= MAX_VECTOR_TOKENS {
            pass.dispatch(&self.vector, &self.bind, [self.groups[0], count, 1]);
        } else {
            pass.dispatch(&self.tiled, &self.bind, [self.groups[1], count.div_ceil(64), 1]);
        }
    }
}

/// A dispatch other than a product; its workgroup counts come with each recording.
pub(crate) struct Dispatch {
    pub(crate) kernel: Kernel,
    pub(crate) bind: wgpu::BindGroup,
}

impl Dispatch {
    /// A dispatch of `entry` with a uniform buffer of `shape`, then `buffers`.
    pub(crate) fn new(
        device: &Device,
        kernels: &mut Kernels,
        entry: Entry,
        shape: [u32; 12],
        buffers: &[&wgpu::Buffer],
    ) -> Dispatch {
        let kernel = kernels.get(entry);
        let shape = kernels.uniform(shape);
        let buffers: Vec<_> = [&shape].into_iter().chain(buffers.iter().copied()).collect();
        let bind = kernel.bind(device, &buffers);
        Dispatch { kernel, bind }
    }

    pub(crate) fn record(&self, pass: &mut ComputePass, groups: [u32; 3]) {
        pass.dispatch(&self.kernel, &self.bind, groups);
    }
}
