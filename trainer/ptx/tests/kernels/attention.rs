//! Attention and its gradients.

use super::harness::{BF16_BOUND, Checked, Device, Random, close, float, int, pointer, resource, values};
use half::bf16;
use thimble_ptx::{LaunchArgument, Module, Pointer};

const DIM: usize = 64;
/// Of a query, for the gradient of keys and values.
const STATISTICS: usize = 4;
/// Rows of queries or keys that a warp has in `attention_forward_` and in the two others.
const FORWARD_ROWS: usize = 32;
const BACKWARD_ROWS: usize = 16;

#[derive(Clone, Copy)]
struct Size {
    sequences: usize,
    context: usize,
    heads: usize,
    kv_heads: usize,
}

/// Inputs, and what comes of them in double precision.
struct Case {
    size: Size,
    query: Vec<bf16>,
    key: Vec<bf16>,
    value: Vec<bf16>,
    d_output: Vec<bf16>,
    /// First position of each position's document; none: no mask.
    starts: Option<Vec<u32>>,
    output: Vec<f64>,
    log_sum: Vec<f64>,
    d_query: Vec<f64>,
    d_key: Vec<f64>,
    d_value: Vec<f64>,
}

/// Random documents; of one token each where `length` is 1.
fn documents(size: Size, length: usize, random: &mut Random) -> Vec<u32> {
    let mut starts = Vec::new();
    for _ in 0..size.sequences {
        let mut start = 0;
        for position in 0..size.context {
            if random.below(length) == 0 {
                start = position as u32;
            }
            starts.push(start);
        }
    }
    starts
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

impl Case {
    fn new(size: Size, document_length: Option<usize>, seed: u64) -> Case {
        let mut random = Random(seed);
        let (queries, keys) = (
            size.sequences * size.heads * size.context * DIM,
            size.sequences * size.kv_heads * size.context * DIM,
        );
        let query = random.bf16s(queries, 1.5);
        let (key, value) = (random.bf16s(keys, 1.0), random.bf16s(keys, 1.0));
        let d_output = random.bf16s(queries, 1.0);
        let starts = document_length.map(|length| documents(size, length, &mut random));
        let mut case = Case {
            size,
            query,
            key,
            value,
            d_output,
            starts,
            output: vec![0.0; queries],
            log_sum: vec![0.0; queries / DIM],
            d_query: vec![0.0; queries],
            d_key: vec![0.0; keys],
            d_value: vec![0.0; keys],
        };
        case.compute();
        case
    }

    /// Softmax attention and its gradient, row by row.
    fn compute(&mut self) {
        let Size { sequences, context, heads, kv_heads } = self.size;
        let (query, key, value, d_output) =
            (values(&self.query), values(&self.key), values(&self.value), values(&self.d_output));
        let scale = 1.0 / (DIM as f64).sqrt();
        for sequence in 0..sequences {
            for head in 0..heads {
                for position in 0..context {
                    let token = sequence * context + position;
                    let own = ((sequence * heads + head) * context + position) * DIM;
                    let out = (token * heads + head) * DIM;
                    let kv =
                        |at: usize| ((sequence * kv_heads + head / (heads / kv_heads)) * context + at) * DIM;
                    let first = self.starts.as_ref().map_or(0, |starts| starts[token] as usize);
                    let q = &query[own..own + DIM];
                    let slope = &d_output[out..out + DIM];
                    let scores: Vec<f64> =
                        (first..=position).map(|at| scale * dot(q, &key[kv(at)..kv(at) + DIM])).collect();
                    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
                    self.log_sum[out / DIM] = largest + sum.ln();
                    let weights: Vec<f64> =
                        scores.iter().map(|score| (score - largest).exp() / sum).collect();
                    let slopes: Vec<f64> =
                        (first..=position).map(|at| dot(slope, &value[kv(at)..kv(at) + DIM])).collect();
                    let mean = dot(&weights, &slopes);
                    for (i, at) in (first..=position).enumerate() {
                        add(&mut self.output[out..out + DIM], weights[i], &value[kv(at)..kv(at) + DIM]);
                        let d_score = scale * weights[i] * (slopes[i] - mean);
                        add(&mut self.d_query[own..own + DIM], d_score, &key[kv(at)..kv(at) + DIM]);
                        add(&mut self.d_key[kv(at)..kv(at) + DIM], d_score, q);
                        add(&mut self.d_value[kv(at)..kv(at) + DIM], weights[i], slope);
                    }
                }
            }
        }
    }

    /// The kernels, one after the other, against the reference.
    fn check(&self, module: &Module) -> Checked {
        let Size { sequences, context, heads, kv_heads } = self.size;
        let group = heads / kv_heads;
        let mut device = Device::new(module);
        let query = device.bf16("query", &self.query);
        let (key, value) = (device.bf16("key", &self.key), device.bf16("value", &self.value));
        let d_output = device.bf16("d_output", &self.d_output);
        let starts =
            self.starts.as_ref().map_or(Pointer::NULL, |starts| device.memory.input("starts", starts));
        let output = device.memory.output("output", 2 * self.query.len());
        let log_sum = device.memory.output("log_sum", 4 * self.log_sum.len());
        let statistics = device.memory.output("statistics", 4 * STATISTICS * self.log_sum.len());
        let d_query = device.memory.output("d_query", 2 * self.query.len());
        let (d_key, d_value) = (
            device.memory.output("d_key", 2 * self.key.len()),
            device.memory.output("d_value", 2 * self.key.len()),
        );

        let sizes = [int(context), int(heads), int(kv_heads), float(1.0 / (DIM as f64).sqrt())];
        // Rows of a block are positions of each head of the group.
        let grid = |kernel: &str, rows_of_warp: usize, heads: usize| {
            let rows = resource(kernel, "threads") as usize / 32 * rows_of_warp;
            [kv_heads, sequences, context.div_ceil(rows / heads)]
        };
        let inputs = [query, key, value, starts].map(pointer);
        let mut launch = |kernel: &str, rows_of_warp: usize, heads: usize, more: &[Pointer]| {
            let more: Vec<LaunchArgument> = more.iter().copied().map(pointer).collect();
            device.launch(kernel, grid(kernel, rows_of_warp, heads), &[&inputs[..], &more, &sizes].concat())
        };
        launch(&format!("attention_forward_{group}"), FORWARD_ROWS, group, &[output, log_sum])?;
        let of_query = [output, d_output, log_sum, statistics, d_query];
        launch(&format!("attention_backward_query_{group}"), BACKWARD_ROWS, group, &of_query)?;
        launch("attention_backward_key", BACKWARD_ROWS, 1, &[d_output, statistics, d_key, d_value])?;

        close("output", &device.read_bf16(output)?, &self.output, BF16_BOUND)?;
        close("log_sum", &device.read_f32(log_sum)?, &self.log_sum, 1e-4)?;
        close("d_query", &device.read_bf16(d_query)?, &self.d_query, BF16_BOUND)?;
        close("d_key", &device.read_bf16(d_key)?, &self.d_key, BF16_BOUND)?;
        close("d_value", &device.read_bf16(d_value)?, &self.d_value, BF16_BOUND)
    }
}

fn check(module: &Module, sizes: [usize; 4], document_length: Option<usize>, seed: u64) -> Checked {
    let [sequences, context, heads, kv_heads] = sizes;
    let case = Case::new(Size { sequences, context, heads, kv_heads }, document_length, seed);
    case.check(module).map_err(|problem| format!("{sizes:?}, documents {document_length:?}: {problem}"))
}

/// Quick: what seeded faults are tried on.
pub(crate) fn one_head(module: &Module) -> Checked {
    check(module, [1, 75, 1, 1], Some(30), 1)
}

/// Several sequences and heads, groups of every size, more than one tile.
pub(crate) fn groups(module: &Module) -> Checked {
    check(module, [1, 161, 3, 1], Some(40), 2)?;
    check(module, [2, 97, 6, 2], None, 3)?;
    check(module, [1, 130, 4, 2], Some(40), 4)?;
    check(module, [1, 129, 4, 1], Some(40), 5)?;
    check(module, [1, 270, 1, 1], None, 6)
}

/// One token, documents of one token, tiles that are just full.
pub(crate) fn edges(module: &Module) -> Checked {
    check(module, [2, 1, 3, 1], None, 7)?;
    check(module, [1, 70, 3, 1], Some(1), 8)?;
    check(module, [1, 64, 3, 1], Some(20), 9)?;
    check(module, [1, 96, 3, 1], None, 10)
}
