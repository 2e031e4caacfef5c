// Biases of queries, keys and values, and the RMS norm of each query and key head, in place.

struct BiasNorm {
    heads: u32,
    kv_heads: u32,
    // At most 256.
    dim: u32,
    // Elements per row.
    stride: u32,
    // Whether the model has biases, and norms.
    bias: u32,
    norm: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> shape: BiasNorm;
@group(0) @binding(1) var<storage, read_write> rows: array<f32>;
// Biases of all heads, if any; then the norms of a query and of a key head, if any.
@group(0) @binding(2) var<storage, read> weights: array<f32>;

var<workgroup> squares: array<f32, 64>;

// Workgroups: (heads + 2 * key-value heads, tokens).
@compute @workgroup_size(64)
fn bias_norm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.x;
    let origin = group.y * shape.stride + head * shape.dim;
    // Dimensions lane, lane + 64, ...
    var row = vec4<f32>(0.0);
    for (var j = 0u; j < 4u; j++) {
        let d = j * 64u + lane;
        if (d < shape.dim) {
            row[j] = rows[origin + d];
            if (shape.bias == 1u) {
                row[j] += weights[head * shape.dim + d];
            }
        }
    }
    squares[lane] = dot(row, row);
    for (var width = 32u; width > 0u; width >>= 1u) {
        workgroupBarrier();
        if (lane < width) {
            squares[lane] += squares[lane + width];
        }
    }
    workgroupBarrier();
    let is_normed = shape.norm == 1u && head < shape.heads + shape.kv_heads;
    let factor = 1.0 / sqrt(squares[0] / f32(shape.dim) + shape.epsilon);
    let biases = shape.bias * (shape.heads + 2u * shape.kv_heads) * shape.dim;
    let norm = biases + select(0u, shape.dim, head >= shape.heads);
    for (var j = 0u; j < 4u; j++) {
        let d = j * 64u + lane;
        if (d < shape.dim) {
            if (is_normed) {
                row[j] *= factor * weights[norm + d];
            }
            rows[origin + d] = row[j];
        }
    }
}
