//! What a model takes on the device, known before anything is made there.

use crate::sampling::SamplerUniforms;
use crate::steps::{FEW, pairs};
use crate::weights::pieces;
use crate::{Device, GpuError};
use thimble_runtime::format::Config;
use thimble_runtime::kernels::KvKind;
use thimble_runtime::model::{Layer, Weights};

/// Ids that are kept for the host to read: most tokens of one submit.
pub(crate) const RING: usize = 64;

/// Positions that one workgroup looks at where the context of few tokens is spread over several.
pub(crate) const SPAN: usize = 256;

/// What decides the size of the state on the device besides the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuOptions {
    /// Positions that the cache can hold.
    pub context: usize,
    /// Most tokens in one pass.
    pub batch: usize,
    /// Positions whose logits are kept at a time.
    pub logit_rows: usize,
    /// How keys and values are kept.
    pub kv: KvKind,
    /// Largest binding, bytes, where that is to be less than the adapter's: for tests of what is split.
    pub binding_bytes: Option<u64>,
}

impl GpuOptions {
    /// Options to generate text with `context` positions.
    pub fn generate(context: usize) -> GpuOptions {
        GpuOptions { context, batch: context.min(512), logit_rows: 1, kv: KvKind::F16, binding_bytes: None }
    }
}

/// Bytes of every buffer of a session, uniforms of 48 bytes aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuPlan {
    /// All weights, in the file's layout.
    pub weights: u64,
    /// Of these the embedding, where it is not the head: a token reads a row of it.
    pub embedding: u64,
    /// Keys of one layer, all heads one after the other as the CPU has them; of bytes, then their scales.
    pub keys: u64,
    /// Values of one layer, likewise.
    pub values: u64,
    /// Cosines and sines.
    pub angles: u64,
    /// The residual stream: [batch, hidden].
    pub x: u64,
    /// Queries, keys and values: [batch, (heads + 2 * kv_heads) * head_dim].
    pub qkv: u64,
    /// What was attended to: [batch, heads * head_dim].
    pub attended: u64,
    /// Attention of few tokens to each span of the context, and what its softmax needs to be merged.
    pub parts: u64,
    /// Gate and up: [batch, 2 * ffn]; 0 where their product is all that is kept.
    pub gate_up: u64,
    /// SwiGLU's product of them: [batch, ffn].
    pub activated: u64,
    /// Logits on the device, and as many where the host reads them.
    pub logits: u64,
    /// Input tokens.
    pub tokens: u64,
    /// What penalties look at: how often each token was seen, and the sequence.
    pub seen: u64,
    /// Decoder layers.
    pub layers: u64,
}

/// Numbers of a row of activations: whole groups of 32.
pub(crate) fn padded(columns: usize) -> usize {
    columns.next_multiple_of(32)
}

/// Numbers of a row of queries, keys and values.
pub(crate) fn qkv_width(config: &Config) -> usize {
    config.q_dim() + 2 * config.kv_dim()
}

/// Positions of the cache: whole runs of 64.
pub(crate) fn positions(options: &GpuOptions) -> usize {
    options.context.next_multiple_of(64)
}

/// Spans of so many positions.
pub(crate) fn spans(positions: usize) -> usize {
    positions.div_ceil(SPAN)
}

impl GpuPlan {
    /// The plan for a model on a device.
    ///
    /// # Errors
    /// [`GpuError::Option`] and [`GpuError::TooLarge`].
    pub fn new(weights: &Weights<'_>, options: &GpuOptions, device: &Device) -> Result<GpuPlan, GpuError> {
        let config = weights.config();
        let range = |what, found: usize, most: usize| {
            let expected = || format!("1 to {most}");
            let fits = (1..=most).contains(&found);
            fits.then_some(()).ok_or_else(|| GpuError::Option {
                what,
                expected: expected(),
                found: found as u64,
            })
        };
        range("the context", options.context, config.context)?;
        range("the batch", options.batch, options.context.min(32_768))?;
        range("the number of logit rows", options.logit_rows, options.batch)?;
        let most = options.binding_bytes.unwrap_or(u64::MAX).min(device.binding_bytes());
        let floats = |rows: usize, columns: usize| rows as u64 * columns as u64 * 4;
        // A scale for each position, where there is one, behind the numbers.
        let scale = if options.kv == KvKind::Q8 { 4 } else { 0 };
        let cache = |width: usize| {
            (config.kv_heads * positions(options)) as u64 * (width * options.kv.bytes() + scale) as u64
        };
        let key_width = match options.kv {
            KvKind::Q8 => config.head_dim.next_multiple_of(4),
            KvKind::F32 | KvKind::F16 => config.head_dim,
        };
        let batch = options.batch;
        let swiglu = weight_layers(weights).any(|layer| !gate_up_pairs(&layer, most));
        let plan = GpuPlan {
            weights: weight_bytes(weights, most)?,
            embedding: if config.tied { 0 } else { weights.embedding.data.len() as u64 },
            keys: cache(key_width),
            values: cache(config.head_dim.next_multiple_of(16)),
            angles: floats(options.context, config.head_dim),
            x: floats(batch, padded(config.hidden)),
            qkv: floats(batch, padded(qkv_width(config))),
            attended: floats(batch, padded(config.q_dim())),
            parts: floats(batch.min(FEW) * config.heads * spans(options.context), config.head_dim + 2),
            gate_up: if swiglu { floats(batch, padded(2 * config.ffn)) } else { 0 },
            activated: floats(batch, padded(config.ffn)),
            logits: floats(options.logit_rows, config.vocab),
            tokens: batch as u64 * 4,
            seen: (config.vocab + options.context) as u64 * 4,
            layers: config.layers as u64,
        };
        let buffers = [
            ("the cache's keys of a layer", plan.keys),
            ("the cache's values of a layer", plan.values),
            ("a batch's activations", plan.gate_up.max(plan.qkv).max(plan.x)),
            ("attention's parts", plan.parts),
            ("logits", plan.logits),
        ];
        let large = buffers.into_iter().find(|(_, bytes)| *bytes > device.binding_bytes());
        large.map_or(Ok(plan), |(what, needed)| {
            Err(GpuError::TooLarge { what, needed, most: device.binding_bytes() })
        })
    }

    /// Bytes of all buffers together.
    pub fn bytes(&self) -> u64 {
        let activations = self.x + self.qkv + self.attended + self.parts + self.gate_up + self.activated;
        // The ring of ids and two copies for the host; position, settings of sampling, random numbers.
        let ids = 3 * RING as u64 * 4;
        let state = 16 + SamplerUniforms::BYTES + 16;
        self.weights
            + self.layers * (self.keys + self.values)
            + self.angles
            + activations
            + 2 * self.logits
            + self.tokens
            + self.seen
            + ids
            + state
    }
}

/// Bytes of a norm's weights, whole groups.
fn norm_bytes(config: &Config) -> u64 {
    padded(config.hidden) as u64 * 4
}

fn weight_layers<'f>(weights: &Weights<'f>) -> impl Iterator<Item = Layer<'f>> {
    (0..weights.config().layers).map(|index| weights.layer(index))
}

/// Whether one product gives gate and up, row by row beside each other.
fn gate_up_pairs(layer: &Layer<'_>, most: u64) -> bool {
    pieces(&[layer.gate, layer.up], most).is_ok_and(|pieces| pairs(&pieces, layer.gate.rows))
}

fn weight_bytes(weights: &Weights<'_>, most: u64) -> Result<u64, GpuError> {
    let config = weights.config();
    let mut bytes = norm_bytes(config);
    let mut heads = vec![weights.head];
    if !config.tied {
        heads.push(weights.embedding);
    }
    for head in heads {
        bytes += pieces(&[head], most)?.iter().map(|piece| piece.bytes()).sum::<u64>();
    }
    for layer in weight_layers(weights) {
        bytes += 2 * norm_bytes(config);
        let matrices = [layer.query, layer.key, layer.value, layer.output, layer.gate, layer.up, layer.down];
        for matrix in matrices {
            // Whether it can be cut at all.
            pieces(&[matrix], most)?;
            bytes += matrix.data.len() as u64;
        }
    }
    Ok(bytes)
}
