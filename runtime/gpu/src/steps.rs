//! One dispatch each: a pipeline with its bind group.

use crate::Device;
use crate::kernels::{Entry, Kernel, Kernels};
use crate::weights::Piece;
use thimble_runtime::format::PANEL;

/// Tokens up to which each is multiplied by itself; a tile of 64 would be mostly empty.
pub(crate) const FEW: usize = 8;

/// A compute pass that counts.
pub(crate) struct Pass {
    pass: wgpu::ComputePass<'static>,
    /// Dispatches recorded so far.
    pub(crate) dispatches: u64,
}

impl Pass {
    /// Begins a pass that has to end before its encoder does.
    pub(crate) fn begin(encoder: &mut wgpu::CommandEncoder) -> Pass {
        Pass { pass: encoder.begin_compute_pass(&Default::default()).forget_lifetime(), dispatches: 0 }
    }

    fn dispatch(&mut self, kernel: &Kernel, bind: &wgpu::BindGroup, groups: [u32; 3]) {
        self.pass.set_pipeline(&kernel.pipeline);
        self.pass.set_bind_group(0, bind, &[]);
        self.pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        self.dispatches += 1;
    }
}

/// Where a product's rows come from and go to.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) state: &'a wgpu::Buffer,
    pub(crate) input: &'a wgpu::Buffer,
    /// Numbers of a row of the input, whole groups.
    pub(crate) in_stride: usize,
    pub(crate) output: &'a wgpu::Buffer,
    pub(crate) out_stride: usize,
    /// What becomes of the sums.
    pub(crate) finish: Finish<'a>,
    /// Of the rows of logits, not of all tokens.
    pub(crate) head: bool,
    /// The norm in front: its weights, padded to whole groups, and epsilon.
    pub(crate) norm: Option<(&'a wgpu::Buffer, f32)>,
}

impl<'a> Route<'a> {
    /// From an input to an output, each with the numbers of a row.
    pub(crate) fn new(
        state: &'a wgpu::Buffer,
        (input, in_stride): (&'a wgpu::Buffer, usize),
        (output, out_stride): (&'a wgpu::Buffer, usize),
        finish: Finish<'a>,
    ) -> Route<'a> {
        Route { state, input, in_stride, output, out_stride, finish, head: false, norm: None }
    }
}

/// What becomes of a product's sums.
#[derive(Clone, Copy)]
pub(crate) enum Finish<'a> {
    Put,
    /// Added to what is there.
    Add,
    /// The second half of the rows are `up`, the first their gates.
    Swiglu,
    /// Rows are heads; they are rotated, and keys and values stored.
    Store(Store<'a>),
}

/// Where rotated queries, keys and values go.
#[derive(Clone, Copy)]
pub(crate) struct Store<'a> {
    pub(crate) head_dim: usize,
    /// Bytes of a number in the cache.
    pub(crate) bytes: u32,
    pub(crate) shape: &'a wgpu::Buffer,
    pub(crate) angles: &'a wgpu::Buffer,
    pub(crate) keys: &'a wgpu::Buffer,
    pub(crate) values: &'a wgpu::Buffer,
}

/// Whether a product's rows can be computed in pairs `apart` rows apart: one piece, and whole panels on either side.
pub(crate) fn pairs(pieces: &[Piece<'_>], apart: usize) -> bool {
    matches!(pieces, [piece] if apart > 0 && apart.is_multiple_of(PANEL) && piece.rows.is_multiple_of(2 * apart))
}

/// A product with one piece of weights.
pub(crate) struct Product {
    vector: Kernel,
    tiled: Kernel,
    bind: wgpu::BindGroup,
    /// Workgroups of the rows, for few tokens and for many.
    groups: [u32; 2],
}

impl Product {
    /// A product of the weights in `buffer`, which are those of `piece`.
    pub(crate) fn new(
        device: &Device,
        kernels: &mut Kernels,
        (piece, buffer): (&Piece<'_>, &wgpu::Buffer),
        route: &Route<'_>,
    ) -> Product {
        let pair = match route.finish {
            Finish::Put | Finish::Add => 0,
            Finish::Swiglu => piece.rows / 2,
            Finish::Store(store) => store.head_dim / 2,
        };
        let shape = kernels.uniform([
            piece.rows as u32,
            piece.columns as u32,
            piece.panel_words(),
            route.in_stride as u32,
            route.out_stride as u32,
            piece.first_row as u32,
            u32::from(matches!(route.finish, Finish::Add)),
            u32::from(route.head),
            pair as u32,
            u32::from(route.norm.is_some()),
            route.norm.map_or(0, |(_, epsilon)| epsilon.to_bits()),
            0,
        ]);
        // Without a norm the binding is there and nobody looks at it.
        let norm = route.norm.map_or(route.input, |(weight, _)| weight);
        let mut buffers = vec![&shape, route.state, buffer, route.input, route.output, norm];
        let tile = device.tile().of(piece.encoding);
        let (vector, tiled) = match route.finish {
            Finish::Store(Store { bytes, shape, angles, keys, values, .. }) => {
                buffers.extend([shape, angles, keys, values]);
                (Entry::VectorQkv(piece.encoding, bytes), Entry::TiledQkv(piece.encoding, bytes, tile))
            }
            _ => (Entry::Vector(piece.encoding), Entry::Tiled(piece.encoding, tile)),
        };
        let (vector, tiled) = (kernels.get(vector), kernels.get(tiled));
        let bind = vector.bind(device, &buffers);
        let rows = if pair > 0 { piece.rows / 2 } else { piece.rows };
        let tile = if pair > 0 { 32 } else { 64 };
        Product { vector, tiled, bind, groups: [rows.div_ceil(PANEL) as u32, rows.div_ceil(tile) as u32] }
    }

    pub(crate) fn record(&self, pass: &mut Pass, tokens: usize) {
        let count = tokens as u32;
        if tokens <= FEW {
            pass.dispatch(&self.vector, &self.bind, [self.groups[0], count, 1]);
        } else {
            pass.dispatch(&self.tiled, &self.bind, [self.groups[1], count.div_ceil(64), 1]);
        }
    }
}

/// Any other dispatch.
pub(crate) struct Step {
    pub(crate) kernel: Kernel,
    pub(crate) bind: wgpu::BindGroup,
}

impl Step {
    pub(crate) fn record(&self, pass: &mut Pass, groups: [u32; 3]) {
        pass.dispatch(&self.kernel, &self.bind, groups);
    }
}
