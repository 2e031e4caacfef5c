// Matrix-vector products, one for each token, and the embedding lookup. Follows panel.wgsl and epilogue.wgsl.

@group(0) @binding(10) var<storage, read> tokens: array<u32>;

// For each lane: sums for its row and for the paired row, sum of squares of the input.
var<workgroup> partial: array<vec4<f32>, 128>;

// Sums of one panel (of two, if rows are paired) for one token. Lanes cover sixteen rows by eight slices of the blocks; the
// first sixteen lanes receive the sums of their rows.
fn vector_sums(group: vec3<u32>, lane: u32) -> vec2<f32> {
    let row = lane & 15u;
    var low = group.x * shape.panel_words;
    if (shape.pair_distance > 0u) {
        low = paired_row(group.x * 16u) / 16u * shape.panel_words;
    }
    let pair_offset = shape.pair_distance / 16u * shape.panel_words;
    let origin = (group.y + first_token()) * (shape.in_stride / 4u);
    let blocks = (shape.columns + 31u) / 32u;
    var sums = vec4<f32>(0.0);
    for (var b = lane >> 4u; b < blocks; b += 8u) {
        let at = low + HEADER_WORDS + b * BLOCK_WORDS;
        let left = shape.columns - b * 32u;
        var dots = vec2<f32>(0.0);
        var inputs = 0.0;
        for (var quad = 0u; quad < 8u; quad++) {
            var x = input[origin + b * 8u + quad];
            if (shape.norm == 1u) {
                sums.z += dot(x, x);
                x *= norm_weight[b * 8u + quad];
            }
            dots.x += dot(quad_at(at, row, quad, left), x);
            if (shape.pair_distance > 0u) {
                dots.y += dot(quad_at(at + pair_offset, row, quad, left), x);
            }
            inputs += x.x + x.y + x.z + x.w;
        }
        let s = scales(low, at, row);
        sums.x += s.x * dots.x + s.y * inputs;
        if (shape.pair_distance > 0u) {
            let s = scales(low + pair_offset, at + pair_offset, row);
            sums.y += s.x * dots.y + s.y * inputs;
        }
    }
    partial[lane] = sums;
    workgroupBarrier();
    var total = vec4<f32>(0.0);
    if (lane < 16u) {
        for (var i = 0u; i < 8u; i++) {
            total += partial[i * 16u + lane];
        }
    }
    return total.xy * norm_factor(total.z);
}

// Workgroups: (panels or pairs of panels, tokens).
@compute @workgroup_size(128)
fn vector(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sums = vector_sums(group, lane);
    let row = group.x * 16u + lane;
    if (lane >= 16u) {
        return;
    }
    if (shape.pair_distance > 0u) {
        put_swiglu(group.y, row, sums.x, sums.y);
    } else if (row < shape.rows) {
        put(group.y, row, sums.x);
    }
}

@compute @workgroup_size(128)
fn vector_qkv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sums = vector_sums(group, lane);
    if (lane < 16u) {
        put_qkv(group.y, group.x * 16u + lane, sums.x, sums.y);
    }
}

// Copies the embedding row of each token, if it is in this partition of the embedding, whose first row is `out_column`.
// Workgroups: (columns / 256, tokens).
@compute @workgroup_size(64)
fn embed(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = tokens[group.y];
    let column = (group.x * 64u + lane) * 4u;
    if (id < shape.out_column || id - shape.out_column >= shape.rows || column >= shape.columns) {
        return;
    }
    let row = id - shape.out_column;
    let panel = (row >> 4u) * shape.panel_words;
    let block = column / 32u;
    let at = panel + HEADER_WORDS + block * BLOCK_WORDS;
    let s = scales(panel, at, row & 15u);
    let w = quad_at(at, row & 15u, (column & 31u) / 4u, shape.columns - block * 32u) * s.x + s.y;
    for (var j = 0u; j < min(4u, shape.columns - column); j++) {
        output[group.y * shape.out_stride + column + j] = w[j];
    }
}
