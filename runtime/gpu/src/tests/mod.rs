//! Tests of every kernel against the CPU or f64, on any adapter (lavapipe will do).

mod adapters;
mod attention;
mod cache_transfer;
mod device;
mod forward;
mod kernels;
mod layer_options;
mod long_context;
mod model;
mod products;
mod sampling;

use crate::dispatch::{ComputePass, Dispatch};
use crate::kernels::{Entry, Kernels};
use crate::shaders::Shader;
use crate::{Device, MatmulVariant};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use thimble_needs::{Need, skip};

/// The adapter that `THIMBLE_ADAPTER` names, or the fastest; `None`, with a note, if there is no adapter.
pub(crate) fn device() -> Option<Device> {
    let name = std::env::var("THIMBLE_ADAPTER").ok();
    match Device::open(name.as_deref()) {
        Ok(device) => {
            println!("adapter: {:?}", device.report());
            Some(device)
        }
        Err(error) => {
            skip(Need::Adapter, error);
            None
        }
    }
}

/// The same with plain products, for tests with the error bounds of f32.
pub(crate) fn plain_device() -> Option<Device> {
    device().map(|device| device.with_matmul_variant(MatmulVariant::Plain).unwrap())
}

/// SplitMix64 (Steele et al. 2014), enough for test data.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Between -1 and 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// A device and its kernels.
pub(crate) struct TestDevice {
    pub(crate) device: Device,
    pub(crate) kernels: Kernels,
}

impl TestDevice {
    pub(crate) fn new() -> Option<TestDevice> {
        device().map(TestDevice::with)
    }

    pub(crate) fn with(device: Device) -> TestDevice {
        let kernels = Kernels::new(&device);
        TestDevice { device, kernels }
    }

    /// A buffer with these words.
    pub(crate) fn buffer<T: bytemuck::Pod>(&self, words: &[T]) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::UNIFORM
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.device.buffer("test", size_of_val(words) as u64, usage);
        self.device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(words));
        buffer
    }

    pub(crate) fn dispatch(&mut self, entry: Entry, shape: [u32; 12], buffers: &[&wgpu::Buffer]) -> Dispatch {
        Dispatch::new(&self.device, &mut self.kernels, entry, shape, buffers)
    }

    /// Submits what `record` records and reads `from`.
    pub(crate) fn run<T: bytemuck::Pod>(
        &self,
        from: &wgpu::Buffer,
        record: impl FnOnce(&mut ComputePass),
    ) -> Vec<T> {
        let device = &self.device.device;
        let mut encoder = device.create_command_encoder(&Default::default());
        record(&mut ComputePass::begin(&mut encoder));
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.device.buffer("read", from.size(), usage);
        encoder.copy_buffer_to_buffer(from, 0, &staging, 0, from.size());
        self.device.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let view = staging.get_mapped_range(..).unwrap();
        self.device.check().unwrap();
        bytemuck::pod_collect_to_vec(&view)
    }
}

/// Capabilities that a shader may use: those of plain WebGPU, which include packing of halves, and what its name says.
fn capabilities(shader: Shader) -> Capabilities {
    Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | match shader {
            Shader::TiledF16 => Capabilities::SHADER_FLOAT16,
            Shader::TiledCooperative8 | Shader::TiledCooperative16 => {
                Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX
            }
            Shader::AttendSubgroup => Capabilities::SUBGROUP,
            _ => Capabilities::empty(),
        }
}

#[test]
fn shaders_are_valid() {
    for &shader in Shader::ALL {
        let (name, text) = (shader.name(), shader.text());
        let module = naga::front::wgsl::parse_str(text)
            .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
        let mut validator = Validator::new(ValidationFlags::all(), capabilities(shader));
        validator.validate(&module).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert!(!module.entry_points.is_empty(), "{name} has an entry point");
    }
}

/// Metal and DX12 do not run here: only their translations are tested.
#[test]
fn shaders_have_translations_for_metal_and_dx12() {
    use naga::back::{hlsl, msl, pipeline_constants::process_overrides};
    for &shader in Shader::ALL {
        let (name, text) = (shader.name(), shader.text());
        let module = naga::front::wgsl::parse_str(text).unwrap();
        let info = Validator::new(ValidationFlags::all(), capabilities(shader)).validate(&module).unwrap();
        for entry in &module.entry_points {
            let point = Some((entry.stage, entry.name.as_str()));
            let (module, info) = process_overrides(&module, &info, point, &Default::default()).unwrap();
            let options = msl::Options { lang_version: (3, 0), ..Default::default() };
            let (metal, _) = msl::write_string(&module, &info, &options, &Default::default())
                .unwrap_or_else(|e| panic!("{name}, {}: {e}", entry.name));
            assert!(metal.contains("kernel void"), "{name}, {}", entry.name);
            // DX12 has no cooperative matrices.
            if name.starts_with("tiled_cooperative") {
                continue;
            }
            let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, ..Default::default() };
            let entry_point = Some((entry.stage, entry.name.clone()));
            let (mut dx12, pipeline) = (String::new(), hlsl::PipelineOptions { entry_point });
            let written = hlsl::Writer::new(&mut dx12, &options, &pipeline).write(&module, &info, None);
            written.unwrap_or_else(|e| panic!("{name}, {}: {e}", entry.name));
            assert!(dx12.contains("[numthreads("), "{name}, {}", entry.name);
        }
    }
}
