//! RMSNorm, forward and backward, and the sums of columns that end the weight's gradient.

use super::harness::{
    BF16_BOUND, Checked, Device, F32_BOUND, Random, close, doubles, float, int, pointer, values,
};
use thimble_ptx::{Module, Pointer};

/// Of the model that the table of resources is for.
const COLUMNS: usize = 384;
const EPSILON: f64 = 1e-5;

/// Sizes at which all is checked; columns beyond one access of a warp, and fewer.
pub(crate) fn check(module: &Module) -> Checked {
    for (rows, columns, parts, add) in
        [(13, 384, 3, true), (1, 576, 1, false), (9, 8, 2, true), (6, 264, 1, false)]
    {
        norm(module, rows, columns, parts, add)
            .map_err(|problem| format!("{rows} x {columns}: {problem}"))?;
    }
    frozen(module)
}

fn norm(module: &Module, rows: usize, columns: usize, parts: usize, add: bool) -> Checked {
    let mut random = Random(columns as u64);
    let (x, dy) = (random.bf16s(rows * columns, 2.0), random.bf16s(rows * columns, 1.0));
    let before = random.bf16s(rows * columns, 1.0);
    let weight = random.f32s(columns, 1.0, 0.2);
    let sums_before = random.f32s(columns, 0.0, 1.0);

    let mut device = Device::new(module);
    let (input, d_output) = (device.bf16("input", &x), device.bf16("d_output", &dy));
    let weights = device.memory.input("weight", &weight);
    let inverse_rms = device.memory.output("inverse_rms", 4 * rows);
    let output = device.memory.output("output", 2 * rows * columns);
    let again = device.memory.output("output of the gradient", 2 * rows * columns);
    let d_input = device.bf16_in_place("d_input", &before);
    let partial = device.memory.output("partial", 4 * parts * columns);
    let sums = device.memory.in_place("sums", &sums_before);
    let sizes = [int(rows), int(columns)];
    let arguments =
        [&[input, weights, inverse_rms, output].map(pointer)[..], &sizes, &[float(EPSILON)]].concat();
    device.launch("rms_norm", [rows.div_ceil(8), 1, 1], &arguments)?;
    let pointers = [input, weights, inverse_rms, d_output, d_input, again, partial].map(pointer);
    let arguments = [&pointers[..], &sizes, &[int(add.into())]].concat();
    match columns {
        COLUMNS => device.launch("rms_norm_backward", [parts, 1, 1], &arguments)?,
        _ => device.launch_with("rms_norm_backward", [parts, 1, 1], 16 * columns as u32, &arguments)?,
    }
    let arguments = [pointer(partial), pointer(sums), int(parts), int(columns)];
    device.launch("column_sums", [columns.div_ceil(32), 1, 1], &arguments)?;

    let (x, dy, before) = (values(&x), values(&dy), values(&before));
    let weight = doubles(&weight);
    let (mut y, mut dx, mut dw) = (Vec::new(), Vec::new(), doubles(&sums_before));
    let mut inverses = Vec::new();
    for row in 0..rows {
        let at = |column: usize| row * columns + column;
        let square: f64 = (0..columns).map(|c| x[at(c)] * x[at(c)]).sum();
        let r = 1.0 / (square / columns as f64 + EPSILON).sqrt();
        let mean =
            (0..columns).map(|c| weight[c] * dy[at(c)] * x[at(c)]).sum::<f64>() * r * r / columns as f64;
        inverses.push(r);
        for c in 0..columns {
            y.push(x[at(c)] * r * weight[c]);
            dx.push(r * (weight[c] * dy[at(c)] - x[at(c)] * mean) + if add { before[at(c)] } else { 0.0 });
            dw[c] += dy[at(c)] * x[at(c)] * r;
        }
    }
    close("inverse_rms", &device.read_f32(inverse_rms)?, &inverses, F32_BOUND)?;
    for (name, pointer) in [("output", output), ("output of the gradient", again)] {
        close(name, &device.read_bf16(pointer)?, &y, BF16_BOUND)?;
    }
    close("d_input", &device.read_bf16(d_input)?, &dx, BF16_BOUND)?;
    close("weight's gradient", &device.read_f32(sums)?, &dw, F32_BOUND)
}

/// Neither the weight's gradient nor the output are wanted.
fn frozen(module: &Module) -> Checked {
    let (rows, columns) = (5, 384);
    let mut random = Random(9);
    let mut device = Device::new(module);
    let (x, dy) = (random.bf16s(rows * columns, 1.0), random.bf16s(rows * columns, 1.0));
    let (input, d_output) = (device.bf16("input", &x), device.bf16("d_output", &dy));
    let weights = device.memory.input("weight", &vec![1.0f32; columns]);
    let inverse_rms = device.memory.input("inverse_rms", &vec![0.0f32; rows]);
    let d_input = device.memory.output("d_input", 2 * rows * columns);
    let pointers =
        [input, weights, inverse_rms, d_output, d_input, Pointer::NULL, Pointer::NULL].map(pointer);
    device.launch(
        "rms_norm_backward",
        [2, 1, 1],
        &[&pointers[..], &[int(rows), int(columns), int(0)]].concat(),
    )?;
    close("d_input of an inverse of 0", &device.read_bf16(d_input)?, &vec![0.0; rows * columns], 0.0)
}
