//! The CPU backend: executes operations immediately, in the caller's memory.

mod parts;

use crate::Token;
use crate::adapter::{Adapted, AdapterError, AdapterSet, WeightedAdapter, adapter_runs, apply};
use crate::format::TensorRole;
use crate::kernels::{
    Adjust, AttentionBatch, CHUNK, Input, Kernels, KvHeadMut, Matrix, ParallelKernels, Product, QuantGroup,
    Rope, ThreadPool,
};
use crate::memory::{Arena, Buffers, KvRegion, MemoryError, MemoryPlan, PlanOptions};
use crate::model::{Backend, Batch, Layer, Weights, forward};
use crate::sampler::Sampler;
use crate::sequence::{Limits, Sequence};
use core::ops::Range;

/// A model on the CPU, with the sequences of its plan: one as a [`Sequence`], several through
/// [`Sequences`](crate::sequences::Sequences). `A` holds the adapters of each, an array or a vector.
pub struct Cpu<'f, 'm, 't, T: ThreadPool, A = [AdapterSet<'f>; 1]> {
    weights: Weights<'f>,
    plan: MemoryPlan,
    parallel: ParallelKernels<'t, T>,
    buffers: Buffers<'m>,
    /// Weights of the current layer.
    layer: Layer<'f>,
    adapters: A,
    /// Parts of the current batch.
    parts: usize,
    /// Rows of the current batch.
    rows: usize,
    /// Valid rows of logits.
    logit_rows: usize,
}

impl<'f, 'm, 't, T: ThreadPool> Cpu<'f, 'm, 't, T> {
    /// A backend of one sequence in `memory`, which has the size and alignment of `plan`.
    ///
    /// # Errors
    /// [`MemoryError`], except [`MemoryError::Context`] and [`MemoryError::Overflow`].
    pub fn new(
        weights: Weights<'f>,
        plan: &MemoryPlan,
        kernels: Kernels,
        pool: &'t T,
        memory: &'m mut [u8],
    ) -> Result<Self, MemoryError> {
        Self::with_adapters(weights, plan, (kernels, pool), memory, [AdapterSet::default()])
    }

    /// Replaces the adapters by others, of the rank that the memory was planned for. Keys and values in the cache are those of
    /// the adapters before: run all tokens again, from position 0 on.
    ///
    /// # Errors
    /// [`AdapterError`]; the adapters are then as before. The fingerprint of the base model is not compared.
    pub fn set_adapters(&mut self, adapters: &[WeightedAdapter<'f>]) -> Result<(), AdapterError> {
        self.set_adapters_of(0, adapters).map(|_| ())
    }

    /// The adapters that have an effect.
    pub fn adapters(&self) -> &AdapterSet<'f> {
        &self.adapters[0]
    }

    /// Draws a token from another backend's `logits`, `[vocab]`, with this sequence's history. See [`Sequence::sample`].
    pub fn draw(&mut self, sampler: &mut Sampler<'_>, logits: &mut [f32], position: usize) -> Token {
        sampler.sample(logits, &self.buffers.history[..position], self.buffers.candidates)
    }

    /// Keys and values of one layer and key-value head in `chunks` of [`CHUNK`] positions, for transfers. To write them, first
    /// [`Cpu::reserve`] their positions.
    ///
    /// # Panics
    /// If there is no such layer or head, or the cache does not have the chunks: see [`Cpu::cached_chunks`].
    pub fn cache(&mut self, layer: usize, head: usize, chunks: Range<usize>) -> KvHeadMut<'_> {
        let region = KvRegion { slot: 0, layer, head };
        self.buffers.cache.head(region, chunks.start * CHUNK..chunks.end * CHUNK)
    }

    /// The chunks of a layer that a sequence of `end` positions needs to go on: all of them, or in a layer with a sliding
    /// window those that it reaches. The cache has them if [`Sequence::resumes_from`] of `end` is `end`, and after
    /// [`Cpu::reserve`] of positions up to `end`.
    pub fn cached_chunks(&self, layer: usize, end: usize) -> Range<usize> {
        self.buffers.cache.chunks(layer, end)
    }

    /// Makes room for `positions`, whose keys and values the caller then writes with [`Cpu::cache`] as far as
    /// [`Cpu::cached_chunks`] of their end has them. Drops what the cache has from their start on, and keeps earlier positions
    /// if [`Sequence::resumes_from`] of the start is the start. Running a batch does the same.
    pub fn reserve(&mut self, positions: Range<usize>) {
        self.buffers.cache.reserve(0, positions);
    }

    /// The residual stream of `rows` of a batch, `[rows, hidden]`. Another backend that ran the batch writes it here before
    /// [`Sequence::hidden_states`].
    pub fn residual(&mut self, rows: Range<usize>) -> &mut [f32] {
        let hidden = self.plan.config().hidden;
        &mut self.buffers.x[rows.start * hidden..rows.end * hidden]
    }
}

impl<'f, 'm, 't, T: ThreadPool, A> Cpu<'f, 'm, 't, T, A>
where
    A: AsRef<[AdapterSet<'f>]> + AsMut<[AdapterSet<'f>]>,
{
    /// A backend of as many sequences as `adapters` has sets.
    ///
    /// # Errors
    /// As [`Cpu::new`].
    pub(crate) fn with_adapters(
        weights: Weights<'f>,
        plan: &MemoryPlan,
        (kernels, pool): (Kernels, &'t T),
        memory: &'m mut [u8],
        adapters: A,
    ) -> Result<Self, MemoryError> {
        let [expected, found] = [adapters.as_ref().len(), plan.options().sequences];
        if found != expected {
            return Err(MemoryError::Sequences { expected, found });
        }
        if plan.config() != weights.config() || plan.tile() != kernels.tile {
            return Err(MemoryError::OtherModel);
        }
        let mut arena = Arena::new(memory, plan.bytes())?;
        let buffers = Buffers::carve(plan.config(), plan.options(), plan.tile(), &mut arena)?;
        debug_assert_eq!(arena.left(), 0, "the plan has the size of all buffers");
        let config = weights.config();
        config.rope.inverse_frequencies(buffers.frequencies);
        buffers.no_cos.fill(1.0);
        buffers.no_sin.fill(0.0);
        let layer = weights.layer(0);
        let parallel = ParallelKernels { kernels, pool };
        buffers.positions.fill(0);
        let (plan, parts, rows, logit_rows) = (*plan, 0, 0, 0);
        Ok(Cpu { weights, plan, parallel, buffers, layer, adapters, parts, rows, logit_rows })
    }

    /// The memory plan.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// The kernels in use.
    pub fn kernels(&self) -> Kernels {
        self.parallel.kernels
    }

    /// Whether a product with these matrices needs quantized activations.
    fn quantizes(&self, matrices: &[&Matrix<'_>]) -> bool {
        let quantized = |m: &&Matrix<'_>| m.encoding.is_quantized();
        !self.plan.options().exact && matrices.iter().any(quantized)
    }

    /// Applies the norm to `rows` and quantizes the result: the input of a product.
    fn normed<'a>(
        parallel: &ParallelKernels<'_, T>,
        rows: &[f32],
        (weight, epsilon, out): (&[f32], f32, &'a mut [f32]),
        mut groups: Option<&'a mut [QuantGroup]>,
    ) -> Input<'a> {
        let columns = weight.len();
        parallel.prepare(rows, columns, Some((weight, epsilon, &mut *out)), groups.as_deref_mut());
        Input { floats: out, groups: groups.map(|g| &*g), tokens: rows.len() / columns }
    }
}

impl<'f, T: ThreadPool, A> Backend for Cpu<'f, '_, '_, T, A>
where
    A: AsRef<[AdapterSet<'f>]> + AsMut<[AdapterSet<'f>]>,
{
    fn batch(&self) -> usize {
        self.plan.options().batch
    }

    fn context(&self) -> usize {
        self.plan.options().context
    }

    fn logit_rows(&self) -> usize {
        self.plan.options().logit_rows
    }

    fn layers(&self) -> usize {
        self.plan.config().layers
    }

    fn embed(&mut self, batch: &Batch<'_>) {
        self.embed_parts([(0, batch.tokens, batch.position)].into_iter());
    }

    fn project(&mut self, layer: usize) {
        self.layer = self.weights.layer(layer);
        let weights = self.layer;
        let config = *self.plan.config();
        let tokens = self.rows;
        let quantize = self.quantizes(&[&weights.query, &weights.key, &weights.value]);
        let b = &mut self.buffers;
        let runs = adapter_runs(&b.parts[..self.parts], self.adapters.as_ref());
        let x = &b.x[..tokens * config.hidden];
        let normed = &mut b.normed[..tokens * config.hidden];
        let norm = (weights.attention_norm, config.norm_eps, normed);
        let input = Self::normed(&self.parallel, x, norm, quantize.then_some(&mut *b.groups));
        let outputs = [
            Adapted { role: TensorRole::Query, out: b.query, columns: config.q_dim(), add: false },
            Adapted { role: TensorRole::Key, out: b.key, columns: config.kv_dim(), add: false },
            Adapted { role: TensorRole::Value, out: b.value, columns: config.kv_dim(), add: false },
        ];
        let adapted = apply(runs, &self.parallel, (layer, input), b.low_rank, outputs);
        let query = Product { matrix: weights.query, out: b.query, add: adapted[0] };
        let key = Product { matrix: weights.key, out: b.key, add: adapted[1] };
        let value = Product { matrix: weights.value, out: b.value, add: adapted[2] };
        self.parallel.multiply(input, [query, key, value]);
        if weights.qkv_bias.is_none() && weights.qk_norm.is_none() {
            return;
        }
        let [query_bias, key_bias, value_bias] =
            weights.qkv_bias.map_or([None; 3], |biases| biases.map(Some));
        let norm = |index: usize| weights.qk_norm.map(|norms| (norms[index], config.norm_eps));
        let (q_dim, kv_dim) = (config.q_dim(), config.kv_dim());
        let query = Adjust { rows: b.query, columns: q_dim, bias: query_bias, norm: norm(0) };
        let key = Adjust { rows: b.key, columns: kv_dim, bias: key_bias, norm: norm(1) };
        let value = Adjust { rows: b.value, columns: kv_dim, bias: value_bias, norm: None };
        self.parallel.adjust(tokens, [query, key, value]);
    }

    fn attend(&mut self, layer: usize) {
        let quantize = self.quantizes(&[&self.layer.output]);
        let (config, options) = (self.plan.config(), self.layer.options);
        let b = &mut self.buffers;
        let [cos, sin] = if options.rope { [&*b.cos, &*b.sin] } else { [&*b.no_cos, &*b.no_sin] };
        let attention = AttentionBatch {
            layer,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            parts: &b.parts[..self.parts],
            options,
            rope: Rope { cos, sin },
        };
        let groups = quantize.then_some(&mut *b.groups);
        let rows = [&*b.query, &*b.key, &*b.value];
        self.parallel.attend(&attention, rows, &mut b.cache, b.partials, b.attended, groups);
    }

    fn attention_output(&mut self, layer: usize) {
        let matrix = self.layer.output;
        let quantize = self.quantizes(&[&matrix]);
        let b = &mut self.buffers;
        let runs = adapter_runs(&b.parts[..self.parts], self.adapters.as_ref());
        let tokens = self.rows;
        let floats = &b.attended[..tokens * matrix.columns];
        let input = Input { floats, groups: quantize.then_some(&*b.groups), tokens };
        let output = Adapted { role: TensorRole::Output, out: b.x, columns: matrix.rows, add: true };
        apply(runs, &self.parallel, (layer, input), b.low_rank, [output]);
        self.parallel.multiply(input, [Product { matrix, out: b.x, add: true }]);
    }

    fn gate_up(&mut self, layer: usize) {
        let weights = self.layer;
        let config = *self.plan.config();
        let tokens = self.rows;
        let quantize = self.quantizes(&[&weights.gate, &weights.up]);
        let quantize_next = self.quantizes(&[&weights.down]);
        let b = &mut self.buffers;
        let runs = adapter_runs(&b.parts[..self.parts], self.adapters.as_ref());
        let x = &b.x[..tokens * config.hidden];
        let normed = &mut b.normed[..tokens * config.hidden];
        let norm = (weights.ffn_norm, config.norm_eps, normed);
        let input = Self::normed(&self.parallel, x, norm, quantize.then_some(&mut *b.groups));
        let outputs = [
            Adapted { role: TensorRole::Gate, out: b.gate, columns: config.ffn, add: false },
            Adapted { role: TensorRole::Up, out: b.up, columns: config.ffn, add: false },
        ];
        let adapted = apply(runs, &self.parallel, (layer, input), b.low_rank, outputs);
        let gate = Product { matrix: weights.gate, out: b.gate, add: adapted[0] };
        let up = Product { matrix: weights.up, out: b.up, add: adapted[1] };
        self.parallel.gate_up(input, gate, up, quantize_next.then_some(&mut *b.next_groups));
    }

    fn down(&mut self, layer: usize) {
        let matrix = self.layer.down;
        let quantize = self.quantizes(&[&matrix]);
        let b = &mut self.buffers;
        let runs = adapter_runs(&b.parts[..self.parts], self.adapters.as_ref());
        let tokens = self.rows;
        let floats = &b.gate[..tokens * matrix.columns];
        let groups = match tokens {
            // Quantized by `gate_up`.
            1 => &*b.next_groups,
            _ => {
                let groups = quantize.then_some(&mut *b.groups);
                self.parallel.prepare(floats, matrix.columns, None, groups);
                &*b.groups
            }
        };
        let input = Input { floats, groups: quantize.then_some(groups), tokens };
        let output = Adapted { role: TensorRole::Down, out: b.x, columns: matrix.rows, add: true };
        apply(runs, &self.parallel, (layer, input), b.low_rank, [output]);
        self.parallel.multiply(input, [Product { matrix, out: b.x, add: true }]);
    }

    fn head(&mut self, rows: Range<usize>) {
        let matrix = self.weights.head;
        let config = *self.plan.config();
        let quantize = self.quantizes(&[&matrix]);
        self.logit_rows = rows.len();
        if rows.is_empty() {
            return;
        }
        let b = &mut self.buffers;
        let x = &b.x[rows.start * config.hidden..rows.end * config.hidden];
        let normed = &mut b.normed[..x.len()];
        let norm = (self.weights.final_norm, config.norm_eps, normed);
        let input = Self::normed(&self.parallel, x, norm, quantize.then_some(&mut *b.groups));
        self.parallel.multiply(input, [Product { matrix, out: b.logits, add: false }]);
    }

    fn logits(&mut self) -> &mut [f32] {
        self.logit_rows_mut()
    }
}

impl<T: ThreadPool> Sequence for Cpu<'_, '_, '_, T> {
    fn limits(&self) -> Limits {
        let (config, options) = (self.plan.config(), self.plan.options());
        let &PlanOptions { context, batch, logit_rows, .. } = options;
        Limits { vocab: config.vocab, hidden: config.hidden, context, batch, logit_rows }
    }

    fn history(&mut self) -> &mut [Token] {
        self.buffers.history
    }

    fn history_and_logits(&mut self) -> (&[Token], &mut [f32]) {
        let vocab = self.plan.config().vocab;
        (self.buffers.history, &mut self.buffers.logits[..self.logit_rows * vocab])
    }

    fn resumes_from(&self, position: usize) -> usize {
        if self.buffers.cache.resumes(0, position) { position } else { 0 }
    }

    fn run(&mut self, batch: &Batch<'_>) {
        forward(self, batch);
    }

    fn head(&mut self, rows: Range<usize>) {
        Backend::head(self, rows);
    }

    fn hidden_states(&mut self, rows: Range<usize>) -> &[f32] {
        self.hidden_states_of(rows)
    }

    fn sample(&mut self, sampler: &mut Sampler<'_>, row: usize, position: usize) -> Token {
        self.sample_row(sampler, row, (0, position))
    }
}
