//! The norm of the gradient, AdamW, and the bf16 copy of the weights.

use super::harness::{Checked, Device, F32_BOUND, Random, close, doubles, exactly, float, long, pointer};
use half::bf16;
use thimble_ptx::{LaunchArgument, Module};

/// Counts that end within an access and within a block, and what is not finite.
pub(crate) fn square_sums(module: &Module) -> Checked {
    for (count, parts, bad) in [
        (8197, 2, None),
        (3, 1, None),
        (50_003, 3, None),
        (9000, 2, Some(f32::NAN)),
        (9000, 1, Some(f32::NEG_INFINITY)),
    ] {
        square_sum(module, count, parts, bad)
            .map_err(|problem| format!("{count} values in {parts} parts: {problem}"))?;
    }
    Ok(())
}

fn square_sum(module: &Module, count: usize, parts: usize, bad: Option<f32>) -> Checked {
    let mut values = Random(count as u64).f32s(count, 0.0, 1.0);
    if let (Some(bad), Some(last)) = (bad, values.last_mut()) {
        *last = bad;
    }
    let mut device = Device::new(module);
    let from = device.memory.input("values", &values);
    let partial = device.memory.output("partial", 8 * parts);
    let (total, finite) = (device.memory.output("total", 8), device.memory.output("finite", 4));
    device.launch("square_sum", [parts, 1, 1], &[pointer(from), pointer(partial), long(count)])?;
    let arguments = [pointer(partial), pointer(total), pointer(finite), LaunchArgument::I32(parts as i32)];
    device.launch("square_sum_total", [1, 1, 1], &arguments)?;
    let finite = device.memory.read::<u32>(finite)?[0];
    if finite != u32::from(bad.is_none()) {
        return Err(format!("expected a flag of {}, found {finite}", u32::from(bad.is_none())));
    }
    let wanted: f64 = doubles(&values).iter().map(|x| x * x).sum();
    if bad.is_some() {
        Ok(())
    } else {
        close("sum", &device.memory.read::<f64>(total)?, &[wanted], F32_BOUND)
    }
}

/// Three steps, with the decay ending anywhere.
pub(crate) fn steps(module: &Module) -> Checked {
    for (count, decayed) in [(2053, 1000), (3, 2), (4096, 4096), (4100, 0)] {
        adamw(module, count, decayed)
            .map_err(|problem| format!("{count} weights, {decayed} decayed: {problem}"))?;
    }
    Ok(())
}

fn adamw(module: &Module, count: usize, decayed: usize) -> Checked {
    let (learning_rate, beta1, beta2, epsilon, decay, scale): (f64, f64, f64, f64, f64, f64) =
        (3e-3, 0.9, 0.95, 1e-8, 0.1, 0.7);
    let mut random = Random(count as u64);
    let start = random.f32s(count, 0.0, 1.0);
    let mut device = Device::new(module);
    let weights = device.memory.in_place("weights", &start);
    let zeros = vec![0.0f32; count];
    let (first, second) = (device.memory.in_place("first", &zeros), device.memory.in_place("second", &zeros));
    let (copy, again) =
        (device.memory.output("copy", 2 * count), device.memory.output("copy again", 2 * count));
    let blocks = [count.div_ceil(2048), 1, 1];
    let (mut w, mut m, mut v) = (doubles(&start), vec![0.0; count], vec![0.0; count]);
    for step in 1..=3 {
        let g = random.f32s(count, 0.0, 0.1);
        let gradients = device.memory.input("gradients", &g);
        let (rest1, rest2) = (1.0 - beta1.powi(step), 1.0 - beta2.powi(step));
        let factors = [
            1.0 - learning_rate * decay,
            learning_rate / rest1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            1.0 / rest2.sqrt(),
            epsilon,
            scale,
        ];
        let pointers = [weights, first, second, gradients, copy].map(pointer);
        device.launch(
            "adamw",
            blocks,
            &[&pointers[..], &[long(count), long(decayed)], &factors.map(float)].concat(),
        )?;
        for (i, g) in doubles(&g).into_iter().enumerate() {
            let g = g * scale;
            m[i] = beta1 * m[i] + (1.0 - beta1) * g;
            v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
            w[i] -= if i < decayed { learning_rate * decay * w[i] } else { 0.0 };
            w[i] -= learning_rate * (m[i] / rest1) / ((v[i] / rest2).sqrt() + epsilon);
        }
    }
    device.launch("round_to_bf16", blocks, &[pointer(weights), pointer(again), long(count)])?;
    let found = device.read_f32(weights)?;
    close("weights", &found, &w, F32_BOUND)?;
    close("first moment", &device.read_f32(first)?, &m, F32_BOUND)?;
    close("second moment", &device.read_f32(second)?, &v, F32_BOUND)?;
    let rounded: Vec<f64> = found.iter().map(|&x| bf16::from_f64(x).to_f64()).collect();
    exactly("copy", &device.read_bf16(copy)?, &rounded)?;
    exactly("copy again", &device.read_bf16(again)?, &rounded)
}
