//! Calibrated quantization: rounds weights for the model's activations.
//!
//! Windows of a calibration text run through the f32 model and through the model as quantized so far. Each matrix is
//! rounded for the inputs it will see, towards the outputs of the f32 model: with inputs X of the f32 model and Y of the
//! quantized one, the weights W become W + W (X - Y) Y^T (Y Y^T)^-1 before they are rounded, as in GPTAQ (Li et al.,
//! arXiv 2504.02692). Matrices that write to the residual stream also correct its error so far. Rounding compensates
//! its own errors (`ldlq`).

mod activations;
mod ldlq;
pub(crate) mod model;
pub(crate) mod ops;
mod text;

pub use model::FloatModel;
pub use text::default_text;
pub(crate) use text::{CALIBRATION, Windows, windows};

use crate::ConvertError;
use crate::encode::encode;
use crate::quantize::{Distortion, QuantizedTensor, Quantizer};
use crate::read::{SourceModel, SourceTensor};
use activations::{Activations, Model, products};
use candle_core::{Result as Computed, Tensor};
use ldlq::{Feedback, Moments};
use model::{AttentionOptions, ForwardPass, Layer, load, matrix, project, stored_values, tensor_index};
use rayon::prelude::*;
use thimble_runtime::format::{TensorRecord, TensorRole};

/// Damping: the fraction of the diagonal's mean that is added to the diagonal of the second moments.
const DAMPING: f64 = 0.05;
/// Damping of a tied embedding. In lookups, errors cost the same in all directions, for which stronger damping stands;
/// this value was the best of several for a small model.
const TIED_DAMPING: f64 = 0.4;

/// What rounding needs of the inputs that several matrices share.
struct Inputs {
    activations: Activations,
    feedback: Feedback,
    /// (X - Y)^T Y.
    cross_moments: Tensor,
}

/// A matrix in both models.
struct Weights {
    reference: Tensor,
    quantized: Tensor,
}

impl Weights {
    /// `x` through the projection of one model.
    fn project(&self, x: &Tensor, model: Model) -> Computed<Tensor> {
        match model {
            Model::Reference => project(x, &self.reference),
            Model::Quantized => project(x, &self.quantized),
        }
    }
}

/// The state of a calibration.
struct Calibration<'c> {
    model: &'c SourceModel,
    records: &'c [TensorRecord],
    forward: ForwardPass,
    /// The residual activations.
    x: Activations,
    /// In canonical order.
    done: Vec<Option<QuantizedTensor>>,
}

impl Calibration<'_> {
    /// The residual streams after a norm.
    fn normed(&self, role: TensorRole, layer: u16) -> Result<Activations, ConvertError> {
        let norm = load(self.model, role, layer)?;
        Ok(self.x.map(|x, _| self.forward.norm(x, &norm))?)
    }

    /// Prepares an input for rounding.
    fn inputs(&self, activations: Activations) -> Result<Inputs, ConvertError> {
        let values = products(&activations.quantized, &activations.quantized)?;
        let cross = products(&activations.reference, &activations.quantized)?;
        let columns = activations.quantized.first().map_or(Ok(0), |x| x.dim(1))?;
        let cross_moments = cross.iter().zip(&values).map(|(c, h)| (c - h) as f32).collect();
        let cross_moments = matrix(cross_moments, columns, columns)?;
        let mut moments = Moments { columns, values };
        moments.damp(DAMPING);
        Ok(Inputs { activations, feedback: feedback(moments)?, cross_moments })
    }

    /// Rounds a matrix; `residual` if it writes to the residual stream.
    fn round(
        &mut self,
        role: TensorRole,
        layer: u16,
        inputs: &Inputs,
        residual: bool,
    ) -> Result<Weights, ConvertError> {
        let place = tensor_index(self.model, role, layer);
        let (tensor, record) = (&self.model.tensors()[place], &self.records[place]);
        let full = load(self.model, role, layer)?;
        let mut weights = full.flatten_all()?.to_vec1::<f32>()?;
        let quantizer = quantizer(tensor, record, &weights);
        let mut rounded = match quantizer {
            None => round_to_nearest(self.model, tensor, record)?,
            Some(quantizer) => {
                let mut correction = full.matmul(&inputs.cross_moments)?.flatten_all()?.to_vec1::<f32>()?;
                if residual {
                    let difference = products(&self.x.difference()?, &inputs.activations.quantized)?;
                    correction.iter_mut().zip(difference).for_each(|(w, l)| *w += l as f32);
                }
                inputs.feedback.solve(&mut correction);
                weights.iter_mut().zip(correction).for_each(|(w, d)| *w += d);
                let done = ldlq::round(quantizer, record.encoding, &weights, &inputs.feedback);
                let (bytes, distortion) =
                    done.map_err(|error| error.in_tensor(&tensor.name, 0, record.encoding.name()))?;
                QuantizedTensor { bytes, distortion }
            }
        };
        let stored = stored_values(tensor, record.encoding, &rounded.bytes)?;
        if quantizer.is_some() {
            // The weights were corrected before rounding; the reported distortion is relative to the source.
            rounded.distortion = Distortion::between(&full.flatten_all()?.to_vec1::<f32>()?, &stored);
        }
        let stored = matrix(stored, tensor.rows, tensor.columns)?;
        self.done[place] = Some(rounded);
        Ok(Weights { reference: full, quantized: stored })
    }

    /// Calibrates the attention block of a layer.
    fn attention(&mut self, layer: u16) -> Result<(), ConvertError> {
        let inputs = self.inputs(self.normed(TensorRole::AttentionNorm, layer)?)?;
        let query = self.round(TensorRole::Query, layer, &inputs, false)?;
        let key = self.round(TensorRole::Key, layer, &inputs, false)?;
        let value = self.round(TensorRole::Value, layer, &inputs, false)?;
        let (forward, options) = (&self.forward, AttentionOptions::load(self.model, layer)?);
        let attended = inputs.activations.map(|x, model| {
            let products = [query.project(x, model)?, key.project(x, model)?, value.project(x, model)?];
            forward.attend(products, &options)
        })?;
        self.write(TensorRole::Output, layer, attended)
    }

    /// Calibrates the feed-forward block of a layer.
    fn feed_forward(&mut self, layer: u16) -> Result<(), ConvertError> {
        let inputs = self.inputs(self.normed(TensorRole::FfnNorm, layer)?)?;
        let gate = self.round(TensorRole::Gate, layer, &inputs, false)?;
        let up = self.round(TensorRole::Up, layer, &inputs, false)?;
        let forward = &self.forward;
        let gated = inputs
            .activations
            .map(|x, model| forward.gated(&gate.project(x, model)?, &up.project(x, model)?))?;
        self.write(TensorRole::Down, layer, gated)
    }

    /// Rounds a matrix that writes to the residual stream, and updates the stream.
    fn write(&mut self, role: TensorRole, layer: u16, inputs: Activations) -> Result<(), ConvertError> {
        let inputs = self.inputs(inputs)?;
        let weights = self.round(role, layer, &inputs, true)?;
        let added = inputs.activations.map(|x, model| weights.project(x, model))?;
        self.x = self.x.add(&added)?;
        Ok(())
    }
}

/// What rounds a matrix; none if storing it changes no number, as after training for the encoding.
fn quantizer(tensor: &SourceTensor, record: &TensorRecord, weights: &[f32]) -> Option<Quantizer> {
    let quantizer = Quantizer::new(record.encoding).filter(|_| tensor.rounds(record.encoding));
    quantizer.filter(|quantizer| !quantizer.holds(weights, tensor.columns))
}

/// The feedback for rounding with these second moments.
fn feedback(moments: Moments) -> Result<Feedback, ConvertError> {
    moments.feedback().ok_or_else(|| ConvertError::Calibration {
        reason: "activations overflow: this model cannot be run on this text in f32".to_owned(),
    })
}

/// The second moments of the head's inputs in the f32 model.
fn head_moments(
    model: &SourceModel,
    forward: &ForwardPass,
    windows: &[Vec<u32>],
) -> Result<Moments, ConvertError> {
    let embedding = load(model, TensorRole::Embedding, TensorRole::NO_LAYER)?;
    let mut x = windows.iter().map(|w| forward.embed(&embedding, w)).collect::<Computed<Vec<_>>>()?;
    for layer in 0..model.config.layers as u16 {
        let layer = Layer::load(model, layer)?;
        x = x.par_iter().map(|x| forward.layer(x, &layer)).collect::<Computed<_>>()?;
    }
    let norm = load(model, TensorRole::FinalNorm, TensorRole::NO_LAYER)?;
    let x = x.par_iter().map(|x| forward.norm(x, &norm)).collect::<Computed<Vec<_>>>()?;
    Ok(Moments { columns: model.config.hidden, values: products(&x, &x)? })
}

/// Rounds a tensor to nearest.
pub(crate) fn round_to_nearest(
    model: &SourceModel,
    tensor: &SourceTensor,
    record: &TensorRecord,
) -> Result<QuantizedTensor, ConvertError> {
    let (mut bytes, mut distortion) = (Vec::new(), Distortion::default());
    encode(model, tensor, record, &mut |piece, cost| {
        bytes.extend_from_slice(piece);
        distortion.add(cost);
        Ok(())
    })?;
    Ok(QuantizedTensor { bytes, distortion })
}

/// Rounds the matrices of a model for its activations on `windows` of tokens; `None` stands for norms and biases, which
/// are not rounded.
///
/// The bytes do not depend on the number of threads. `progress` gets the number of finished layers and their total.
///
/// # Errors
/// A weight is not finite or too large for its encoding, or the source cannot be read.
pub(crate) fn calibrate(
    model: &SourceModel,
    records: &[TensorRecord],
    windows: &[Vec<u32>],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Option<QuantizedTensor>>, ConvertError> {
    let config = model.config;
    let forward = ForwardPass::new(&config, windows.iter().map(Vec::len).max().unwrap_or(0));
    let first = tensor_index(model, TensorRole::Embedding, TensorRole::NO_LAYER);
    let (tensor, record) = (&model.tensors()[first], &records[first]);
    let full = load(model, TensorRole::Embedding, TensorRole::NO_LAYER)?;
    let weights = full.flatten_all()?.to_vec1::<f32>()?;
    let rounded = match quantizer(tensor, record, &weights) {
        Some(quantizer) if config.tied => {
            let mut moments = head_moments(model, &forward, windows)?;
            moments.damp(TIED_DAMPING);
            let done = ldlq::round(quantizer, record.encoding, &weights, &feedback(moments)?);
            let (bytes, distortion) =
                done.map_err(|error| error.in_tensor(&tensor.name, 0, record.encoding.name()))?;
            QuantizedTensor { bytes, distortion }
        }
        _ => round_to_nearest(model, tensor, record)?,
    };
    drop(weights);
    let stored = stored_values(tensor, record.encoding, &rounded.bytes)?;
    let stored = matrix(stored, tensor.rows, tensor.columns)?;
    let embed = |embedding: &Tensor| {
        windows.iter().map(|w| forward.embed(embedding, w)).collect::<Computed<Vec<_>>>()
    };
    let x = Activations { reference: embed(&full)?, quantized: embed(&stored)? };
    drop((full, stored));
    let mut work = Calibration { model, records, forward, x, done: vec![None; records.len()] };
    work.done[first] = Some(rounded);
    for layer in 0..config.layers {
        progress(layer, config.layers);
        work.attention(layer as u16)?;
        work.feed_forward(layer as u16)?;
    }
    if !config.tied {
        let inputs = work.inputs(work.normed(TensorRole::FinalNorm, TensorRole::NO_LAYER)?)?;
        work.round(TensorRole::Head, TensorRole::NO_LAYER, &inputs, false)?;
    }
    progress(config.layers, config.layers);
    Ok(work.done)
}
