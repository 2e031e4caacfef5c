//! How fast a recipe should train on a GPU that is not at hand: a roofline, kernel by kernel, to be falsified by
//! `thimble-train bench`.
//!
//! Products of cuBLAS and kernels that stream are limited by a data sheet's FLOPs and bytes per second, each times the
//! share that such kernels sustain ([`DataSheet`]). Attention is limited by its own instructions, as `nvdisasm` counts
//! them, at the throughput of a multiprocessor's units; how much of that its warps hide depends on how many are resident
//! (`instructions.rs`). Nothing is fitted to a measurement of these kernels.

mod attention;
mod gpu;
mod instructions;
mod table;
#[cfg(test)]
mod tests;
mod work;

pub use gpu::{Architecture, DataSheet, GpuModel};

use crate::error::Result;
use crate::plan::Flops;
use crate::recipe::{Precision, Stage, TrainingRecipe};
use attention::{HEAD_DIM, MOST_GROUP, visible_positions};
use serde::Serialize;
use std::collections::BTreeMap;
use thimble_runtime::format::Config;
use work::Sizes;

/// Tokens of a document where nothing is known of the text.
pub const DOCUMENT_TOKENS: usize = 1000;
/// Tokens whose logits the kernels hold at once.
const LOSS_CHUNK: usize = crate::ops::cuda::LOGITS_ROWS;

/// What a prediction takes for granted, a sentence each.
pub const ASSUMPTIONS: [&str; 6] = [
    "clocks stay at the boost clock of the data sheet",
    "cuBLAS reaches 0.62 of the dense peak (0.60 on Hopper), or 0.80 of the bandwidth (0.85 of HBM's) where that is less",
    "streaming kernels reach that share of the bandwidth; what lies in L2 from the kernel before is read from memory again",
    "mma.sync reaches 0.629 of Hopper's peak",
    "a warp's instructions occupy one unit after the other and wait for nothing else; other warps of its scheduler fill the rest",
    "launches, waits for the host and the loading of data cost nothing; documents are equally long, and all multiprocessors end together",
];

/// Relative error within which a kernel's time is trusted: what streams, and attention.
pub const TRUST: (f64, f64) = (0.3, 0.5);

/// Parts of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelGroup {
    /// Products of the layers.
    Linears,
    /// Products with the head.
    Head,
    /// Attention, forward.
    AttentionForward,
    /// Attention, backward.
    AttentionBackward,
    /// RMSNorm, both ways.
    Norms,
    /// Splitting into heads and the rotary embedding, both ways.
    Rotations,
    /// SwiGLU, both ways.
    SwiGlu,
    /// Softmax and cross-entropy.
    Loss,
    /// Embedding, both ways.
    Embedding,
    /// Gradient norm, AdamW and zeroing.
    Optimizer,
}

/// What a kernel's time is limited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// cuBLAS on the tensor cores.
    TensorCores,
    /// Memory bandwidth.
    Memory,
    /// This unit of the multiprocessor, for the kernel's own instructions.
    Instructions(&'static str),
}

/// The predicted time of a kernel in one micro-batch, all layers together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KernelTime {
    /// Its entry, or a description of cuBLAS's products.
    pub name: &'static str,
    /// The part of the step.
    pub group: KernelGroup,
    /// Seconds.
    pub seconds: f64,
    /// FLOPs of products, those behind a mask not counted.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
    /// What takes the most of that time.
    pub limit: Limit,
}

impl KernelTime {
    fn none(name: &'static str, group: KernelGroup) -> KernelTime {
        KernelTime { name, group, seconds: 0.0, flops: 0.0, bytes: 0.0, limit: Limit::Memory }
    }

    /// Seconds at the data sheet's own limits, which no kernel reaches.
    pub fn limit_seconds(&self, sheet: &DataSheet) -> f64 {
        (self.flops / sheet.tensor_flops).max(self.bytes / sheet.bandwidth)
    }

    fn streaming(name: &'static str, group: KernelGroup, bytes: f64, sheet: &DataSheet) -> KernelTime {
        KernelTime { seconds: bytes / sheet.streaming(), bytes, ..KernelTime::none(name, group) }
    }
}

/// A micro-batch with one kind of attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PredictedPass {
    /// Tokens of a document that attention stays within; none: all of the context.
    pub document_tokens: Option<usize>,
    /// Time by kernel; the optimizer's is its share of a step.
    pub kernels: Vec<KernelTime>,
    /// Their sum, seconds.
    pub seconds: f64,
    /// Throughput.
    pub tokens_per_second: f64,
    /// Share of the data sheet's dense peak, counting the attention that the mask leaves.
    pub mfu: f64,
}

impl PredictedPass {
    /// Seconds by part of the step.
    pub fn groups(&self) -> BTreeMap<KernelGroup, f64> {
        let mut groups = BTreeMap::new();
        for kernel in &self.kernels {
            *groups.entry(kernel.group).or_insert(0.0) += kernel.seconds;
        }
        groups
    }

    /// FLOPs per second of attention by the convention of its papers: the products that the mask leaves, two forward and
    /// five backward, whatever is computed again.
    pub fn attention_flops_per_second(&self, group: KernelGroup) -> f64 {
        let kernels = || self.kernels.iter();
        let forward = kernels().filter(|kernel| kernel.group == KernelGroup::AttentionForward);
        let flops: f64 = forward.map(|kernel| kernel.flops).sum();
        let seconds: f64 =
            kernels().filter(|kernel| kernel.group == group).map(|kernel| kernel.seconds).sum();
        if group == KernelGroup::AttentionBackward { 2.5 * flops / seconds } else { flops / seconds }
    }
}

/// A stage on a GPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Always true.
    pub prediction: bool,
    /// The GPU.
    pub gpu: GpuModel,
    /// Its limits.
    pub sheet: DataSheet,
    /// Sequences of a micro-batch.
    pub sequences: usize,
    /// Tokens of a sequence.
    pub context: usize,
    /// With attention over the whole context.
    pub full: PredictedPass,
    /// With attention within documents.
    pub documents: PredictedPass,
    /// Throughput over the whole context by the same method with FlashAttention 2 in place of the attention here: what
    /// PyTorch's compiled model should reach, to judge the method by.
    pub flash_attention_2_tokens_per_second: f64,
    /// What the model's publication says of its run with torch.compile and FlashAttention 2, on this GPU; none for others.
    pub published_tokens_per_second: Option<f64>,
    /// Trusted relative error of streaming kernels and of attention.
    pub trust: (f64, f64),
    /// What is taken for granted.
    pub assumptions: [&'static str; 6],
}

/// Why there is no prediction for a recipe, a sentence without a full stop; none where there is one.
pub fn unpredictable(recipe: &TrainingRecipe) -> Option<String> {
    let config = recipe.model.config();
    let group = config.heads / config.kv_heads.max(1);
    if config.head_dim != HEAD_DIM {
        return Some(format!(
            "the kernels are for heads of {HEAD_DIM}, and the model's are of {}",
            config.head_dim
        ));
    }
    if group > MOST_GROUP {
        return Some(format!(
            "the kernels are for at most {MOST_GROUP} query heads a key head, and the model has {group}"
        ));
    }
    if config.qkv_bias || config.qk_norm {
        return Some(
            "the model has biases or norms of query and key heads, which run without own kernels".into(),
        );
    }
    if recipe.compute.precision != Precision::Bf16 {
        return Some("the kernels compute in bf16, and the recipe asks for f32".into());
    }
    if recipe.adapter.is_some() || recipe.quantization().is_some() || !recipe.objective.reads_token_sets() {
        return Some("only pretraining of all weights is predicted".into());
    }
    None
}

impl Prediction {
    /// Predicts a stage of a recipe that is not [`unpredictable`], with documents of `document` tokens for the mask.
    ///
    /// # Errors
    /// The committed tables lack the kernels.
    pub fn of(recipe: &TrainingRecipe, stage: &Stage, gpu: GpuModel, document: usize) -> Result<Prediction> {
        let (config, sheet) = (recipe.model.config(), gpu.sheet());
        let pass = |document| predict(recipe, &config, stage, sheet, document);
        let full = pass(None)?;
        let size = (stage.micro_batch, stage.context);
        let sizes = sizes(recipe, &config, stage);
        let theirs: f64 = attention::flash_attention_2(&config, &sizes, size, sheet)?
            .iter()
            .map(|kernel| kernel.seconds)
            .sum();
        let groups = full.groups();
        let ours = groups[&KernelGroup::AttentionForward] + groups[&KernelGroup::AttentionBackward];
        Ok(Prediction {
            prediction: true,
            gpu,
            sheet: *sheet,
            sequences: stage.micro_batch,
            context: stage.context,
            flash_attention_2_tokens_per_second: sizes.tokens / (full.seconds - ours + theirs),
            published_tokens_per_second: published(&config, stage, gpu),
            full,
            documents: pass(Some(document.clamp(1, stage.context)))?,
            trust: TRUST,
            assumptions: ASSUMPTIONS,
        })
    }

    /// The pass that the recipe asks for.
    pub fn of_recipe(&self, recipe: &TrainingRecipe) -> &PredictedPass {
        if recipe.compute.document_mask { &self.documents } else { &self.full }
    }
}

/// SmolLM2-70M at context 8,192 on one L40S (its card, codelion/SmolLM2-70M).
fn published(config: &Config, stage: &Stage, gpu: GpuModel) -> Option<f64> {
    let shape = (config.hidden, config.layers, config.ffn, config.vocab, stage.context);
    (gpu == GpuModel::L40s && shape == (384, 32, 1024, 49_152, 8192)).then_some(110_000.0)
}

fn sizes(recipe: &TrainingRecipe, config: &Config, stage: &Stage) -> Sizes {
    let tokens = stage.micro_batch * stage.context;
    let again = recipe.compute.activation_checkpointing;
    Sizes::of(config, tokens, LOSS_CHUNK, stage.accumulate, again)
}

fn predict(
    recipe: &TrainingRecipe,
    config: &Config,
    stage: &Stage,
    sheet: &DataSheet,
    document: Option<usize>,
) -> Result<PredictedPass> {
    let (sequences, context) = (stage.micro_batch, stage.context);
    let sizes = sizes(recipe, config, stage);
    let mut kernels = sizes.linears(sheet);
    kernels.extend(sizes.head(sheet));
    kernels.extend(attention::times(config, &sizes, (sequences, context), document, sheet)?);
    kernels.extend(sizes.elementwise(sheet));
    let seconds: f64 = kernels.iter().map(|kernel| kernel.seconds).sum();
    let tokens_per_second = sizes.tokens / seconds;
    let flops = Flops::of(config, context);
    // Of the causal half, what the mask leaves.
    let share = visible_positions(context, document) / visible_positions(context, None);
    let useful = (flops.linears + flops.head) as f64 + flops.attention_causal as f64 * share;
    let mfu = useful * tokens_per_second / sheet.tensor_flops;
    Ok(PredictedPass { document_tokens: document, kernels, seconds, tokens_per_second, mfu })
}
