//! Adapters, and an open device with its limits and features.

use crate::pipelines::PipelineFile;
use crate::{GpuError, MatmulVariant};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What `thimble devices` says of an adapter.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterReport {
    /// Name that the driver gives.
    pub name: String,
    /// API: `vulkan`, `metal`, `dx12`, `gl`.
    pub api: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `Cpu`, ...
    pub kind: String,
    /// The CPU under another name (lavapipe, llvmpipe, WARP), which is never faster than the CPU itself.
    pub software: bool,
    /// Name and version of the driver.
    pub driver: String,
    /// Half-precision arithmetic in shaders.
    pub f16: bool,
    /// Subgroup operations.
    pub subgroups: bool,
    /// Cooperative matrices.
    pub cooperative_matrices: bool,
    /// Variants to compute products for many tokens, the one to use unmeasured first.
    pub products: Vec<MatmulVariant>,
    /// Largest range that a shader can see at once, bytes.
    pub binding_bytes: u64,
    /// Largest buffer, bytes.
    pub buffer_bytes: u64,
    /// Memory that a workgroup can share, bytes.
    pub workgroup_bytes: u32,
    /// Lanes of a workgroup.
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

/// The APIs to look at, in turn: those that `WGPU_BACKEND` names, or else the modern ones and, where they have no adapter,
/// GL.
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

/// Every adapter of this machine, software ones included.
pub fn adapters() -> Vec<AdapterReport> {
    let found = instances().map(|instance| enumerate(&instance)).find(|found| !found.is_empty());
    found.unwrap_or_default().iter().map(AdapterReport::new).collect()
}

/// The kernel variants for products of many tokens that an adapter offers, the one to use unmeasured first; behind them the side
/// of its cooperative matrices, 0 where it has none that are used.
fn matmul_variants(adapter: &wgpu::Adapter) -> (Vec<MatmulVariant>, u32) {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    // Metal and GL compute four products of bytes one by one.
    let has_dot4 = matches!(info.backend, wgpu::Backend::Vulkan | wgpu::Backend::Dx12)
        && info.device_type != wgpu::DeviceType::Cpu;
    let mut matmul_variants = if has_dot4 {
        vec![MatmulVariant::Dot4, MatmulVariant::Plain]
    } else {
        vec![MatmulVariant::Plain, MatmulVariant::Dot4]
    };
    if features.contains(wgpu::Features::SHADER_F16) {
        matmul_variants.push(MatmulVariant::F16);
    }
    let cooperative = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    if !features.contains(cooperative) || limits.max_compute_workgroup_storage_size < 32_768 {
        return (matmul_variants, 0);
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
        matmul_variants.push(MatmulVariant::Cooperative);
    }
    (matmul_variants, side)
}

/// Whether eight neighbouring lanes are always in one subgroup.
fn has_eights(adapter: &wgpu::Adapter) -> bool {
    let info = adapter.get_info();
    // wgpu says 4 for all of Metal, whose GPUs have 32 or 64, or 8 where they are Intel's.
    let wide = info.subgroup_min_size >= 8 || info.backend == wgpu::Backend::Metal;
    wide && adapter.features().contains(wgpu::Features::SUBGROUP)
}

/// Asks for a device with all that the adapter allows in size, and the features that are used; the plain shaders need none.
fn request(
    adapter: &wgpu::Adapter,
    matrices: bool,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let wanted = wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP | wgpu::Features::PIPELINE_CACHE;
    let mut required_features = wanted & adapter.features();
    let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
    if matrices {
        required_features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        // SAFETY: what is asked of the one who enables them is to take reports of undefined behaviour to wgpu; the only such
        // feature that is requested is the one above, used as its tests and examples do.
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
const PATIENCE: Duration = Duration::from_secs(120);
/// The same for a software renderer: it never hangs, and a batch takes minutes where the machine is busy.
const SOFTWARE_PATIENCE: Duration = Duration::from_secs(1800);

/// An open device.
#[derive(Clone, Debug)]
pub struct Device {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    report: AdapterReport,
    /// What the device offers, the one in use first.
    matmul_variants: Vec<MatmulVariant>,
    /// Side of its cooperative matrices, 0 where none are used.
    matrix_side: u32,
    /// Attention uses subgroups.
    subgroups: bool,
    pub(crate) pipelines: Option<PipelineFile>,
    /// The first error that no call returned: validation, memory, loss.
    failure: Arc<Mutex<Option<String>>>,
}

impl Device {
    /// Opens the adapter whose name contains `name`, in any case, or the fastest one. `WGPU_BACKEND` restricts the APIs.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`] and [`GpuError::NoDevice`].
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
            // All else is worth having without them.
            matmul_variants.retain(|tile| *tile != MatmulVariant::Cooperative);
            matrix_side = 0;
            opened = request(&adapter, false);
        }
        let subgroups = has_eights(&adapter);
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
                "" => format!("{why:?}"),
                _ => format!("{why:?}: {message}"),
            });
        });
        Ok(Device {
            device,
            queue,
            report,
            matmul_variants,
            matrix_side,
            subgroups,
            pipelines: None,
            failure,
        })
    }

    /// What the adapter is and can do.
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// How products for many tokens are computed: every way that the device offers, the one in use first.
    pub fn matmul_variants(&self) -> &[MatmulVariant] {
        &self.matmul_variants
    }

    /// The way in use.
    pub(crate) fn tile(&self) -> MatmulVariant {
        self.matmul_variants[0]
    }

    /// The same device with another way to compute products for many tokens; models that are made from now on use it.
    ///
    /// # Errors
    /// [`GpuError::Option`] where the device does not offer it.
    pub fn with_matmul_variant(mut self, tile: MatmulVariant) -> Result<Device, GpuError> {
        let Some(place) = self.matmul_variants.iter().position(|offered| *offered == tile) else {
            let expected = format!("one of {:?}", self.matmul_variants);
            return Err(GpuError::Option { what: "the kind of products", expected, found: tile as u64 });
        };
        self.matmul_variants.swap(0, place);
        Ok(self)
    }

    /// Side of its cooperative matrices.
    pub(crate) fn matrix_side(&self) -> u32 {
        self.matrix_side
    }

    /// Whether attention uses subgroups.
    pub(crate) fn subgroups(&self) -> bool {
        self.subgroups
    }

    /// The same device with what takes the least of its driver: plain products, no subgroups. None where it is so already.
    pub fn plainest(self) -> Option<Device> {
        let more = self.subgroups || self.tile() != MatmulVariant::Plain;
        more.then_some(())?;
        Device { subgroups: false, ..self }.with_matmul_variant(MatmulVariant::Plain).ok()
    }

    /// The first failure since the device was opened.
    ///
    /// # Errors
    /// [`GpuError::Device`], where there was one.
    pub fn check(&self) -> Result<(), GpuError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().map_or(Ok(()), |reason| Err(GpuError::Device { reason }))
    }

    /// Waits for a submission, or for the last one.
    ///
    /// # Errors
    /// [`GpuError::Device`] where the device is lost, has failed before, or is silent for too long; it stays failed.
    pub(crate) fn wait(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
        let patience = if self.report.software { SOFTWARE_PATIENCE } else { PATIENCE };
        let wait = wgpu::PollType::Wait { submission_index, timeout: Some(patience) };
        // wgpu 30 panics here where the driver reports a lost device or too little memory.
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(wait))) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.fail(error.to_string()),
            Err(_) => self.fail("the driver gave the device up".into()),
        }
        self.check()
    }

    /// Keeps a failure, if it is the first.
    pub(crate) fn fail(&self, reason: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    /// Ends the device as a crash of its driver would: for tests of what goes on without it.
    pub fn lose(&self) {
        self.device.destroy();
    }

    /// Largest range that one binding can have, bytes.
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
