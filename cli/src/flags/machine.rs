//! How a model is computed: context, threads, kernels, KV cache and processors.

use super::numbers::at_least_one;
use crate::adapters::AdapterFlags;
use clap::{Args, ValueEnum};
use thimble_host::{BackendKind, InferenceSettings, KernelKind};
use thimble_runtime::kernels::KvKind;

/// How the model is computed, for one context and one number of threads.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Computation")]
pub(crate) struct MachineFlags {
    /// Context length in tokens, prompt and answer together [default: the model's limit, or what the command needs]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(crate) context: Option<usize>,
    /// Threads [default: one per core available to this process]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    #[command(flatten)]
    pub(crate) compute: ComputeFlags,
}

/// How the model is computed, for any context and number of threads.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Computation")]
pub(crate) struct ComputeFlags {
    /// Reference mode: activations stay f32
    #[arg(long)]
    pub(crate) exact: bool,
    /// Instruction set of the kernels [default: the best that this CPU supports; also THIMBLE_KERNELS]
    #[arg(long, value_name = "NAME")]
    pub(crate) kernels: Option<KernelKind>,
    /// Number format of the KV cache [default: f16, or f32 with --exact]
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) kv: Option<Kv>,
    /// Where to run the model: cpu, gpu, gpu+cpu (prompts on the GPU, generation on the CPU), cpu+gpu (the reverse), or auto
    /// (the fastest, measured once) [default: cpu; also THIMBLE_BACKEND]
    #[cfg_attr(
        not(feature = "gpu"),
        doc = "(this build has only cpu: the others require the feature `gpu`)"
    )]
    #[arg(long, value_name = "NAME")]
    pub(crate) backend: Option<BackendKind>,
    #[command(flatten)]
    pub(crate) adapters: AdapterFlags,
}

/// Number format of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kv {
    /// 16-bit floats
    F16,
    /// 8 bits: half the memory
    Q8,
}

impl MachineFlags {
    /// These flags over `needed`: what the command needs of the session where no flag says otherwise.
    pub(crate) fn settings(&self, needed: InferenceSettings) -> InferenceSettings {
        InferenceSettings {
            context: self.context.or(needed.context),
            threads: self.threads,
            logit_rows: needed.logit_rows,
            lookup: needed.lookup,
            adapter_rank: needed.adapter_rank,
            ..self.compute.settings()
        }
    }
}

impl ComputeFlags {
    /// These flags as the host takes them.
    pub(crate) fn settings(&self) -> InferenceSettings {
        let kv = self.kv.map(|kv| match kv {
            Kv::F16 => KvKind::F16,
            Kv::Q8 => KvKind::Q8,
        });
        let (exact, kernels, backend) = (self.exact, self.kernels, self.backend);
        InferenceSettings { exact, kernels, kv, backend, ..InferenceSettings::default() }
    }
}
