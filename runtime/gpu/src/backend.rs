//! The backend: operations record dispatches; reading logits submits them.

use crate::decode_queue::DecodeQueue;
use crate::dispatch::{ComputePass, Dispatch, MAX_VECTOR_TOKENS, Product};
use crate::layer_cache::LayerCache;
use crate::low_rank::{Group, LowRankBuffers, LowRankDispatches, UploadedAdapter};
use crate::plan::{positions, spans};
use crate::sampler_state::SamplerState;
use crate::{Device, GpuError, GpuMemoryPlan, GpuOptions};
use std::ops::Range;
use thimble_runtime::format::Config;
use thimble_runtime::kernels::KvKind;
use thimble_runtime::model::{Backend, Batch, forward};

/// The batch that runs, in the layout of the shaders.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct State {
    pub(crate) position: u32,
    pub(crate) tokens: u32,
    pub(crate) head_row: u32,
    pub(crate) head_rows: u32,
}

/// The dispatches of one decoder layer.
pub(crate) struct LayerDispatches {
    pub(crate) qkv: Vec<Product>,
    /// Biases and norms of query and key heads, if the layer has any.
    pub(crate) bias_norm: Option<Dispatch>,
    /// RoPE and cache writes, unless the epilogue of `qkv` does them.
    pub(crate) store: Option<Dispatch>,
    pub(crate) attend: Dispatch,
    /// Runs after `attend` if several workgroups share a query.
    pub(crate) merge: Dispatch,
    pub(crate) output: Vec<Product>,
    pub(crate) gate_up: Vec<Product>,
    /// SwiGLU, unless the epilogue of `gate_up` computes it.
    pub(crate) swiglu: Option<Dispatch>,
    pub(crate) down: Vec<Product>,
}

/// The buffers that the host accesses; bind groups own all others.
pub(crate) struct Buffers {
    pub(crate) state: wgpu::Buffer,
    pub(crate) tokens: wgpu::Buffer,
    /// The residual stream.
    pub(crate) x: wgpu::Buffer,
    pub(crate) logits: wgpu::Buffer,
    /// Staging buffer for logits.
    pub(crate) staging: wgpu::Buffer,
    pub(crate) ids: wgpu::Buffer,
    pub(crate) ids_staging: [wgpu::Buffer; 2],
}

/// A model on a GPU.
pub struct Gpu {
    pub(crate) device: Device,
    pub(crate) config: Config,
    pub(crate) options: GpuOptions,
    pub(crate) plan: GpuMemoryPlan,
    pub(crate) buffers: Buffers,
    pub(crate) embed: Vec<Dispatch>,
    pub(crate) layers: Vec<LayerDispatches>,
    /// The adapters in use, by layer.
    pub(crate) adapters: Vec<Vec<LowRankDispatches>>,
    /// What adapters need; `None` if the model can have none.
    pub(crate) low_rank: Option<LowRankBuffers>,
    /// All adapters on the device.
    pub(crate) uploaded: Vec<UploadedAdapter>,
    /// Keys and values of each layer.
    pub(crate) caches: Vec<LayerCache>,
    pub(crate) head: Vec<Product>,
    pub(crate) sample: Dispatch,
    pub(crate) sampler: SamplerState,
    pub(crate) queue: DecodeQueue,
    pub(crate) state: State,
    /// Tokens of the batch that is being recorded.
    pub(crate) rows: usize,
    /// The end of the positions that they attend to.
    pub(crate) reach: usize,
    /// Commands not yet submitted; the pass is dropped before its encoder is finished.
    pub(crate) recording: Option<(ComputePass, wgpu::CommandEncoder)>,
    /// Dispatches submitted so far.
    pub(crate) dispatches: u64,
    /// Whether the recording computes logits.
    pub(crate) has_head: bool,
    /// Valid rows of `logits`.
    pub(crate) logit_rows: usize,
    /// Logits on the host.
    pub(crate) logits: Vec<f32>,
    /// Bytes of all buffers.
    pub(crate) allocated: u64,
    /// Positions written since the cache was last empty; some may have been dropped again.
    pub(crate) reached: usize,
}

impl Gpu {
    /// The memory plan.
    pub fn plan(&self) -> &GpuMemoryPlan {
        &self.plan
    }

    /// Bytes of all buffers; equals the plan's.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Bytes that decoding a token at `position` reads: all weights but the embedding, and the used part of the cache.
    pub fn read_bytes(&self, position: usize) -> u64 {
        let position_bytes = (self.plan.keys + self.plan.values) / positions(&self.options, None) as u64;
        let reads = |layer| self.config.layer(layer).window.unwrap_or(position).min(position) as u64;
        let read: u64 = (0..self.config.layers).map(reads).sum();
        self.plan.weights - self.plan.embedding + read * position_bytes
    }

    /// Dispatches submitted since the model was uploaded.
    pub fn dispatches(&self) -> u64 {
        self.dispatches
    }

    /// Reports the first failure of the device. After a failure logits are zeros.
    ///
    /// # Errors
    /// [`GpuError::Device`].
    pub fn check(&self) -> Result<(), GpuError> {
        self.device.check()
    }

    /// Runs a batch and returns the logits of its last token, `[vocab]`.
    ///
    /// # Errors
    /// [`GpuError::Device`].
    pub fn logits_after(&mut self, batch: &Batch<'_>) -> Result<&mut [f32], GpuError> {
        forward(self, batch);
        self.head(batch.tokens.len() - 1..batch.tokens.len());
        self.logits();
        self.check()?;
        Ok(&mut self.logits[..self.config.vocab])
    }

    pub(crate) fn set_batch(&mut self, batch: &Batch<'_>) {
        let (position, tokens) = (batch.position as u32, batch.tokens.len() as u32);
        self.state = State { position, tokens, head_row: 0, head_rows: 0 };
        (self.rows, self.reach) = (batch.tokens.len(), batch.position + batch.tokens.len());
        let ids: Vec<u32> = batch.tokens.iter().map(|token| token.0).collect();
        self.device.queue.write_buffer(&self.buffers.tokens, 0, bytemuck::cast_slice(&ids));
    }

    /// Records what the adapters add to a group of products.
    fn record_adapters(&mut self, layer: usize, group: Group) {
        for adapter in &self.adapters {
            record_products(&self.device, &mut self.recording, adapter[layer].of(group), self.rows);
        }
    }

    pub(crate) fn record_head(&mut self, rows: usize) {
        record_products(&self.device, &mut self.recording, &self.head, rows);
    }

    /// Submits the recording and then a copy: from, to, bytes. `None` if nothing was recorded.
    pub(crate) fn submit(
        &mut self,
        copy: Option<(&wgpu::Buffer, &wgpu::Buffer, u64)>,
    ) -> Option<wgpu::SubmissionIndex> {
        self.has_head = false;
        let (pass, mut encoder) = self.recording.take()?;
        self.dispatches += pass.dispatches;
        drop(pass);
        if let Some((from, to, bytes)) = copy {
            encoder.copy_buffer_to_buffer(from, 0, to, 0, bytes);
        }
        if !std::mem::take(&mut self.sampler.continues) {
            self.device.queue.write_buffer(&self.buffers.state, 0, bytemuck::bytes_of(&self.state));
        }
        Some(self.device.queue.submit([encoder.finish()]))
    }

    /// Waits for a submission (the last one if `None`) and copies the front of a staging buffer to `out`; fills it with zeros
    /// if the device fails.
    pub(crate) fn read(
        &self,
        staging: &wgpu::Buffer,
        submission_index: Option<wgpu::SubmissionIndex>,
        out: &mut [u8],
    ) {
        out.fill(0);
        let slice = staging.slice(..out.len() as u64);
        slice.map_async(wgpu::MapMode::Read, |_| {});
        if self.device.wait(submission_index).is_err() {
            return;
        }
        match slice.get_mapped_range() {
            Ok(view) => {
                out.copy_from_slice(&view);
                drop(view);
                staging.unmap();
            }
            Err(error) => self.device.fail(error.to_string()),
        }
    }
}

impl Drop for Gpu {
    /// Waits for submissions in flight, which keep their buffers alive.
    fn drop(&mut self) {
        self.recording = None;
        let _ = self.device.wait(None);
    }
}

/// The pass that is being recorded; begins one if necessary.
pub(crate) fn compute_pass<'a>(
    device: &Device,
    recording: &'a mut Option<(ComputePass, wgpu::CommandEncoder)>,
) -> &'a mut ComputePass {
    let begin = || {
        let mut encoder = device.device.create_command_encoder(&Default::default());
        (ComputePass::begin(&mut encoder), encoder)
    };
    &mut recording.get_or_insert_with(begin).0
}

/// Records products of one input, of `tokens` rows.
fn record_products(
    device: &Device,
    recording: &mut Option<(ComputePass, wgpu::CommandEncoder)>,
    products: &[Product],
    tokens: usize,
) {
    let pass = compute_pass(device, recording);
    products.iter().for_each(|product| product.record(pass, tokens));
}

/// Workgroups of the embedding lookup.
pub(crate) fn embed_groups(config: &Config, tokens: usize) -> [u32; 3] {
    [config.hidden.div_ceil(256) as u32, tokens as u32, 1]
}

impl Backend for Gpu {
    fn batch(&self) -> usize {
        self.options.batch
    }

    fn context(&self) -> usize {
        self.options.context
    }

    fn logit_rows(&self) -> usize {
        self.options.logit_rows
    }

    fn layers(&self) -> usize {
        self.config.layers
    }

    fn embed(&mut self, batch: &Batch<'_>) {
        self.submit(None);
        self.sampler.reset();
        self.queue.clear();
        self.set_batch(batch);
        self.reserve(batch.position..batch.position + batch.tokens.len());
        let pass = compute_pass(&self.device, &mut self.recording);
        for embed in &self.embed {
            embed.record(pass, embed_groups(&self.config, batch.tokens.len()));
        }
    }

    fn project(&mut self, layer: usize) {
        let products = &self.layers[layer].qkv;
        record_products(&self.device, &mut self.recording, products, self.rows);
        self.record_adapters(layer, Group::Qkv);
    }

    fn attend(&mut self, layer: usize) {
        let pass = compute_pass(&self.device, &mut self.recording);
        let (layer, config) = (&self.layers[layer], &self.config);
        let tokens = self.rows as u32;
        if let Some(bias_norm) = &layer.bias_norm {
            bias_norm.record(pass, [(config.heads + 2 * config.kv_heads) as u32, tokens, 1]);
        }
        if let Some(store) = &layer.store {
            // One group of positions more than an aligned start needs: only the device knows the position.
            let heads = config.heads + 2 * config.kv_heads;
            store.record(
                pass,
                match self.options.kv {
                    KvKind::Q8 => [heads as u32, tokens.div_ceil(4) + 1, 1],
                    _ => [(heads * config.head_dim / 2).div_ceil(64) as u32, tokens / 2 + 1, 1],
                },
            );
        }
        let queries = tokens * config.group() as u32;
        // Large batches have enough workgroups; for small ones, several workgroups share a query.
        let spans = match self.rows {
            ..=MAX_VECTOR_TOKENS => spans(self.reach) as u32,
            _ => 1,
        };
        layer.attend.record(pass, [queries.div_ceil(8), config.kv_heads as u32, spans]);
        if spans > 1 {
            layer.merge.record(pass, [config.heads as u32, tokens, 1]);
        }
    }

    fn attention_output(&mut self, layer: usize) {
        let products = &self.layers[layer].output;
        record_products(&self.device, &mut self.recording, products, self.rows);
        self.record_adapters(layer, Group::Output);
    }

    fn gate_up(&mut self, layer: usize) {
        let tokens = self.rows;
        record_products(&self.device, &mut self.recording, &self.layers[layer].gate_up, tokens);
        self.record_adapters(layer, Group::GateUp);
        if let Some(swiglu) = &self.layers[layer].swiglu {
            let pass = compute_pass(&self.device, &mut self.recording);
            swiglu.record(pass, [self.config.ffn.div_ceil(64) as u32, tokens as u32, 1]);
        }
    }

    fn down(&mut self, layer: usize) {
        let products = &self.layers[layer].down;
        record_products(&self.device, &mut self.recording, products, self.rows);
        self.record_adapters(layer, Group::Down);
    }

    fn head(&mut self, rows: Range<usize>) {
        if self.has_head {
            // The state has room for the rows of one head.
            self.submit(None);
        }
        self.logit_rows = rows.len();
        if rows.is_empty() {
            return;
        }
        (self.state.head_row, self.state.head_rows) = (rows.start as u32, rows.len() as u32);
        self.record_head(rows.len());
        self.has_head = true;
    }

    fn logits(&mut self) -> &mut [f32] {
        let count = self.logit_rows * self.config.vocab;
        if self.has_head {
            let (from, to) = (self.buffers.logits.clone(), self.buffers.staging.clone());
            let submission = self.submit(Some((&from, &to, count as u64 * 4)));
            let mut logits = std::mem::take(&mut self.logits);
            self.read(&to, submission, bytemuck::cast_slice_mut(&mut logits[..count]));
            self.logits = logits;
        }
        &mut self.logits[..count]
    }
}
