//! Each operation against the CPU's, from inputs that bf16 holds exactly.

use crate::setup::{SplitMix, cpu, cuda, distance, shape};
use half::bf16;
use thimble_runtime::format::{LayerOptions, RopeParameters};
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::ops::{
    AdamW, Adapter, AdapterGradient, AdapterPart, Attended, AttentionShape, Buffer, BufferSpan, Distillation,
    Heads, LossTerms, Ops, RmsNorm, WeightCopy, WeightMatrix, WeightVector,
};

/// Relative rms of what is rounded to bf16 once, and of what is f32 all along.
const BF16: f64 = 0.005;
const F32: f64 = 1e-4;

/// Lays out parameters and activations, and fills the latter by embedding rows of the former.
struct Bench<O> {
    ops: O,
    tokens: usize,
    arena: usize,
    weights: usize,
    found: Vec<(&'static str, f64, Vec<f32>)>,
}

/// Elements of the arena and of the weights, of which the first half is trained.
const ARENA: usize = 1 << 20;
const WEIGHTS: usize = 1 << 19;
const TRAINED: usize = 3 << 17;

impl<O: Ops> Bench<O> {
    fn span(&mut self, len: usize) -> BufferSpan {
        let start = self.arena.next_multiple_of(16);
        self.arena = start + len;
        assert!(self.arena <= ARENA);
        BufferSpan { start, len }
    }

    fn statistics(&mut self, count: usize) -> BufferSpan {
        self.span(count * self.ops.statistic_elements())
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> WeightMatrix {
        let start = self.weights.next_multiple_of(8);
        self.weights = start + rows * columns;
        assert!(self.weights <= WEIGHTS);
        WeightMatrix { start, rows, columns }
    }

    /// Activations of `columns` columns, which are rows of the weights: the batch's ids count up.
    fn input(&mut self, columns: usize) -> BufferSpan {
        let (table, span) = (self.matrix(self.tokens, columns), self.span(self.tokens * columns));
        self.ops.embed(table, span).unwrap();
        span
    }

    fn keep(&mut self, name: &'static str, span: BufferSpan) {
        let mut values = vec![0.0; span.len];
        self.ops.read_span(span, &mut values).unwrap();
        self.found.push((name, BF16, values));
    }

    fn keep_gradient(&mut self, name: &'static str, start: usize, len: usize) {
        let mut values = vec![0.0; start + len];
        self.ops.read(Buffer::Gradients, &mut values).unwrap();
        self.found.push((name, BF16, values.split_off(start)));
    }
}

const SEQUENCES: usize = 2;
const CONTEXT: usize = 70;

/// Ids that count up, so that every token is a row of its own, over all sequences.
fn counting() -> TrainingBatch {
    let rows = (0..SEQUENCES).flat_map(|sequence| sequence * CONTEXT..=(sequence + 1) * CONTEXT);
    let starts =
        [0, 0, 5, 5, 5, 9].into_iter().chain(std::iter::repeat_n(9, 50)).chain(std::iter::repeat_n(56, 14));
    let starts: Vec<u32> = starts.collect();
    let mut batch =
        TrainingBatch::new(SEQUENCES, CONTEXT, rows.map(|id| id as u32).collect(), starts.repeat(SEQUENCES))
            .weighed(0.25);
    batch.weights.iter_mut().step_by(3).for_each(|weight| *weight = 0.0);
    batch
}

/// Runs every operation once.
fn run<O: Ops>(ops: O) -> Vec<(&'static str, f64, Vec<f32>)> {
    let mut bench = Bench { ops, tokens: SEQUENCES * CONTEXT, arena: 0, weights: 0, found: Vec::new() };
    let mut random = SplitMix(1);
    let weights: Vec<f32> = (0..WEIGHTS).map(|_| bf16::from_f32(random.centred()).to_f32()).collect();
    let teacher: Vec<f32> = (0..WEIGHTS).map(|_| bf16::from_f32(random.centred()).to_f32()).collect();
    bench.ops.write(Buffer::Weights, &weights).unwrap();
    bench.ops.write_copy(WeightCopy::Teacher, &teacher).unwrap();
    bench.ops.reserve(ARENA).unwrap();
    bench.ops.load_batch(&counting()).unwrap();
    bench.ops.set_rotary(&RopeParameters::new(1e4), 64, CONTEXT).unwrap();
    bench.ops.zero_gradients().unwrap();
    norm(&mut bench);
    linear(&mut bench);
    adapter(&mut bench);
    swiglu(&mut bench);
    attention(&mut bench);
    loss(&mut bench);
    divergence(&mut bench);
    embedding(&mut bench);
    optimizer(&mut bench);
    bench.found
}

fn norm<O: Ops>(bench: &mut Bench<O>) {
    let columns = 136;
    let input = bench.input(columns);
    let weight = WeightVector { start: bench.matrix(1, columns).start, len: columns };
    let norm = RmsNorm { input, weight, inverse_rms: bench.statistics(bench.tokens) };
    let (output, dy, dx) = (bench.span(input.len), bench.input(columns), bench.input(columns));
    bench.ops.rms_norm(norm, output).unwrap();
    bench.keep("norm", output);
    bench.ops.rms_norm_backward(norm, dy, dx).unwrap();
    bench.keep("norm again", dy);
    bench.keep("norm's input gradient", dx);
    bench.keep_gradient("norm's weight gradient", weight.start, columns);
}

fn linear<O: Ops>(bench: &mut Bench<O>) {
    let (inputs, outputs) = (40, 56);
    let (input, residual) = (bench.input(inputs), bench.input(outputs));
    let weight = bench.matrix(outputs, inputs);
    let (plain, sum) = (bench.span(residual.len), bench.span(residual.len));
    bench.ops.linear(input, weight, None, plain).unwrap();
    bench.ops.linear(input, weight, Some(residual), sum).unwrap();
    bench.keep("product", plain);
    bench.keep("product and residual", sum);
    let dx = bench.span(input.len);
    bench.ops.linear_input_gradient(weight, residual, dx).unwrap();
    bench.keep("product's input gradient", dx);
    // Twice, so that what was there is added to.
    bench.ops.linear_weight_gradient(weight, input, residual).unwrap();
    bench.ops.linear_weight_gradient(weight, input, residual).unwrap();
    bench.keep_gradient("product's weight gradient", weight.start, outputs * inputs);
}

fn adapter<O: Ops>(bench: &mut Bench<O>) {
    let (inputs, rank) = (40, 8);
    let a = bench.matrix(2 * rank, inputs);
    let part = |b, first_output| Some(AdapterPart { b, first_output });
    let (first, second) = (bench.matrix(16, rank), bench.matrix(24, rank));
    let adapter = Adapter { a, parts: [part(first, 8), part(second, 32), None], scale: 0.75 };
    let (input, output, dy) = (bench.input(inputs), bench.input(64), bench.input(64));
    let (hidden, d_hidden) =
        (bench.span(adapter.hidden_len(bench.tokens)), bench.span(adapter.hidden_len(bench.tokens)));
    bench.ops.adapter(&adapter, input, hidden, output).unwrap();
    bench.keep("adapter's inner", hidden);
    bench.keep("adapter", output);
    let dx = bench.input(inputs);
    let gradient = AdapterGradient { hidden, d_output: dy, d_hidden };
    bench.ops.adapter_input_gradient(&adapter, gradient, dx).unwrap();
    bench.keep("adapter's input gradient", dx);
    bench.ops.adapter_weight_gradient(&adapter, input, gradient).unwrap();
    bench.keep_gradient("gradient of A", a.start, 2 * rank * inputs);
    bench.keep_gradient("gradient of the first B", first.start, 16 * rank);
    bench.keep_gradient("gradient of the second B", second.start, 24 * rank);
}

fn swiglu<O: Ops>(bench: &mut Bench<O>) {
    let width = 72;
    let (fused, dy) = (bench.input(2 * width), bench.input(width));
    let output = bench.span(dy.len);
    bench.ops.swiglu(bench.tokens, fused, output).unwrap();
    bench.keep("SwiGLU", output);
    bench.ops.swiglu_backward(bench.tokens, fused, dy).unwrap();
    bench.keep("SwiGLU again", dy);
    bench.keep("SwiGLU's gradient", fused);
}

fn attention<O: Ops>(bench: &mut Bench<O>) {
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
        let (arena, weights) = (bench.arena, bench.weights);
        let tokens = bench.tokens;
        let fused = bench.input(all * dim);
        let mut split = || Heads {
            query: bench.span(tokens * heads * dim),
            key: bench.span(tokens * kv_heads * dim),
            value: bench.span(tokens * kv_heads * dim),
        };
        let (apart, d_apart) = (split(), split());
        let log_sum = bench.statistics(tokens * heads);
        let attended = Attended { output: bench.span(tokens * heads * dim), log_sum };
        bench.ops.split_heads(shape, true, fused, apart).unwrap();
        bench.keep(names[0], apart.query);
        bench.keep(names[0], apart.key);
        bench.keep(names[0], apart.value);
        bench.ops.attention(shape, apart, attended).unwrap();
        bench.keep(names[1], attended.output);
        let d_output = bench.input(heads * dim);
        bench.ops.attention_backward(shape, apart, attended, d_output, d_apart).unwrap();
        bench.keep(names[2], d_apart.query);
        bench.keep(names[2], d_apart.key);
        bench.keep(names[2], d_apart.value);
        bench.ops.split_heads_backward(shape, true, d_apart, fused).unwrap();
        bench.keep(names[2], fused);
        // The next ones use the same memory.
        (bench.arena, bench.weights) = (arena, weights);
    }
}

fn loss<O: Ops>(bench: &mut Bench<O>) {
    let (width, classes) = (24, 211);
    let head = bench.matrix(classes, width);
    let hidden = bench.input(width);
    // Not all tokens at once.
    let scratch = bench.span(bench.ops.loss_scratch(33, classes));
    let losses = bench.ops.token_losses(hidden, head, scratch).unwrap();
    bench.found.push(("token losses", BF16, losses));
    bench.ops.loss(hidden, head, scratch, None).unwrap();
    bench.ops.loss(hidden, head, scratch, Some(LossTerms { z_loss: 0.01 })).unwrap();
    let sum = bench.ops.take_loss().unwrap();
    bench.found.push(("loss", BF16, vec![sum as f32]));
    assert_eq!(bench.ops.take_loss().unwrap(), 0.0);
    bench.keep("loss's gradient", hidden);
    bench.keep_gradient("head's gradient", head.start, classes * width);
}

fn divergence<O: Ops>(bench: &mut Bench<O>) {
    let (width, classes) = (24, 211);
    let head = bench.matrix(classes, width);
    let operands = Distillation { student: bench.input(width), teacher: bench.input(width), head };
    let scratch = bench.span(bench.ops.loss_scratch(33, classes));
    bench.ops.distillation_loss(operands, scratch, true).unwrap();
    let sum = bench.ops.take_loss().unwrap();
    bench.found.push(("divergence", BF16, vec![sum as f32]));
    bench.keep("divergence's gradient", operands.student);
    bench.keep_gradient("divergence's head gradient", head.start, classes * width);
    // Passes read a copy where it is selected.
    bench.ops.select_weights(Some(WeightCopy::Teacher)).unwrap();
    let of_teacher = bench.input(16);
    bench.keep("teacher's embedding", of_teacher);
    bench.ops.select_weights(None).unwrap();
    let copied = bench.span(of_teacher.len);
    bench.ops.copy(of_teacher, copied).unwrap();
    bench.keep("copy", copied);
}

fn embedding<O: Ops>(bench: &mut Bench<O>) {
    let (rows, columns) = (5, 48);
    let table = bench.matrix(rows, columns);
    let d_output = bench.input(columns);
    // Some ids are far more frequent than one segment holds, one is missing.
    let ids: Vec<u32> =
        (0..SEQUENCES * (CONTEXT + 1)).map(|at| if at % 9 == 0 { (at % 4) as u32 } else { 4 }).collect();
    let starts = vec![0; bench.tokens];
    bench.ops.load_batch(&TrainingBatch::new(SEQUENCES, CONTEXT, ids, starts)).unwrap();
    bench.ops.embed_backward(table, d_output).unwrap();
    bench.ops.embed_backward(table, d_output).unwrap();
    bench.keep_gradient("embedding's gradient", table.start, rows * columns);
}

fn optimizer<O: Ops>(bench: &mut Bench<O>) {
    let mut random = SplitMix(2);
    let mut random = |scale: f32| (0..TRAINED).map(|_| scale * random.centred()).collect::<Vec<f32>>();
    let (gradients, first) = (random(0.2), random(0.1));
    let second: Vec<f32> = random(0.1).iter().map(|x| x * x).collect();
    bench.ops.write(Buffer::Gradients, &gradients).unwrap();
    bench.ops.write(Buffer::FirstMoment, &first).unwrap();
    bench.ops.write(Buffer::SecondMoment, &second).unwrap();
    let sum = bench.ops.gradient_square_sum().unwrap();
    bench.found.push(("squares", F32, vec![sum as f32]));
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
    bench.ops.adamw(step).unwrap();
    for (name, buffer) in [
        ("weights", Buffer::Weights),
        ("first moment", Buffer::FirstMoment),
        ("second moment", Buffer::SecondMoment),
    ] {
        let mut values = vec![0.0; TRAINED];
        bench.ops.read(buffer, &mut values).unwrap();
        bench.found.push((name, F32, values));
    }
    // The rounded copy follows.
    bench.weights = 0;
    bench.ops.load_batch(&counting()).unwrap();
    let embedded = bench.input(64);
    bench.keep("rounded weights", embedded);
    for bad in [f32::NAN, f32::INFINITY] {
        bench.ops.write(Buffer::Gradients, &[0.0, bad]).unwrap();
        assert!(!bench.ops.gradient_square_sum().unwrap().is_finite(), "{bad}");
    }
}

#[test]
fn every_operation_agrees_with_the_cpu() {
    let config = shape(2, 1, true);
    let lengths = thimble_trainer::ops::BufferLengths { weights: WEIGHTS, gradients: TRAINED };
    let expected = run(cpu(&config, lengths));
    let found = run(cuda(&config, lengths));
    for ((name, bound, found), (_, _, expected)) in found.iter().zip(&expected) {
        let distance = distance(found, expected);
        println!("{name}: {distance:.1e} of {bound:.0e}");
        assert!(distance < *bound, "{name}: {distance:.2e}");
    }
    assert_eq!(found.len(), expected.len());
}
