//! A GPU through NVIDIA's driver: the kernels' fat binary, memory, launches.
#![allow(unsafe_code)] // calls of the driver

use super::launcher::{Address, DeviceMemory, Launch, Launcher, Product, Region, check_copy};
use super::lt::CublasLt;
use crate::error::{Error, Result};
use candle_core::cuda::cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use candle_core::cuda::cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, DriverError, LaunchConfig, PushKernelArg, result,
};
use candle_core::cuda::cudarc::nvrtc::Ptx;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Machine code for each architecture and PTX for later ones; `build/machine_code.rs` has it written.
static FAT_BINARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));

/// Shared memory of a block that needs no permission, in bytes.
const SHARED_WITHOUT_ATTRIBUTE: u32 = 48 << 10;

/// A GPU.
pub struct Driver {
    name: String,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    module: Arc<CudaModule>,
    functions: RefCell<HashMap<&'static str, (CudaFunction, u32)>>,
    products: CublasLt,
    /// Of the products.
    _workspace: DriverMemory,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Stream and module may be in use: nothing that was launched is read after this.
        let _ = self.context.synchronize();
    }
}

/// Memory of a GPU.
pub struct DriverMemory {
    context: Arc<CudaContext>,
    address: u64,
    bytes: usize,
}

impl Drop for DriverMemory {
    fn drop(&mut self) {
        if self.bytes > 0 && self.context.synchronize().is_ok() {
            // SAFETY: the address is that of an allocation of this context, which is freed once, here, and all launches
            // that use it have ended.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

impl DeviceMemory for DriverMemory {
    fn address(&self) -> Address {
        Address(self.address)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl From<DriverError> for Error {
    fn from(error: DriverError) -> Error {
        Error::Invalid(format!("the GPU failed: {error}"))
    }
}

impl Driver {
    /// Opens GPU `ordinal`, counted from 0, and loads the kernels.
    ///
    /// # Errors
    /// There is no such GPU, it is older than the kernels, or a library is missing.
    pub fn open(ordinal: usize) -> Result<Driver> {
        let context = CudaContext::new(ordinal)?;
        // A stream of its own: the default one waits for those of candle.
        let stream = context.new_stream()?;
        let module = context.load_module(Ptx::from_binary(FAT_BINARY.to_vec())).map_err(|error| {
            Error::Invalid(format!("the GPU cannot run the engine's own kernels ({error})"))
        })?;
        let workspace = allocate(&context, CublasLt::WORKSPACE)?;
        let products = CublasLt::new(workspace.region())?;
        Ok(Driver {
            name: context.name()?,
            context,
            stream,
            module,
            functions: RefCell::default(),
            products,
            _workspace: workspace,
        })
    }

    /// The kernel, which may use `shared` bytes.
    fn function(&self, kernel: &'static str, shared: u32) -> Result<CudaFunction> {
        let mut functions = self.functions.borrow_mut();
        let (function, allowed) = match functions.entry(kernel) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert((self.module.load_function(kernel)?, SHARED_WITHOUT_ATTRIBUTE))
            }
        };
        if shared > *allowed {
            let bytes = i32::try_from(shared).unwrap_or(i32::MAX);
            function.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes)?;
            *allowed = shared;
        }
        Ok(function.clone())
    }
}

fn allocate(context: &Arc<CudaContext>, bytes: usize) -> Result<DriverMemory> {
    context.bind_to_thread()?;
    let address = if bytes == 0 {
        0
    } else {
        // SAFETY: the memory is undefined until it is written, and the operations read nothing before they have
        // written it.
        unsafe { result::malloc_sync(bytes) }.map_err(|error| {
            Error::Invalid(format!(
                "{bytes} bytes of the GPU's memory are not available ({error}): use a smaller micro_batch, or activation \
                 checkpointing"
            ))
        })?
    };
    Ok(DriverMemory { context: context.clone(), address, bytes })
}

impl Launcher for Driver {
    type Memory = DriverMemory;

    fn device(&self) -> String {
        self.name.clone()
    }

    fn allocate(&self, bytes: usize) -> Result<DriverMemory> {
        allocate(&self.context, bytes)
    }

    fn upload(&self, to: Region, bytes: &[u8]) -> Result<()> {
        check_copy(bytes.len(), to)?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.context.bind_to_thread()?;
        // SAFETY: the region is of this context's memory. The slice is borrowed until the stream has been waited for: where
        // the GPU reads pageable memory by itself, the call may return before the copy is made.
        unsafe { result::memcpy_htod_async(to.address.0, bytes, self.stream.cu_stream()) }?;
        self.stream.synchronize()?;
        Ok(())
    }

    fn download(&self, from: Region, bytes: &mut [u8]) -> Result<()> {
        check_copy(bytes.len(), from)?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.context.bind_to_thread()?;
        // SAFETY: the region is of this context's memory. The slice is borrowed until the stream has been waited for.
        unsafe { result::memcpy_dtoh_async(bytes, from.address.0, self.stream.cu_stream()) }?;
        self.stream.synchronize()?;
        Ok(())
    }

    fn zero(&self, region: Region) -> Result<()> {
        if region.bytes == 0 {
            return Ok(());
        }
        self.context.bind_to_thread()?;
        // SAFETY: the region is of this context's memory.
        unsafe { result::memset_d8_async(region.address.0, 0, region.bytes, self.stream.cu_stream()) }?;
        Ok(())
    }

    fn copy(&self, from: Region, to: Region) -> Result<()> {
        check_copy(from.bytes, to)?;
        if to.bytes == 0 {
            return Ok(());
        }
        self.context.bind_to_thread()?;
        let stream = self.stream.cu_stream();
        // SAFETY: both regions are of this context's memory, and equally long.
        unsafe { result::memcpy_dtod_async(to.address.0, from.address.0, to.bytes, stream) }?;
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        self.context.bind_to_thread()?;
        let function = self.function(launch.kernel, launch.shared)?;
        let values: Vec<u64> = launch.arguments.iter().map(|argument| argument.bits()).collect();
        let mut builder = self.stream.launch_builder(&function);
        for value in &values {
            builder.arg(value);
        }
        let [x, y, z] = launch.grid;
        let config = LaunchConfig {
            grid_dim: (x, y, z),
            block_dim: (launch.threads, 1, 1),
            shared_mem_bytes: launch.shared,
        };
        // SAFETY: `kernels::launch` has checked number and types of the arguments against the table that the kernels are
        // compiled with; a parameter of 4 bytes is read from the low ones of its slot. Regions are of this context's
        // memory, and the kernels stay inside them, which the emulator checks.
        let launched = unsafe { builder.launch(config) };
        launched.map_err(|error| {
            Error::Invalid(format!("the GPU refused the kernel {}: {error}", launch.kernel))
        })?;
        Ok(())
    }

    fn multiply(&self, product: &Product) -> Result<()> {
        self.context.bind_to_thread()?;
        self.products.multiply(product, self.stream.cu_stream())
    }
}
