//! The engine: one straight-line forward pass, one straight-line backward pass, over one arena.

use super::Parameters;
use super::activations::{Activations, DeviceSizes, LayerActivations, Passes};
use super::engine_options::EngineOptions;
use super::heads::{attention, split_heads, split_heads_backward};
use super::parameters::LayerParameters;
use super::projection::Projections;
use crate::data::TrainingBatch;
use crate::error::{Error, Result};
use crate::ops::{AdamW, Buffer, BufferSpan, LossTerms, Ops, RmsNorm};
use std::ops::Range;
use thimble_runtime::format::{Config, RopeParameters};

/// A model, its gradients and its optimizer on one device.
pub struct Engine<O> {
    config: Config,
    pub(super) parameters: Parameters,
    pub(super) options: EngineOptions,
    pub(super) ops: O,
    rotary_context: usize,
    /// What [`Engine::take_loss`] gives beside the device's sum.
    loss: f64,
    /// Factors of the learning rate, if it is not the same for all parameters.
    rates: Vec<(Range<usize>, f64)>,
}

impl<O: Ops> Engine<O> {
    /// An engine on a device that has room for the model's parameters; they are zero until [`Engine::write`].
    pub fn new(config: &Config, options: EngineOptions, ops: O) -> Engine<O> {
        Engine::with(config, Parameters::new(config), options, ops)
    }

    /// An engine with parameters of its own layout: frozen parts, adapters. The device has room for
    /// [`Parameters::lengths`].
    pub fn with(config: &Config, parameters: Parameters, options: EngineOptions, ops: O) -> Engine<O> {
        Engine { config: *config, parameters, options, ops, rotary_context: 0, loss: 0.0, rates: Vec::new() }
    }

    /// The layout of the parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The model's description.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device's operations, without the model.
    pub fn into_ops(self) -> O {
        self.ops
    }

    /// The device, for display.
    pub fn device(&self) -> String {
        self.ops.device()
    }

    /// Changes the rotary embedding.
    pub fn set_rope(&mut self, rope: RopeParameters) {
        if rope != self.config.rope {
            (self.config.rope, self.rotary_context) = (rope, 0);
        }
    }

    /// Replaces the beginning of the weights, gradients or moments.
    ///
    /// # Errors
    /// The device fails.
    pub fn write(&mut self, buffer: Buffer, values: &[f32]) -> Result<()> {
        self.ops.write(buffer, values)
    }

    /// Copies the beginning of the weights, gradients or moments out.
    ///
    /// # Errors
    /// The device fails.
    pub fn read(&self, buffer: Buffer, values: &mut [f32]) -> Result<()> {
        self.ops.read(buffer, values)
    }

    /// Allocates the arena for passes of that size once, so that later passes up to it allocate nothing.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn reserve(&mut self, sequences: usize, context: usize, passes: Passes) -> Result<()> {
        let spans = self.activations(sequences, context, passes);
        self.ops.reserve(spans.end)
    }

    /// Bytes of the arena for passes of that size.
    pub fn arena_bytes(&self, sequences: usize, context: usize, passes: Passes) -> usize {
        self.activations(sequences, context, passes).end * self.ops.activation_bytes()
    }

    /// Zeroes the gradients.
    ///
    /// # Errors
    /// The device fails.
    pub fn zero_gradients(&mut self) -> Result<()> {
        self.ops.zero_gradients()
    }

    /// Forward and backward pass over one micro-batch: adds its gradient, each target's times its weight, and to the loss
    /// the targets' negative log-likelihoods, without weights.
    ///
    /// # Errors
    /// The batch does not fit the model, or the device fails.
    pub fn accumulate(&mut self, batch: &TrainingBatch) -> Result<()> {
        let spans = self.begin(batch, Passes::Both)?;
        self.forward(&spans)?;
        self.loss_and_backward(&spans)
    }

    /// As [`Engine::accumulate`], with weights that depend on the losses: `weigh` gets the negative log-likelihood of
    /// every next token of the batch, whatever its weight there, and returns as many weights.
    ///
    /// The layers run once and only the head twice.
    ///
    /// # Errors
    /// As [`Engine::accumulate`], and those of `weigh`.
    pub fn accumulate_weighed(
        &mut self,
        batch: &TrainingBatch,
        weigh: impl FnOnce(&[f32]) -> Result<Vec<f32>>,
    ) -> Result<()> {
        let spans = self.begin(batch, Passes::Both)?;
        self.forward(&spans)?;
        let losses = self.ops.token_losses(spans.normed, self.parameters.head, spans.logits)?;
        let weights = weigh(&losses)?;
        if weights.len() != losses.len() {
            let (weights, targets) = (weights.len(), losses.len());
            return Err(Error::Invalid(format!("{weights} weights for the {targets} targets of a batch")));
        }
        self.ops.set_target_weights(&weights)?;
        self.loss_and_backward(&spans)
    }

    fn loss_and_backward(&mut self, spans: &Activations) -> Result<()> {
        let terms = LossTerms { z_loss: self.options.z_loss.unwrap_or(0.0) as f32 };
        self.ops.loss(spans.normed, self.parameters.head, spans.logits, Some(terms))?;
        self.backward(spans)
    }

    /// The sum of the losses of the micro-batches accumulated since the last call, in nats: negative log-likelihoods, or
    /// divergences of [`Engine::distill`]. Waits for the device, so that it is best called once a step.
    ///
    /// # Errors
    /// The device fails.
    pub fn take_loss(&mut self) -> Result<f64> {
        Ok(std::mem::take(&mut self.loss) + self.ops.take_loss()?)
    }

    /// The loss of `pass` alone; that of the micro-batches before stays to be taken.
    pub(super) fn loss_of(&mut self, pass: impl FnOnce(&mut Engine<O>) -> Result<()>) -> Result<f64> {
        self.loss += self.ops.take_loss()?;
        pass(self)?;
        self.ops.take_loss()
    }

    /// Sum of the negative log-likelihoods of a batch's targets in nats.
    ///
    /// # Errors
    /// The batch does not fit the model, or the device fails.
    pub fn evaluate(&mut self, batch: &TrainingBatch) -> Result<f64> {
        self.loss_of(|engine| {
            let spans = engine.begin(batch, Passes::Forward)?;
            engine.forward(&spans)?;
            engine.ops.loss(spans.normed, engine.parameters.head, spans.logits, None)
        })
    }

    /// Negative log-likelihood of every next token of a batch, whatever its weight, in nats.
    ///
    /// # Errors
    /// The batch does not fit the model, or the device fails.
    pub fn token_losses(&mut self, batch: &TrainingBatch) -> Result<Vec<f32>> {
        let spans = self.begin(batch, Passes::Forward)?;
        self.forward(&spans)?;
        self.ops.token_losses(spans.normed, self.parameters.head, spans.logits)
    }

    /// Logits after the last of `ids`.
    ///
    /// # Errors
    /// As [`Engine::next_logits`].
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        Ok(self.next_logits(&[ids])?.remove(0))
    }

    /// Logits after the last id of each sequence, in one pass over all of them; they may differ in length.
    ///
    /// # Errors
    /// There is no sequence, one is empty, an id is beyond the vocabulary, or the device fails.
    pub fn next_logits(&mut self, sequences: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let context = sequences.iter().map(|ids| ids.len()).max().unwrap_or(0);
        if sequences.iter().any(|ids| ids.is_empty()) {
            return Err(Error::Invalid("expected at least one token in every sequence, found none".into()));
        }
        // What follows a sequence's end is behind it, where it does not look.
        let mut padded = vec![0; sequences.len() * (context + 1)];
        for (row, ids) in padded.chunks_mut(context + 1).zip(sequences) {
            row[..ids.len()].copy_from_slice(ids);
        }
        let batch = TrainingBatch::new(sequences.len(), context, padded, vec![0; sequences.len() * context]);
        let spans = self.begin(&batch, Passes::Forward)?;
        self.forward(&spans)?;
        let (hidden, vocabulary) = (self.config.hidden, self.config.vocab);
        let output = BufferSpan { start: spans.logits.start, len: vocabulary };
        let mut all = Vec::with_capacity(sequences.len());
        for (index, ids) in sequences.iter().enumerate() {
            let row = index * context + ids.len() - 1;
            let last = BufferSpan { start: spans.normed.start + row * hidden, len: hidden };
            self.ops.linear(last, self.parameters.head, None, output)?;
            let mut logits = vec![0.0; vocabulary];
            self.ops.read_span(output, &mut logits)?;
            all.push(logits);
        }
        Ok(all)
    }

    /// Norm of the whole gradient.
    ///
    /// # Errors
    /// The device fails.
    pub fn gradient_norm(&mut self) -> Result<f64> {
        Ok(self.ops.gradient_square_sum()?.sqrt())
    }

    /// One optimizer step.
    ///
    /// # Errors
    /// The device fails.
    pub fn update(&mut self, step: AdamW) -> Result<()> {
        let step = AdamW { decayed: self.parameters.matrices, ..step };
        if self.rates.is_empty() {
            return self.ops.adamw(step, 0..self.parameters.trainable);
        }
        for (range, factor) in self.rates.iter().filter(|(_, factor)| *factor != 0.0) {
            let learning_rate = step.learning_rate * factor;
            self.ops.adamw(AdamW { learning_rate, ..step }, range.clone())?;
        }
        Ok(())
    }

    /// Factors of the learning rate for ranges of the trainable parameters, which they cover. A range with factor 0 stays.
    pub fn set_rates(&mut self, rates: Vec<(Range<usize>, f64)>) {
        self.rates = rates;
    }

    pub(super) fn begin(&mut self, batch: &TrainingBatch, passes: Passes) -> Result<Activations> {
        let (sequences, context) = (batch.sequences, batch.context);
        batch.check(self.config.vocab)?;
        if context > self.rotary_context {
            self.ops.set_rotary(&self.config.rope, self.config.head_dim, context)?;
            self.rotary_context = context;
        }
        let spans = self.activations(sequences, context, passes);
        self.ops.reserve(spans.end)?;
        self.ops.load_batch(batch)?;
        Ok(spans)
    }

    fn activations(&self, sequences: usize, context: usize, passes: Passes) -> Activations {
        let device = DeviceSizes {
            loss_scratch: self.ops.loss_scratch(sequences * context, self.config.vocab),
            statistic: self.ops.statistic_elements(),
        };
        Activations::new(
            (&self.config, &self.parameters.layers),
            self.options,
            (sequences, context),
            passes,
            device,
        )
    }

    pub(super) fn forward(&mut self, spans: &Activations) -> Result<()> {
        self.ops.embed(self.parameters.embedding, spans.residual[0])?;
        for layer in 0..self.config.layers {
            self.layer(spans, layer)?;
        }
        self.ops.rms_norm(self.final_norm(spans), spans.normed)
    }

    fn final_norm(&self, spans: &Activations) -> RmsNorm {
        let input = spans.residual[self.config.layers];
        RmsNorm { input, weight: self.parameters.final_norm, inverse_rms: spans.final_rms }
    }

    /// x + attention(norm(x)), then that + ffn(norm(that)).
    fn layer(&mut self, spans: &Activations, layer: usize) -> Result<()> {
        let weights = self.parameters.layers[layer];
        let ops = &mut self.ops;
        let (saved, input, output) = (&spans.layers[layer], spans.residual[layer], spans.residual[layer + 1]);
        let project = Projections::of(spans, saved, &weights);
        let qkv = first(spans.wide, spans.tokens * weights.qkv.rows);
        ops.rms_norm(attention_norm(input, saved, &weights), spans.normed)?;
        project.qkv.forward(ops, spans.normed, None, qkv)?;
        if let Some(bias) = weights.qkv_bias {
            ops.add_bias(bias, qkv)?;
        }
        let attention = attention(spans, &weights);
        split_heads(ops, attention, &weights, saved, qkv)?;
        ops.attention(attention, saved.heads, saved.attended)?;
        project.output.forward(ops, saved.attended.output, Some(input), saved.middle)?;

        let product = first(spans.wide, spans.tokens * weights.down.columns);
        ops.rms_norm(ffn_norm(saved, &weights), spans.normed)?;
        project.gate_up.forward(ops, spans.normed, None, saved.gate_up)?;
        ops.swiglu(spans.tokens, saved.gate_up, product)?;
        project.down.forward(ops, product, Some(saved.middle), output)
    }

    /// From the gradient of the normed last residual, which `loss` left in `normed`, to those of all trainable parameters.
    /// Below the lowest of them nothing is computed.
    pub(super) fn backward(&mut self, spans: &Activations) -> Result<()> {
        let layers = self.config.layers;
        self.ops.zero(spans.d_residual)?;
        self.ops.rms_norm_backward(self.final_norm(spans), spans.normed, spans.d_residual)?;
        for layer in (self.parameters.lowest_layer..layers).rev() {
            if self.options.activation_checkpointing && layer + 1 < layers {
                // This overwrites its output, which only the layer above has read.
                self.layer(spans, layer)?;
            }
            let weights = self.parameters.layers[layer];
            self.ffn_backward(spans, layer, weights)?;
            self.attention_backward(spans, layer, weights)?;
        }
        self.ops.embed_backward(self.parameters.embedding, spans.d_residual)
    }

    fn ffn_backward(&mut self, spans: &Activations, layer: usize, weights: LayerParameters) -> Result<()> {
        let (ops, saved) = (&mut self.ops, &spans.layers[layer]);
        let project = Projections::of(spans, saved, &weights);
        let product = first(spans.d_wide, spans.tokens * weights.down.columns);
        let normed = first(spans.d_normed, spans.normed.len);
        // Each of the two holds a gradient first, and behind the operation's backward pass its output again.
        project.down.input_gradient(ops, spans.d_residual, product)?;
        ops.swiglu_backward(spans.tokens, saved.gate_up, product)?;
        project.down.weight_gradient(ops, product, spans.d_residual)?;
        project.gate_up.input_gradient(ops, saved.gate_up, normed)?;
        ops.rms_norm_backward(ffn_norm(saved, &weights), normed, spans.d_residual)?;
        project.gate_up.weight_gradient(ops, normed, saved.gate_up)
    }

    fn attention_backward(
        &mut self,
        spans: &Activations,
        layer: usize,
        weights: LayerParameters,
    ) -> Result<()> {
        let (ops, saved, input) = (&mut self.ops, &spans.layers[layer], spans.residual[layer]);
        let project = Projections::of(spans, saved, &weights);
        let d_attended = first(spans.d_normed, saved.attended.output.len);
        project.output.input_gradient(ops, spans.d_residual, d_attended)?;
        project.output.weight_gradient(ops, saved.attended.output, spans.d_residual)?;
        let attention = attention(spans, &weights);
        ops.attention_backward(attention, saved.heads, saved.attended, d_attended, spans.d_heads)?;
        let d_qkv = first(spans.d_wide, spans.tokens * weights.qkv.rows);
        split_heads_backward(ops, attention, &weights, (spans, saved), d_qkv)?;
        if let Some(bias) = weights.qkv_bias {
            ops.add_bias_backward(bias, d_qkv)?;
        }
        let normed = first(spans.d_normed, spans.normed.len);
        project.qkv.input_gradient(ops, d_qkv, normed)?;
        ops.rms_norm_backward(attention_norm(input, saved, &weights), normed, spans.d_residual)?;
        project.qkv.weight_gradient(ops, normed, d_qkv)
    }
}

/// The norm before attention, of the residual stream `input`.
fn attention_norm(input: BufferSpan, saved: &LayerActivations, weights: &LayerParameters) -> RmsNorm {
    RmsNorm { input, weight: weights.attention_norm, inverse_rms: saved.attention_rms }
}

/// The norm before the feed-forward network.
fn ffn_norm(saved: &LayerActivations, weights: &LayerParameters) -> RmsNorm {
    RmsNorm { input: saved.middle, weight: weights.ffn_norm, inverse_rms: saved.ffn_rms }
}

/// The first `len` elements of a span.
fn first(span: BufferSpan, len: usize) -> BufferSpan {
    debug_assert!(len <= span.len);
    BufferSpan { start: span.start, len }
}
