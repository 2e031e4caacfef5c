//! Devices: the CPU, and CUDA where it is built in and available.

#[cfg(feature = "cuda")]
mod cuda;
/// Replaces the module in a build without CUDA.
#[cfg(not(feature = "cuda"))]
mod cuda {
    pub(super) fn open(_ordinal: usize) -> Result<super::Gpu, super::GpuUnavailable> {
        Err(super::GpuUnavailable {
            why: "built without CUDA".into(),
            advice: "build the command with trainer/cuda/build.sh".into(),
        })
    }
}

mod operations;

pub use operations::{DeviceWork, Operations};

use crate::error::{Error, Result};
use candle_core::Device;
use std::fmt;
use std::str::FromStr;

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceRequest {
    /// The first GPU where one can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number, counted from 0 as CUDA does, or an error.
    Cuda(usize),
    /// Candle's operations on the CPU, slow, for checking them.
    Candle,
    /// The CUDA kernels on the CPU, far slower and with every access checked.
    Emulator,
}

impl FromStr for DeviceRequest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "candle" => Ok(Self::Candle),
            "emulator" => Ok(Self::Emulator),
            _ => {
                let ordinal = text.strip_prefix("cuda:").and_then(|digits| digits.parse().ok());
                let wrong = || {
                    Error::Usage(format!("expected auto, cpu, cuda or cuda:N as the device, found {text:?}"))
                };
                ordinal.map(Self::Cuda).ok_or_else(wrong)
            }
        }
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Candle => f.write_str("candle"),
            Self::Emulator => f.write_str("emulator"),
        }
    }
}

/// A device that works.
#[derive(Debug)]
pub struct ChosenDevice {
    /// The device for candle's tensors.
    pub device: Device,
    /// Bytes of a GPU's own memory that were free; none on the CPU.
    pub memory: Option<u64>,
    /// Threads of a run on the CPU.
    threads: usize,
    kind: DeviceKind,
    sentence: String,
}

/// What a device is.
#[derive(Clone, Debug)]
enum DeviceKind {
    Cpu,
    Candle,
    /// The GPU's number, and why it cannot run the engine's own kernels if it cannot.
    Cuda {
        #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "no GPU is opened"))]
        ordinal: usize,
        kernels: std::result::Result<(), String>,
    },
    Emulator,
}

impl ChosenDevice {
    /// Whether the operations are the CPU's, in f32; else they are in the recipe's precision.
    pub fn is_cpu(&self) -> bool {
        matches!(self.kind, DeviceKind::Cpu)
    }

    /// A sentence for the terminal, without a full stop: the device and, if the CPU is the fallback, why.
    pub fn describe(&self) -> &str {
        &self.sentence
    }
}

/// Finds the device that is asked for; `threads` is how many a run on the CPU uses.
///
/// # Errors
/// A GPU requested by name cannot be used; the message says why and what to do. `Auto` never fails.
pub fn choose(request: DeviceRequest, threads: usize) -> Result<ChosenDevice> {
    let plural = if threads == 1 { "" } else { "s" };
    let on_cpu = format!("training on the CPU with {threads} thread{plural}");
    let cpu = |sentence| ChosenDevice {
        device: Device::Cpu,
        memory: None,
        threads,
        kind: DeviceKind::Cpu,
        sentence,
    };
    let opened = |gpu: Gpu| {
        let sentence = match &gpu.kernels {
            Ok(()) => format!("training on {}", gpu.what),
            Err(why) => format!("training on {} through candle, several times slower: {why}", gpu.what),
        };
        let kind = DeviceKind::Cuda { ordinal: gpu.ordinal, kernels: gpu.kernels };
        ChosenDevice { device: gpu.device, memory: Some(gpu.free), threads, kind, sentence }
    };
    match request {
        DeviceRequest::Candle => Ok(ChosenDevice {
            kind: DeviceKind::Candle,
            ..cpu("training on the CPU with candle's operations, slowly, to check them".into())
        }),
        DeviceRequest::Emulator if cfg!(feature = "emulator") => Ok(ChosenDevice {
            kind: DeviceKind::Emulator,
            ..cpu("training on an emulated GPU, very slowly, to check the kernels".into())
        }),
        DeviceRequest::Emulator => Err(Error::Invalid(
            "cannot train on the emulator: built without it; build with --features emulator, or train with --device cpu"
                .into(),
        )),
        DeviceRequest::Cpu => Ok(cpu(on_cpu)),
        DeviceRequest::Auto => Ok(match cuda::open(0) {
            Ok(gpu) => opened(gpu),
            Err(GpuUnavailable { why, .. }) => cpu(format!("{why}: {on_cpu}")),
        }),
        DeviceRequest::Cuda(ordinal) => {
            cuda::open(ordinal).map(opened).map_err(|GpuUnavailable { why, advice }| {
                Error::Invalid(format!(
                    "cannot train on {request}: {why}; {advice}, or train with --device cpu"
                ))
            })
        }
    }
}

/// A GPU that passed a test computation.
struct Gpu {
    device: Device,
    ordinal: usize,
    /// Why it cannot run the engine's own kernels, if it cannot.
    kernels: std::result::Result<(), String>,
    /// Its name and properties.
    what: String,
    /// Bytes that are free.
    free: u64,
}

/// Why a GPU cannot be used, and the remedy.
#[derive(Debug)]
struct GpuUnavailable {
    why: String,
    advice: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_parse_and_print() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7", "candle", "emulator"] {
            assert_eq!(text.parse::<DeviceRequest>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<DeviceRequest>().unwrap(), DeviceRequest::Cuda(0));
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "cuda:99999999999999999999"] {
            let error = text.parse::<DeviceRequest>().unwrap_err();
            assert_eq!(error.exit_code(), 2, "{text}");
            assert!(error.to_string().contains(&format!("found {text:?}")), "{error}");
        }
    }

    #[test]
    fn the_cpu_says_its_threads() {
        let describe = |threads| choose(DeviceRequest::Cpu, threads).unwrap().describe().to_owned();
        assert_eq!(describe(1), "training on the CPU with 1 thread");
        assert_eq!(describe(2), "training on the CPU with 2 threads");
    }

    #[test]
    fn auto_always_finds_a_device_and_says_one_line() {
        let chosen = choose(DeviceRequest::Auto, 2).unwrap();
        assert!(!chosen.describe().contains('\n'), "{}", chosen.describe());
        match chosen.device {
            Device::Cpu => assert!(chosen.describe().ends_with(": training on the CPU with 2 threads")),
            _ => assert!(chosen.describe().starts_with("training on ")),
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_so() {
        let auto = choose(DeviceRequest::Auto, 2).unwrap();
        assert_eq!(auto.describe(), "built without CUDA: training on the CPU with 2 threads");
        let error = choose(DeviceRequest::Cuda(0), 2).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(
            error.to_string(),
            "cannot train on cuda:0: built without CUDA; build the command with trainer/cuda/build.sh, \
             or train with --device cpu"
        );
    }
}
