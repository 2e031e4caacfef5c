//! The backend: operations record dispatches; asking for logits submits them.

use crate::ahead::Ahead;
use crate::plan::{positions, spans};
use crate::sampling::Generation;
use crate::steps::{FEW, Pass, Product, Step};
use crate::{Device, GpuError, GpuOptions, GpuPlan};
use std::ops::Range;
use thimble_runtime::format::Config;
use thimble_runtime::kernels::KvKind;
use thimble_runtime::model::{Backend, Batch, Weights, forward};

/// The words that change from pass to pass.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct State {
    pub(crate) position: u32,
    pub(crate) tokens: u32,
    pub(crate) head_row: u32,
    pub(crate) head_rows: u32,
}

/// The dispatches of one decoder layer.
pub(crate) struct LayerSteps {
    pub(crate) qkv: Vec<Product>,
    /// Where the product does not rotate and store itself.
    pub(crate) store: Option<Step>,
    pub(crate) attend: Step,
    /// Behind `attend` where several workgroups share a query.
    pub(crate) merge: Step,
    pub(crate) output: Vec<Product>,
    pub(crate) gate_up: Vec<Product>,
    /// Where gate and up are not one product.
    pub(crate) swiglu: Option<Step>,
    pub(crate) down: Vec<Product>,
}

/// Buffers that outlive construction by name; all others live in their bind groups.
pub(crate) struct Buffers {
    pub(crate) state: wgpu::Buffer,
    pub(crate) tokens: wgpu::Buffer,
    pub(crate) logits: wgpu::Buffer,
    /// Where the host reads logits.
    pub(crate) staging: wgpu::Buffer,
    pub(crate) ids: wgpu::Buffer,
    pub(crate) ids_staging: [wgpu::Buffer; 2],
}

/// A model on a GPU.
pub struct Gpu {
    pub(crate) device: Device,
    pub(crate) config: Config,
    pub(crate) options: GpuOptions,
    pub(crate) plan: GpuPlan,
    pub(crate) buffers: Buffers,
    pub(crate) embed: Vec<Step>,
    pub(crate) layers: Vec<LayerSteps>,
    /// Keys and values of each layer.
    pub(crate) caches: Vec<[wgpu::Buffer; 2]>,
    pub(crate) head: Vec<Product>,
    pub(crate) sample: Step,
    pub(crate) generation: Generation,
    pub(crate) ahead: Ahead,
    pub(crate) state: State,
    /// Commands that were recorded and not yet submitted; the pass ends before its encoder.
    pub(crate) recording: Option<(Pass, wgpu::CommandEncoder)>,
    /// Dispatches that were submitted.
    pub(crate) dispatches: u64,
    /// The recording has logits.
    pub(crate) has_head: bool,
    /// Rows of `logits` that are the last head's.
    pub(crate) logit_rows: usize,
    /// The host's copy.
    pub(crate) logits: Vec<f32>,
    /// Bytes of the buffers that were made.
    pub(crate) made: u64,
}

impl Gpu {
    /// Uploads a model and makes everything that its passes need.
    ///
    /// # Errors
    /// Those of [`GpuPlan::new`], and [`GpuError::Device`] where the device has not the memory or refuses a shader.
    pub fn new(device: &Device, weights: &Weights<'_>, options: &GpuOptions) -> Result<Gpu, GpuError> {
        let plan = GpuPlan::new(weights, options, device)?;
        device.check()?;
        let scopes =
            [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory];
        let mut scopes: Vec<_> = scopes.map(|filter| device.device.push_error_scope(filter)).into();
        let made = Gpu::make(device, weights, options, plan);
        let mut failure = None;
        while let Some(scope) = scopes.pop() {
            failure = failure.or(pollster::block_on(scope.pop()));
        }
        match failure {
            Some(error) => Err(GpuError::Device { reason: error.to_string() }),
            None => {
                device.keep_pipelines();
                device.check().and(made)
            }
        }
    }

    /// What is on the device.
    pub fn plan(&self) -> &GpuPlan {
        &self.plan
    }

    /// Bytes of the buffers that were made, which is what the plan said.
    pub fn allocated(&self) -> u64 {
        self.made
    }

    /// Bytes that a token at `position` reads: all weights but the embedding, of which it is a row, and the cache.
    pub fn read_bytes(&self, position: usize) -> u64 {
        let layer = (self.plan.keys + self.plan.values) * position as u64 / positions(&self.options) as u64;
        self.plan.weights - self.plan.embedding + self.plan.layers * layer
    }

    /// Dispatches submitted since the model was uploaded.
    pub fn dispatches(&self) -> u64 {
        self.dispatches
    }

    /// The first failure of the device: after one, logits are zeros and the session has to go on elsewhere.
    ///
    /// # Errors
    /// [`GpuError::Device`].
    pub fn check(&self) -> Result<(), GpuError> {
        self.device.check()
    }

    /// Runs a batch with the shared forward pass and gives the logits of its last token, `[vocab]`.
    ///
    /// # Errors
    /// [`GpuError::Device`].
    pub fn logits_behind(&mut self, batch: &Batch<'_>) -> Result<&mut [f32], GpuError> {
        forward(self, batch);
        self.head(batch.tokens.len() - 1..batch.tokens.len());
        self.logits();
        self.check()?;
        Ok(&mut self.logits[..self.config.vocab])
    }

    pub(crate) fn set_batch(&mut self, batch: &Batch<'_>) {
        let (position, tokens) = (batch.position as u32, batch.tokens.len() as u32);
        self.state = State { position, tokens, head_row: 0, head_rows: 0 };
        let ids: Vec<u32> = batch.tokens.iter().map(|token| token.0).collect();
        self.device.queue.write_buffer(&self.buffers.tokens, 0, bytemuck::cast_slice(&ids));
    }

    pub(crate) fn record_head(&mut self, rows: usize) {
        let pass = pass(&self.device, &mut self.recording);
        for product in &self.head {
            product.record(pass, rows);
        }
    }

    /// Submits what was recorded, and behind it a copy: from, to, bytes.
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
        if !std::mem::take(&mut self.generation.goes_on) {
            self.device.queue.write_buffer(&self.buffers.state, 0, bytemuck::bytes_of(&self.state));
        }
        Some(self.device.queue.submit([encoder.finish()]))
    }

    /// Waits for a submission, or for the last, and copies the front of a staging buffer; zeros where the device fails.
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
    /// Waits for what was submitted in vain: until then its buffers are on the device.
    fn drop(&mut self) {
        self.recording = None;
        let _ = self.device.wait(None);
    }
}

/// The pass that is being recorded.
pub(crate) fn pass<'a>(
    device: &Device,
    recording: &'a mut Option<(Pass, wgpu::CommandEncoder)>,
) -> &'a mut Pass {
    let begin = || {
        let mut encoder = device.device.create_command_encoder(&Default::default());
        (Pass::begin(&mut encoder), encoder)
    };
    &mut recording.get_or_insert_with(begin).0
}

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
        self.generation.position = None;
        self.generation.goes_on = false;
        self.ahead.stop();
        self.set_batch(batch);
        let pass = pass(&self.device, &mut self.recording);
        for step in &self.embed {
            step.record(pass, embed_groups(&self.config, batch.tokens.len()));
        }
    }

    fn project(&mut self, layer: usize, batch: &Batch<'_>) {
        let pass = pass(&self.device, &mut self.recording);
        let steps = &self.layers[layer];
        for product in &steps.qkv {
            product.record(pass, batch.tokens.len());
        }
    }

    fn attend(&mut self, layer: usize, batch: &Batch<'_>) {
        let pass = pass(&self.device, &mut self.recording);
        let (steps, config) = (&self.layers[layer], &self.config);
        let tokens = batch.tokens.len() as u32;
        if let Some(store) = &steps.store {
            // One more pair or four of positions than an even start needs: the device alone knows the position.
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
        // Many queries make workgroups enough; few share each of them.
        let spans = match batch.tokens.len() {
            ..=FEW => spans(batch.position + batch.tokens.len()) as u32,
            _ => 1,
        };
        steps.attend.record(pass, [queries.div_ceil(8), config.kv_heads as u32, spans]);
        if spans > 1 {
            steps.merge.record(pass, [config.heads as u32, tokens, 1]);
        }
    }

    fn attention_output(&mut self, layer: usize, batch: &Batch<'_>) {
        let pass = pass(&self.device, &mut self.recording);
        for product in &self.layers[layer].output {
            product.record(pass, batch.tokens.len());
        }
    }

    fn gate_up(&mut self, layer: usize, batch: &Batch<'_>) {
        let pass = pass(&self.device, &mut self.recording);
        let (steps, tokens) = (&self.layers[layer], batch.tokens.len());
        for product in &steps.gate_up {
            product.record(pass, tokens);
        }
        if let Some(swiglu) = &steps.swiglu {
            swiglu.record(pass, [self.config.ffn.div_ceil(64) as u32, tokens as u32, 1]);
        }
    }

    fn down(&mut self, layer: usize, batch: &Batch<'_>) {
        let pass = pass(&self.device, &mut self.recording);
        for product in &self.layers[layer].down {
            product.record(pass, batch.tokens.len());
        }
    }

    fn head(&mut self, rows: Range<usize>) {
        if self.has_head {
            // Its rows stand in the state until it is submitted.
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
