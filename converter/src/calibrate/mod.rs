//! Quantization that knows the model's activations.
//!
//! Windows of a calibration text run through the f32 model and, beside it, through the model as it is quantized so
//! far. Each matrix is rounded for the inputs that it will really see, towards the outputs of the f32 model.

mod ldlq;
pub(crate) mod model;

use crate::quantize::{Coder, Loss};
use crate::read::{Checkpoint, Stored};
use crate::{ConvertError, encode, recipe, refused};
use candle_core::{Result as Computed, Tensor};
use ldlq::{Feedback, Moments};
use model::{Shape, matrix, project, source_values, stored_values};
use rayon::prelude::*;
use thimble_runtime::format::{Encoding, Role, TensorRecord};

/// How matrices are rounded.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Part of the mean of the diagonal of the second moments that is added to the diagonal.
    pub damping: f64,
    /// Whether targets make up for what was quantized before.
    pub catch_up: u8,
    /// Head.
    pub head: u8,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { damping: 0.01, catch_up: 1, head: 0 }
    }
}

/// Windows whose moments are summed one after the other; shards run in parallel.
const SHARD: usize = 4;

/// One tensor, quantized.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// As it will lie in the file.
    pub bytes: Vec<u8>,
    /// What it cost.
    pub loss: Loss,
}

/// The residual streams of all windows.
struct Streams {
    /// Of the f32 model.
    full: Vec<Tensor>,
    /// Of the model as it is stored.
    stored: Vec<Tensor>,
}

impl Streams {
    /// The same function of both streams; what it needs of the weights may differ.
    fn map(&self, full: impl Fn(&Tensor) -> Computed<Tensor> + Sync, stored: impl Fn(&Tensor) -> Computed<Tensor> + Sync) -> Computed<Streams> {
        let pairs = self.full.par_iter().zip(&self.stored).map(|(f, s)| Ok((full(f)?, stored(s)?)));
        let (full, stored) = pairs.collect::<Computed<Vec<_>>>()?.into_iter().unzip();
        Ok(Streams { full, stored })
    }

    fn add(&self, other: &Streams) -> Computed<Streams> {
        let sum = |a: &[Tensor], b: &[Tensor]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Computed<Vec<_>>>();
        Ok(Streams { full: sum(&self.full, &other.full)?, stored: sum(&self.stored, &other.stored)? })
    }
}

/// Sum over windows of `left`^T `right`, row-major.
fn products(left: &[Tensor], right: &[Tensor]) -> Computed<Vec<f64>> {
    let shards = left.par_chunks(SHARD).zip(right.par_chunks(SHARD)).map(|(left, right)| {
        let mut sum: Option<Tensor> = None;
        for (left, right) in left.iter().zip(right) {
            let product = left.t()?.matmul(right)?;
            sum = Some(match sum {
                None => product,
                Some(sum) => (sum + product)?,
            });
        }
        sum.map(|sum| sum.flatten_all()?.to_vec1::<f32>()).transpose()
    });
    let mut total: Vec<f64> = Vec::new();
    for shard in shards.collect::<Computed<Vec<_>>>()?.into_iter().flatten() {
        total.resize(shard.len(), 0.0);
        total.iter_mut().zip(shard).for_each(|(t, s)| *t += f64::from(s));
    }
    Ok(total)
}

/// What the matrices that share an input are rounded with.
struct Inputs {
    feedback: Feedback,
    columns: usize,
    /// (full - stored)^T stored: what the f32 model's inputs have that the stored one's lack.
    missing: Option<Tensor>,
}

/// A calibration under way.
struct Calibration<'c> {
    checkpoint: &'c Checkpoint,
    records: &'c [TensorRecord],
    settings: Settings,
    done: Vec<Option<Rounded>>,
}

impl Calibration<'_> {
    /// Index in the canonical order.
    fn index(&self, role: Role, layer: u16) -> usize {
        let tensors = self.checkpoint.tensors();
        tensors.iter().position(|t| t.role == role && t.layer == layer).unwrap_or(0)
    }

    fn tensor(&self, role: Role, layer: u16) -> &Stored {
        &self.checkpoint.tensors()[self.index(role, layer)]
    }

    fn full(&self, role: Role, layer: u16) -> Result<Tensor, ConvertError> {
        let tensor = self.tensor(role, layer);
        let values = source_values(self.checkpoint, tensor)?;
        if role.is_norm() {
            return Ok(Tensor::from_vec(values, tensor.columns, &candle_core::Device::Cpu)?);
        }
        Ok(matrix(values, tensor.rows, tensor.columns)?)
    }

    /// The second moments of an input, ready for rounding.
    fn inputs(&self, inputs: &Streams) -> Result<Inputs, ConvertError> {
        let mut values = products(&inputs.stored, &inputs.stored)?;
        let columns = (values.len() as f64).sqrt() as usize;
        let missing = match self.settings.catch_up {
            0 => None,
            _ => {
                let cross = products(&inputs.full, &inputs.stored)?;
                let missing = cross.iter().zip(&values).map(|(c, h)| (c - h) as f32).collect();
                Some(matrix(missing, columns, columns)?)
            }
        };
        let mut moments = Moments { columns, values: std::mem::take(&mut values) };
        moments.damp(self.settings.damping);
        let feedback = moments.feedback().ok_or_else(|| ConvertError::Calibration {
            reason: "activations overflow: the model cannot be run on this text in f32".to_owned(),
        })?;
        Ok(Inputs { feedback, columns, missing })
    }

    /// Rounds one matrix; returns what a reader will see.
    ///
    /// `behind`: what the stored residual stream lacks, times the inputs (outputs x inputs), where the matrix writes there.
    fn round(
        &mut self,
        role: Role,
        layer: u16,
        full: &Tensor,
        inputs: &Inputs,
        behind: Option<Vec<f64>>,
    ) -> Result<Tensor, ConvertError> {
        let index = self.index(role, layer);
        let tensor = &self.checkpoint.tensors()[index];
        let encoding = self.records[index].encoding;
        let coder = Coder::new(encoding).filter(|_| recipe::rounds(tensor.kind, encoding));
        let rounded = match coder {
            None => plain(self.checkpoint, tensor, &self.records[index])?,
            Some(coder) => {
                let mut weights = full.flatten_all()?.to_vec1::<f32>()?;
                if let Some(missing) = &inputs.missing {
                    let mut wish = full.matmul(missing)?.flatten_all()?.to_vec1::<f32>()?;
                    if let Some(behind) = behind {
                        wish.iter_mut().zip(behind).for_each(|(w, b)| *w += b as f32);
                    }
                    ldlq::solve(&inputs.feedback.factor, inputs.columns, &mut wish);
                    weights.iter_mut().zip(wish).for_each(|(w, d)| *w += d);
                }
                let done = ldlq::round(coder, encoding, &weights, &inputs.feedback);
                let (bytes, loss) = done.map_err(|r| refused(tensor, encoding, 0, r))?;
                Rounded { bytes, loss }
            }
        };
        let stored = stored_values(tensor, encoding, &rounded.bytes)?;
        let stored = matrix(stored, tensor.rows, tensor.columns)?;
        self.done[index] = Some(rounded);
        Ok(stored)
    }
}

/// A tensor rounded by itself.
fn plain(checkpoint: &Checkpoint, tensor: &Stored, record: &TensorRecord) -> Result<Rounded, ConvertError> {
    let (mut bytes, mut loss) = (Vec::new(), Loss::default());
    encode(checkpoint, tensor, record, &mut |piece, cost| {
        bytes.extend_from_slice(piece);
        loss.add(cost);
        Ok(())
    })?;
    Ok(Rounded { bytes, loss })
}

/// Rounds every matrix of a model; `None` stands for tensors that are to be stored as ever.
pub fn calibrate(
    checkpoint: &Checkpoint,
    records: &[TensorRecord],
    windows: &[Vec<u32>],
    settings: Settings,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Vec<Option<Rounded>>, ConvertError> {
    let config = checkpoint.config;
    let longest = windows.iter().map(Vec::len).max().unwrap_or(0);
    let shape = Shape::new(&config, longest)?;
    let none = Role::NO_LAYER;
    let mut work =
        Calibration { checkpoint, records, settings, done: vec![None; checkpoint.tensors().len()] };
    let embedding = work.full(Role::Embedding, none)?;
    let index = work.index(Role::Embedding, none);
    let tensor = &checkpoint.tensors()[index];
    let rounded = plain(checkpoint, tensor, &records[index])?;
    let stored = matrix(stored_values(tensor, records[index].encoding, &rounded.bytes)?, tensor.rows, tensor.columns)?;
    work.done[index] = Some(rounded);
    let embed = |from: &Tensor| {
        windows.par_iter().map(|window| shape.embed(from, window)).collect::<Computed<Vec<_>>>()
    };
    let mut x = Streams { full: embed(&embedding)?, stored: embed(&stored)? };
    drop(stored);
    let behind = |x: &Streams, inputs: &Streams, settings: Settings| -> Computed<Option<Vec<f64>>> {
        if settings.catch_up < 2 {
            return Ok(None);
        }
        let lack: Vec<Tensor> =
            x.full.par_iter().zip(&x.stored).map(|(f, s)| f - s).collect::<Computed<_>>()?;
        products(&lack, &inputs.stored).map(Some)
    };
    for layer in 0..config.layers as u16 {
        progress(&format!("layer {layer}"), usize::from(layer), config.layers + 1);
        let norm = work.full(Role::AttentionNorm, layer)?;
        let a = x.map(|x| shape.norm(x, &norm), |x| shape.norm(x, &norm))?;
        let inputs = work.inputs(&a)?;
        let mut weights = Vec::new();
        for role in [Role::Query, Role::Key, Role::Value] {
            let full = work.full(role, layer)?;
            let stored = work.round(role, layer, &full, &inputs, None)?;
            weights.push((full, stored));
        }
        let [q, k, v] = [&weights[0], &weights[1], &weights[2]];
        let a = a.map(
            |a| shape.attend(&project(a, &q.0)?, &project(a, &k.0)?, &project(a, &v.0)?),
            |a| shape.attend(&project(a, &q.1)?, &project(a, &k.1)?, &project(a, &v.1)?),
        )?;
        let inputs = work.inputs(&a)?;
        let full = work.full(Role::Output, layer)?;
        let lack = behind(&x, &a, settings)?;
        let stored = work.round(Role::Output, layer, &full, &inputs, lack)?;
        x = x.add(&a.map(|a| project(a, &full), |a| project(a, &stored))?)?;
        let norm = work.full(Role::FfnNorm, layer)?;
        let a = x.map(|x| shape.norm(x, &norm), |x| shape.norm(x, &norm))?;
        let inputs = work.inputs(&a)?;
        let mut weights = Vec::new();
        for role in [Role::Gate, Role::Up] {
            let full = work.full(role, layer)?;
            let stored = work.round(role, layer, &full, &inputs, None)?;
            weights.push((full, stored));
        }
        let [g, u] = [&weights[0], &weights[1]];
        let a = a.map(
            |a| shape.gated(&project(a, &g.0)?, &project(a, &u.0)?),
            |a| shape.gated(&project(a, &g.1)?, &project(a, &u.1)?),
        )?;
        let inputs = work.inputs(&a)?;
        let full = work.full(Role::Down, layer)?;
        let lack = behind(&x, &a, settings)?;
        let stored = work.round(Role::Down, layer, &full, &inputs, lack)?;
        x = x.add(&a.map(|a| project(a, &full), |a| project(a, &stored))?)?;
    }
    progress("head", config.layers, config.layers + 1);
    let head = if config.tied { Role::Embedding } else { Role::Head };
    if settings.head > 0 {
        let norm = work.full(Role::FinalNorm, none)?;
        let a = x.map(|x| shape.norm(x, &norm), |x| shape.norm(x, &norm))?;
        let inputs = work.inputs(&a)?;
        let full = work.full(head, none)?;
        work.round(head, none, &full, &inputs, None)?;
    }
    Ok(work.done)
}

/// Mean KL divergence.
pub struct Judge {
    shape: Shape,
    config: thimble_runtime::format::Config,
    windows: Vec<Vec<u32>>,
    reference: Vec<Tensor>,
    norm: Tensor,
    head: Tensor,
}

fn whole(
    checkpoint: &Checkpoint,
    get: &dyn Fn(usize, &Stored) -> Result<Vec<f32>, ConvertError>,
    windows: &[Vec<u32>],
    shape: &Shape,
) -> Result<(Vec<Tensor>, Tensor, Tensor), ConvertError> {
    let config = checkpoint.config;
    let load = |role: Role, layer: u16| -> Result<Tensor, ConvertError> {
        let index = checkpoint.tensors().iter().position(|t| t.role == role && t.layer == layer).unwrap();
        let tensor = &checkpoint.tensors()[index];
        let values = get(index, tensor)?;
        if role.is_norm() {
            return Ok(Tensor::from_vec(values, tensor.columns, &candle_core::Device::Cpu)?);
        }
        Ok(matrix(values, tensor.rows, tensor.columns)?)
    };
    let none = Role::NO_LAYER;
    let embedding = load(Role::Embedding, none)?;
    let mut x = windows.par_iter().map(|w| shape.embed(&embedding, w)).collect::<Computed<Vec<_>>>()?;
    for l in 0..config.layers as u16 {
        let layer = model::Layer {
            attention_norm: load(Role::AttentionNorm, l)?,
            attention: [load(Role::Query, l)?, load(Role::Key, l)?, load(Role::Value, l)?, load(Role::Output, l)?],
            ffn_norm: load(Role::FfnNorm, l)?,
            ffn: [load(Role::Gate, l)?, load(Role::Up, l)?, load(Role::Down, l)?],
        };
        x = x.par_iter().map(|x| shape.layer(x, &layer)).collect::<Computed<Vec<_>>>()?;
    }
    let norm = load(Role::FinalNorm, none)?;
    let head = if config.tied { embedding } else { load(Role::Head, none)? };
    Ok((x, norm, head))
}

impl Judge {
    /// New.
    pub fn new(checkpoint: &Checkpoint, windows: Vec<Vec<u32>>) -> Result<Judge, ConvertError> {
        let shape = Shape::new(&checkpoint.config, windows[0].len())?;
        let (x, norm, head) = whole(checkpoint, &|_, t| source_values(checkpoint, t), &windows, &shape)?;
        Ok(Judge { shape, config: checkpoint.config, windows, reference: x, norm, head })
    }

    fn kl(&self, x: &[Tensor], norm: &Tensor, head: &Tensor) -> Result<(f64, f64, f64), ConvertError> {
        let each = self.reference.par_iter().zip(x).zip(&self.windows).map(|((r, x), w)| {
            let p = self.shape.log_probabilities(r, &self.norm, &self.head)?;
            let q = self.shape.log_probabilities(x, norm, head)?;
            let kl = (p.exp()? * (&p - &q)?)?.sum_keepdim(1)?.flatten_all()?.to_vec1::<f32>()?;
            let next = Tensor::new(&w[1..], &candle_core::Device::Cpu)?.reshape((w.len() - 1, 1))?;
            let nll = |t: &Tensor| -> Computed<f32> {
                t.narrow(0, 0, w.len() - 1)?.contiguous()?.gather(&next, 1)?.sum_all()?.to_scalar::<f32>()
            };
            Ok((kl.iter().map(|&v| f64::from(v)).sum::<f64>(), f64::from(nll(&p)?), f64::from(nll(&q)?)))
        });
        let each = each.collect::<Computed<Vec<_>>>()?;
        let tokens: usize = self.windows.iter().map(Vec::len).sum();
        let next = (tokens - self.windows.len()) as f64;
        let sum = each.iter().fold((0.0, 0.0, 0.0), |a, e| (a.0 + e.0, a.1 + e.1, a.2 + e.2));
        Ok((sum.0 / tokens as f64, (-sum.1 / next).exp(), (-sum.2 / next).exp()))
    }

    /// KL, perplexity of the reference, perplexity.
    pub fn stored(
        &self,
        checkpoint: &Checkpoint,
        records: &[TensorRecord],
        rounded: &[Option<Rounded>],
    ) -> Result<(f64, f64, f64), ConvertError> {
        let get = |index: usize, tensor: &Stored| match &rounded[index] {
            Some(rounded) => stored_values(tensor, records[index].encoding, &rounded.bytes),
            None if records[index].encoding == Encoding::Vector => source_values(checkpoint, tensor),
            None => {
                let rounded = plain(checkpoint, tensor, &records[index])?;
                stored_values(tensor, records[index].encoding, &rounded.bytes)
            }
        };
        let (x, norm, head) = whole(checkpoint, &get, &self.windows, &self.shape)?;
        self.kl(&x, &norm, &head)
    }

    /// Other.
    pub fn other(&self, other: &Checkpoint) -> Result<(f64, f64, f64), ConvertError> {
        assert_eq!(other.config.layers, self.config.layers);
        let (x, norm, head) = whole(other, &|_, t| source_values(other, t), &self.windows, &self.shape)?;
        self.kl(&x, &norm, &head)
    }
}
