//! Cross-entropy and divergence of rows of logits, with their gradients, and the sum of the losses.

use super::harness::{
    BF16_BOUND, Checked, Device, F32_BOUND, Random, close, doubles, float, int, pointer, values,
};
use half::bf16;
use thimble_ptx::Module;

/// Logits of `rows` rows that lie `stride` apart; what lies between is never to be touched.
struct Logits {
    rows: usize,
    classes: usize,
    stride: usize,
    values: Vec<bf16>,
}

impl Logits {
    fn new(rows: usize, classes: usize, random: &mut Random) -> Logits {
        let stride = classes.next_multiple_of(8);
        Logits { rows, classes, stride, values: random.bf16s(rows * stride, 3.0) }
    }

    fn row(&self, of: &[f64], row: usize) -> Vec<f64> {
        of[row * self.stride..row * self.stride + self.classes].to_vec()
    }

    /// All rows, without what lies between.
    fn all(&self, of: &[f64]) -> Vec<f64> {
        (0..self.rows).flat_map(|row| self.row(of, row)).collect()
    }
}

/// Softmax and log-partition of a row.
fn softmax(row: &[f64]) -> (Vec<f64>, f64) {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
    (row.iter().map(|x| (x - largest).exp() / sum).collect(), largest + sum.ln())
}

/// Classes that are no multiple of eight, more than one pass of a block, targets at both ends.
pub(crate) fn cross_entropy(module: &Module) -> Checked {
    for (rows, classes, z_loss) in [(4, 4101, 1e-2), (3, 16, 0.0), (2, 8197, 0.0), (1, 5, 1e-4)] {
        softmax_gradient(module, rows, classes, z_loss)
            .map_err(|problem| format!("{rows} x {classes}: {problem}"))?;
    }
    Ok(())
}

fn softmax_gradient(module: &Module, rows: usize, classes: usize, z_loss: f64) -> Checked {
    let mut random = Random(classes as u64);
    let logits = Logits::new(rows, classes, &mut random);
    let mut targets: Vec<u32> = (0..rows).map(|_| random.below(classes) as u32).collect();
    (targets[0], targets[rows - 1]) = (0, classes as u32 - 1);
    let mut weights = random.f32s(rows, 1.0, 0.3);
    weights[rows / 2] = 0.0;

    let mut device = Device::new(module);
    let own = device.bf16_in_place("logits", &logits.values);
    let targets_at = device.memory.input("targets", &targets);
    let weights_at = device.memory.input("weights", &weights);
    let kept = device.memory.output("losses", 4 * rows);
    let losses = device.memory.output("losses with the gradient", 4 * rows);
    let sum = device.memory.in_place("sum", &[2.5f64]);
    for (losses, with_gradient) in [(kept, 0), (losses, 1)] {
        let pointers = [own, targets_at, weights_at, losses].map(pointer);
        let sizes = [int(classes), int(logits.stride), float(z_loss), int(with_gradient)];
        device.launch("softmax_gradient", [rows, 1, 1], &[&pointers[..], &sizes].concat())?;
    }
    device.launch("loss_sum", [1, 1, 1], &[pointer(losses), pointer(weights_at), pointer(sum), int(rows)])?;

    let from = values(&logits.values);
    let (mut wanted, mut gradient, mut total) = (Vec::new(), Vec::new(), 2.5);
    for (row, (&target, weight)) in targets.iter().zip(doubles(&weights)).enumerate() {
        let own = logits.row(&from, row);
        let (shares, z) = softmax(&own);
        wanted.push(z - own[target as usize]);
        total += if weight == 0.0 { 0.0 } else { z - own[target as usize] };
        let with_z = shares.iter().map(|share| weight * share * (1.0 + 2.0 * z_loss * z));
        gradient.extend(with_z.enumerate().map(|(i, x)| if i as u32 == target { x - weight } else { x }));
    }
    close("losses", &device.read_f32(kept)?, &wanted, F32_BOUND)?;
    close("losses with the gradient", &device.read_f32(losses)?, &wanted, F32_BOUND)?;
    close("gradient", &logits.all(&device.read_bf16(own)?), &gradient, BF16_BOUND)?;
    close("sum", &device.memory.read::<f64>(sum)?, &[total], F32_BOUND)
}

/// The student's gradient towards a teacher.
pub(crate) fn divergence(module: &Module) -> Checked {
    for (rows, classes) in [(3, 4101), (2, 16), (1, 5)] {
        divergence_gradient(module, rows, classes)
            .map_err(|problem| format!("{rows} x {classes}: {problem}"))?;
    }
    Ok(())
}

fn divergence_gradient(module: &Module, rows: usize, classes: usize) -> Checked {
    let mut random = Random(classes as u64 + 1);
    let (student, teacher) =
        (Logits::new(rows, classes, &mut random), Logits::new(rows, classes, &mut random));
    let mut weights = random.f32s(rows, 1.0, 0.3);
    weights[rows / 2] = if rows > 1 { 0.0 } else { 1.5 };

    let mut device = Device::new(module);
    let own = device.bf16_in_place("student", &student.values);
    let teaches = device.bf16("teacher", &teacher.values);
    let weights_at = device.memory.input("weights", &weights);
    let losses = device.memory.output("losses", 4 * rows);
    let pointers = [own, teaches, weights_at, losses].map(pointer);
    let sizes = [int(classes), int(student.stride), int(1)];
    device.launch("divergence_gradient", [rows, 1, 1], &[&pointers[..], &sizes].concat())?;

    let (from, taught) = (values(&student.values), values(&teacher.values));
    let (mut wanted, mut gradient) = (Vec::new(), Vec::new());
    for (row, weight) in doubles(&weights).into_iter().enumerate() {
        let (s, t) = (student.row(&from, row), teacher.row(&taught, row));
        let ((q, z_student), (p, z_teacher)) = (softmax(&s), softmax(&t));
        let log_ratio = |i: usize| (t[i] - z_teacher) - (s[i] - z_student);
        wanted.push((0..classes).map(|i| p[i] * log_ratio(i)).sum());
        gradient.extend((0..classes).map(|i| weight * (q[i] - p[i])));
    }
    close("losses", &device.read_f32(losses)?, &wanted, F32_BOUND)?;
    close("gradient", &student.all(&device.read_bf16(own)?), &gradient, BF16_BOUND)
}
