//! Splitting the fused projection into heads with the rotary embedding, and back.

use super::harness::{BF16_BOUND, Checked, Device, Random, close, exactly, int, pointer, values};
use thimble_ptx::{Module, Pointer};

struct Shape {
    sequences: usize,
    context: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// Head dimensions, rotated and not, contexts that are no multiple of a block's positions.
pub(crate) fn check(module: &Module) -> Checked {
    let shape = Shape { sequences: 2, context: 37, heads: 6, kv_heads: 2, head_dim: 64 };
    split(module, &shape, true)?;
    split(module, &shape, false)?;
    split(module, &Shape { sequences: 1, context: 1, heads: 3, kv_heads: 1, head_dim: 64 }, true)?;
    split(module, &Shape { sequences: 1, context: 130, heads: 2, kv_heads: 2, head_dim: 16 }, true)
}

fn split(module: &Module, shape: &Shape, rotate: bool) -> Checked {
    let Shape { sequences, context, heads, kv_heads, head_dim } = *shape;
    let (tokens, width, half) = (sequences * context, (heads + 2 * kv_heads) * head_dim, head_dim / 2);
    let mut random = Random(context as u64);
    let from = random.bf16s(tokens * width, 1.0);
    let angles: Vec<f64> = (0..context * half)
        .map(|i| (i / half) as f64 * 10000f64.powf(-((i % half) as f64) / half as f64))
        .collect();
    let (cosine, sine): (Vec<f32>, Vec<f32>) =
        angles.iter().map(|a| (a.cos() as f32, a.sin() as f32)).unzip();

    let mut device = Device::new(module);
    let fused = device.bf16("fused", &from);
    let mut turns = [Pointer::NULL; 2];
    if rotate {
        turns = [device.memory.input("cosine", &cosine), device.memory.input("sine", &sine)];
    }
    let bytes = |heads: usize| 2 * tokens * heads * head_dim;
    let query = device.memory.output("query", bytes(heads));
    let (key, value) =
        (device.memory.output("key", bytes(kv_heads)), device.memory.output("value", bytes(kv_heads)));
    let back = device.memory.output("d_fused", 2 * tokens * width);
    let blocks = [(context * head_dim).div_ceil(2048), sequences, 1];
    let sizes = [int(context), int(heads), int(kv_heads), int(head_dim)];
    let pointers = [fused, turns[0], turns[1], query, key, value].map(pointer);
    device.launch("split_heads", blocks, &[&pointers[..], &sizes].concat())?;
    let pointers = [query, key, value, turns[0], turns[1], back].map(pointer);
    device.launch("split_heads_backward", blocks, &[&pointers[..], &sizes].concat())?;

    let from = values(&from);
    let all = heads + 2 * kv_heads;
    for (name, found, first, count) in [
        ("query", query, 0, heads),
        ("key", key, heads, kv_heads),
        ("value", value, heads + kv_heads, kv_heads),
    ] {
        let mut wanted = vec![0.0; tokens * count * head_dim];
        for (i, wanted) in wanted.iter_mut().enumerate() {
            let (d, position) = (i % head_dim, i / head_dim % context);
            let (head, sequence) = (i / head_dim / context % count, i / head_dim / context / count);
            let own = |d: usize| from[((sequence * context + position) * all + first + head) * head_dim + d];
            let at = position * half + d % half;
            let (c, s) = (f64::from(cosine[at]), f64::from(sine[at]));
            *wanted = match (rotate && name != "value", d < half) {
                (false, _) => own(d),
                (true, true) => own(d) * c - own(d + half) * s,
                (true, false) => own(d) * c + own(d - half) * s,
            };
        }
        let found = device.read_bf16(found)?;
        if rotate && name != "value" {
            close(name, &found, &wanted, BF16_BOUND)?;
        } else {
            exactly(name, &found, &wanted)?;
        }
    }
    // Rotating back gives what was rotated, but for two roundings.
    let back = device.read_bf16(back)?;
    if rotate { close("fused again", &back, &from, BF16_BOUND) } else { exactly("fused again", &back, &from) }
}
