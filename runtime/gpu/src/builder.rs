//! Creates a model's buffers, pipelines and bind groups on the device.

use crate::backend::{Buffers, Gpu, LayerDispatches, State};
use crate::decode_queue::DecodeQueue;
use crate::dispatch::{Dispatch, Epilogue, Operands, Product, QkvStore, can_pair};
use crate::kernels::{Entry, Kernels};
use crate::layer_cache::LayerCache;
use crate::low_rank::LowRankBuffers;
use crate::plan::{SPAN, bias_norm, padded, positions, qkv_width};
use crate::sampler_state::{ID_SLOTS, MAX_IN_FLIGHT, SamplerState, SamplerUniforms};
use crate::weights::{WeightPartition, partition};
use crate::{Device, GpuError, GpuMemoryPlan, GpuOptions};
use thimble_runtime::format::{Config, LayerOptions};
use thimble_runtime::kernels::{KvKind, Matrix};
use thimble_runtime::model::{Layer, Weights};
use thimble_runtime::sampler::Pcg32;

/// The window of a layer that has none: longer than any context.
pub(crate) const NO_WINDOW: u32 = 1 << 31;

/// Weights on the device, and their buffer.
type Uploaded<'f> = (WeightPartition<'f>, wgpu::Buffer);

/// Creates the parts of a [`Gpu`] and adds up their bytes.
struct Builder<'a> {
    device: &'a Device,
    kernels: Kernels,
    /// Largest buffer of weights, bytes.
    max_bytes: u64,
    allocated: u64,
}

impl Builder<'_> {
    fn buffer(&mut self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.allocated += bytes;
        self.device.buffer(label, bytes, usage | wgpu::BufferUsages::COPY_DST)
    }

    fn storage(&mut self, label: &str, bytes: u64) -> wgpu::Buffer {
        self.buffer(label, bytes, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC)
    }

    fn upload<'f>(&mut self, matrices: &[Matrix<'f>]) -> Result<Vec<Uploaded<'f>>, GpuError> {
        let partitions = partition(matrices, self.max_bytes)?;
        self.allocated += partitions.iter().map(|weights| weights.bytes()).sum::<u64>();
        let upload = |weights: WeightPartition<'f>| {
            let buffer = weights.upload(self.device);
            (weights, buffer)
        };
        Ok(partitions.into_iter().map(upload).collect())
    }

    fn products(&mut self, uploaded: &[Uploaded<'_>], operands: &Operands<'_>) -> Vec<Product> {
        let product = |(weights, buffer): &Uploaded<'_>| {
            Product::new(self.device, &mut self.kernels, (weights, buffer), operands)
        };
        uploaded.iter().map(product).collect()
    }

    fn dispatch(&mut self, entry: Entry, shape: [u32; 12], buffers: &[&wgpu::Buffer]) -> Dispatch {
        Dispatch::new(self.device, &mut self.kernels, entry, shape, buffers)
    }

    /// A norm's weights, padded with zeros to a multiple of 32.
    fn norm(&mut self, weight: &[f32]) -> wgpu::Buffer {
        let mut padded_weight = vec![0.0; padded(weight.len())];
        padded_weight[..weight.len()].copy_from_slice(weight);
        let buffer = self.storage("norm", size_of_val(&*padded_weight) as u64);
        self.device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&padded_weight));
        buffer
    }

    /// The dispatch that adds a layer's biases to `qkv` and applies its query and key norms, if it has any.
    fn bias_norm(&mut self, layer: &Layer<'_>, config: &Config, qkv: &wgpu::Buffer) -> Option<Dispatch> {
        let words = bias_norm(layer);
        if words.is_empty() {
            return None;
        }
        let buffer = self.storage("biases and norms", size_of_val(&*words) as u64);
        self.device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
        let stride = padded(qkv_width(config)) as u32;
        let [heads, kv_heads, dim] = [config.heads, config.kv_heads, config.head_dim].map(|n| n as u32);
        let (bias, norm) = (u32::from(config.qkv_bias), u32::from(config.qk_norm));
        let shape = [heads, kv_heads, dim, stride, bias, norm, config.norm_eps.to_bits(), 0, 0, 0, 0, 0];
        Some(self.dispatch(Entry::BiasNorm, shape, &[qkv, &buffer]))
    }
}

/// [`can_pair`] for uploaded weights.
fn uploaded_can_pair(uploaded: &[Uploaded<'_>], distance: usize) -> bool {
    matches!(uploaded, [(weights, _)] if can_pair(std::slice::from_ref(weights), distance))
}

/// The shape of a layer's attention and cache, in the layout of the shaders.
fn attention_shape(config: &Config, options: &GpuOptions, layer: LayerOptions) -> [u32; 12] {
    [
        config.heads as u32,
        config.kv_heads as u32,
        config.head_dim as u32,
        positions(options, layer.window) as u32,
        padded(qkv_width(config)) as u32,
        padded(config.q_dim()) as u32,
        layer.score_scale(config.head_dim).to_bits(),
        SPAN as u32,
        layer.window.map_or(NO_WINDOW, |window| window as u32),
        u32::from(layer.rope),
        0,
        0,
    ]
}

/// Cosine and sine for each position and pair of dimensions, computed like those of the CPU backend.
fn angles(config: &Config, context: usize) -> Vec<[f32; 2]> {
    let mut frequencies = vec![0.0; config.head_dim / 2];
    config.rope.inverse_frequencies(&mut frequencies);
    let rotation = |position, frequency: &f32| config.rope.rotation(position, *frequency);
    (0..context).flat_map(|p| frequencies.iter().map(move |f| rotation(p, f))).collect()
}

impl Gpu {
    /// Uploads a model and creates its buffers and pipelines.
    ///
    /// # Errors
    /// Those of [`GpuMemoryPlan::new`]; [`GpuError::Device`] if the device lacks memory or rejects a shader.
    pub fn new(device: &Device, weights: &Weights<'_>, options: &GpuOptions) -> Result<Gpu, GpuError> {
        let plan = GpuMemoryPlan::new(weights, options, device)?;
        device.check()?;
        let gpu = device.catch_errors(|| Gpu::build(device, weights, options, plan))?;
        if let Some(cache) = &device.pipeline_cache {
            cache.save();
        }
        Ok(gpu)
    }

    fn build(
        device: &Device,
        weights: &Weights<'_>,
        options: &GpuOptions,
        plan: GpuMemoryPlan,
    ) -> Result<Gpu, GpuError> {
        let config = *weights.config();
        let max_bytes = options.binding_bytes.unwrap_or(u64::MAX).min(device.binding_bytes());
        let mut b = Builder { device, kernels: Kernels::new(device), max_bytes, allocated: 0 };
        let read = wgpu::BufferUsages::MAP_READ;
        let buffers = Buffers {
            state: b.buffer("state", 16, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE),
            tokens: b.storage("tokens", plan.tokens),
            x: b.storage("x", plan.x),
            logits: b.storage("logits", plan.logits),
            staging: b.buffer("logits for the host", plan.logits, read),
            ids: b.storage("ids", ID_SLOTS as u64 * 4),
            ids_staging: [(); MAX_IN_FLIGHT]
                .map(|()| b.buffer("ids for the host", ID_SLOTS as u64 * 4, read)),
        };
        let state = &buffers.state;
        let x = buffers.x.clone();
        let qkv = b.storage("qkv", plan.qkv);
        let attended = b.storage("attended", plan.attended);
        let partials = b.storage("partials", plan.partials);
        let gate_up = (plan.gate_up > 0).then(|| b.storage("gate_up", plan.gate_up));
        let activated = b.storage("activated", plan.activated);
        let adapts = options.adapter_rank > 0;
        let mut norms = Vec::new();
        let angle_table = b.storage("angles", plan.angles);
        device.queue.write_buffer(&angle_table, 0, bytemuck::cast_slice(&angles(&config, options.context)));

        let hidden = padded(config.hidden);
        let (qkv_stride, ffn_stride) = (padded(qkv_width(&config)), padded(config.ffn));
        let (q_stride, gate_up_stride) = (padded(config.q_dim()), padded(2 * config.ffn));
        let output_operands = Operands::new(state, (&attended, q_stride), (&x, hidden), Epilogue::Add);
        let down_operands = Operands::new(state, (&activated, ffn_stride), (&x, hidden), Epilogue::Add);
        let (ffn, in_stride, out_stride) = (config.ffn as u32, gate_up_stride as u32, ffn_stride as u32);
        let swiglu_shape = [ffn, in_stride, out_stride, ffn, 0, 0, 0, 0, 0, 0, 0, 0];
        let element_bytes = options.kv.bytes() as u32;
        // Weights, input, output, norm, angles, keys and values; every WebGPU adapter has eight.
        let can_store = device.device.limits().max_storage_buffers_per_shader_stage >= 7
            // An 8-bit cache needs the largest element of a head, and a product's workgroup computes only a part of one.
            && options.kv != KvKind::Q8;
        let mut layers = Vec::with_capacity(config.layers);
        let mut caches = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let layer = weights.layer(index);
            let [key_bytes, value_bytes] = match layer.options.window {
                None => [plan.keys, plan.values],
                Some(_) => [plan.window_keys, plan.window_values],
            };
            let (keys, values) = (b.storage("keys", key_bytes), b.storage("values", value_bytes));
            let attention = attention_shape(&config, options, layer.options);
            let uploaded = b.upload(&[layer.query, layer.key, layer.value])?;
            let attention_norm = b.norm(layer.attention_norm);
            let norm = Some((&attention_norm, config.norm_eps));
            let bias_norm = b.bias_norm(&layer, &config, &qkv);
            // Adapters, biases and norms come between the product and RoPE.
            let fused = can_store
                && !adapts
                && bias_norm.is_none()
                && uploaded_can_pair(&uploaded, config.head_dim / 2);
            let shape = b.kernels.uniform(attention);
            let epilogue = match fused {
                true => Epilogue::StoreQkv(QkvStore {
                    head_dim: config.head_dim,
                    element_bytes,
                    shape: &shape,
                    angles: &angle_table,
                    keys: &keys,
                    values: &values,
                }),
                false => Epilogue::Store,
            };
            let qkv_operands =
                Operands { norm, ..Operands::new(state, (&x, hidden), (&qkv, qkv_stride), epilogue) };
            let qkv_products = b.products(&uploaded, &qkv_operands);
            let store_buffers = [state, &angle_table, &qkv, &keys, &values];
            let store = (!fused).then(|| b.dispatch(Entry::Store(element_bytes), attention, &store_buffers));
            let attend_buffers = [state, &qkv, &keys, &values, &attended, &partials];
            let attend = b.dispatch(Entry::Attend(element_bytes), attention, &attend_buffers);
            let merge = b.dispatch(Entry::Merge, attention, &[state, &attended, &partials]);
            let uploaded = b.upload(&[layer.output])?;
            let output = b.products(&uploaded, &output_operands);
            let ffn_norm = b.norm(layer.ffn_norm);
            let norm = Some((&ffn_norm, config.norm_eps));
            let uploaded = b.upload(&[layer.gate, layer.up])?;
            let (gate_up_operands, swiglu) = match &gate_up {
                Some(gate_up) if adapts || !uploaded_can_pair(&uploaded, config.ffn) => (
                    Operands::new(state, (&x, hidden), (gate_up, gate_up_stride), Epilogue::Store),
                    Some(b.dispatch(Entry::Swiglu, swiglu_shape, &[gate_up, &activated])),
                ),
                _ => (Operands::new(state, (&x, hidden), (&activated, ffn_stride), Epilogue::Swiglu), None),
            };
            let gate_up_products = b.products(&uploaded, &Operands { norm, ..gate_up_operands });
            let uploaded = b.upload(&[layer.down])?;
            let down = b.products(&uploaded, &down_operands);
            norms.push([attention_norm, ffn_norm]);
            let (qkv, gate_up) = (qkv_products, gate_up_products);
            layers.push(LayerDispatches {
                qkv,
                bias_norm,
                store,
                attend,
                merge,
                output,
                gate_up,
                swiglu,
                down,
            });
            caches.push(LayerCache { keys, values, positions: positions(options, layer.options.window) });
        }
        let final_norm = b.norm(weights.final_norm);
        let head_operands = Operands {
            head: true,
            norm: Some((&final_norm, config.norm_eps)),
            ..Operands::new(state, (&x, hidden), (&buffers.logits, config.vocab), Epilogue::Store)
        };
        let head_weights = b.upload(&[weights.head])?;
        let head = b.products(&head_weights, &head_operands);
        let embedding = if config.tied { head_weights } else { b.upload(&[weights.embedding])? };
        let mut embed = Vec::with_capacity(embedding.len());
        for (part, buffer) in &embedding {
            let (rows, columns, first) = (part.rows as u32, part.columns as u32, part.first_row as u32);
            let shape = [rows, columns, part.panel_words(), 0, hidden as u32, first, 0, 0, 0, 0, 0, 0];
            embed.push(b.dispatch(Entry::Embed(part.encoding), shape, &[buffer, &x, &buffers.tokens]));
        }
        let kernel = b.kernels.get(Entry::Sample);
        let settings = b.buffer("settings", SamplerUniforms::BYTES, wgpu::BufferUsages::UNIFORM);
        let rng = b.storage("random numbers", 16);
        device.queue.write_buffer(&rng, 0, bytemuck::bytes_of(&Pcg32::new(0).state()));
        let history = b.storage("history", plan.history);
        let sample_buffers =
            [&settings, state, &buffers.logits, &buffers.tokens, &buffers.ids, &rng, &history];
        let bind = kernel.bind(device, &sample_buffers);
        let sample = Dispatch { kernel, bind };
        let sampler = SamplerState::new(settings, rng, history);
        let low_rank = gate_up.filter(|_| adapts).map(|gate_up| {
            let inner = [(); 3].map(|()| b.storage("low-rank products", plan.low_rank / 3));
            let (state, inner_stride) = (state.clone(), padded(options.adapter_rank));
            (gate_up, inner, state, inner_stride)
        });
        let allocated = b.allocated;
        let low_rank = low_rank.map(|(gate_up, inner, state, inner_stride)| LowRankBuffers {
            kernels: b.kernels,
            state,
            x,
            qkv,
            attended,
            gate_up,
            activated,
            inner,
            inner_stride,
            norms,
        });
        let logits = vec![0.0; options.logit_rows * config.vocab];
        // Start queued uploads now, not with the first batch.
        device.queue.submit([]);
        Ok(Gpu {
            device: device.clone(),
            config,
            options: *options,
            plan,
            buffers,
            embed,
            layers,
            adapters: Vec::new(),
            low_rank,
            uploaded: Vec::new(),
            caches,
            head,
            sample,
            sampler,
            queue: DecodeQueue::new(),
            state: State::default(),
            recording: None,
            dispatches: 0,
            rows: 0,
            reach: 0,
            has_head: false,
            logit_rows: 0,
            logits,
            allocated,
            reached: 0,
        })
    }
}
