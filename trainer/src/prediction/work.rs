//! What one micro-batch asks of a GPU, kernel by kernel: bytes of memory, and FLOPs of products.

use super::gpu::DataSheet;
use super::{KernelGroup, KernelTime, Limit};
use thimble_runtime::format::Config;

/// Bytes of an activation and of a weight in products.
const BF16: f64 = 2.0;
/// Bytes of a gradient, a statistic, a master weight.
const F32: f64 = 4.0;

/// The sizes of a micro-batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) tokens: f64,
    pub(super) hidden: f64,
    pub(super) query: f64,
    pub(super) fused: f64,
    pub(super) ffn: f64,
    pub(super) heads: f64,
    pub(super) vocabulary: f64,
    pub(super) layers: f64,
    /// Forward passes of a layer: twice where activations are computed again, but for the last layer.
    pub(super) forward_layers: f64,
    pub(super) parameters: f64,
    /// Tokens whose logits are held at once.
    pub(super) chunk: f64,
    /// Micro-batches of an optimizer step.
    pub(super) accumulate: f64,
}

impl Sizes {
    pub(super) fn of(config: &Config, tokens: usize, chunk: usize, accumulate: usize, again: bool) -> Sizes {
        let layers = config.layers as f64;
        Sizes {
            tokens: tokens as f64,
            hidden: config.hidden as f64,
            query: config.q_dim() as f64,
            fused: (config.q_dim() + 2 * config.kv_dim()) as f64,
            ffn: config.ffn as f64,
            heads: config.heads as f64,
            vocabulary: config.vocab as f64,
            layers,
            forward_layers: if again { 2.0 * layers - 1.0 } else { layers },
            parameters: config.parameters() as f64,
            chunk: chunk.min(tokens) as f64,
            accumulate: accumulate as f64,
        }
    }

    /// The linear layers: forward with the residual added in the epilogue, the gradient of the input, and that of the
    /// weight, which is added to in f32.
    pub(super) fn linears(&self, sheet: &DataSheet) -> Vec<KernelTime> {
        let (rows, hidden) = (self.tokens, self.hidden);
        let shapes = [
            (hidden, self.fused, false),
            (self.query, hidden, true),
            (hidden, 2.0 * self.ffn, false),
            (self.ffn, hidden, true),
        ];
        let mut forward = Product::none("products, forward", KernelGroup::Linears);
        let mut input = Product::none("products, gradients of inputs", KernelGroup::Linears);
        let mut weight = Product::none("products, gradients of weights", KernelGroup::Linears);
        for (inputs, outputs, residual) in shapes {
            let added = if residual { BF16 * rows * outputs } else { 0.0 };
            forward.add(self.forward_layers, [rows, inputs, outputs], BF16 * rows * outputs + added, sheet);
            input.add(self.layers, [rows, outputs, inputs], BF16 * rows * inputs, sheet);
            weight.add(self.layers, [outputs, rows, inputs], 2.0 * F32 * outputs * inputs, sheet);
        }
        vec![forward.time(), input.time(), weight.time()]
    }

    /// The head's three products, in chunks of tokens: logits are written once and their gradient is read twice.
    pub(super) fn head(&self, sheet: &DataSheet) -> Vec<KernelTime> {
        let (rows, hidden, classes) = (self.chunk, self.hidden, self.vocabulary);
        let chunks = self.tokens / self.chunk;
        let product = |name, shape, output| {
            let mut product = Product::none(name, KernelGroup::Head);
            product.add(chunks, shape, output, sheet);
            product.time()
        };
        vec![
            product("logits", [rows, hidden, classes], BF16 * rows * classes),
            product("gradient of the last norm", [rows, classes, hidden], BF16 * rows * hidden),
            product("gradient of the head", [classes, rows, hidden], 2.0 * F32 * classes * hidden),
        ]
    }

    /// The kernels that read and write memory and compute little, by the bytes of `kernels/README.md`.
    pub(super) fn elementwise(&self, sheet: &DataSheet) -> Vec<KernelTime> {
        let &Sizes { tokens, hidden, fused, ffn, layers, forward_layers, parameters, .. } = self;
        let row = BF16 * tokens * hidden;
        let statistic = F32 * tokens;
        let time = |name, group, bytes: f64| KernelTime::streaming(name, group, bytes, sheet);
        // An id occurs once at least in what the embedding adds to: no more rows than tokens or classes.
        let rows_of_table = tokens.min(self.vocabulary) * hidden;
        let step = |bytes_of_parameter: f64| bytes_of_parameter * parameters / self.accumulate;
        vec![
            // x in, y and 1 / rms out.
            time("rms_norm", KernelGroup::Norms, (2.0 * forward_layers + 1.0) * (2.0 * row + statistic)),
            // x, dy and the gradient so far in; the gradient and y again out.
            time("rms_norm_backward", KernelGroup::Norms, (2.0 * layers + 1.0) * (5.0 * row + statistic)),
            time("split_heads", KernelGroup::Rotations, forward_layers * 2.0 * BF16 * tokens * fused),
            time("split_heads_backward", KernelGroup::Rotations, layers * 2.0 * BF16 * tokens * fused),
            // Gate and up in, the product out.
            time("swiglu", KernelGroup::SwiGlu, forward_layers * 3.0 * BF16 * tokens * ffn),
            // Gate, up and the product's gradient in; two gradients and the product again out.
            time("swiglu_backward", KernelGroup::SwiGlu, layers * 6.0 * BF16 * tokens * ffn),
            // Logits in, their gradient out; the second reading of a row is from the cache.
            time("softmax_gradient", KernelGroup::Loss, 2.0 * BF16 * tokens * self.vocabulary),
            time("embedding", KernelGroup::Embedding, 2.0 * row),
            // Gradients in, sums of segments out and in, the table's gradient in and out.
            time("embedding_segment_sums", KernelGroup::Embedding, row + F32 * rows_of_table),
            time("embedding_backward", KernelGroup::Embedding, 3.0 * F32 * rows_of_table),
            time("zero", KernelGroup::Optimizer, row),
            time("zero gradients", KernelGroup::Optimizer, step(F32)),
            time("square_sum", KernelGroup::Optimizer, step(F32)),
            // Weights, two moments and gradients in; weights, moments and the bf16 copy out.
            time("adamw", KernelGroup::Optimizer, step(7.0 * F32 + BF16)),
        ]
    }

    /// Bytes that an attention kernel reads and writes at least: queries, keys, values, output and log-sum-exp; backward also
    /// the output's gradient, the gradients that it writes, no more than that, and four statistics of each query.
    pub(super) fn attention_bytes(&self, backward: bool) -> f64 {
        let (fused, output) = (BF16 * self.tokens * self.fused, BF16 * self.tokens * self.query);
        let statistic = F32 * self.tokens * self.heads;
        if backward {
            self.layers * (fused + 3.0 * output + 5.0 * statistic)
        } else {
            self.forward_layers * (fused + output + statistic)
        }
    }
}

/// Products of one kind.
struct Product {
    kernel: KernelTime,
    /// Seconds of those that memory limits.
    in_memory: f64,
}

impl Product {
    fn none(name: &'static str, group: KernelGroup) -> Product {
        Product { kernel: KernelTime::none(name, group), in_memory: 0.0 }
    }

    /// Adds `times` products of `m x k` by `k x n`, each limited by the tensor cores or by memory; `output` is what it
    /// writes, and reads to add to.
    fn add(&mut self, times: f64, [m, k, n]: [f64; 3], output: f64, sheet: &DataSheet) {
        let (flops, bytes) = (2.0 * m * k * n, BF16 * (m * k + k * n) + output);
        let (computing, moving) = (flops / sheet.products(), bytes / sheet.streaming());
        self.kernel.flops += times * flops;
        self.kernel.bytes += times * bytes;
        self.kernel.seconds += times * computing.max(moving);
        if moving > computing {
            self.in_memory += times * moving;
        }
    }

    fn time(mut self) -> KernelTime {
        // The limit of most of the time.
        let memory = self.in_memory > self.kernel.seconds / 2.0;
        self.kernel.limit = if memory { Limit::Memory } else { Limit::TensorCores };
        self.kernel
    }
}
