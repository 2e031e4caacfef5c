//! From a user's settings to memory of the right size.

use crate::backend::{BackendError, BackendKind, MatmulVariant};
use crate::detect::{KernelKind, KernelsError};
use crate::threads::available;
use memmap2::MmapMut;
use thimble_runtime::format::Config;
use thimble_runtime::kernels::{Kernels, KvKind};
use thimble_runtime::lookup::Lookup;
use thimble_runtime::memory::{MemoryError, MemoryPlan, PlanOptions};
use thiserror::Error;

/// What a user can choose; `None` leaves the choice to [`InferencePlan::new`].
#[derive(Clone, Copy, Debug, Default)]
pub struct InferenceSettings {
    /// Positions: the smaller of 2,048 and the model's limit by default.
    pub context: Option<usize>,
    /// Threads: one for each core that the process may use by default.
    pub threads: Option<usize>,
    /// Kernels: `THIMBLE_KERNELS` or the best that the CPU runs by default.
    pub kernels: Option<KernelKind>,
    /// How keys and values are kept: f16 by default, f32 in the exact mode.
    pub kv: Option<KvKind>,
    /// The reference mode: f32 activations and cache.
    pub exact: bool,
    /// Positions whose logits are kept at a time: 1 by default; more to score.
    pub logit_rows: Option<usize>,
    /// Most tokens in one forward pass: 192 by default, 512 where a GPU runs prompts.
    pub batch: Option<usize>,
    /// Tokens that are proposed at a time from what the text had before: none by default, 16 at the most.
    pub lookup: usize,
    /// Processors: what `THIMBLE_BACKEND` names or the CPU by default.
    pub backend: Option<BackendKind>,
    /// How a GPU computes products for prompts: what its kind is thought to be fastest with by default. `auto` measures it.
    pub products: Option<MatmulVariant>,
}

/// Why settings cannot be met.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The kernels asked for cannot run here.
    #[error(transparent)]
    Kernels(#[from] KernelsError),
    /// The backend asked for does not exist here.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Context or size out of range.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// No threads.
    #[error("{0} threads were asked for; expected 1 to {most}", most = InferencePlan::MOST_THREADS)]
    Threads(usize),
    /// The system has not got the memory.
    #[error("cannot reserve {bytes} bytes for the model's state: {source}; ask for a shorter context")]
    Reserve {
        /// Bytes of the plan.
        bytes: usize,
        /// What the system says.
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
    #[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "a CPU has one way"))]
    products: Option<MatmulVariant>,
    #[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "a CPU is never given up"))]
    tell: fn(&str),
}

/// Zeroed memory whose pages the system supplies as they are touched.
#[derive(Debug)]
pub struct InferenceMemory {
    map: MmapMut,
}

impl InferenceMemory {
    /// The bytes to lend.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

impl InferencePlan {
    /// Most threads that can be asked for.
    pub const MOST_THREADS: usize = 256;
    const DEFAULT_CONTEXT: usize = 2048;
    const DEFAULT_BATCH: usize = 192;
    /// A GPU wants more at a time.
    const GPU_BATCH: usize = 512;

    /// Resolves `settings` for a model.
    pub fn new(config: &Config, settings: &InferenceSettings) -> Result<InferencePlan, PlanError> {
        let kernels = match settings.kernels {
            Some(kind) => kind.kernels()?,
            None => KernelKind::detect()?,
        };
        let threads = settings.threads.unwrap_or_else(|| available().min(Self::MOST_THREADS));
        if !(1..=Self::MOST_THREADS).contains(&threads) {
            return Err(PlanError::Threads(threads));
        }
        let backend = BackendKind::resolve(settings.backend)?;
        let batch = if backend.has_gpu() { Self::GPU_BATCH } else { Self::DEFAULT_BATCH };
        let kv = if settings.exact { KvKind::F32 } else { KvKind::F16 };
        let lookup = settings.lookup.min(Lookup::MOST);
        let options = PlanOptions {
            context: settings.context.unwrap_or(Self::DEFAULT_CONTEXT.min(config.context)),
            batch: settings.batch.unwrap_or(batch),
            logit_rows: settings.logit_rows.unwrap_or(1).max(1 + lookup),
            kv: settings.kv.unwrap_or(kv),
            exact: settings.exact,
        };
        let memory = MemoryPlan::new(config, &options, &kernels)?;
        let tell = |line: &str| eprintln!("{line}");
        let products = settings.products;
        Ok(InferencePlan { memory, kernels, threads, lookup, backend, products, tell })
    }

    /// The same, with another receiver of the line that says that a GPU is given up; stderr unless this is called.
    pub fn telling(self, tell: fn(&str)) -> InferencePlan {
        InferencePlan { tell, ..self }
    }

    /// How a GPU computes products for prompts, where that was chosen.
    #[cfg(feature = "gpu")]
    pub(crate) fn products(&self) -> Option<MatmulVariant> {
        self.products
    }

    /// Who gets that line.
    #[cfg(feature = "gpu")]
    pub(crate) fn tell(&self) -> fn(&str) {
        self.tell
    }

    /// Processors.
    pub fn backend(&self) -> BackendKind {
        self.backend
    }

    /// What computes, in words: the kernels' name, with "gpu" for the part that is the GPU's.
    pub fn processors(&self) -> String {
        self.backend.processors(&self.kernels)
    }

    /// Bytes of the inference state.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Positions.
    pub fn context(&self) -> usize {
        self.memory.options().context
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// What proposes tokens.
    pub fn lookup(&self) -> Lookup {
        Lookup::new(self.lookup)
    }

    /// The kernels chosen.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The runtime's plan.
    pub fn memory(&self) -> &MemoryPlan {
        &self.memory
    }

    /// Reserves the plan's memory; pages are taken from the system as they are first written.
    pub fn allocate(&self) -> Result<InferenceMemory, PlanError> {
        let bytes = self.bytes();
        let map = MmapMut::map_anon(bytes).map_err(|source| PlanError::Reserve { bytes, source })?;
        Ok(InferenceMemory { map })
    }
}
