//! Compute pipelines and the layouts of their bind groups, each created once.

use crate::Device;
use crate::matmul_variant::MatmulVariant;
use crate::shaders::Shader;
use std::collections::HashMap;
use thimble_runtime::format::{Encoding, FloatFormat, GROUP, WeightCodes, WeightScales};

const CHECKED: wgpu::ShaderRuntimeChecks = wgpu::ShaderRuntimeChecks::checked();

/// An entry point with its override constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// Matrix product of few tokens.
    Vector(Encoding),
    /// Matrix product of many tokens.
    Tiled(Encoding, MatmulVariant),
    /// Product of few tokens with the query, key and value matrices; rotates, and stores keys and values with this many
    /// bytes per element.
    VectorQkv(Encoding, u32),
    /// The same for many tokens.
    TiledQkv(Encoding, u32, MatmulVariant),
    /// Embedding lookup.
    Embed(Encoding),
    Swiglu,
    /// Sampling of the next token.
    Sample,
    /// Biases of queries, keys and values, and norms of query and key heads.
    BiasNorm,
    /// RoPE and cache writes, with this many bytes per element.
    Store(u32),
    /// Attention over a cache with this many bytes per element.
    Attend(u32),
    /// Merges the partial results of attention over spans of the context.
    Merge,
}

/// How a shader accesses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Uniform,
    Read,
    Write,
}

/// The module that computes products of many tokens.
fn tiled(variant: MatmulVariant, device: &Device) -> Shader {
    match variant {
        MatmulVariant::Plain => Shader::Tiled,
        MatmulVariant::Dot4 => Shader::TiledDot4,
        MatmulVariant::F16 => Shader::TiledF16,
        MatmulVariant::Cooperative if device.matrix_side == 8 => Shader::TiledCooperative8,
        MatmulVariant::Cooperative => Shader::TiledCooperative16,
    }
}

/// Names and values of override constants.
type Constants = Vec<(&'static str, f64)>;

/// The constants of `panel.wgsl` for an encoding.
fn encoding(encoding: Encoding) -> Constants {
    const LEVELS: [&str; 8] =
        ["LEVELS_0", "LEVELS_1", "LEVELS_2", "LEVELS_3", "LEVELS_4", "LEVELS_5", "LEVELS_6", "LEVELS_7"];
    let layout = encoding.layout();
    let float = match layout.codes {
        WeightCodes::Float(FloatFormat::F32) => 1,
        WeightCodes::Float(FloatFormat::F16) => 2,
        WeightCodes::Float(FloatFormat::BF16) => 3,
        WeightCodes::Uniform { .. } | WeightCodes::NonUniform(_) => 0,
    };
    let scales = match layout.scales {
        WeightScales::None => 0,
        WeightScales::Row => 1,
        WeightScales::Group => 2,
        WeightScales::GroupAndMinimum => 3,
        WeightScales::TwoLevel => 4,
    };
    // The bits of floats are no planes.
    let [low, high] = if float == 0 { layout.planes() } else { [8, 0] };
    // Shaders count columns of floats in blocks of 32, too.
    let words = |bytes: usize| (bytes * GROUP / layout.columns() / 4) as u32;
    let mut constants = vec![
        ("FLOAT", float),
        ("LOW_BITS", low),
        ("HIGH_BITS", high),
        ("ZERO_POINT", u32::from(layout.zero_point())),
        ("LEVELS", layout.table().len() as u32),
        ("SCALES", scales),
        ("BLOCK_WORDS", words(layout.bytes())),
        ("CODE_WORDS", words(layout.code_bytes())),
        ("HEADER_WORDS", layout.panel_header() as u32 / 4),
    ];
    let (levels, _) = layout.table().as_chunks::<4>();
    constants.extend(LEVELS.into_iter().zip(levels.iter().map(|&four| u32::from_le_bytes(four))));
    constants.into_iter().map(|(name, value)| (name, f64::from(value))).collect()
}

impl Entry {
    /// Module, entry point name, override constants.
    fn source(self, device: &Device) -> (Shader, &'static str, Constants) {
        let kv = |bytes: u32| ("KV_BYTES", f64::from(bytes));
        let with_kv = |mut constants: Constants, bytes: u32| {
            constants.push(kv(bytes));
            constants
        };
        match self {
            Entry::Vector(e) => (Shader::Vector, "vector", encoding(e)),
            Entry::VectorQkv(e, bytes) => (Shader::Vector, "vector_qkv", with_kv(encoding(e), bytes)),
            Entry::Embed(e) => (Shader::Vector, "embed", encoding(e)),
            Entry::Tiled(e, variant) => (tiled(variant, device), "tiled", encoding(e)),
            Entry::TiledQkv(e, bytes, variant) => {
                (tiled(variant, device), "tiled_qkv", with_kv(encoding(e), bytes))
            }
            Entry::Swiglu => (Shader::Swiglu, "swiglu", vec![]),
            Entry::Sample => (Shader::Sample, "sample", vec![]),
            Entry::BiasNorm => (Shader::BiasNorm, "bias_norm", vec![]),
            Entry::Store(1) => (Shader::Store, "store_bytes", vec![kv(1)]),
            Entry::Store(bytes) => (Shader::Store, "store", vec![kv(bytes)]),
            Entry::Attend(bytes) if device.subgroups => (Shader::AttendSubgroup, "attend", vec![kv(bytes)]),
            Entry::Attend(bytes) => (Shader::Attend, "attend", vec![kv(bytes)]),
            Entry::Merge => (Shader::Attend, "merge", vec![]),
        }
    }

    fn bindings(self) -> &'static [(u32, Access)] {
        use Access::{Read, Uniform, Write};
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
            Entry::BiasNorm => &[(0, Uniform), (1, Write), (2, Read)],
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

/// A pipeline and the layout of its bind groups.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    bindings: &'static [(u32, Access)],
}

impl Kernel {
    /// A bind group of `buffers`, in the order of the entry point's bindings.
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

/// The pipelines created so far, and the uniform buffers that their bind groups share.
pub(crate) struct Kernels {
    device: Device,
    modules: HashMap<Shader, wgpu::ShaderModule>,
    kernels: HashMap<Entry, Kernel>,
    uniforms: HashMap<[u32; 12], wgpu::Buffer>,
}

impl Kernels {
    pub(crate) fn new(device: &Device) -> Kernels {
        let (modules, kernels, uniforms) = (HashMap::new(), HashMap::new(), HashMap::new());
        Kernels { device: device.clone(), modules, kernels, uniforms }
    }

    /// The pipeline of an entry point.
    pub(crate) fn get(&mut self, entry: Entry) -> Kernel {
        if let Some(kernel) = self.kernels.get(&entry) {
            return kernel.clone();
        }
        let (shader, name, constants) = entry.source(&self.device);
        let device = &self.device.device;
        let module = self.modules.entry(shader).or_insert_with(|| {
            let source = wgpu::ShaderSource::Wgsl(shader.text().into());
            let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..CHECKED };
            let descriptor = wgpu::ShaderModuleDescriptor { label: Some(shader.name()), source };
            // SAFETY: only the loop bound check is off, so every loop has to terminate. All but one count by a positive step
            // to a bound that the loop does not change. The other one (sample_sorted in sample_sorted.wgsl) runs at most
            // three tasks, and each of its iterations ends a task or advances by at least one of finitely many candidates.
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
            cache: self.device.pipeline_cache.as_ref().map(|file| &file.cache),
        });
        let kernel = Kernel { pipeline, layout, bindings };
        self.kernels.insert(entry, kernel.clone());
        kernel
    }

    /// No longer shares the uniform buffers made so far.
    pub(crate) fn forget_uniforms(&mut self) {
        self.uniforms.clear();
    }

    /// A uniform buffer of these words; equal ones share a buffer.
    pub(crate) fn uniform(&mut self, words: [u32; 12]) -> wgpu::Buffer {
        let device = &self.device;
        let create = || {
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let buffer = device.buffer("shape", size_of_val(&words) as u64, usage);
            device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
            buffer
        };
        self.uniforms.entry(words).or_insert_with(create).clone()
    }
}

fn layout_entry((binding, access): (u32, Access)) -> wgpu::BindGroupLayoutEntry {
    let ty = match access {
        Access::Uniform => wgpu::BufferBindingType::Uniform,
        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
        Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}
