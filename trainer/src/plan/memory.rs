//! Memory by part.

use super::counts::{DeviceTarget, ParameterCounts};
use crate::model::{DeviceSizes, EngineOptions, Parameters, arena_elements};
use crate::ops::cuda;
use crate::recipe::{Precision, TrainingRecipe};
use serde::Serialize;

/// Tokens whose logits a GPU holds at once, and how many tensors of them, in f32 (`ops::candle`, unfused).
const CUDA_LOGITS_ROWS: u128 = 4096;
const CUDA_LOGITS_COPIES: u128 = 4;
/// Queries of a GPU's block of attention, the most scores of a block, and how many tensors of them, in f32.
const CUDA_QUERIES: u128 = 512;
const CUDA_SCORES: u128 = 1 << 26;
const CUDA_SCORES_COPIES: u128 = 6;
/// Bytes of logits that the CPU holds at once, of so many tokens at least, rounded up to whole tasks of so many tokens.
const CPU_LOGITS_BYTES: u128 = 32 << 20;
const CPU_LEAST_ROWS: u128 = 512;
const CPU_LOGITS_ROWS: u128 = 256;
/// Statistics kept per token and layer, besides one log-sum-exp per head: the two norms' reciprocal roots.
const NORM_STATISTICS: u128 = 2;
const F32: u64 = 4;
const BF16: u64 = 2;

/// Bytes by part, for one micro-batch. Excludes the program, its libraries and the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// f32 masters, a bf16 copy where that is the precision, and the rounded and the teacher's weights of distillation.
    pub weights: u64,
    /// f32, of the trainable parameters.
    pub gradients: u64,
    /// Two moments of the trainable parameters, f32.
    pub moments: u64,
    /// What the forward pass keeps for the backward pass.
    pub activations: u64,
    /// One chunk of logits, turned into their gradient: in place on the CPU.
    pub logits: u64,
    /// Buffers that every layer uses again; on the CPU and with own kernels only what exceeds the logits, whose memory they
    /// share.
    pub scratch: u64,
    /// With own kernels: the batch, rotations, sums of parts. At most; less if ids repeat.
    pub workspace: u64,
    /// The sum.
    pub total: u64,
}

impl MemoryEstimate {
    /// Bytes of a recipe for a micro-batch of `sequences x context` tokens.
    pub fn of(
        recipe: &TrainingRecipe,
        device: DeviceTarget,
        (sequences, context): (usize, usize),
    ) -> MemoryEstimate {
        let estimate = MemoryEstimate::of_tokens(recipe, device, sequences * context);
        let own = device == DeviceTarget::Cuda
            && recipe.compute.precision == Precision::Bf16
            && cuda::unsupported(&recipe.model.config()).is_none();
        // Absurd shapes are refused later; they must not overflow in the layout.
        if own && estimate.total < 1 << 60 {
            estimate.with_own_kernels(recipe, (sequences, context))
        } else {
            estimate
        }
    }

    /// The same by the layout that the engine makes for its own kernels.
    fn with_own_kernels(
        self,
        recipe: &TrainingRecipe,
        (sequences, context): (usize, usize),
    ) -> MemoryEstimate {
        let (config, tokens) = (recipe.model.config(), sequences * context);
        // What `freeze` gets wrong is refused when the run begins.
        let parameters = Parameters::of(recipe).unwrap_or_else(|_| Parameters::new(&config));
        let bytes = |elements: usize| BF16 * elements as u64;
        let device = DeviceSizes {
            loss_scratch: cuda::loss_scratch(tokens, config.vocab),
            statistic: cuda::STATISTIC_ELEMENTS,
        };
        let options = EngineOptions::of(recipe);
        let arena = bytes(arena_elements((&config, &parameters), options, (sequences, context), device));
        // Each statistic is f32.
        let statistics = if recipe.compute.activation_checkpointing { 1 } else { config.layers };
        let statistics = tokens * (statistics * (NORM_STATISTICS as usize + config.heads) + 1);
        let activations = self.activations + bytes(statistics * (cuda::STATISTIC_ELEMENTS - 1));
        let logits = bytes(device.loss_scratch);
        let workspace = cuda::workspace_bytes(&config, (sequences, context)) as u64;
        // Two copies of the weights, each in f32 and bf16.
        let copies = if recipe.quantization().is_some() { 2 * F32 * parameters.len as u64 } else { 0 };
        MemoryEstimate {
            weights: self.weights + copies,
            activations,
            logits,
            scratch: arena.saturating_sub(activations + logits),
            workspace,
            ..self
        }
        .summed()
    }

    fn summed(self) -> MemoryEstimate {
        let MemoryEstimate { weights, gradients, moments, activations, logits, scratch, workspace, .. } =
            self;
        let parts = [weights, gradients, moments, activations, logits, scratch, workspace];
        MemoryEstimate { total: parts.into_iter().fold(0, u64::saturating_add), ..self }
    }

    /// By formula, for the CPU and for candle on a GPU.
    fn of_tokens(recipe: &TrainingRecipe, device: DeviceTarget, tokens: usize) -> MemoryEstimate {
        let model = recipe.model.config();
        let element = match (device, recipe.compute.precision) {
            (DeviceTarget::Cuda, Precision::Bf16) => 2,
            _ => F32,
        };
        // What `freeze` gets wrong is refused when the run begins.
        let (parameters, trainable, inner) = Parameters::of(recipe).map_or_else(
            |_| {
                let total = ParameterCounts::of(&model).total;
                (total, total, [0; 4])
            },
            |parameters| (parameters.len as u64, parameters.trainable as u64, inner_widths(&parameters)),
        );
        let distills = recipe.quantization().is_some();
        // The rounded weights and the teacher's, in the activations' format.
        let copies = if distills { 2 * element * parameters } else { 0 };
        let copy = if element < F32 { element * parameters } else { 0 } + copies;
        let [tokens, hidden, layers, heads, ffn, vocab] =
            [tokens, model.hidden, model.layers, model.heads, model.ffn, model.vocab]
                .map(|size| size as u128);
        let [query, key, kv_heads] = [model.q_dim(), model.kv_dim(), model.kv_heads].map(|size| size as u128);

        let qkv = query + 2 * key;
        let element = u128::from(element);
        // As the engine lays out its arena (`Engine::arena_bytes`), per token. A layer keeps queries, keys and values,
        // attention's output, the residual behind it, gate and up; the residual before each layer and behind the last
        // one is kept in any case.
        // Norms of query and key heads keep their inputs, and a statistic of each head.
        let qk_norm = if model.qk_norm { query + key } else { 0 };
        let statistics = if model.qk_norm { heads + kv_heads } else { 0 };
        let layer = qkv
            + query
            + hidden
            + 2 * ffn
            + NORM_STATISTICS
            + heads
            + qk_norm
            + statistics
            + inner.iter().sum::<u128>();
        let kept = if recipe.compute.activation_checkpointing { layer } else { layers * layer };
        let normed = hidden * (1 + u128::from(distills)) + 1;
        // Absurd shapes are refused later; they must not overflow here.
        let clamp = |elements: u128| u64::try_from(elements * element).unwrap_or(u64::MAX);
        let activations = clamp(tokens * ((layers + 1) * hidden + kept + normed));
        let rows = match device {
            DeviceTarget::Cpu => {
                (CPU_LOGITS_BYTES / element / vocab).max(CPU_LEAST_ROWS).next_multiple_of(CPU_LOGITS_ROWS)
            }
            DeviceTarget::Cuda => CUDA_LOGITS_ROWS,
        };
        let logits = rows.min(tokens).max(2) * vocab;
        // The widest activation and its gradient, a norm's gradient, those of queries, keys and values. They share the
        // memory of the logits, which no layer needs; the residual's gradient has its own.
        let in_layer = tokens
            * (2 * qkv.max(ffn)
                + hidden.max(query)
                + qkv
                + qk_norm
                + inner.iter().max().copied().unwrap_or_default());
        let (logits, scratch) = match device {
            DeviceTarget::Cpu => (clamp(logits), clamp(in_layer.saturating_sub(logits) + tokens * hidden)),
            DeviceTarget::Cuda => {
                let scores = (heads * CUDA_QUERIES * tokens).min(CUDA_SCORES);
                let f32s = |elements: u128| u64::try_from(elements * u128::from(F32)).unwrap_or(u64::MAX);
                let attention = f32s(CUDA_SCORES_COPIES * scores);
                (
                    f32s(CUDA_LOGITS_COPIES * logits),
                    clamp(in_layer + tokens * hidden).saturating_add(attention),
                )
            }
        };
        let (weights, gradients, moments) = (F32 * parameters + copy, F32 * trainable, 2 * F32 * trainable);
        let estimate = MemoryEstimate {
            weights,
            gradients,
            moments,
            activations,
            logits,
            scratch,
            workspace: 0,
            total: 0,
        };
        estimate.summed()
    }
}

/// Widths of what a layer's adapters keep of each token, `A x`.
fn inner_widths(parameters: &Parameters) -> [u128; 4] {
    let adapters = parameters.layers.first().map(|layer| layer.adapters).unwrap_or_default();
    [adapters.qkv, adapters.output, adapters.gate_up, adapters.down]
        .map(|adapter| adapter.map_or(0, |adapter| adapter.a.rows as u128))
}

/// Bytes of memory available to this process, within the limits of its control group; none if unknown.
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let number = |file: &str| -> Option<u64> { std::fs::read_to_string(file).ok()?.trim().parse().ok() };
    let group = number("/sys/fs/cgroup/memory.max")
        .zip(number("/sys/fs/cgroup/memory.current"))
        .map_or(u64::MAX, |(most, used)| most.saturating_sub(used));
    Some((kib * 1024).min(group))
}
