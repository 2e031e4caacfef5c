//! Adapters, and an open device with its limits and features.

use crate::GpuError;
use crate::matmul_variant::MatmulVariant;
use crate::pipeline_cache::PipelineCache;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The features and limits of an adapter, as `thimble devices` lists them.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterReport {
    /// Adapter name, from the driver.
    pub name: String,
    /// Graphics API: `vulkan`, `metal`, `dx12` or `gl`.
    pub api: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `Cpu`, ...
    pub kind: String,
    /// Whether it is a software renderer (lavapipe, llvmpipe, WARP), which is never faster than the CPU backend.
    pub software: bool,
    /// Driver name and version.
    pub driver: String,
    /// Whether shaders support half-precision arithmetic.
    pub f16: bool,
    /// Whether shaders support subgroup operations.
    pub subgroups: bool,
    /// Whether shaders support cooperative matrices.
    pub cooperative_matrices: bool,
    /// Supported kernel variants for products of many tokens, the default first.
    pub products: Vec<MatmulVariant>,
    /// Largest storage buffer binding, bytes.
    pub binding_bytes: u64,
    /// Largest buffer, bytes.
    pub buffer_bytes: u64,
    /// Workgroup memory, bytes.
    pub workgroup_bytes: u32,
    /// Most invocations in a workgroup.
    pub workgroup_lanes: u32,
}

impl AdapterReport {
    fn new(adapter: &wgpu::Adapter) -> AdapterReport {
        let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
        AdapterReport {
            name: info.name,
            api: info.backend.to_string(),
            kind: format!("{:?}", info.device_type),
            software: info.device_type == wgpu::DeviceType::Cpu,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            cooperative_matrices: features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
            products: matmul_variants(adapter).0,
            binding_bytes: limits.max_storage_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_lanes: limits.max_compute_invocations_per_workgroup,
        }
    }
}

/// An instance for the APIs that `WGPU_BACKEND` names; by default one for the modern APIs, then one for GL.
fn instances() -> impl Iterator<Item = wgpu::Instance> {
    let sets = match wgpu::Backends::from_env() {
        Some(named) => vec![named],
        None => vec![wgpu::Backends::PRIMARY, wgpu::Backends::GL],
    };
    sets.into_iter().map(|backends| {
        let descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        wgpu::Instance::new(wgpu::InstanceDescriptor { backends, ..descriptor })
    })
}

fn enumerate(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
}

/// All adapters of this machine, including software renderers.
pub fn adapters() -> Vec<AdapterReport> {
    let found = instances().map(|instance| enumerate(&instance)).find(|found| !found.is_empty());
    found.unwrap_or_default().iter().map(AdapterReport::new).collect()
}

/// The kernel variants that an adapter supports for products of many tokens, the default first, and the side of its
/// cooperative matrices (0: none that the shaders can use).
fn matmul_variants(adapter: &wgpu::Adapter) -> (Vec<MatmulVariant>, u32) {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    // Metal and GL emulate packed products.
    let has_dot4 = matches!(info.backend, wgpu::Backend::Vulkan | wgpu::Backend::Dx12)
        && info.device_type != wgpu::DeviceType::Cpu;
    let mut variants = if has_dot4 {
        vec![MatmulVariant::Dot4, MatmulVariant::Plain]
    } else {
        vec![MatmulVariant::Plain, MatmulVariant::Dot4]
    };
    if features.contains(wgpu::Features::SHADER_F16) {
        variants.push(MatmulVariant::F16);
    }
    let cooperative = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    if !features.contains(cooperative) || limits.max_compute_workgroup_storage_size < 32_768 {
        return (variants, 0);
    }
    let offered = adapter.cooperative_matrix_properties();
    let lanes_of = |side: u32| if side == 16 { 32 } else { 8 };
    let fits = |side: &u32| {
        let lanes = lanes_of(*side);
        (info.subgroup_min_size, info.subgroup_max_size) == (lanes, lanes)
            && offered.iter().any(|p| {
                (p.m_size, p.n_size, p.k_size) == (*side, *side, *side)
                    && p.ab_type == wgpu::CooperativeScalarType::F16
                    && p.cr_type == wgpu::CooperativeScalarType::F32
            })
    };
    let side = [16, 8].into_iter().find(fits).unwrap_or(0);
    if side > 0 {
        variants.push(MatmulVariant::Cooperative);
    }
    (variants, side)
}

/// Whether every aligned group of eight lanes lies in one subgroup.
fn has_subgroups_of_eight(adapter: &wgpu::Adapter) -> bool {
    let info = adapter.get_info();
    // wgpu reports 4 for all of Metal, whose GPUs have 32 or 64 lanes (Intel: 8).
    let wide = info.subgroup_min_size >= 8 || info.backend == wgpu::Backend::Metal;
    wide && adapter.features().contains(wgpu::Features::SUBGROUP)
}

/// Requests a device with the adapter's own limits and the optional features that shaders use.
fn request(
    adapter: &wgpu::Adapter,
    cooperative_matrices: bool,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let wanted = wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP | wgpu::Features::PIPELINE_CACHE;
    let mut required_features = wanted & adapter.features();
    let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
    if cooperative_matrices {
        required_features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        // SAFETY: enabling them accepts that undefined behaviour is reported to wgpu as a bug; the only such feature that is
        // requested is the one above, used as wgpu's tests and examples use it.
        experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features,
        required_limits: adapter.limits(),
        experimental_features,
        ..Default::default()
    }))
}

/// Longest wait for a submission.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Longest wait for a software renderer: it does not hang, but a batch can take minutes on a busy machine.
const SOFTWARE_TIMEOUT: Duration = Duration::from_secs(1800);

/// An open device.
#[derive(Clone, Debug)]
pub struct Device {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    report: AdapterReport,
    /// Supported variants, the one in use first.
    matmul_variants: Vec<MatmulVariant>,
    /// Side of the cooperative matrices; 0: unused.
    pub(crate) matrix_side: u32,
    /// Whether attention uses subgroup operations.
    pub(crate) subgroups: bool,
    pub(crate) pipeline_cache: Option<PipelineCache>,
    /// The first asynchronous error: validation, out of memory, device lost.
    failure: Arc<Mutex<Option<String>>>,
}

impl Device {
    /// Opens the first adapter whose name contains `name` (ignoring case), or the fastest adapter for `None`.
    ///
    /// `WGPU_BACKEND` restricts the APIs.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`], [`GpuError::NoDevice`].
    pub fn open(name: Option<&str>) -> Result<Device, GpuError> {
        let adapter = match name {
            None => {
                let power_preference = wgpu::PowerPreference::HighPerformance;
                let options = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
                let (mut found, mut reason) = (None, String::new());
                for instance in instances() {
                    match pollster::block_on(instance.request_adapter(&options)) {
                        Ok(adapter) => {
                            found = Some(adapter);
                            break;
                        }
                        Err(error) => reason = error.to_string(),
                    }
                }
                found.ok_or(GpuError::NoAdapter { reason })?
            }
            Some(name) => {
                let wanted = name.to_lowercase();
                let fits = |a: &wgpu::Adapter| a.get_info().name.to_lowercase().contains(&wanted);
                let found = instances().find_map(|instance| enumerate(&instance).into_iter().find(fits));
                let reason = || format!("no adapter's name contains {name:?}");
                found.ok_or_else(|| GpuError::NoAdapter { reason: reason() })?
            }
        };
        let report = AdapterReport::new(&adapter);
        let (mut matmul_variants, mut matrix_side) = matmul_variants(&adapter);
        let mut opened = request(&adapter, matrix_side > 0);
        if opened.is_err() && matrix_side > 0 {
            // Retry without cooperative matrices.
            matmul_variants.retain(|variant| *variant != MatmulVariant::Cooperative);
            matrix_side = 0;
            opened = request(&adapter, false);
        }
        let subgroups = has_subgroups_of_eight(&adapter);
        let adapter = report.name.clone();
        let (device, queue) = opened.map_err(|e| GpuError::NoDevice { adapter, reason: e.to_string() })?;
        let failure = Arc::new(Mutex::new(None));
        let note = |failure: &Arc<Mutex<Option<String>>>| {
            let failure = Arc::clone(failure);
            move |reason: String| {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
            }
        };
        let (on_error, on_loss) = (note(&failure), note(&failure));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| on_error(error.to_string())));
        device.set_device_lost_callback(move |why, message| {
            on_loss(match message.as_str() {
                "" => format!("the driver reported the device lost: {why:?}"),
                _ => format!("the driver reported the device lost: {why:?}, {message}"),
            });
        });
        let pipeline_cache = None;
        Ok(Device { device, queue, report, matmul_variants, matrix_side, subgroups, pipeline_cache, failure })
    }

    /// The adapter's features and limits.
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// The supported kernel variants for products of many tokens, the one in use first.
    pub fn matmul_variants(&self) -> &[MatmulVariant] {
        &self.matmul_variants
    }

    /// The variant in use.
    pub(crate) fn matmul_variant(&self) -> MatmulVariant {
        self.matmul_variants[0]
    }

    /// The same device with another variant for products of many tokens; models uploaded from now on use it.
    ///
    /// # Errors
    /// [`GpuError::Option`] if the device does not support it.
    pub fn with_matmul_variant(mut self, variant: MatmulVariant) -> Result<Device, GpuError> {
        let Some(index) = self.matmul_variants.iter().position(|supported| *supported == variant) else {
            let expected = format!("one of {:?}", self.matmul_variants);
            return Err(GpuError::Option { what: "the kind of products", expected, found: variant as u64 });
        };
        self.matmul_variants.swap(0, index);
        Ok(self)
    }

    /// The same device with the kernels that need no optional feature: plain products, no subgroup operations. `None` if
    /// those are in use already.
    pub fn with_baseline_kernels(self) -> Option<Device> {
        let uses_features = self.subgroups || self.matmul_variant() != MatmulVariant::Plain;
        uses_features.then_some(())?;
        Device { subgroups: false, ..self }.with_matmul_variant(MatmulVariant::Plain).ok()
    }

    /// The same device with compiled pipelines cached in `folder`, if its API supports that (Vulkan).
    ///
    /// A damaged file, or one of another driver, is ignored and replaced. Write errors only cost the next start time.
    ///
    /// # Safety
    /// The driver trusts the files' contents: only trusted programs can write to `folder`.
    pub unsafe fn with_pipeline_cache(mut self, folder: &Path) -> Device {
        // SAFETY: the caller's promise.
        self.pipeline_cache = unsafe { PipelineCache::open(&self.device, folder) };
        self
    }

    /// Reports the first failure since the device was opened.
    ///
    /// # Errors
    /// [`GpuError::Device`].
    pub fn check(&self) -> Result<(), GpuError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().map_or(Ok(()), |reason| Err(GpuError::Device { reason }))
    }

    /// Does `work`, which creates things on the device, and reports what the device refuses of it.
    ///
    /// # Errors
    /// Those of `work`; [`GpuError::Device`] if the device lacks memory or rejects a shader.
    pub(crate) fn catch_errors<T>(&self, work: impl FnOnce() -> Result<T, GpuError>) -> Result<T, GpuError> {
        let scopes =
            [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory];
        let mut scopes: Vec<_> = scopes.map(|filter| self.device.push_error_scope(filter)).into();
        let done = work();
        let mut failure = None;
        while let Some(scope) = scopes.pop() {
            failure = failure.or(pollster::block_on(scope.pop()));
        }
        match failure {
            Some(error) => Err(GpuError::Device { reason: error.to_string() }),
            None => self.check().and(done),
        }
    }

    /// Waits for a submission; for the last one if `None`.
    ///
    /// # Errors
    /// [`GpuError::Device`] if the device has failed, is lost or times out; the failure is permanent.
    pub(crate) fn wait(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
        let timeout = if self.report.software { SOFTWARE_TIMEOUT } else { TIMEOUT };
        let wait = wgpu::PollType::Wait { submission_index, timeout: Some(timeout) };
        // wgpu 30 panics here if the driver reports a lost device or too little memory.
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(wait))) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.fail(error.to_string()),
            Err(_) => self.fail("the driver reported the device lost, or too little memory".into()),
        }
        self.check()
    }

    /// Records a failure unless there is an earlier one.
    pub(crate) fn fail(&self, reason: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    /// Destroys the device, as a driver crash would. For tests of the fallback to the CPU.
    pub fn destroy(&self) {
        self.device.destroy();
    }

    /// Largest binding, bytes.
    pub(crate) fn binding_bytes(&self) -> u64 {
        self.report.binding_bytes.min(self.report.buffer_bytes)
    }

    /// A buffer of zeros.
    pub(crate) fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let descriptor =
            wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation: false };
        self.device.create_buffer(&descriptor)
    }
}
