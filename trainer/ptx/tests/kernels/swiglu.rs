//! SwiGLU and its gradient.

use super::harness::{BF16_BOUND, Checked, Device, Random, close, int, pointer, values};
use thimble_ptx::Module;

/// Rows that fill a block and that do not.
pub(crate) fn check(module: &Module) -> Checked {
    for (rows, ffn) in [(5, 1024), (2, 1024), (1, 8), (7, 72)] {
        swiglu(module, rows, ffn).map_err(|problem| format!("{rows} x {ffn}: {problem}"))?;
    }
    Ok(())
}

fn swiglu(module: &Module, rows: usize, ffn: usize) -> Checked {
    let mut random = Random(ffn as u64);
    let (from, d) = (random.bf16s(rows * 2 * ffn, 2.0), random.bf16s(rows * ffn, 1.0));
    let mut device = Device::new(module);
    let fused = device.bf16_in_place("fused", &from);
    let product = device.memory.output("product", 2 * rows * ffn);
    let d_product = device.bf16_in_place("d_product", &d);
    let blocks = [(rows * ffn).div_ceil(2048), 1, 1];
    device.launch("swiglu", blocks, &[pointer(fused), pointer(product), int(rows), int(ffn)])?;
    device.launch("swiglu_backward", blocks, &[pointer(fused), pointer(d_product), int(rows), int(ffn)])?;

    let (from, d) = (values(&from), values(&d));
    let (mut wanted, mut d_fused) = (vec![0.0; rows * ffn], vec![0.0; rows * 2 * ffn]);
    for i in 0..rows * ffn {
        let gate_at = i / ffn * 2 * ffn + i % ffn;
        let (gate, up) = (from[gate_at], from[gate_at + ffn]);
        let sigmoid = 1.0 / (1.0 + (-gate).exp());
        wanted[i] = gate * sigmoid * up;
        d_fused[gate_at] = d[i] * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
        d_fused[gate_at + ffn] = d[i] * gate * sigmoid;
    }
    close("product", &device.read_bf16(product)?, &wanted, BF16_BOUND)?;
    close("product again", &device.read_bf16(d_product)?, &wanted, BF16_BOUND)?;
    close("gradient", &device.read_bf16(fused)?, &d_fused, BF16_BOUND)
}
