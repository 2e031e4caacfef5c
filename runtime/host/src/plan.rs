//! Resolves a user's settings into an inference plan, and allocates its memory.

use crate::backend::{BackendError, BackendKind, MatmulVariant};
use crate::detect::{KernelKind, KernelsError};
use crate::threads::available;
use memmap2::MmapMut;
use thimble_runtime::format::Config;
use thimble_runtime::kernels::{Kernels, KvKind};
use thimble_runtime::lookup::PromptLookup;
use thimble_runtime::memory::{MemoryError, MemoryPlan, PlanOptions};
use thiserror::Error;

/// What a user can set; [`InferencePlan::new`] chooses a default for `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct InferenceSettings {
    /// Context length in tokens; the default is the model's limit, at most 2,048.
    pub context: Option<usize>,
    /// Threads; the default is one for each available core.
    pub threads: Option<usize>,
    /// Kernels; the default is what `THIMBLE_KERNELS` names, or the best for this CPU.
    pub kernels: Option<KernelKind>,
    /// Number format of the KV cache; the default is f16, or f32 in the exact mode.
    pub kv: Option<KvKind>,
    /// The reference mode: f32 activations and cache.
    pub exact: bool,
    /// Rows of logits; the default is 1, and scoring takes more.
    pub logit_rows: Option<usize>,
    /// Most tokens in one forward pass; the default is 192, or 512 with a GPU.
    pub batch: Option<usize>,
    /// Draft tokens per pass, from prompt lookup: 0 turns it off, 16 is the maximum.
    pub lookup: usize,
    /// Independent sequences; the default is 1, and only [`slots`](crate::slots) take more.
    pub sequences: Option<usize>,
    /// Largest rank of the adapters that the session can have; 0: none.
    pub adapter_rank: usize,
    /// Backend; the default is what `THIMBLE_BACKEND` names, or the CPU.
    pub backend: Option<BackendKind>,
    /// Matrix-multiplication kernel of a GPU for prompts; the default is what usually suits the GPU best. `auto` measures it.
    pub matmul_variant: Option<MatmulVariant>,
}

/// Why settings cannot be resolved.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The requested kernels cannot run here.
    #[error(transparent)]
    Kernels(#[from] KernelsError),
    /// The requested backend is not available.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A size is out of range.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The number of threads is out of range.
    #[error("{0} threads were requested; expected 1 to {max}", max = InferencePlan::MAX_THREADS)]
    Threads(usize),
    /// The system refuses the memory.
    #[error("cannot reserve {bytes} bytes for the model's state: {source}; ask for a shorter context")]
    Reserve {
        /// Bytes of the plan.
        bytes: usize,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Settings resolved for one model on this machine.
#[derive(Clone, Copy, Debug)]
pub struct InferencePlan {
    memory: MemoryPlan,
    kernels: Kernels,
    threads: usize,
    lookup: usize,
    backend: BackendKind,
    #[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "only a GPU has several"))]
    matmul_variant: Option<MatmulVariant>,
    #[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "a CPU does not fail"))]
    notify: fn(&str),
}

/// Zeroed memory, which the system supplies page by page on first use.
#[derive(Debug)]
pub struct InferenceMemory {
    map: MmapMut,
}

impl InferenceMemory {
    /// The memory.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

impl InferencePlan {
    /// Largest number of threads.
    pub const MAX_THREADS: usize = 256;
    const DEFAULT_CONTEXT: usize = 2048;
    const DEFAULT_BATCH: usize = 192;
    /// A GPU needs larger batches.
    const GPU_BATCH: usize = 512;

    /// Resolves `settings` for a model.
    pub fn new(config: &Config, settings: &InferenceSettings) -> Result<InferencePlan, PlanError> {
        let kernels = match settings.kernels {
            Some(kind) => kind.kernels()?,
            None => KernelKind::detect()?,
        };
        let threads = settings.threads.unwrap_or_else(|| available().min(Self::MAX_THREADS));
        if !(1..=Self::MAX_THREADS).contains(&threads) {
            return Err(PlanError::Threads(threads));
        }
        let backend = BackendKind::resolve(settings.backend)?;
        let batch = if backend.has_gpu() { Self::GPU_BATCH } else { Self::DEFAULT_BATCH };
        let kv = if settings.exact { KvKind::F32 } else { KvKind::F16 };
        let lookup = settings.lookup.min(PromptLookup::MAX_DRAFT);
        let options = PlanOptions {
            context: settings.context.unwrap_or(Self::DEFAULT_CONTEXT.min(config.context)),
            batch: settings.batch.unwrap_or(batch),
            logit_rows: settings.logit_rows.unwrap_or(1).max(1 + lookup),
            kv: settings.kv.unwrap_or(kv),
            exact: settings.exact,
            adapter_rank: settings.adapter_rank,
            sequences: settings.sequences.unwrap_or(1),
        };
        let memory = MemoryPlan::new(config, &options, &kernels)?;
        let notify = |line: &str| eprintln!("{line}");
        let matmul_variant = settings.matmul_variant;
        Ok(InferencePlan { memory, kernels, threads, lookup, backend, matmul_variant, notify })
    }

    /// Passes the warning of a failed GPU to `notify`; by default it goes to stderr.
    pub fn with_notify(self, notify: fn(&str)) -> InferencePlan {
        InferencePlan { notify, ..self }
    }

    /// The requested matrix-multiplication kernel of a GPU for prompts.
    #[cfg(feature = "gpu")]
    pub(crate) fn matmul_variant(&self) -> Option<MatmulVariant> {
        self.matmul_variant
    }

    /// The receiver of warnings.
    #[cfg(feature = "gpu")]
    pub(crate) fn notify(&self) -> fn(&str) {
        self.notify
    }

    /// The backend.
    pub fn backend(&self) -> BackendKind {
        self.backend
    }

    /// What computes, in words: the kernels' name, "gpu", or both.
    pub fn processors(&self) -> String {
        self.backend.processors(&self.kernels)
    }

    /// Bytes of the inference memory.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Context length in tokens.
    pub fn context(&self) -> usize {
        self.memory.options().context
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The source of draft tokens.
    pub fn lookup(&self) -> PromptLookup {
        PromptLookup::new(self.lookup)
    }

    /// The kernels.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The memory plan.
    pub fn memory(&self) -> &MemoryPlan {
        &self.memory
    }

    /// Reserves the memory of the plan; the system supplies pages on first use.
    pub fn allocate(&self) -> Result<InferenceMemory, PlanError> {
        let bytes = self.bytes();
        let map = MmapMut::map_anon(bytes).map_err(|source| PlanError::Reserve { bytes, source })?;
        Ok(InferenceMemory { map })
    }
}
