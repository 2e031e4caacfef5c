//! Everything that a model needs on the device, made once.

use crate::ahead::Ahead;
use crate::backend::{Buffers, Gpu, LayerSteps, State};
use crate::kernels::{Entry, Kernels};
use crate::plan::{RING, SPAN, padded, positions, qkv_width};
use crate::sampling::{Generation, SamplerUniforms};
use crate::steps::{Finish, Product, Route, Step, Store, pairs};
use crate::weights::{Piece, pieces};
use crate::{Device, GpuError, GpuOptions, GpuPlan};
use thimble_runtime::format::Config;
use thimble_runtime::kernels::{KvKind, Matrix};
use thimble_runtime::model::Weights;
use thimble_runtime::sampler::Pcg32;

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

    fn step(&mut self, entry: Entry, shape: [u32; 12], buffers: &[&wgpu::Buffer]) -> Step {
        let kernel = self.kernels.get(entry);
        let shape = self.kernels.uniform(shape);
        let buffers: Vec<_> = [&shape].into_iter().chain(buffers.iter().copied()).collect();
        let bind = kernel.bind(self.device, &buffers);
        Step { kernel, bind }
    }

    /// A norm's weights with zeros up to a whole group.
    fn norm(&mut self, weight: &[f32]) -> wgpu::Buffer {
        let mut padded_weight = vec![0.0; padded(weight.len())];
        padded_weight[..weight.len()].copy_from_slice(weight);
        let buffer = self.storage("norm", size_of_val(&*padded_weight) as u64);
        self.device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&padded_weight));
        buffer
    }
}

/// The pieces without their buffers.
fn only_pieces<'f>(uploaded: &[(Piece<'f>, wgpu::Buffer)]) -> Vec<Piece<'f>> {
    uploaded.iter().map(|(piece, _)| piece.clone()).collect()
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
    pub(crate) fn make(
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
            ids_staging: [(); 2].map(|()| b.buffer("ids for the host", RING as u64 * 4, read)),
        };
        let state = &buffers.state;
        let x = b.storage("x", plan.x);
        let qkv = b.storage("qkv", plan.qkv);
        let attended = b.storage("attended", plan.attended);
        let parts = b.storage("parts", plan.parts);
        let gate_up = (plan.gate_up > 0).then(|| b.storage("gate_up", plan.gate_up));
        let activated = b.storage("activated", plan.activated);
        let angle_table = b.storage("angles", plan.angles);
        device.queue.write_buffer(&angle_table, 0, bytemuck::cast_slice(&angles(&config, options.context)));

        let hidden = padded(config.hidden);
        let (qkv_stride, ffn_stride) = (padded(qkv_width(&config)), padded(config.ffn));
        let (q_stride, gate_up_stride) = (padded(config.q_dim()), padded(2 * config.ffn));
        let output_route = Route::new(state, (&attended, q_stride), (&x, hidden), Finish::Add);
        let down_route = Route::new(state, (&activated, ffn_stride), (&x, hidden), Finish::Add);
        let attention = [
            config.heads as u32,
            config.kv_heads as u32,
            config.head_dim as u32,
            positions(options) as u32,
            qkv_stride as u32,
            q_stride as u32,
            (1.0 / (config.head_dim as f32).sqrt()).to_bits(),
            SPAN as u32,
            0,
            0,
            0,
            0,
        ];
        let attention_shape = b.kernels.uniform(attention);
        let (ffn, in_stride, out_stride) = (config.ffn as u32, gate_up_stride as u32, ffn_stride as u32);
        let swiglu_shape = [ffn, in_stride, out_stride, ffn, 0, 0, 0, 0, 0, 0, 0, 0];
        let kv_bytes = options.kv.bytes() as u32;
        // Weights, input, output, norm, angles, keys and values; every WebGPU adapter has eight.
        let storable = device.device.limits().max_storage_buffers_per_shader_stage >= 7
            // The scale of a position's bytes needs a whole head, which a product's workgroup does not have.
            && options.kv != KvKind::Q8;
        let mut layers = Vec::with_capacity(config.layers);
        let mut caches = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let layer = weights.layer(index);
            let keys = b.storage("keys", plan.keys);
            let values = b.storage("values", plan.values);
            let uploaded = b.upload(&[layer.query, layer.key, layer.value])?;
            let norm = b.norm(layer.attention_norm);
            let norm = Some((&norm, config.norm_eps));
            let fused = storable && pairs(&only_pieces(&uploaded), config.head_dim / 2);
            let finish = match fused {
                true => Finish::Store(Store {
                    head_dim: config.head_dim,
                    bytes: kv_bytes,
                    shape: &attention_shape,
                    angles: &angle_table,
                    keys: &keys,
                    values: &values,
                }),
                false => Finish::Put,
            };
            let qkv_route = Route { norm, ..Route::new(state, (&x, hidden), (&qkv, qkv_stride), finish) };
            let qkv_products = b.products(&uploaded, &qkv_route);
            let stores = [state, &angle_table, &qkv, &keys, &values];
            let store = (!fused).then(|| b.step(Entry::Store(kv_bytes), attention, &stores));
            let attends = [state, &qkv, &keys, &values, &attended, &parts];
            let attend = b.step(Entry::Attend(kv_bytes), attention, &attends);
            let merge = b.step(Entry::Merge, attention, &[state, &attended, &parts]);
            let uploaded = b.upload(&[layer.output])?;
            let output = b.products(&uploaded, &output_route);
            let norm = b.norm(layer.ffn_norm);
            let norm = Some((&norm, config.norm_eps));
            let uploaded = b.upload(&[layer.gate, layer.up])?;
            let (gate_up_route, swiglu) = match &gate_up {
                Some(gate_up) if !pairs(&only_pieces(&uploaded), config.ffn) => (
                    Route::new(state, (&x, hidden), (gate_up, gate_up_stride), Finish::Put),
                    Some(b.step(Entry::Swiglu, swiglu_shape, &[gate_up, &activated])),
                ),
                _ => (Route::new(state, (&x, hidden), (&activated, ffn_stride), Finish::Swiglu), None),
            };
            let gate_up_products = b.products(&uploaded, &Route { norm, ..gate_up_route });
            let uploaded = b.upload(&[layer.down])?;
            let down = b.products(&uploaded, &down_route);
            layers.push(LayerSteps {
                qkv: qkv_products,
                store,
                attend,
                merge,
                output,
                gate_up: gate_up_products,
                swiglu,
                down,
            });
            caches.push([keys, values]);
        }
        let final_norm = b.norm(weights.final_norm);
        let head_route = Route {
            head: true,
            norm: Some((&final_norm, config.norm_eps)),
            ..Route::new(state, (&x, hidden), (&buffers.logits, config.vocab), Finish::Put)
        };
        let head_pieces = b.upload(&[weights.head])?;
        let head = b.products(&head_pieces, &head_route);
        let embedding = if config.tied { head_pieces } else { b.upload(&[weights.embedding])? };
        let mut embed = Vec::with_capacity(embedding.len());
        for (piece, buffer) in &embedding {
            let (rows, columns, first) = (piece.rows as u32, piece.columns as u32, piece.first_row as u32);
            let shape = [rows, columns, piece.panel_words(), 0, hidden as u32, first, 0, 0, 0, 0, 0, 0];
            let step = b.step(Entry::Embed(piece.encoding), shape, &[buffer, &x, &buffers.tokens]);
            embed.push(step);
        }
        let kernel = b.kernels.get(Entry::Sample);
        let settings = b.buffer("settings", SamplerUniforms::BYTES, wgpu::BufferUsages::UNIFORM);
        let rng = b.storage("random numbers", 16);
        device.queue.write_buffer(&rng, 0, bytemuck::bytes_of(&Pcg32::new(0).state()));
        let seen = b.storage("seen", plan.seen);
        let sample_buffers = [&settings, state, &buffers.logits, &buffers.tokens, &buffers.ids, &rng, &seen];
        let bind = kernel.bind(device, &sample_buffers);
        let sample = Step { kernel, bind };
        let generation = Generation::new(settings, rng, seen);
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
            caches,
            head,
            sample,
            generation,
            ahead: Ahead::new(),
            state: State::default(),
            recording: None,
            dispatches: 0,
            has_head: false,
            logit_rows: 0,
            logits,
            made,
        })
    }
}
