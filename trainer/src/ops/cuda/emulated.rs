//! The emulator as a device: the kernels' own sources, compiled for the CPU, with every access checked.
#![allow(unsafe_code)] // calls of the emulator's C interface, trainer/kernels/emulator/library.h

use super::launcher::{Address, Argument, DeviceMemory, Launch, Launcher, Product, Region, check_copy};
use super::products;
use crate::error::{Error, Result};
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::{Once, PoisonError, RwLock};

/// Held for writing while the options change, for reading while a launch runs.
static OPTIONS: RwLock<()> = RwLock::new(());

/// As in `library.h`.
#[repr(C)]
struct EmulatorArgument {
    kind: u32,
    unused: u32,
    bits: u64,
    bytes: u64,
}

/// How the emulator runs a launch; one setting for the whole process, which no result depends on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmulatorOptions {
    /// Orders blocks, warps and lanes; 0: ascending.
    pub seed: u64,
    /// Whether races in shared memory are looked for, 0 or 1.
    pub shared_races: u32,
    /// Whether races between blocks are looked for, 0 or 1.
    pub global_races: u32,
    /// Whether reads of memory that nobody has written are refused, 0 or 1.
    pub global_initialised: u32,
    /// Whether memory traffic is counted, 0 or 1.
    pub count_traffic: u32,
    /// Threads of the CPU that run blocks.
    pub workers: u32,
}

const INT32: u32 = 1;
const UINT32: u32 = 2;
const FLOAT32: u32 = 3;
const INT64: u32 = 4;
const FLOAT64: u32 = 6;
const BFLOAT16: u32 = 7;
const POINTER: u32 = 16;

// SAFETY: these are the declarations of `library.h`, which is compiled into this program.
unsafe extern "C" {
    fn emulator_launch(
        kernel: *const c_char,
        grid: *const u32,
        threads: u32,
        shared_bytes: u32,
        arguments: *const EmulatorArgument,
        count: u32,
    ) -> *const c_char;
    safe fn emulator_allocate(bytes: u64) -> u64;
    safe fn emulator_free(address: u64) -> *const c_char;
    fn emulator_upload(to: u64, from: *const c_void, bytes: u64) -> *const c_char;
    fn emulator_download(to: *mut c_void, from: u64, bytes: u64) -> *const c_char;
    safe fn emulator_copy(to: u64, from: u64, bytes: u64) -> *const c_char;
    safe fn emulator_fill(to: u64, value: u8, bytes: u64) -> *const c_char;
    fn emulator_configure(options: *const EmulatorOptions);
    safe fn emulator_configuration() -> EmulatorOptions;
}

/// The emulator, and how it runs launches.
#[derive(Debug)]
pub struct Emulator(());

/// Memory of the emulator's device.
#[derive(Debug)]
pub struct EmulatorMemory {
    address: u64,
    bytes: usize,
}

impl Drop for EmulatorMemory {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // The address is that of an allocation, so that there is nothing to report.
            let _ = emulator_free(self.address);
        }
    }
}

impl DeviceMemory for EmulatorMemory {
    fn address(&self) -> Address {
        Address(self.address)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The emulator's answer as a result.
fn answered(text: *const c_char) -> Result<()> {
    if text.is_null() {
        return Ok(());
    }
    // SAFETY: the emulator returns null or a text that ends with 0 and stays valid until this thread's next call.
    let text = unsafe { CStr::from_ptr(text) };
    Err(Error::Invalid(format!("the emulated device: {}", text.to_string_lossy())))
}

impl Emulator {
    /// The emulator. The first one of a process switches all checks on, on `workers` threads.
    pub fn new(workers: usize) -> Emulator {
        static FIRST: Once = Once::new();
        FIRST.call_once(|| {
            Emulator::configure(&EmulatorOptions {
                seed: 0,
                shared_races: 1,
                global_races: 1,
                global_initialised: 1,
                count_traffic: 0,
                workers: workers.try_into().unwrap_or(1),
            });
        });
        Emulator(())
    }

    /// Changes how launches run.
    pub fn configure(options: &EmulatorOptions) {
        let _alone = OPTIONS.write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the function reads the options, which the reference keeps valid, and keeps no pointer. No launch reads
        // the old ones meanwhile.
        unsafe { emulator_configure(options) }
    }

    /// How launches run.
    pub fn configuration() -> EmulatorOptions {
        let _unchanged = OPTIONS.read().unwrap_or_else(PoisonError::into_inner);
        emulator_configuration()
    }
}

impl Launcher for Emulator {
    type Memory = EmulatorMemory;

    fn device(&self) -> String {
        "emulated GPU".into()
    }

    fn allocate(&self, bytes: usize) -> Result<EmulatorMemory> {
        let address = if bytes == 0 { 0 } else { emulator_allocate(bytes as u64) };
        if address == 0 && bytes > 0 {
            return Err(Error::Invalid(format!(
                "{bytes} bytes of the emulated device's memory are not available"
            )));
        }
        Ok(EmulatorMemory { address, bytes })
    }

    fn upload(&self, to: Region, bytes: &[u8]) -> Result<()> {
        check_copy(bytes.len(), to)?;
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the emulator reads `bytes.len()` bytes of the slice, and checks that the address range is its own.
        answered(unsafe { emulator_upload(to.address.0, bytes.as_ptr().cast(), bytes.len() as u64) })
    }

    fn download(&self, from: Region, bytes: &mut [u8]) -> Result<()> {
        check_copy(bytes.len(), from)?;
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the emulator writes `bytes.len()` bytes of the slice, which nothing else can see during the call, and
        // checks that the address range is its own.
        answered(unsafe { emulator_download(bytes.as_mut_ptr().cast(), from.address.0, bytes.len() as u64) })
    }

    fn zero(&self, region: Region) -> Result<()> {
        if region.bytes == 0 {
            return Ok(());
        }
        answered(emulator_fill(region.address.0, 0, region.bytes as u64))
    }

    fn copy(&self, from: Region, to: Region) -> Result<()> {
        check_copy(from.bytes, to)?;
        answered(emulator_copy(to.address.0, from.address.0, to.bytes as u64))
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        let arguments: Vec<EmulatorArgument> = launch.arguments.iter().map(argument).collect();
        let name =
            CString::new(launch.kernel).map_err(|_| Error::Invalid("a kernel's name with a 0".into()))?;
        let _unchanged = OPTIONS.read().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: name, grid and arguments are valid during the call, which keeps no pointer to them; the kernels reach
        // only the regions that the arguments give, and the emulator checks that.
        answered(unsafe {
            emulator_launch(
                name.as_ptr(),
                launch.grid.as_ptr(),
                launch.threads,
                launch.shared,
                arguments.as_ptr(),
                arguments.len() as u32,
            )
        })
    }

    fn multiply(&self, product: &Product) -> Result<()> {
        products::multiply(self, product)
    }
}

fn argument(argument: &Argument) -> EmulatorArgument {
    let (kind, bytes) = match argument {
        Argument::Int32(_) => (INT32, 0),
        Argument::Int64(_) => (INT64, 0),
        Argument::Float(_) => (FLOAT32, 0),
        Argument::Bf16s(region) => (POINTER + BFLOAT16, region.bytes),
        Argument::F32s(region) => (POINTER + FLOAT32, region.bytes),
        Argument::F64s(region) => (POINTER + FLOAT64, region.bytes),
        Argument::U32s(region) => (POINTER + UINT32, region.bytes),
    };
    EmulatorArgument { kind, unused: 0, bits: argument.bits(), bytes: bytes as u64 }
}
