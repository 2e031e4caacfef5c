//! Quantization that knows the model's activations.
//!
//! Windows of a calibration text run through the f32 model and, beside it, through the model as it is quantized so
//! far. Each matrix is rounded for the inputs that it will really see, towards the outputs of the f32 model: where
//! X are the f32 model's inputs and Y the quantized one's, the weights W become W + W (X - Y) Y^T (Y Y^T)^-1 before
//! they are rounded, as in GPTAQ (Li et al., arXiv 2504.02692); matrices that write to the residual stream also make
//! up for what it lacks so far. Rounding compensates its own errors (`ldlq`).

mod ldlq;
pub(crate) mod model;
pub(crate) mod ops;
mod stream;
mod text;

pub use model::FloatModel;
pub use text::default_text;
pub(crate) use text::{CALIBRATION, Cut, windows};

use crate::ConvertError;
use crate::encode::encode;
use crate::quantize::{Coder, Loss, Rounded};
use crate::read::{SourceModel, Stored};
use candle_core::{Device, Result as Computed, Tensor};
use ldlq::{Feedback, Moments};
use model::{Layer, Shape, matrix, project, source_values, stored_values};
use rayon::prelude::*;
use stream::{Streams, products};
use thimble_runtime::format::{TensorRecord, TensorRole};

/// Part of the mean of the second moments' diagonal that is added to the diagonal.
const DAMPING: f64 = 0.05;
/// The same for an embedding that is the head too. Where it is looked up, an error costs the same in all directions; this
/// stands for that, and was the best of several for a small model.
const TIED_DAMPING: f64 = 0.4;

/// What the matrices that share an input are rounded with.
struct Inputs {
    streams: Streams,
    feedback: Feedback,
    /// (X - Y)^T Y.
    missing: Tensor,
}

/// A matrix of both models.
struct Pair {
    full: Tensor,
    stored: Tensor,
}

/// A calibration under way.
struct Work<'c> {
    model: &'c SourceModel,
    records: &'c [TensorRecord],
    shape: Shape,
    /// The residual streams.
    x: Streams,
    /// By place in the canonical order.
    done: Vec<Option<Rounded>>,
}

impl Work<'_> {
    /// The tensor's place in the canonical order.
    fn place(&self, role: TensorRole, layer: u16) -> usize {
        place(self.model, role, layer)
    }

    fn full(&self, role: TensorRole, layer: u16) -> Result<Tensor, ConvertError> {
        load(self.model, role, layer)
    }

    /// The residual streams behind a norm.
    fn normed(&self, role: TensorRole, layer: u16) -> Result<Streams, ConvertError> {
        let norm = self.full(role, layer)?;
        Ok(self.x.map(|x| self.shape.norm(x, &norm), |x| self.shape.norm(x, &norm))?)
    }

    /// The second moments of an input, ready for rounding.
    fn inputs(&self, streams: Streams) -> Result<Inputs, ConvertError> {
        let values = products(&streams.stored, &streams.stored)?;
        let cross = products(&streams.full, &streams.stored)?;
        let columns = streams.stored.first().map_or(Ok(0), |x| x.dim(1))?;
        let missing = cross.iter().zip(&values).map(|(c, h)| (c - h) as f32).collect();
        let missing = matrix(missing, columns, columns)?;
        let mut moments = Moments { columns, values };
        moments.damp(DAMPING);
        Ok(Inputs { streams, feedback: feedback(moments)?, missing })
    }

    /// Rounds a matrix; `residual` where it writes to the residual stream.
    fn round(
        &mut self,
        role: TensorRole,
        layer: u16,
        inputs: &Inputs,
        residual: bool,
    ) -> Result<Pair, ConvertError> {
        let place = self.place(role, layer);
        let (tensor, record) = (&self.model.tensors()[place], &self.records[place]);
        let full = self.full(role, layer)?;
        let coder = Coder::new(record.encoding).filter(|_| tensor.rounds(record.encoding));
        let mut rounded = match coder {
            None => plain(self.model, tensor, record)?,
            Some(coder) => {
                let mut wish = full.matmul(&inputs.missing)?.flatten_all()?.to_vec1::<f32>()?;
                if residual {
                    let lack = products(&self.x.lack()?, &inputs.streams.stored)?;
                    wish.iter_mut().zip(lack).for_each(|(w, l)| *w += l as f32);
                }
                inputs.feedback.solve(&mut wish);
                let mut weights = full.flatten_all()?.to_vec1::<f32>()?;
                weights.iter_mut().zip(wish).for_each(|(w, d)| *w += d);
                let done = ldlq::round(coder, record.encoding, &weights, &inputs.feedback);
                let (bytes, loss) =
                    done.map_err(|error| error.in_tensor(&tensor.name, 0, record.encoding.name()))?;
                Rounded { bytes, loss }
            }
        };
        let stored = stored_values(tensor, record.encoding, &rounded.bytes)?;
        if coder.is_some() {
            // What was rounded are weights moved on purpose: what a file says is its distance from the source's.
            rounded.loss = Loss::between(&full.flatten_all()?.to_vec1::<f32>()?, &stored);
        }
        let stored = matrix(stored, tensor.rows, tensor.columns)?;
        self.done[place] = Some(rounded);
        Ok(Pair { full, stored })
    }

    /// The first half of a layer.
    fn attention(&mut self, layer: u16) -> Result<(), ConvertError> {
        let inputs = self.inputs(self.normed(TensorRole::AttentionNorm, layer)?)?;
        let query = self.round(TensorRole::Query, layer, &inputs, false)?;
        let key = self.round(TensorRole::Key, layer, &inputs, false)?;
        let value = self.round(TensorRole::Value, layer, &inputs, false)?;
        let shape = &self.shape;
        let attended = inputs.streams.map(
            |x| shape.attend(&project(x, &query.full)?, &project(x, &key.full)?, &project(x, &value.full)?),
            |x| {
                shape.attend(
                    &project(x, &query.stored)?,
                    &project(x, &key.stored)?,
                    &project(x, &value.stored)?,
                )
            },
        )?;
        self.write(TensorRole::Output, layer, attended)
    }

    /// The second half of a layer.
    fn feed_forward(&mut self, layer: u16) -> Result<(), ConvertError> {
        let inputs = self.inputs(self.normed(TensorRole::FfnNorm, layer)?)?;
        let gate = self.round(TensorRole::Gate, layer, &inputs, false)?;
        let up = self.round(TensorRole::Up, layer, &inputs, false)?;
        let shape = &self.shape;
        let gated = inputs.streams.map(
            |x| shape.gated(&project(x, &gate.full)?, &project(x, &up.full)?),
            |x| shape.gated(&project(x, &gate.stored)?, &project(x, &up.stored)?),
        )?;
        self.write(TensorRole::Down, layer, gated)
    }

    /// Rounds a matrix that writes to the residual stream, and lets it write.
    fn write(&mut self, role: TensorRole, layer: u16, inputs: Streams) -> Result<(), ConvertError> {
        let inputs = self.inputs(inputs)?;
        let Pair { full, stored } = self.round(role, layer, &inputs, true)?;
        let added = inputs.streams.map(|x| project(x, &full), |x| project(x, &stored))?;
        self.x = self.x.add(&added)?;
        Ok(())
    }
}

/// What rounding needs of some second moments.
fn feedback(moments: Moments) -> Result<Feedback, ConvertError> {
    moments.feedback().ok_or_else(|| ConvertError::Calibration {
        reason: "activations overflow: this model cannot be run on this text in f32".to_owned(),
    })
}

/// The second moments of the f32 model's inputs of the head.
fn head_moments(model: &SourceModel, shape: &Shape, windows: &[Vec<u32>]) -> Result<Moments, ConvertError> {
    let embedding = load(model, TensorRole::Embedding, TensorRole::NO_LAYER)?;
    let mut x = windows.iter().map(|w| shape.embed(&embedding, w)).collect::<Computed<Vec<_>>>()?;
    for layer in 0..model.config.layers as u16 {
        let layer = Layer::load(model, layer)?;
        x = x.par_iter().map(|x| shape.layer(x, &layer)).collect::<Computed<_>>()?;
    }
    let norm = load(model, TensorRole::FinalNorm, TensorRole::NO_LAYER)?;
    let x = x.par_iter().map(|x| shape.norm(x, &norm)).collect::<Computed<Vec<_>>>()?;
    Ok(Moments { columns: model.config.hidden, values: products(&x, &x)? })
}

/// The place of a tensor in the canonical order.
pub(crate) fn place(model: &SourceModel, role: TensorRole, layer: u16) -> usize {
    // Every tensor that the configuration implies is there; it has been checked when the source was opened.
    model.tensors().iter().position(|t| t.role == role && t.layer == layer).unwrap_or(0)
}

/// A tensor of the source: a matrix, or a norm's vector.
pub(crate) fn load(model: &SourceModel, role: TensorRole, layer: u16) -> Result<Tensor, ConvertError> {
    let tensor = &model.tensors()[place(model, role, layer)];
    let values = source_values(model, tensor)?;
    if role.is_norm() {
        return Ok(Tensor::from_vec(values, tensor.columns, &Device::Cpu)?);
    }
    Ok(matrix(values, tensor.rows, tensor.columns)?)
}

/// A tensor rounded by itself.
pub(crate) fn plain(
    model: &SourceModel,
    tensor: &Stored,
    record: &TensorRecord,
) -> Result<Rounded, ConvertError> {
    let (mut bytes, mut loss) = (Vec::new(), Loss::default());
    encode(model, tensor, record, &mut |piece, cost| {
        bytes.extend_from_slice(piece);
        loss.add(cost);
        Ok(())
    })?;
    Ok(Rounded { bytes, loss })
}

/// Rounds the matrices of a model for its activations on `windows` of tokens; `None` stands for tensors that are to be
/// stored as ever: norms.
///
/// The same input gives the same bytes, whatever the number of threads. `progress` gets layers done and their number.
///
/// # Errors
/// A weight is not finite or too large for its encoding, or the source cannot be read.
pub(crate) fn calibrate(
    model: &SourceModel,
    records: &[TensorRecord],
    windows: &[Vec<u32>],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Option<Rounded>>, ConvertError> {
    let config = model.config;
    let shape = Shape::new(&config, windows.iter().map(Vec::len).max().unwrap_or(0));
    let first = place(model, TensorRole::Embedding, TensorRole::NO_LAYER);
    let (tensor, record) = (&model.tensors()[first], &records[first]);
    let coder = Coder::new(record.encoding).filter(|_| tensor.rounds(record.encoding));
    let rounded = match coder {
        Some(coder) if config.tied => {
            let mut moments = head_moments(model, &shape, windows)?;
            moments.damp(TIED_DAMPING);
            let full = load(model, TensorRole::Embedding, TensorRole::NO_LAYER)?;
            let done =
                ldlq::round(coder, record.encoding, &full.flatten_all()?.to_vec1()?, &feedback(moments)?);
            let (bytes, loss) =
                done.map_err(|error| error.in_tensor(&tensor.name, 0, record.encoding.name()))?;
            Rounded { bytes, loss }
        }
        _ => plain(model, tensor, record)?,
    };
    let full = load(model, TensorRole::Embedding, TensorRole::NO_LAYER)?;
    let stored = stored_values(tensor, record.encoding, &rounded.bytes)?;
    let stored = matrix(stored, tensor.rows, tensor.columns)?;
    let embed =
        |embedding: &Tensor| windows.iter().map(|w| shape.embed(embedding, w)).collect::<Computed<Vec<_>>>();
    let x = Streams { full: embed(&full)?, stored: embed(&stored)? };
    drop((full, stored));
    let mut work = Work { model, records, shape, x, done: vec![None; records.len()] };
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
