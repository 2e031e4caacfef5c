
// `tiled_sums` with half-precision products, for quantized weights. Codes are exact in half precision; the input is divided
// by the largest value of its group of 32 columns. Four products are added in half precision, all else in f32. The rounding
// error is 2^-12 of each product. Follows tile.wgsl.

var<workgroup> w_tile: array<vec4<f16>, 512>;
var<workgroup> x_tile: array<vec4<f16>, 512>;
// Scale and minimum of each row.
var<workgroup> w_scale: array<vec2<f32>, 64>;
// For each token and two quads: the largest absolute value, and the sum.
var<workgroup> x_part: array<f32, 256>;
var<workgroup> x_sum: array<f32, 256>;

fn tiled_sums(group: vec3<u32>, lane: u32) -> array<vec4<f32>, 4> {
    let count = token_count();
    let blocks = (shape.columns + 31u) / 32u;
    let slot = lane & 63u;
    let first_quad = (lane >> 6u) * 2u;
    let row = tile_row(group.x, slot);
    let token = group.y * 64u + slot;
    let origin = (token + first_token()) * (shape.in_stride / 4u);
    let panel = (row >> 4u) * shape.panel_words;
    let a = lane & 15u;
    let b = lane >> 4u;
    var sums = array<vec4<f32>, 4>();
    var squares = 0.0;
    for (var block = 0u; block < blocks; block++) {
        let at = panel + HEADER_WORDS + block * BLOCK_WORDS;
        var x = array<vec4<f32>, 2>();
        var largest = 0.0;
        var sum = 0.0;
        for (var n = 0u; n < 2u; n++) {
            let quad = first_quad + n;
            var w = vec4<f32>(0.0);
            if (row < shape.rows) {
                w = quad_at(at, row & 15u, quad, 32u);
            }
            w_tile[quad * 64u + slot] = vec4<f16>(w);
            if (token < count) {
                x[n] = input[origin + block * 8u + quad];
                if (shape.norm == 1u) {
                    squares += dot(x[n], x[n]);
                    x[n] *= norm_weight[block * 8u + quad];
                }
            }
            let size = abs(x[n]);
            largest = max(largest, max(max(size.x, size.y), max(size.z, size.w)));
            sum += dot(x[n], vec4<f32>(1.0));
        }
        if (lane < 64u) {
            w_scale[slot] = vec2<f32>(0.0);
            if (row < shape.rows) {
                w_scale[slot] = scales(panel, at, row & 15u);
            }
        }
        x_part[lane] = largest;
        x_sum[lane] = sum;
        workgroupBarrier();
        largest = max(max(x_part[slot], x_part[slot + 64u]), max(x_part[slot + 128u], x_part[slot + 192u]));
        let inverse = select(0.0, 1.0 / largest, largest > 2.9e-39);
        x_tile[first_quad * 64u + slot] = vec4<f16>(x[0] * inverse);
        x_tile[(first_quad + 1u) * 64u + slot] = vec4<f16>(x[1] * inverse);
        workgroupBarrier();
        var dots = array<vec4<f32>, 4>();
        for (var quad = 0u; quad < 8u; quad++) {
            let w0 = w_tile[quad * 64u + a];
            let w1 = w_tile[quad * 64u + a + 16u];
            let w2 = w_tile[quad * 64u + a + 32u];
            let w3 = w_tile[quad * 64u + a + 48u];
            for (var t = 0u; t < 4u; t++) {
                let v = x_tile[quad * 64u + b + t * 16u];
                dots[t] += vec4<f32>(f32(dot(w0, v)), f32(dot(w1, v)), f32(dot(w2, v)), f32(dot(w3, v)));
            }
        }
        let s0 = w_scale[a];
        let s1 = w_scale[a + 16u];
        let s2 = w_scale[a + 32u];
        let s3 = w_scale[a + 48u];
        for (var t = 0u; t < 4u; t++) {
            let x_at = b + t * 16u;
            let size = max(max(x_part[x_at], x_part[x_at + 64u]), max(x_part[x_at + 128u], x_part[x_at + 192u]));
            sums[t] += dots[t] * size * vec4<f32>(s0.x, s1.x, s2.x, s3.x);
            let all = x_sum[x_at] + x_sum[x_at + 64u] + x_sum[x_at + 128u] + x_sum[x_at + 192u];
            sums[t] += all * vec4<f32>(s0.y, s1.y, s2.y, s3.y);
        }
        workgroupBarrier();
    }
    x_sum[lane] = squares;
    workgroupBarrier();
    for (var t = 0u; t < 4u; t++) {
        let at = b + t * 16u;
        sums[t] *= norm_factor(x_sum[at] + x_sum[at + 64u] + x_sum[at + 128u] + x_sum[at + 192u]);
    }
    return sums;
}
