//! One dispatch each: a pipeline with its bind group.

use crate::Device;
use crate::kernels::{Entry, Kernel, Kernels};
use crate::weights::Piece;

/// Tokens up to which each is multiplied by itself; a tile of 64 would be mostly empty.
pub(crate) const FEW: usize = 8;

/// Where a product's rows come from and go to.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) state: &'a wgpu::Buffer,
    pub(crate) input: &'a wgpu::Buffer,
    /// Numbers of a row of the input, whole groups.
    pub(crate) in_stride: usize,
    pub(crate) output: &'a wgpu::Buffer,
    pub(crate) out_stride: usize,
    /// Added to what is there.
    pub(crate) add: bool,
    /// Of the rows of logits, not of all tokens.
    pub(crate) head: bool,
}

/// A product with one piece of weights.
pub(crate) struct Product {
    vector: Kernel,
    tiled: Kernel,
    bind: wgpu::BindGroup,
    rows: u32,
}

impl Product {
    /// A product of the weights in `buffer`, which are those of `piece`.
    pub(crate) fn new(
        device: &Device,
        kernels: &mut Kernels,
        (piece, buffer): (&Piece<'_>, &wgpu::Buffer),
        route: &Route<'_>,
    ) -> Product {
        let shape = kernels.uniform([
            piece.rows as u32,
            piece.columns as u32,
            piece.panel_words(),
            route.in_stride as u32,
            route.out_stride as u32,
            piece.first_row as u32,
            u32::from(route.add),
            u32::from(route.head),
        ]);
        let vector = kernels.get(Entry::Vector(piece.encoding));
        let tiled = kernels.get(Entry::Tiled(piece.encoding));
        let bind = vector.bind(device, &[&shape, route.state, buffer, route.input, route.output]);
        Product { vector, tiled, bind, rows: piece.rows as u32 }
    }

    pub(crate) fn record(&self, pass: &mut wgpu::ComputePass<'_>, tokens: usize) {
        let count = tokens as u32;
        pass.set_bind_group(0, &self.bind, &[]);
        if tokens <= FEW {
            pass.set_pipeline(&self.vector.pipeline);
            pass.dispatch_workgroups(self.rows.div_ceil(16), count, 1);
        } else {
            pass.set_pipeline(&self.tiled.pipeline);
            pass.dispatch_workgroups(self.rows.div_ceil(64), count.div_ceil(64), 1);
        }
    }
}

/// Any other dispatch.
pub(crate) struct Step {
    pub(crate) kernel: Kernel,
    pub(crate) bind: wgpu::BindGroup,
}

impl Step {
    pub(crate) fn record(&self, pass: &mut wgpu::ComputePass<'_>, groups: [u32; 3]) {
        pass.set_pipeline(&self.kernel.pipeline);
        pass.set_bind_group(0, &self.bind, &[]);
        pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
    }
}
