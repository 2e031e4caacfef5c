//! Each operation of a device against the CPU's, from inputs that bf16 holds exactly.

use crate::data::TrainingBatch;
use crate::error::{Error, Result};
use crate::ops::{
    AdamW, Adapter, AdapterGradient, AdapterPart, Attended, AttentionShape, Buffer, BufferLengths,
    BufferSpan, Distillation, Heads, LossTerms, Ops, RmsNorm, WeightCopy, WeightMatrix, WeightVector,
};
use crate::random::SplitMix;
use half::bf16;
use serde::Serialize;
use thimble_runtime::format::{LayerOptions, RopeParameters};

/// Relative rms of what is rounded to bf16 once, and of what is f32 all along.
const BF16: f64 = 0.005;
const F32: f64 = 1e-4;

/// An output of an operation, on a device and on the CPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationParity {
    /// What is compared.
    pub name: &'static str,
    /// Norm of the difference over the norm of the CPU's; infinite if one is not a number.
    pub distance: f64,
    /// What the distance stays below.
    pub bound: f64,
}

impl OperationParity {
    /// Whether the distance is below its bound.
    pub fn holds(&self) -> bool {
        self.distance < self.bound
    }
}

/// What [`compare_operations`] needs of the flat buffers.
pub const OPERATIONS_LENGTHS: BufferLengths = BufferLengths { weights: WEIGHTS, gradients: TRAINED };

/// Runs every operation on two devices with room for [`OPERATIONS_LENGTHS`], and compares what they write.
///
/// # Errors
/// A device fails.
pub fn compare_operations(found: impl Ops, expected: impl Ops) -> Result<Vec<OperationParity>> {
    let (found, expected) = (run(found)?, run(expected)?);
    Ok(found.iter().zip(&expected).map(|(found, expected)| found.against(expected)).collect())
}

/// What an operation wrote.
struct Output {
    name: &'static str,
    bound: f64,
    values: Vec<f32>,
}

impl Output {
    fn against(&self, expected: &Output) -> OperationParity {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let both = self.values.iter().zip(&expected.values);
        let difference = norm(&mut both.map(|(&a, &b)| f64::from(a) - f64::from(b)));
        let distance = difference / norm(&mut expected.values.iter().map(|&b| f64::from(b)));
        let distance = if distance.is_nan() { f64::INFINITY } else { distance };
        OperationParity { name: self.name, distance, bound: self.bound }
    }
}

/// Lays out parameters and activations, and fills the latter by embedding rows of the former.
struct Trial<O> {
    ops: O,
    tokens: usize,
    arena: usize,
    weights: usize,
    outputs: Vec<Output>,
}

/// Elements of the arena and of the weights, of which the first half is trained.
const ARENA: usize = 1 << 20;
const WEIGHTS: usize = 1 << 19;
const TRAINED: usize = 3 << 17;

impl<O: Ops> Trial<O> {
    fn span(&mut self, len: usize) -> BufferSpan {
        let start = self.arena.next_multiple_of(16);
        self.arena = start + len;
        debug_assert!(self.arena <= ARENA);
        BufferSpan { start, len }
    }

    fn statistics(&mut self, count: usize) -> BufferSpan {
        self.span(count * self.ops.statistic_elements())
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> WeightMatrix {
        let start = self.weights.next_multiple_of(8);
        self.weights = start + rows * columns;
        debug_assert!(self.weights <= WEIGHTS);
        WeightMatrix { start, rows, columns }
    }

    /// Activations of `columns` columns, which are rows of the weights: the batch's ids count up.
    fn input(&mut self, columns: usize) -> Result<BufferSpan> {
        let (table, span) = (self.matrix(self.tokens, columns), self.span(self.tokens * columns));
        self.ops.embed(table, span)?;
        Ok(span)
    }

    fn keep(&mut self, name: &'static str, span: BufferSpan) -> Result<()> {
        let mut values = vec![0.0; span.len];
        self.ops.read_span(span, &mut values)?;
        self.outputs.push(Output { name, bound: BF16, values });
        Ok(())
    }

    fn keep_gradient(&mut self, name: &'static str, start: usize, len: usize) -> Result<()> {
        let mut values = vec![0.0; start + len];
        self.ops.read(Buffer::Gradients, &mut values)?;
        self.outputs.push(Output { name, bound: BF16, values: values.split_off(start) });
        Ok(())
    }
}

const SEQUENCES: usize = 2;
const CONTEXT: usize = 70;

/// Ids that count up, so that every token is a row of its own, over all sequences.
fn counting() -> TrainingBatch {
    let rows = (0..SEQUENCES).flat_map(|sequence| sequence * CONTEXT..=(sequence + 1) * CONTEXT);
    // Documents of 5, 4, 47 and 14 tokens.
    let starts: Vec<u32> = [(0, 5), (5, 4), (9, 47), (56, 14)]
        .into_iter()
        .flat_map(|(start, length)| std::iter::repeat_n(start, length))
        .collect();
    let mut batch =
        TrainingBatch::new(SEQUENCES, CONTEXT, rows.map(|id| id as u32).collect(), starts.repeat(SEQUENCES))
            .weighed(0.25);
    batch.weights.iter_mut().step_by(3).for_each(|weight| *weight = 0.0);
    batch
}

/// Runs every operation once.
fn run<O: Ops>(ops: O) -> Result<Vec<Output>> {
    let mut trial = Trial { ops, tokens: SEQUENCES * CONTEXT, arena: 0, weights: 0, outputs: Vec::new() };
    let mut random = SplitMix::new(1, 0);
    let weights: Vec<f32> =
        (0..WEIGHTS).map(|_| bf16::from_f32(random.uniform() as f32 - 0.5).to_f32()).collect();
    let teacher: Vec<f32> =
        (0..WEIGHTS).map(|_| bf16::from_f32(random.uniform() as f32 - 0.5).to_f32()).collect();
    trial.ops.write(Buffer::Weights, &weights)?;
    trial.ops.write_copy(WeightCopy::Teacher, &teacher)?;
    trial.ops.reserve(ARENA)?;
    trial.ops.load_batch(&counting())?;
    trial.ops.set_rotary(&RopeParameters::new(1e4), 64, CONTEXT)?;
    trial.ops.zero_gradients()?;
    norm(&mut trial)?;
    linear(&mut trial)?;
    adapter(&mut trial)?;
    swiglu(&mut trial)?;
    attention(&mut trial)?;
    loss(&mut trial)?;
    divergence(&mut trial)?;
    embedding(&mut trial)?;
    optimizer(&mut trial)?;
    Ok(trial.outputs)
}

fn norm<O: Ops>(trial: &mut Trial<O>) -> Result<()> {
    let columns = 136;
    let input = trial.input(columns)?;
    let weight = WeightVector { start: trial.matrix(1, columns).start, len: columns };
    let norm = RmsNorm { input, weight, inverse_rms: trial.statistics(trial.tokens) };
    let (output, dy, dx) = (trial.span(input.len), trial.input(columns)?, trial.input(columns)?);
    trial.ops.rms_norm(norm, output)?;
    trial.keep("norm", output)?;
    trial.ops.rms_norm_backward(norm, dy, dx)?;
    trial.keep("norm again", dy)?;
    trial.keep("norm's input gradient", dx)?;
    trial.keep_gradient("norm's weight gradient", weight.start, columns)?;
    Ok(())
}

fn linear<O: Ops>(trial: &mut Trial<O>) -> Result<()> {
    let (inputs, outputs) = (40, 56);
    let (input, residual) = (trial.input(inputs)?, trial.input(outputs)?);
    let weight = trial.matrix(outputs, inputs);
    let (plain, sum) = (trial.span(residual.len), trial.span(residual.len));
    trial.ops.linear(input, weight, None, plain)?;
    trial.ops.linear(input, weight, Some(residual), sum)?;
    trial.keep("product", plain)?;
    trial.keep("product and residual", sum)?;
    let dx = trial.span(input.len);
    trial.ops.linear_input_gradient(weight, residual, dx)?;
    trial.keep("product's input gradient", dx)?;
    // Twice, so that what was there is added to.
    trial.ops.linear_weight_gradient(weight, input, residual)?;
    trial.ops.linear_weight_gradient(weight, input, residual)?;
    trial.keep_gradient("product's weight gradient", weight.start, outputs * inputs)?;
    Ok(())
}

fn adapter<O: Ops>(trial: &mut Trial<O>) -> Result<()> {
    let (inputs, rank) = (40, 8);
    let a = trial.matrix(2 * rank, inputs);
    let part = |b, first_output| Some(AdapterPart { b, first_output });
    let (first, second) = (trial.matrix(16, rank), trial.matrix(24, rank));
    let adapter = Adapter { a, parts: [part(first, 8), part(second, 32), None], scale: 0.75 };
    let (input, output, dy) = (trial.input(inputs)?, trial.input(64)?, trial.input(64)?);
    let (hidden, d_hidden) =
        (trial.span(adapter.hidden_len(trial.tokens)), trial.span(adapter.hidden_len(trial.tokens)));
    trial.ops.adapter(&adapter, input, hidden, output)?;
    trial.keep("adapter's inner", hidden)?;
    trial.keep("adapter", output)?;
    let dx = trial.input(inputs)?;
    let gradient = AdapterGradient { hidden, d_output: dy, d_hidden };
    trial.ops.adapter_input_gradient(&adapter, gradient, dx)?;
    trial.keep("adapter's input gradient", dx)?;
    trial.ops.adapter_weight_gradient(&adapter, input, gradient)?;
    trial.keep_gradient("gradient of A", a.start, 2 * rank * inputs)?;
    trial.keep_gradient("gradient of the first B", first.start, 16 * rank)?;
    trial.keep_gradient("gradient of the second B", second.start, 24 * rank)?;
    Ok(())
}

fn swiglu<O: Ops>(trial: &mut Trial<O>) -> Result<()> {
    let width = 72;
    let (fused, dy) = (trial.input(2 * width)?, trial.input(width)?);
    let output = trial.span(dy.len);
    trial.ops.swiglu(trial.tokens, fused, output)?;
    trial.keep("SwiGLU", output)?;
    trial.ops.swiglu_backward(trial.tokens, fused, dy)?;
    trial.keep("SwiGLU again", dy)?;
    trial.keep("SwiGLU's gradient", fused)?;
    Ok(())
}

fn attention<O: Ops>(trial: &mut Trial<O>) -> Result<()> {
    for (heads, kv_heads, names) in [
        (3, 1, ["heads", "attention", "attention's gradient"]),
        (2, 2, ["heads, 1", "attention, 1", "attention's gradient, 1"]),
        (4, 2, ["heads, 2", "attention, 2", "attention's gradient, 2"]),
        (4, 1, ["heads, 4", "attention, 4", "attention's gradient, 4"]),
    ] {
        let (dim, all) = (64, heads + 2 * kv_heads);
        let shape = AttentionShape {
            sequences: SEQUENCES,
            context: CONTEXT,
            heads,
            kv_heads,
            head_dim: dim,
            document_mask: heads != 2,
            options: LayerOptions::PLAIN,
        };
        let (arena, weights) = (trial.arena, trial.weights);
        let tokens = trial.tokens;
        let fused = trial.input(all * dim)?;
        let mut split = || Heads {
            query: trial.span(tokens * heads * dim),
            key: trial.span(tokens * kv_heads * dim),
            value: trial.span(tokens * kv_heads * dim),
        };
        let (apart, d_apart) = (split(), split());
        let log_sum = trial.statistics(tokens * heads);
        let attended = Attended { output: trial.span(tokens * heads * dim), log_sum };
        trial.ops.split_heads(shape, true, fused, apart)?;
        trial.keep(names[0], apart.query)?;
        trial.keep(names[0], apart.key)?;
        trial.keep(names[0], apart.value)?;
        trial.ops.attention(shape, apart, attended)?;
        trial.keep(names[1], attended.output)?;
        let d_output = trial.input(heads * dim)?;
        trial.ops.attention_backward(shape, apart, attended, d_output, d_apart)?;
        trial.keep(names[2], d_apart.query)?;
        trial.keep(names[2], d_apart.key)?;
        trial.keep(names[2], d_apart.value)?;
        trial.ops.split_heads_backward(shape, true, d_apart, fused)?;
        trial.keep(names[2], fused)?;
        // The next ones use the same memory.
        (trial.arena, trial.weights) = (arena, weights);
    }
    Ok(())
}

fn loss<O: Ops>(trial: &mut Trial<O>) -> Result<()> {
    let (width, classes) = (24, 211);
    let head = trial.matrix(classes, width);
    // The loss may move the rows of what it is given.
    let (hidden, evaluated) = (trial.input(width)?, trial.input(width)?);
    // Not all tokens at once.
    let scratch = trial.span(trial.ops.loss_scratch(33, classes));
    let losses = trial.ops.token_losses(hidden, head, scratch)?;
    trial.outputs.push(Output { name: "token losses", bound: BF16, values: losses });
    trial.ops.loss(evaluated, head, scratch, None)?;
    trial.ops.loss(hidden, head, scratch, Some(LossTerms { z_loss: 0.01 }))?;
    let sum = trial.ops.take_loss()?;
    trial.outputs.push(Output { name: "loss", bound: BF16, values: vec![sum as f32] });
    let rest = trial.ops.take_loss()?;
    if rest != 0.0 {
        return Err(Error::Invalid(format!("expected no loss behind the one that was taken, found {rest}")));
    }
    trial.keep("loss's gradient", hidden)?;
    trial.keep_gradient("head's gradient", head.start, classes * width)?;
    Ok(())
}

fn divergence<O: Ops>(trial: &mut Trial<O>) -> Result<()> {
    let (width, classes) = (24, 211);
    let head = trial.matrix(classes, width);
    let operands = Distillation { student: trial.input(width)?, teacher: trial.input(width)?, head };
    let scratch = trial.span(trial.ops.loss_scratch(33, classes));
    trial.ops.distillation_loss(operands, scratch, true)?;
    let sum = trial.ops.take_loss()?;
    trial.outputs.push(Output { name: "divergence", bound: BF16, values: vec![sum as f32] });
    trial.keep("divergence's gradient", operands.student)?;
    trial.keep_gradient("divergence's head gradient", head.start, classes * width)?;
    // Passes read a copy where it is selected.
    trial.ops.select_weights(Some(WeightCopy::Teacher))?;
    let of_teacher = trial.input(16)?;
    trial.keep("teacher's embedding", of_teacher)?;
    trial.ops.select_weights(None)?;
    let copied = trial.span(of_teacher.len);
    trial.ops.copy(of_teacher, copied)?;
    trial.keep("copy", copied)?;
    Ok(())
}

fn embedding<O: Ops>(trial: &mut Trial<O>) -> Result<()> {
    let (rows, columns) = (5, 48);
    let table = trial.matrix(rows, columns);
    let d_output = trial.input(columns)?;
    // Some ids are far more frequent than one segment holds, one is missing.
    let ids: Vec<u32> =
        (0..SEQUENCES * (CONTEXT + 1)).map(|at| if at % 9 == 0 { (at % 4) as u32 } else { 4 }).collect();
    let starts = vec![0; trial.tokens];
    trial.ops.load_batch(&TrainingBatch::new(SEQUENCES, CONTEXT, ids, starts))?;
    trial.ops.embed_backward(table, d_output)?;
    trial.ops.embed_backward(table, d_output)?;
    trial.keep_gradient("embedding's gradient", table.start, rows * columns)?;
    Ok(())
}

fn optimizer<O: Ops>(trial: &mut Trial<O>) -> Result<()> {
    let mut random = SplitMix::new(2, 0);
    let mut random =
        |scale: f32| (0..TRAINED).map(|_| scale * (random.uniform() as f32 - 0.5)).collect::<Vec<f32>>();
    let (gradients, first) = (random(0.2), random(0.1));
    let second: Vec<f32> = random(0.1).iter().map(|x| x * x).collect();
    trial.ops.write(Buffer::Gradients, &gradients)?;
    trial.ops.write(Buffer::FirstMoment, &first)?;
    trial.ops.write(Buffer::SecondMoment, &second)?;
    let sum = trial.ops.gradient_square_sum()?;
    trial.outputs.push(Output { name: "squares", bound: F32, values: vec![sum as f32] });
    let step = AdamW {
        learning_rate: 0.01,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 3,
        gradient_scale: 0.5,
        decayed: TRAINED - 1001,
    };
    // In two parts, of which the second is decayed in part.
    trial.ops.adamw(step, 0..TRAINED / 2)?;
    trial.ops.adamw(step, TRAINED / 2..TRAINED)?;
    for (name, buffer) in [
        ("weights", Buffer::Weights),
        ("first moment", Buffer::FirstMoment),
        ("second moment", Buffer::SecondMoment),
    ] {
        let mut values = vec![0.0; TRAINED];
        trial.ops.read(buffer, &mut values)?;
        trial.outputs.push(Output { name, bound: F32, values });
    }
    // The rounded copy follows.
    trial.weights = 0;
    trial.ops.load_batch(&counting())?;
    let embedded = trial.input(64)?;
    trial.keep("rounded weights", embedded)?;
    for bad in [f32::NAN, f32::INFINITY] {
        trial.ops.write(Buffer::Gradients, &[0.0, bad])?;
        let sum = trial.ops.gradient_square_sum()?;
        if sum.is_finite() {
            return Err(Error::Invalid(format!(
                "expected no finite sum of squares with {bad} in it, found {sum}"
            )));
        }
    }
    Ok(())
}
