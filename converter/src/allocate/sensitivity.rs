//! Measures how each encoding of each tensor changes the predictions.

use super::EncodingChoice;
use crate::calibrate::model::{FloatModel, matrix, project, stored_values};
use crate::calibrate::{ops, round_to_nearest};
use crate::read::SourceModel;
use crate::{ConvertError, write};
use candle_core::{Result as Computed, Tensor};
use rayon::prelude::*;
use thimble_runtime::format::{Encoding, TensorRole};

/// Encodings to choose from, smallest first: those with two-level scales, which are better than others of their bits, and
/// all with 8 bits. Q8Row is smaller than Q8 and as good for embeddings; Q8 is better elsewhere.
fn candidates() -> Vec<Encoding> {
    let good = |&encoding: &Encoding| encoding.has_two_level_scales() || encoding.layout().bits() == 8;
    let mut candidates: Vec<Encoding> = Encoding::matrices().filter(good).collect();
    candidates.sort_by_key(|encoding| encoding.block_bytes());
    candidates
}

/// The encoding whose divergence is measured; the others are extrapolated from their errors.
const MEASURED: Encoding = Encoding::Q4Nl;

/// The f32 model and its activations.
struct Measurement<'c> {
    model: &'c SourceModel,
    float: FloatModel,
    windows: &'c [Vec<u32>],
    /// The residual streams before every layer and after the last one, by layer and window.
    before: Vec<Vec<Tensor>>,
    /// The predictions of the f32 model.
    reference: Vec<Predictions>,
}

/// The predictions of a window.
struct Predictions {
    logits: Vec<f32>,
    probabilities: Vec<f32>,
    /// The log-sum-exp of each position's logits.
    log_sums: Vec<f64>,
}

fn log_sum(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&v| f64::from((v - most).exp())).sum();
    f64::from(most) + sum.ln()
}

impl Predictions {
    fn new(logits: Vec<f32>, vocab: usize) -> Predictions {
        let log_sums: Vec<f64> = logits.par_chunks(vocab).map(log_sum).collect();
        let rows = logits.par_chunks(vocab).zip(&log_sums);
        let probability = |(row, sum): (&[f32], &f64)| -> Vec<f32> {
            row.iter().map(|&v| (f64::from(v) - sum).exp() as f32).collect()
        };
        let probabilities = rows.flat_map_iter(probability).collect();
        Predictions { logits, probabilities, log_sums }
    }

    /// The divergence of other logits from these, summed over positions, in nats.
    fn divergence(&self, logits: &[f32], vocab: usize) -> f64 {
        let rows = logits.par_chunks(vocab).zip(self.logits.par_chunks(vocab));
        let rows = rows.zip(self.probabilities.par_chunks(vocab)).zip(&self.log_sums);
        let each = rows.map(|(((other, own), probabilities), own_sum)| {
            let difference = own.iter().zip(other).zip(probabilities);
            let difference: f64 = difference.map(|((a, b), p)| f64::from(p * (a - b))).sum();
            difference - own_sum + log_sum(other)
        });
        each.collect::<Vec<f64>>().iter().sum()
    }
}

impl Measurement<'_> {
    fn embed(&self, embedding: &Tensor) -> Computed<Vec<Tensor>> {
        self.windows.iter().map(|window| self.float.forward.embed(embedding, window)).collect()
    }

    /// Runs the layers from `first` on.
    fn run_layers(&self, mut x: Vec<Tensor>, first: usize) -> Computed<Vec<Tensor>> {
        for layer in &self.float.layers[first..] {
            x = x.par_iter().map(|x| self.float.forward.layer(x, layer)).collect::<Computed<_>>()?;
        }
        Ok(x)
    }

    /// The mean divergence of the predictions from these residual streams, in nats per token.
    fn divergence(&self, x: &[Tensor], head: &Tensor) -> Computed<f64> {
        let vocab = self.model.config.vocab;
        let mut sum = 0.0;
        for (x, reference) in x.iter().zip(&self.reference) {
            sum += reference.divergence(&self.float.logits(x, head)?, vocab);
        }
        // Rounding errors can make it slightly negative.
        Ok((sum / self.windows.iter().map(Vec::len).sum::<usize>() as f64).max(0.0))
    }

    /// The divergence with one matrix of a layer replaced.
    fn divergence_with(&self, layer: usize, part: usize, weight: Tensor) -> Computed<f64> {
        let mut other = self.float.layers[layer].clone();
        match part.checked_sub(4) {
            None => other.attention[part] = weight,
            Some(part) => other.ffn[part] = weight,
        }
        let x = self.before[layer].par_iter().map(|x| self.float.forward.layer(x, &other));
        self.divergence(&self.run_layers(x.collect::<Computed<_>>()?, layer + 1)?, self.float.head())
    }

    /// The inputs of the four kinds of projections of a layer, with all windows concatenated.
    fn inputs(&self, layer: usize) -> Computed<[Tensor; 4]> {
        let (forward, layer, before) = (&self.float.forward, &self.float.layers[layer], &self.before[layer]);
        let each = before.par_iter().map(|x| {
            let [query, key, value, output] = &layer.attention;
            let a = forward.norm(x, &layer.attention_norm)?;
            let products = [project(&a, query)?, project(&a, key)?, project(&a, value)?];
            let heads = forward.attend(products, &layer.options)?;
            let x = ops::add(x, &project(&heads, output)?)?;
            let b = forward.norm(&x, &layer.ffn_norm)?;
            let gated = forward.gated(&project(&b, &layer.ffn[0])?, &project(&b, &layer.ffn[1])?)?;
            Ok([a, heads, b, gated])
        });
        let each: Vec<[Tensor; 4]> = each.collect::<Computed<_>>()?;
        let all = |kind: usize| Tensor::cat(&each.iter().map(|inputs| &inputs[kind]).collect::<Vec<_>>(), 0);
        Ok([all(0)?, all(1)?, all(2)?, all(3)?])
    }

    /// The choices for one matrix. `measured` measures the divergence of its coarse form.
    fn choices(
        &self,
        place: usize,
        full: &Tensor,
        inputs: &Tensor,
        measured: impl FnOnce(Tensor) -> Computed<f64>,
    ) -> Result<Vec<EncodingChoice>, ConvertError> {
        let tensor = &self.model.tensors()[place];
        let quantized = |encoding| -> Result<Tensor, ConvertError> {
            let records = write::layout([(tensor, encoding)])?;
            let rounded = round_to_nearest(self.model, tensor, &records[0])?;
            Ok(matrix(stored_values(tensor, encoding, &rounded.bytes)?, tensor.rows, tensor.columns)?)
        };
        // Squared error of the outputs.
        let energy = |form: &Tensor| -> Computed<f64> {
            let difference = project(inputs, &ops::subtract(form, full)?)?.flatten_all()?.to_vec1::<f32>()?;
            Ok(difference.iter().map(|&v| f64::from(v).powi(2)).sum())
        };
        let coarse = quantized(MEASURED)?;
        let coarse_energy = energy(&coarse)?;
        let divergence = measured(coarse)?;
        let mut choices = Vec::new();
        for encoding in candidates() {
            let energy = if encoding == MEASURED { coarse_energy } else { energy(&quantized(encoding)?)? };
            let part = if coarse_energy > 0.0 { energy / coarse_energy } else { 0.0 };
            choices.extend(EncodingChoice::new(encoding, tensor.rows, tensor.columns, divergence * part));
        }
        // A quantized source may have a lossless encoding that is no larger than others.
        let exact = tensor.lossless_encoding().filter(|lossless| lossless.is_quantized());
        choices.extend(
            exact.and_then(|lossless| EncodingChoice::new(lossless, tensor.rows, tensor.columns, 0.0)),
        );
        Ok(choices)
    }
}

/// The choices of every tensor in canonical order.
///
/// Takes 4 bytes of memory per weight of the model, and 8 per token and vocabulary entry.
pub(super) fn measure(
    model: &SourceModel,
    windows: &[Vec<u32>],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Vec<EncodingChoice>>, ConvertError> {
    let config = model.config;
    let longest = windows.iter().map(Vec::len).max().unwrap_or(0);
    let float = FloatModel::load(model, longest)?;
    let mut measurement = Measurement { model, float, windows, before: Vec::new(), reference: Vec::new() };
    measurement.before.push(measurement.embed(&measurement.float.embedding)?);
    for layer in &measurement.float.layers {
        let x = &measurement.before[measurement.before.len() - 1];
        let x = x.par_iter().map(|x| measurement.float.forward.layer(x, layer)).collect::<Computed<_>>()?;
        measurement.before.push(x);
    }
    for x in &measurement.before[config.layers] {
        let logits = measurement.float.logits(x, measurement.float.head())?;
        measurement.reference.push(Predictions::new(logits, config.vocab));
    }
    let measurement = measurement;
    let tensors = model.tensors();
    let last: Vec<Tensor> = measurement.before[config.layers]
        .iter()
        .map(|x| measurement.float.forward.norm(x, &measurement.float.norm))
        .collect::<Computed<_>>()?;
    let last = Tensor::cat(&last, 0)?;
    let mut cached: Option<(u16, [Tensor; 4])> = None;
    let mut all = Vec::new();
    for (place, tensor) in tensors.iter().enumerate() {
        progress(place, tensors.len());
        let number = tensor.layer as usize;
        let part = |role| TensorRole::of_layer(&config).filter(|r| !r.is_vector()).position(|r| r == role);
        let choices = match (tensor.role, part(tensor.role)) {
            (TensorRole::Embedding, _) => {
                // An untied embedding is the input of no projection: its own rows are its outputs.
                let seen = match config.tied {
                    true => last.clone(),
                    false => Tensor::eye(tensor.columns, last.dtype(), last.device())?,
                };
                measurement.choices(place, &measurement.float.embedding, &seen, |form| {
                    let x = measurement.run_layers(measurement.embed(&form)?, 0)?;
                    measurement.divergence(&x, if config.tied { &form } else { measurement.float.head() })
                })?
            }
            (TensorRole::Head, _) => {
                let measured =
                    |form: Tensor| measurement.divergence(&measurement.before[config.layers], &form);
                measurement.choices(place, measurement.float.head(), &last, measured)?
            }
            (_, Some(part)) => {
                if cached.as_ref().is_none_or(|(layer, _)| *layer != tensor.layer) {
                    cached = Some((tensor.layer, measurement.inputs(number)?));
                }
                let Some((_, inputs)) = &cached else { continue };
                let (layer, input) = (&measurement.float.layers[number], [0, 0, 0, 1, 2, 2, 3][part]);
                let full = if part < 4 { &layer.attention[part] } else { &layer.ffn[part - 4] };
                measurement.choices(place, full, &inputs[input], |form| {
                    measurement.divergence_with(number, part, form)
                })?
            }
            _ => EncodingChoice::of_norm(tensor),
        };
        all.push(choices);
    }
    progress(tensors.len(), tensors.len());
    Ok(all)
}
