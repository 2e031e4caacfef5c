// SwiGLU (Shazeer 2020): out = gate / (1 + e^-gate) * up. Workgroups: (columns / 64, tokens).

struct Shape {
    columns: u32,
    in_stride: u32,
    out_stride: u32,
    // First column of `up` in the input.
    up: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> gate_up: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn swiglu(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = group.x * 64u + lane;
    if (column >= shape.columns) {
        return;
    }
    let gate = gate_up[group.y * shape.in_stride + column];
    let up = gate_up[group.y * shape.in_stride + shape.up + column];
    // Clamped near the largest f32: some drivers compute NaN for 1 / (1 + inf).
    out[group.y * shape.out_stride + column] = gate / (1.0 + exp(min(-gate, 88.0))) * up;
}
