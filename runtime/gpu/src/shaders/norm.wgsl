// RMS norm (Zhang and Sennrich 2019) of rows: out = x / sqrt(mean(x^2) + epsilon) * weight. Workgroups: (rows).

struct Shape {
    columns: u32,
    in_stride: u32,
    out_stride: u32,
    epsilon: f32,
    // 1: of the head, which begins at the first row of logits asked for.
    head: u32,
    unused_0: u32,
    unused_1: u32,
    unused_2: u32,
}

struct State {
    position: u32,
    tokens: u32,
    head_row: u32,
    head_rows: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<uniform> state: State;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

var<workgroup> sums: array<f32, 128>;

@compute @workgroup_size(128)
fn norm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let origin = (group.x + select(0u, state.head_row, shape.head == 1u)) * shape.in_stride;
    let to = group.x * shape.out_stride;
    var sum = 0.0;
    for (var i = lane; i < shape.columns; i += 128u) {
        sum += x[origin + i] * x[origin + i];
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var width = 64u; width > 0u; width >>= 1u) {
        if (lane < width) {
            sums[lane] += sums[lane + width];
        }
        workgroupBarrier();
    }
    let factor = 1.0 / sqrt(sums[0] / f32(shape.columns) + shape.epsilon);
    for (var i = lane; i < shape.columns; i += 128u) {
        out[to + i] = x[origin + i] * factor * weight[i];
    }
}
