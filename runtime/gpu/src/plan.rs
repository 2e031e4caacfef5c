//! The memory plan: bytes of every buffer, known before anything is created on the device.

use crate::dispatch::{MAX_VECTOR_TOKENS, can_pair};
use crate::sampler_state::{ID_SLOTS, SamplerUniforms};
use crate::weights::partition;
use crate::{Device, GpuError};
use thimble_runtime::format::Config;
use thimble_runtime::kernels::{CHUNK, KvKind};
use thimble_runtime::model::{Layer, Weights};

/// Positions that one workgroup attends to when several share the context of a small batch.
pub(crate) const SPAN: usize = 256;

/// The options that decide how much device memory a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuOptions {
    /// Capacity of the KV cache, positions.
    pub context: usize,
    /// Most tokens in one batch.
    pub batch: usize,
    /// Most rows of logits at a time.
    pub logit_rows: usize,
    /// Element type of the KV cache.
    pub kv: KvKind,
    /// Largest rank of the low-rank adapters that the model can have; 0: none.
    pub adapter_rank: usize,
    /// Upper limit on the adapter's largest binding, bytes. For tests of partitioned weights.
    pub binding_bytes: Option<u64>,
}

impl GpuOptions {
    /// Options for generating text with `context` positions.
    pub fn generate(context: usize) -> GpuOptions {
        let batch = context.min(512);
        let (kv, adapter_rank) = (KvKind::F16, 0);
        GpuOptions { context, batch, logit_rows: 1, kv, adapter_rank, binding_bytes: None }
    }
}

/// Bytes of every buffer of a model, except uniforms of 48 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemoryPlan {
    /// All weights, in the layout of the file.
    pub weights: u64,
    /// Part of `weights`: the embedding, if it is not also the head. A token reads one row of it.
    pub embedding: u64,
    /// Keys of one layer without a sliding window, in the layout of the CPU's cache; an 8-bit cache has its scales after them.
    pub keys: u64,
    /// Values of one layer without a sliding window, as `keys`.
    pub values: u64,
    /// Keys of one layer with a sliding window, which keeps recent positions only.
    pub window_keys: u64,
    /// Values of one layer with a sliding window.
    pub window_values: u64,
    /// Cosines and sines of RoPE.
    pub angles: u64,
    /// The residual stream: [batch, hidden].
    pub x: u64,
    /// Queries, keys and values: [batch, (heads + 2 * kv_heads) * head_dim].
    pub qkv: u64,
    /// Output of attention: [batch, heads * head_dim].
    pub attended: u64,
    /// Partial results of attention for each span of the context, for small batches.
    pub partials: u64,
    /// Gate and up: [batch, 2 * ffn]; 0 if there are no low-rank adapters and SwiGLU runs in the epilogue of their product.
    pub gate_up: u64,
    /// Inputs times the narrow matrices of low-rank adapters, [3, batch, rank]; the adapters themselves come on top.
    pub low_rank: u64,
    /// Output of SwiGLU: [batch, ffn].
    pub activated: u64,
    /// Logits; the staging buffer that the host reads has the same size.
    pub logits: u64,
    /// Input tokens.
    pub tokens: u64,
    /// History for penalties: token counts and the sequence.
    pub history: u64,
    /// Decoder layers.
    pub layers: u64,
    /// Part of `layers`: those with a sliding window.
    pub window_layers: u64,
}

/// Elements per row of activations: a multiple of 32.
pub(crate) fn padded(columns: usize) -> usize {
    columns.next_multiple_of(32)
}

/// Elements per row of queries, keys and values.
pub(crate) fn qkv_width(config: &Config) -> usize {
    config.q_dim() + 2 * config.kv_dim()
}

/// Capacity of a layer's cache: a multiple of 64 positions. With a sliding window, as many as a batch attends to and 512 more,
/// for rewinds.
pub(crate) fn positions(options: &GpuOptions, window: Option<usize>) -> usize {
    let all = options.context.next_multiple_of(CHUNK);
    window.map_or(all, |window| all.min((window + options.batch).next_multiple_of(512) + 512))
}

/// The window of the layers that have one.
pub(crate) fn window(config: &Config) -> Option<usize> {
    config.pattern.any_sliding().then_some(config.window)
}

/// Number of spans that cover `positions`.
pub(crate) fn spans(positions: usize) -> usize {
    positions.div_ceil(SPAN)
}

impl GpuMemoryPlan {
    /// The plan for a model on a device.
    ///
    /// # Errors
    /// [`GpuError::Option`], [`GpuError::TooLarge`].
    pub fn new(
        weights: &Weights<'_>,
        options: &GpuOptions,
        device: &Device,
    ) -> Result<GpuMemoryPlan, GpuError> {
        let config = weights.config();
        let range = |what, found: usize, limit: usize| match (1..=limit).contains(&found) {
            true => Ok(()),
            false => Err(GpuError::Option { what, expected: format!("1 to {limit}"), found: found as u64 }),
        };
        range("the context", options.context, config.context)?;
        range("the batch", options.batch, options.context.min(32_768))?;
        range("the number of logit rows", options.logit_rows, options.batch)?;
        let max_bytes = options.binding_bytes.unwrap_or(u64::MAX).min(device.binding_bytes());
        let floats = |rows: usize, columns: usize| rows as u64 * columns as u64 * 4;
        // An 8-bit cache has a scale for each position.
        let scale = if options.kv == KvKind::Q8 { 4 } else { 0 };
        let cache = |window, width: usize| {
            let positions = (config.kv_heads * positions(options, window)) as u64;
            positions * (width * options.kv.bytes() + scale) as u64
        };
        let window = window(config);
        let window_layers =
            (0..config.layers).filter(|&layer| config.pattern.is_sliding(layer)).count() as u64;
        // None without such layers.
        let recent = |width| if window_layers > 0 { cache(window, width) } else { 0 };
        let key_width = match options.kv {
            KvKind::Q8 => config.head_dim.next_multiple_of(4),
            KvKind::F32 | KvKind::F16 => config.head_dim,
        };
        let value_width = config.head_dim.next_multiple_of(16);
        let batch = options.batch;
        let swiglu = options.adapter_rank > 0
            || weight_layers(weights).any(|layer| !can_pair_gate_up(&layer, max_bytes));
        let plan = GpuMemoryPlan {
            weights: weight_bytes(weights, max_bytes)?,
            embedding: if config.tied { 0 } else { weights.embedding.data.len() as u64 },
            keys: cache(None, key_width),
            values: cache(None, value_width),
            window_keys: recent(key_width),
            window_values: recent(value_width),
            angles: floats(options.context, config.head_dim),
            x: floats(batch, padded(config.hidden)),
            qkv: floats(batch, padded(qkv_width(config))),
            attended: floats(batch, padded(config.q_dim())),
            partials: floats(
                batch.min(MAX_VECTOR_TOKENS) * config.heads * spans(options.context),
                config.head_dim + 2,
            ),
            gate_up: if swiglu { floats(batch, padded(2 * config.ffn)) } else { 0 },
            low_rank: 3 * floats(batch, padded(options.adapter_rank)),
            activated: floats(batch, padded(config.ffn)),
            logits: floats(options.logit_rows, config.vocab),
            tokens: batch as u64 * 4,
            history: (config.vocab + options.context) as u64 * 4,
            layers: config.layers as u64,
            window_layers,
        };
        let largest = |all: u64, recent| if plan.window_layers < plan.layers { all } else { recent };
        let buffers = [
            ("the cache's keys of a layer", largest(plan.keys, plan.window_keys)),
            ("the cache's values of a layer", largest(plan.values, plan.window_values)),
            ("a batch's activations", plan.gate_up.max(plan.qkv).max(plan.x)),
            ("attention's parts", plan.partials),
            ("logits", plan.logits),
        ];
        let limit = device.binding_bytes();
        let large = buffers.into_iter().find(|(_, bytes)| *bytes > limit);
        large.map_or(Ok(plan), |(what, needed)| Err(GpuError::TooLarge { what, needed, limit }))
    }

    /// Bytes of the KV cache.
    pub fn cache_bytes(&self) -> u64 {
        (self.layers - self.window_layers) * (self.keys + self.values)
            + self.window_layers * (self.window_keys + self.window_values)
    }

    /// Bytes of all buffers together.
    pub fn bytes(&self) -> u64 {
        let inner = self.gate_up + self.activated + self.low_rank;
        let activations = self.x + self.qkv + self.attended + self.partials + inner;
        // The ids and two staging buffers; state of the batch, sampling settings, random number generator.
        let ids = 3 * ID_SLOTS as u64 * 4;
        let state = 16 + SamplerUniforms::BYTES + 16;
        self.weights
            + self.cache_bytes()
            + self.angles
            + activations
            + 2 * self.logits
            + self.tokens
            + self.history
            + ids
            + state
    }
}

/// Bytes of a norm's padded weights.
fn norm_bytes(config: &Config) -> u64 {
    padded(config.hidden) as u64 * 4
}

/// Biases of queries, keys and values, then norms of query and key heads: those that the layer has.
pub(crate) fn bias_norm(layer: &Layer<'_>) -> Vec<f32> {
    let biases = layer.qkv_bias.iter().flatten();
    biases.chain(layer.qk_norm.iter().flatten()).copied().flatten().copied().collect()
}

fn weight_layers<'f>(weights: &Weights<'f>) -> impl Iterator<Item = Layer<'f>> {
    (0..weights.config().layers).map(|index| weights.layer(index))
}

/// Whether one product computes rows of gate and up in pairs.
fn can_pair_gate_up(layer: &Layer<'_>, max_bytes: u64) -> bool {
    partition(&[layer.gate, layer.up], max_bytes).is_ok_and(|weights| can_pair(&weights, layer.gate.rows))
}

fn weight_bytes(weights: &Weights<'_>, max_bytes: u64) -> Result<u64, GpuError> {
    let config = weights.config();
    let mut bytes = norm_bytes(config);
    let mut heads = vec![weights.head];
    if !config.tied {
        heads.push(weights.embedding);
    }
    for head in heads {
        bytes += partition(&[head], max_bytes)?.iter().map(|part| part.bytes()).sum::<u64>();
    }
    for layer in weight_layers(weights) {
        bytes += 2 * norm_bytes(config) + size_of_val(&*bias_norm(&layer)) as u64;
        let matrices = [layer.query, layer.key, layer.value, layer.output, layer.gate, layer.up, layer.down];
        for matrix in matrices {
            // Fails if a panel does not fit.
            partition(&[matrix], max_bytes)?;
            bytes += matrix.data.len() as u64;
        }
    }
    Ok(bytes)
}
