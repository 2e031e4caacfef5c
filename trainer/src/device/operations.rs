//! The operations that a device runs a model with.

use super::{ChosenDevice, DeviceKind};
use crate::error::{Error, Result};
use crate::ops::candle::CandleOps;
use crate::ops::cpu::CpuOps;
use crate::ops::cuda::unsupported;
use crate::ops::{BufferLengths, Ops};
use crate::recipe::Precision;
use thimble_runtime::format::Config;

/// Implementations of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operations {
    /// The CPU's, in f32.
    Cpu,
    /// Candle's, unfused, in the recipe's precision.
    Candle,
    /// The project's own CUDA kernels, in bf16.
    Kernels,
}

/// Work that can be done on any operations.
pub trait DeviceWork {
    /// What comes of it.
    type Output;

    /// Does the work; `make` makes the operations for a model and its buffers.
    ///
    /// # Errors
    /// Those of the work, and of `make`.
    fn run<O: Ops>(self, make: impl FnOnce(&Config, BufferLengths) -> Result<O>) -> Result<Self::Output>;
}

impl ChosenDevice {
    /// The operations for a model; where they are not the fastest that the device has, a line that says why.
    pub fn operations(&self, model: &Config, precision: Precision) -> (Operations, Option<String>) {
        let lacking = match &self.kind {
            DeviceKind::Cpu => return (Operations::Cpu, None),
            DeviceKind::Candle => return (Operations::Candle, None),
            DeviceKind::Cuda { kernels: Err(why), .. } => Some(why.clone()),
            DeviceKind::Cuda { .. } | DeviceKind::Emulator if precision == Precision::F32 => {
                Some("the recipe's precision is f32 and the engine's own kernels compute in bf16".into())
            }
            DeviceKind::Cuda { .. } | DeviceKind::Emulator => unsupported(model)
                .map(|what| format!("the model has {what}, which the engine's own kernels lack")),
        };
        match lacking {
            None => (Operations::Kernels, None),
            Some(why) => {
                (Operations::Candle, Some(format!("{why}: training through candle, several times slower")))
            }
        }
    }

    /// Does work with the operations of a model.
    ///
    /// # Errors
    /// Those of the work; the device fails.
    pub fn run<W: DeviceWork>(&self, work: W, model: &Config, precision: Precision) -> Result<W::Output> {
        match self.operations(model, precision).0 {
            Operations::Cpu => {
                work.run(|config, lengths| CpuOps::new(self.threads, lengths, config.norm_eps))
            }
            Operations::Candle => work.run(|config, lengths| {
                CandleOps::new(self.device.clone(), precision, lengths, config.norm_eps)
            }),
            Operations::Kernels => self.run_kernels(work),
        }
    }

    fn run_kernels<W: DeviceWork>(&self, work: W) -> Result<W::Output> {
        match self.kind {
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda { ordinal, .. } => work.run(|config, lengths| {
                use crate::ops::cuda::{CudaOps, Driver};
                CudaOps::new(Driver::open(ordinal)?, lengths, config.norm_eps)
            }),
            #[cfg(feature = "emulator")]
            DeviceKind::Emulator => work.run(|config, lengths| {
                use crate::ops::cuda::{CudaOps, Emulator};
                CudaOps::new(Emulator::new(self.threads), lengths, config.norm_eps)
            }),
            _ => {
                drop(work);
                Err(Error::Invalid("this build has no kernels for that device".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DeviceRequest, choose};
    use super::*;

    #[test]
    fn what_the_kernels_lack_is_said() {
        let with = |kind| ChosenDevice { kind, ..choose(DeviceRequest::Cpu, 1).unwrap() };
        let good =
            Config { hidden: 128, heads: 2, kv_heads: 1, head_dim: 64, ffn: 256, layers: 1, ..Config::PLAIN };
        let found = |kind, config: &Config, precision| with(kind).operations(config, precision);
        let gpu = |kernels| DeviceKind::Cuda { ordinal: 0, kernels };
        assert_eq!(found(DeviceKind::Cpu, &good, Precision::Bf16), (Operations::Cpu, None));
        assert_eq!(found(DeviceKind::Candle, &good, Precision::Bf16), (Operations::Candle, None));
        assert_eq!(found(gpu(Ok(())), &good, Precision::Bf16), (Operations::Kernels, None));
        assert_eq!(found(DeviceKind::Emulator, &good, Precision::Bf16), (Operations::Kernels, None));
        for (kind, config, precision, expected) in [
            (gpu(Ok(())), good, Precision::F32, "precision is f32"),
            (gpu(Err("too old".into())), good, Precision::Bf16, "too old"),
            (gpu(Ok(())), Config { qk_norm: true, ..good }, Precision::Bf16, "norms of query and key heads"),
            (DeviceKind::Emulator, Config { head_dim: 32, ..good }, Precision::Bf16, "heads of width 32"),
        ] {
            let (operations, why) = found(kind, &config, precision);
            let why = why.unwrap();
            assert!(operations == Operations::Candle && why.contains(expected), "{why}");
            assert!(why.ends_with(": training through candle, several times slower"), "{why}");
        }
    }
}
