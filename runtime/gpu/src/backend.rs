//! The backend: operations record dispatches; asking for logits submits them.

use crate::kernels::{Entry, Kernels};
use crate::plan::{RING, SPAN, padded, positions, qkv_width, spans};
use crate::steps::{FEW, Product, Route, Step};
use crate::weights::{Piece, pieces};
use crate::{Device, GpuError, GpuOptions, GpuPlan};
use std::ops::Range;
use thimble_runtime::Token;
use thimble_runtime::format::Config;
use thimble_runtime::kernels::Matrix;
use thimble_runtime::model::{Backend, Batch, Weights, forward};

/// The words that change from pass to pass.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct State {
    position: u32,
    tokens: u32,
    head_row: u32,
    head_rows: u32,
}

/// The dispatches of one decoder layer.
struct LayerSteps {
    norm: Step,
    qkv: Vec<Product>,
    store: Step,
    attend: Step,
    /// Behind `attend` where several workgroups share a query.
    merge: Step,
    output: Vec<Product>,
    ffn_norm: Step,
    gate_up: Vec<Product>,
    swiglu: Step,
    down: Vec<Product>,
}

/// Buffers that outlive construction by name; all others live in their bind groups.
struct Buffers {
    state: wgpu::Buffer,
    tokens: wgpu::Buffer,
    logits: wgpu::Buffer,
    /// Where the host reads logits.
    staging: wgpu::Buffer,
    ids: wgpu::Buffer,
    ids_staging: wgpu::Buffer,
}

/// A model on a GPU.
pub struct Gpu {
    device: Device,
    config: Config,
    options: GpuOptions,
    plan: GpuPlan,
    buffers: Buffers,
    embed: Vec<Step>,
    layers: Vec<LayerSteps>,
    final_norm: Step,
    head: Vec<Product>,
    argmax: Step,
    state: State,
    /// Commands that were recorded and not yet submitted; the pass ends before its encoder.
    recording: Option<(wgpu::ComputePass<'static>, wgpu::CommandEncoder)>,
    /// The recording has logits.
    has_head: bool,
    /// Rows of `logits` that are the last head's.
    logit_rows: usize,
    /// The host's copy.
    logits: Vec<f32>,
    /// Bytes of the buffers that were made.
    made: u64,
}

/// Makes the parts of a [`Gpu`] and adds up their bytes.
struct Builder<'a> {
    device: &'a Device,
    kernels: Kernels,
    most: u64,
    made: u64,
}

impl Builder<'_> {
    fn buffer(&mut self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.made += bytes;
        self.device.buffer(label, bytes, usage | wgpu::BufferUsages::COPY_DST)
    }

    fn storage(&mut self, label: &str, bytes: u64) -> wgpu::Buffer {
        self.buffer(label, bytes, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC)
    }

    fn upload<'f>(&mut self, matrices: &[Matrix<'f>]) -> Result<Vec<(Piece<'f>, wgpu::Buffer)>, GpuError> {
        let pieces = pieces(matrices, self.most)?;
        self.made += pieces.iter().map(|piece| piece.bytes()).sum::<u64>();
        Ok(pieces.into_iter().map(|piece| (piece.upload(self.device), piece)).map(|(b, p)| (p, b)).collect())
    }

    fn products(&mut self, uploaded: &[(Piece<'_>, wgpu::Buffer)], route: &Route<'_>) -> Vec<Product> {
        let make = |(piece, buffer): &(Piece<'_>, wgpu::Buffer)| {
            Product::new(self.device, &mut self.kernels, (piece, buffer), route)
        };
        uploaded.iter().map(make).collect()
    }

    fn step(&mut self, entry: Entry, shape: [u32; 8], buffers: &[&wgpu::Buffer]) -> Step {
        let kernel = self.kernels.get(entry);
        let shape = self.kernels.uniform(shape);
        let buffers: Vec<_> = [&shape].into_iter().chain(buffers.iter().copied()).collect();
        let bind = kernel.bind(self.device, &buffers);
        Step { kernel, bind }
    }

    fn norm(&mut self, config: &Config, weight: &[f32], route: &Route<'_>) -> Step {
        let buffer = self.storage("norm", size_of_val(weight) as u64);
        self.device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(weight));
        let head = u32::from(route.head);
        let [from, to] = [route.in_stride as u32, route.out_stride as u32];
        let shape = [config.hidden as u32, from, to, config.norm_eps.to_bits(), head, 0, 0, 0];
        self.step(Entry::Norm, shape, &[route.state, route.input, &buffer, route.output])
    }
}

/// Cosine and sine for each position and pair of dimensions, as the CPU backend computes them.
fn angles(config: &Config, context: usize) -> Vec<[f32; 2]> {
    let half = config.head_dim / 2;
    // RoFormer (Su et al. 2021), eq. 15: theta^(-2i/d).
    let frequency = |i: usize| 1.0 / libm::powf(config.rope_theta, i as f32 / half as f32);
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let angle = |position: usize, frequency: &f32| {
        let (sin, cos) = libm::sincosf(position as f32 * frequency);
        [cos, sin]
    };
    (0..context).flat_map(|p| frequencies.iter().map(move |f| angle(p, f))).collect()
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
            None => device.check().and(made),
        }
    }

    fn make(
        device: &Device,
        weights: &Weights<'_>,
        options: &GpuOptions,
        plan: GpuPlan,
    ) -> Result<Gpu, GpuError> {
        let config = *weights.config();
        let most = options.binding_bytes.unwrap_or(u64::MAX).min(device.binding_bytes());
        let mut b = Builder { device, kernels: Kernels::new(device), most, made: 0 };
        let read = wgpu::BufferUsages::MAP_READ;
        let buffers = Buffers {
            state: b.buffer("state", 16, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE),
            tokens: b.storage("tokens", plan.tokens),
            logits: b.storage("logits", plan.logits),
            staging: b.buffer("logits for the host", plan.logits, read),
            ids: b.storage("ids", RING as u64 * 4),
            ids_staging: b.buffer("ids for the host", RING as u64 * 4, read),
        };
        let state = &buffers.state;
        let x = b.storage("x", plan.x);
        let normed = b.storage("normed", plan.x);
        let qkv = b.storage("qkv", plan.qkv);
        let attended = b.storage("attended", plan.attended);
        let parts = b.storage("parts", plan.parts);
        let gate_up = b.storage("gate_up", plan.gate_up);
        let activated = b.storage("activated", plan.activated);
        let angle_table = b.storage("angles", plan.angles);
        device.queue.write_buffer(&angle_table, 0, bytemuck::cast_slice(&angles(&config, options.context)));

        let hidden = padded(config.hidden);
        let (qkv_stride, ffn_stride) = (padded(qkv_width(&config)), padded(config.ffn));
        let (q_stride, gate_up_stride) = (padded(config.q_dim()), padded(2 * config.ffn));
        let route = |(input, in_stride), (output, out_stride), add| Route {
            state,
            input,
            in_stride,
            output,
            out_stride,
            add,
            head: false,
        };
        let norm_route = route((&x, hidden), (&normed, hidden), false);
        let qkv_route = route((&normed, hidden), (&qkv, qkv_stride), false);
        let output_route = route((&attended, q_stride), (&x, hidden), true);
        let gate_up_route = route((&normed, hidden), (&gate_up, gate_up_stride), false);
        let down_route = route((&activated, ffn_stride), (&x, hidden), true);
        let head_norm_route = Route { head: true, ..norm_route };
        let head_route =
            Route { head: true, ..route((&normed, hidden), (&buffers.logits, config.vocab), false) };

        let attention = [
            config.heads as u32,
            config.kv_heads as u32,
            config.head_dim as u32,
            positions(options) as u32,
            qkv_stride as u32,
            q_stride as u32,
            (1.0 / (config.head_dim as f32).sqrt()).to_bits(),
            SPAN as u32,
        ];
        let swiglu =
            [config.ffn as u32, gate_up_stride as u32, ffn_stride as u32, config.ffn as u32, 0, 0, 0, 0];
        let kv_bytes = options.kv.bytes() as u32;
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let layer = weights.layer(index);
            let keys = b.storage("keys", plan.keys);
            let values = b.storage("values", plan.values);
            let uploaded = b.upload(&[layer.query, layer.key, layer.value])?;
            let norm = b.norm(&config, layer.attention_norm, &norm_route);
            let qkv_products = b.products(&uploaded, &qkv_route);
            let stores = [state, &angle_table, &qkv, &keys, &values];
            let store = b.step(Entry::Store(kv_bytes), attention, &stores);
            let attends = [state, &qkv, &keys, &values, &attended, &parts];
            let attend = b.step(Entry::Attend(kv_bytes), attention, &attends);
            let merge = b.step(Entry::Merge, attention, &[state, &attended, &parts]);
            let uploaded = b.upload(&[layer.output])?;
            let output = b.products(&uploaded, &output_route);
            let ffn_norm = b.norm(&config, layer.ffn_norm, &norm_route);
            let uploaded = b.upload(&[layer.gate, layer.up])?;
            let gate_up_products = b.products(&uploaded, &gate_up_route);
            let swiglu = b.step(Entry::Swiglu, swiglu, &[&gate_up, &activated]);
            let uploaded = b.upload(&[layer.down])?;
            let down = b.products(&uploaded, &down_route);
            layers.push(LayerSteps {
                norm,
                qkv: qkv_products,
                store,
                attend,
                merge,
                output,
                ffn_norm,
                gate_up: gate_up_products,
                swiglu,
                down,
            });
        }
        let final_norm = b.norm(&config, weights.final_norm, &head_norm_route);
        let head_pieces = b.upload(&[weights.head])?;
        let head = b.products(&head_pieces, &head_route);
        let embedding = if config.tied { head_pieces } else { b.upload(&[weights.embedding])? };
        let mut embed = Vec::with_capacity(embedding.len());
        for (piece, buffer) in &embedding {
            let (rows, columns, first) = (piece.rows as u32, piece.columns as u32, piece.first_row as u32);
            let shape = [rows, columns, piece.panel_words(), 0, hidden as u32, first, 0, 0];
            let step = b.step(Entry::Embed(piece.encoding), shape, &[buffer, &x, &buffers.tokens]);
            embed.push(step);
        }
        let shape = [config.vocab as u32, RING as u32, 0, 0, 0, 0, 0, 0];
        let argmax_buffers = [state, &buffers.logits, &buffers.tokens, &buffers.ids];
        let argmax = b.step(Entry::Argmax, shape, &argmax_buffers);
        let made = b.made;
        let logits = vec![0.0; options.logit_rows * config.vocab];
        // Uploads that are queued go out now, not with the first token.
        device.queue.submit([]);
        Ok(Gpu {
            device: device.clone(),
            config,
            options: *options,
            plan,
            buffers,
            embed,
            layers,
            final_norm,
            head,
            argmax,
            state: State::default(),
            recording: None,
            has_head: false,
            logit_rows: 0,
            logits,
            made,
        })
    }

    /// What is on the device.
    pub fn plan(&self) -> &GpuPlan {
        &self.plan
    }

    /// Bytes of the buffers that were made, which is what the plan said.
    pub fn allocated(&self) -> u64 {
        self.made
    }

    /// The first failure of the device: after one, logits are zeros and the session has to go on elsewhere.
    ///
    /// # Errors
    /// [`GpuError::Device`].
    pub fn check(&self) -> Result<(), GpuError> {
        self.device.check()
    }

    /// Runs `first` at `position` and `count` tokens in all, each the most probable after the one before, in one submit:
    /// the tokens that came out, the last of which has not been run.
    ///
    /// # Errors
    /// [`GpuError::Option`] where they are more than 64 or do not fit the context; [`GpuError::Device`].
    pub fn greedy(&mut self, first: Token, position: usize, count: usize) -> Result<Vec<Token>, GpuError> {
        let most = RING.min(self.options.context.saturating_sub(position));
        if !(1..=most).contains(&count) {
            let expected = format!("1 to {most}");
            return Err(GpuError::Option { what: "tokens of one submit", expected, found: count as u64 });
        }
        self.submit(None);
        self.set_batch(&Batch { tokens: &[first], position });
        (self.state.head_row, self.state.head_rows) = (0, 1);
        for i in 0..count {
            for step in &self.embed {
                step.record(pass(&self.device, &mut self.recording), embed_groups(&self.config, 1));
            }
            // The device has its own position; the one here says how far attention reaches.
            let batch = Batch { tokens: &[first], position: position + i };
            for layer in 0..self.layers.len() {
                self.project(layer, &batch);
                self.attend(layer, &batch);
                self.attention_output(layer, &batch);
                self.gate_up(layer, &batch);
                self.down(layer, &batch);
            }
            self.record_head(1);
            self.argmax.record(pass(&self.device, &mut self.recording), [1, 1, 1]);
        }
        self.logit_rows = 0;
        self.submit(Some((&self.buffers.ids.clone(), &self.buffers.ids_staging.clone(), RING as u64 * 4)));
        let mut ids = [0u32; RING];
        self.read(&self.buffers.ids_staging.clone(), bytemuck::cast_slice_mut(&mut ids));
        self.check()?;
        Ok((0..count).map(|i| Token(ids[(position + i) % RING])).collect())
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

    fn set_batch(&mut self, batch: &Batch<'_>) {
        let (position, tokens) = (batch.position as u32, batch.tokens.len() as u32);
        self.state = State { position, tokens, head_row: 0, head_rows: 0 };
        let ids: Vec<u32> = batch.tokens.iter().map(|token| token.0).collect();
        self.device.queue.write_buffer(&self.buffers.tokens, 0, bytemuck::cast_slice(&ids));
    }

    fn record_head(&mut self, rows: usize) {
        let pass = pass(&self.device, &mut self.recording);
        self.final_norm.record(pass, [rows as u32, 1, 1]);
        for product in &self.head {
            product.record(pass, rows);
        }
    }

    /// Submits what was recorded, and behind it a copy: from, to, bytes.
    fn submit(&mut self, copy: Option<(&wgpu::Buffer, &wgpu::Buffer, u64)>) {
        self.has_head = false;
        let Some((pass, mut encoder)) = self.recording.take() else { return };
        drop(pass);
        if let Some((from, to, bytes)) = copy {
            encoder.copy_buffer_to_buffer(from, 0, to, 0, bytes);
        }
        self.device.queue.write_buffer(&self.buffers.state, 0, bytemuck::bytes_of(&self.state));
        self.device.queue.submit([encoder.finish()]);
    }

    /// Waits for a staging buffer and copies the front of it; zeros where the device failed.
    fn read(&self, staging: &wgpu::Buffer, out: &mut [u8]) {
        out.fill(0);
        let slice = staging.slice(..out.len() as u64);
        slice.map_async(wgpu::MapMode::Read, |_| {});
        if self.device.device.poll(wgpu::PollType::wait_indefinitely()).is_err() {
            return;
        }
        if let Ok(view) = slice.get_mapped_range() {
            out.copy_from_slice(&view);
            drop(view);
            staging.unmap();
        }
    }
}

/// The pass that is being recorded.
fn pass<'a>(
    device: &Device,
    recording: &'a mut Option<(wgpu::ComputePass<'static>, wgpu::CommandEncoder)>,
) -> &'a mut wgpu::ComputePass<'static> {
    let begin = || {
        let mut encoder = device.device.create_command_encoder(&Default::default());
        let pass = encoder.begin_compute_pass(&Default::default()).forget_lifetime();
        (pass, encoder)
    };
    &mut recording.get_or_insert_with(begin).0
}

fn embed_groups(config: &Config, tokens: usize) -> [u32; 3] {
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
        self.set_batch(batch);
        let pass = pass(&self.device, &mut self.recording);
        for step in &self.embed {
            step.record(pass, embed_groups(&self.config, batch.tokens.len()));
        }
    }

    fn project(&mut self, layer: usize, batch: &Batch<'_>) {
        let pass = pass(&self.device, &mut self.recording);
        let steps = &self.layers[layer];
        steps.norm.record(pass, [batch.tokens.len() as u32, 1, 1]);
        for product in &steps.qkv {
            product.record(pass, batch.tokens.len());
        }
    }

    fn attend(&mut self, layer: usize, batch: &Batch<'_>) {
        let pass = pass(&self.device, &mut self.recording);
        let (steps, config) = (&self.layers[layer], &self.config);
        let tokens = batch.tokens.len() as u32;
        let pairs = (config.heads + 2 * config.kv_heads) * config.head_dim / 2;
        // One more pair of positions than an even start needs: the device alone knows the position.
        steps.store.record(pass, [pairs.div_ceil(64) as u32, tokens / 2 + 1, 1]);
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
        steps.ffn_norm.record(pass, [tokens as u32, 1, 1]);
        for product in &steps.gate_up {
            product.record(pass, tokens);
        }
        steps.swiglu.record(pass, [self.config.ffn.div_ceil(64) as u32, tokens as u32, 1]);
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
            self.submit(Some((&from, &to, count as u64 * 4)));
            let mut logits = std::mem::take(&mut self.logits);
            self.read(&to, bytemuck::cast_slice_mut(&mut logits[..count]));
            self.logits = logits;
        }
        &mut self.logits[..count]
    }
}
