//! Shader modules, the layouts of their bindings, and pipelines, each made once.

use crate::Device;
use std::collections::HashMap;
use thimble_runtime::format::Encoding;

const CHECKED: wgpu::ShaderRuntimeChecks = wgpu::ShaderRuntimeChecks::checked();

/// Name and text of every shader module: one file, or several behind each other.
pub const SHADERS: [(&str, &str); 11] = [
    (
        "vector",
        concat!(
            include_str!("shaders/panel.wgsl"),
            include_str!("shaders/finish.wgsl"),
            include_str!("shaders/vector.wgsl")
        ),
    ),
    (
        "tiled",
        concat!(
            include_str!("shaders/panel.wgsl"),
            include_str!("shaders/finish.wgsl"),
            include_str!("shaders/tile.wgsl"),
            include_str!("shaders/tiled.wgsl")
        ),
    ),
    ("swiglu", include_str!("shaders/swiglu.wgsl")),
    ("sample", include_str!("shaders/sample.wgsl")),
    ("store", concat!(include_str!("shaders/cache.wgsl"), include_str!("shaders/store.wgsl"))),
    (
        "attend",
        concat!(
            include_str!("shaders/cache.wgsl"),
            include_str!("shaders/eights.wgsl"),
            include_str!("shaders/attend.wgsl")
        ),
    ),
    (
        "attend_subgroup",
        concat!(
            include_str!("shaders/cache.wgsl"),
            include_str!("shaders/eights_subgroup.wgsl"),
            include_str!("shaders/attend.wgsl")
        ),
    ),
    (
        "tiled_dot4",
        concat!(
            include_str!("shaders/panel.wgsl"),
            include_str!("shaders/finish.wgsl"),
            include_str!("shaders/tile.wgsl"),
            include_str!("shaders/tiled_dot4.wgsl")
        ),
    ),
    (
        "tiled_f16",
        concat!(
            include_str!("shaders/enable_f16.wgsl"),
            include_str!("shaders/panel.wgsl"),
            include_str!("shaders/finish.wgsl"),
            include_str!("shaders/tile.wgsl"),
            include_str!("shaders/tiled_f16.wgsl")
        ),
    ),
    (
        "tiled_cooperative_8",
        concat!(
            include_str!("shaders/cooperative_8.wgsl"),
            include_str!("shaders/panel.wgsl"),
            include_str!("shaders/finish.wgsl"),
            include_str!("shaders/tile.wgsl"),
            include_str!("shaders/tiled_cooperative.wgsl")
        ),
    ),
    (
        "tiled_cooperative_16",
        concat!(
            include_str!("shaders/cooperative_16.wgsl"),
            include_str!("shaders/panel.wgsl"),
            include_str!("shaders/finish.wgsl"),
            include_str!("shaders/tile.wgsl"),
            include_str!("shaders/tiled_cooperative.wgsl")
        ),
    ),
];

/// How products for many tokens are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatmulVariant {
    /// In f32: every adapter can.
    Plain,
    /// Quantized weights with `dot4I8Packed`, the input in two planes of bytes as on the CPU's fast path.
    Dot4,
    /// Quantized weights in half precision with f32 sums: less exact than the others.
    F16,
    /// Cooperative matrices of halves, of which weights and input have two each: 16 by 16 on subgroups of 32 lanes, or 8 by 8
    /// on subgroups of 8.
    Cooperative,
}

impl MatmulVariant {
    /// What there is for an encoding: floats have no codes.
    pub(crate) fn of(self, encoding: Encoding) -> MatmulVariant {
        let floats = encoding.block_columns() == 1;
        if floats && matches!(self, MatmulVariant::Dot4 | MatmulVariant::F16) {
            MatmulVariant::Plain
        } else {
            self
        }
    }

    /// Whether it is as exact as the CPU's fast path.
    pub fn is_exact(self) -> bool {
        self != MatmulVariant::F16
    }

    fn module(self, device: &Device) -> usize {
        match self {
            MatmulVariant::Plain => 1,
            MatmulVariant::Dot4 => 7,
            MatmulVariant::F16 => 8,
            MatmulVariant::Cooperative if device.matrix_side() == 8 => 9,
            MatmulVariant::Cooperative => 10,
        }
    }
}

impl std::fmt::Display for MatmulVariant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MatmulVariant::Plain => "plain",
            MatmulVariant::Dot4 => "dot4",
            MatmulVariant::F16 => "f16",
            MatmulVariant::Cooperative => "cooperative",
        })
    }
}

/// An entry point of a shader file, in its variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// A matrix product for few tokens.
    Vector(Encoding),
    /// A matrix product for many.
    Tiled(Encoding, MatmulVariant),
    /// That of queries, keys and values, which are rotated and stored with so many bytes for a number.
    VectorQkv(Encoding, u32),
    TiledQkv(Encoding, u32, MatmulVariant),
    /// Rows of the embedding.
    Embed(Encoding),
    Swiglu,
    /// The next token.
    Sample,
    /// Rotation and the cache's writes, with so many bytes for a number.
    Store(u32),
    /// Attention.
    Attend(u32),
    /// Attention's answer from those of spans of the context.
    Merge,
}

/// What a shader does with a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Uniform,
    Read,
    Write,
}

impl Entry {
    /// Place of the module in [`SHADERS`], entry point, override constants.
    fn source(self, device: &Device) -> (usize, &'static str, Vec<(&'static str, f64)>) {
        let encoding = |e: Encoding| ("ENCODING", f64::from(e as u32));
        let kv = |bytes: u32| ("KV_BYTES", f64::from(bytes));
        match self {
            Entry::Vector(e) => (0, "vector", vec![encoding(e)]),
            Entry::VectorQkv(e, bytes) => (0, "vector_qkv", vec![encoding(e), kv(bytes)]),
            Entry::Embed(e) => (0, "embed", vec![encoding(e)]),
            Entry::Tiled(e, tile) => (tile.module(device), "tiled", vec![encoding(e)]),
            Entry::TiledQkv(e, bytes, tile) => {
                (tile.module(device), "tiled_qkv", vec![encoding(e), kv(bytes)])
            }
            Entry::Swiglu => (2, "swiglu", vec![]),
            Entry::Sample => (3, "sample", vec![]),
            Entry::Store(1) => (4, "store_bytes", vec![kv(1)]),
            Entry::Store(bytes) => (4, "store", vec![kv(bytes)]),
            Entry::Attend(bytes) => (if device.subgroups() { 6 } else { 5 }, "attend", vec![kv(bytes)]),
            Entry::Merge => (5, "merge", vec![]),
        }
    }

    fn bindings(self) -> &'static [(u32, Use)] {
        use Use::{Read, Uniform, Write};
        match self {
            Entry::Vector(_) | Entry::Tiled(..) => {
                &[(0, Uniform), (1, Uniform), (2, Read), (3, Read), (4, Write), (5, Read)]
            }
            Entry::VectorQkv(..) | Entry::TiledQkv(..) => &[
                (0, Uniform),
                (1, Uniform),
                (2, Read),
                (3, Read),
                (4, Write),
                (5, Read),
                (6, Uniform),
                (7, Read),
                (8, Write),
                (9, Write),
            ],
            Entry::Embed(_) => &[(0, Uniform), (2, Read), (4, Write), (10, Read)],
            Entry::Swiglu => &[(0, Uniform), (1, Read), (2, Write)],
            Entry::Sample => {
                &[(0, Uniform), (1, Write), (2, Write), (3, Write), (4, Write), (5, Write), (6, Write)]
            }
            Entry::Store(_) => &[(0, Uniform), (1, Uniform), (2, Read), (3, Write), (4, Write), (5, Write)],
            Entry::Attend(_) => {
                &[(0, Uniform), (1, Uniform), (3, Write), (4, Write), (5, Write), (6, Write), (7, Write)]
            }
            Entry::Merge => &[(0, Uniform), (1, Uniform), (6, Write), (7, Write)],
        }
    }
}

/// A pipeline with the layout of its bind groups.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    bindings: &'static [(u32, Use)],
}

impl Kernel {
    /// A bind group of `buffers`, in the order of the entry's bindings.
    pub(crate) fn bind(&self, device: &Device, buffers: &[&wgpu::Buffer]) -> wgpu::BindGroup {
        debug_assert_eq!(buffers.len(), self.bindings.len());
        let bound = buffers.iter().zip(self.bindings);
        let entries: Vec<_> = bound
            .map(|(buffer, (binding, _))| wgpu::BindGroupEntry {
                binding: *binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &self.layout, entries: &entries };
        device.device.create_bind_group(&descriptor)
    }
}

/// Every pipeline that was asked for, and the uniforms that their bind groups share.
pub(crate) struct Kernels {
    device: Device,
    modules: [Option<wgpu::ShaderModule>; SHADERS.len()],
    made: HashMap<Entry, Kernel>,
    uniforms: HashMap<[u32; 12], wgpu::Buffer>,
}

impl Kernels {
    pub(crate) fn new(device: &Device) -> Kernels {
        let (made, uniforms) = (HashMap::new(), HashMap::new());
        Kernels { device: device.clone(), modules: [const { None }; SHADERS.len()], made, uniforms }
    }

    /// The pipeline of an entry.
    pub(crate) fn get(&mut self, entry: Entry) -> Kernel {
        if let Some(kernel) = self.made.get(&entry) {
            return kernel.clone();
        }
        let (file, name, constants) = entry.source(&self.device);
        let device = &self.device.device;
        let module = self.modules[file].get_or_insert_with(|| {
            let (label, text) = SHADERS[file];
            let source = wgpu::ShaderSource::Wgsl(text.into());
            let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..CHECKED };
            let descriptor = wgpu::ShaderModuleDescriptor { label: Some(label), source };
            // SAFETY: every check stays but that of loops, which have to end: each of ours but one counts by a step above
            // zero to a bound that it does not change. The one that does not, over sorted candidates (sample.wgsl), begins
            // at most three tasks, and within one moves on by at least one of finitely many candidates or ends it.
            unsafe { device.create_shader_module_trusted(descriptor, checks) }
        });
        let bindings = entry.bindings();
        let entries: Vec<_> = bindings.iter().map(|binding| layout_entry(*binding)).collect();
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(name), entries: &entries };
        let layout = device.create_bind_group_layout(&descriptor);
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&pipeline_layout),
            module,
            entry_point: Some(name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: self.device.pipelines.as_ref().map(|file| &file.cache),
        });
        let kernel = Kernel { pipeline, layout, bindings };
        self.made.insert(entry, kernel.clone());
        kernel
    }

    /// A uniform with these words, shared by all who ask for the same.
    pub(crate) fn uniform(&mut self, words: [u32; 12]) -> wgpu::Buffer {
        let device = &self.device;
        let make = || {
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let buffer = device.buffer("shape", size_of_val(&words) as u64, usage);
            device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
            buffer
        };
        self.uniforms.entry(words).or_insert_with(make).clone()
    }
}

fn layout_entry((binding, r#use): (u32, Use)) -> wgpu::BindGroupLayoutEntry {
    let ty = match r#use {
        Use::Uniform => wgpu::BufferBindingType::Uniform,
        Use::Read => wgpu::BufferBindingType::Storage { read_only: true },
        Use::Write => wgpu::BufferBindingType::Storage { read_only: false },
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}
