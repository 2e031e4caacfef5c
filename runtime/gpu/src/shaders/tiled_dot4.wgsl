
// `tiled_sums` in packed 8-bit integers, for quantized weights. Quantizes the input like the CPU's fast path: groups of 32
// columns in two planes of signed bytes, step * (256 * coarse + fine). Sums over groups are f32. Follows tile.wgsl.

// Tiles of 64 rows and 64 tokens, 32 columns deep: four signed bytes in a word.
var<workgroup> w_tile: array<u32, 512>;
var<workgroup> coarse_tile: array<u32, 512>;
var<workgroup> fine_tile: array<u32, 512>;
// Scale and minimum of each row.
var<workgroup> w_scale: array<vec2<f32>, 64>;
// For each token and two quads: the largest absolute value, and the sum in steps.
var<workgroup> x_part: array<f32, 256>;
var<workgroup> x_sum: array<f32, 256>;

fn signed_bytes(x: vec4<f32>) -> u32 {
    let codes = bitcast<vec4<u32>>(vec4<i32>(x)) & vec4<u32>(0xffu);
    return codes.x | (codes.y << 8u) | (codes.z << 16u) | (codes.w << 24u);
}

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
        for (var n = 0u; n < 2u; n++) {
            let quad = first_quad + n;
            var codes = 0u;
            if (row < shape.rows) {
                codes = codes_at(at, row & 15u, quad);
            }
            w_tile[quad * 64u + slot] = codes;
            if (token < count) {
                x[n] = input[origin + block * 8u + quad];
                if (shape.norm == 1u) {
                    squares += dot(x[n], x[n]);
                    x[n] *= norm_weight[block * 8u + quad];
                }
            }
            let size = abs(x[n]);
            largest = max(largest, max(max(size.x, size.y), max(size.z, size.w)));
        }
        if (lane < 64u) {
            w_scale[slot] = vec2<f32>(0.0);
            if (row < shape.rows) {
                w_scale[slot] = scales(panel, at, row & 15u);
            }
        }
        x_part[lane] = largest;
        workgroupBarrier();
        largest = max(max(x_part[slot], x_part[slot + 64u]), max(x_part[slot + 128u], x_part[slot + 192u]));
        // For smaller values 127 / largest overflows.
        let inverse = select(0.0, 127.0 / largest, largest > 3.74e-37);
        var sum = 0.0;
        for (var n = 0u; n < 2u; n++) {
            let scaled = x[n] * inverse;
            let coarse = round(scaled);
            let fine = round(clamp((scaled - coarse) * 256.0, vec4<f32>(-127.0), vec4<f32>(127.0)));
            coarse_tile[(first_quad + n) * 64u + slot] = signed_bytes(coarse);
            fine_tile[(first_quad + n) * 64u + slot] = signed_bytes(fine);
            sum += dot(coarse * 256.0 + fine, vec4<f32>(1.0));
        }
        x_sum[lane] = sum;
        workgroupBarrier();
        var coarse = array<vec4<i32>, 4>();
        var fine = array<vec4<i32>, 4>();
        for (var quad = 0u; quad < 8u; quad++) {
            let w0 = w_tile[quad * 64u + a];
            let w1 = w_tile[quad * 64u + a + 16u];
            let w2 = w_tile[quad * 64u + a + 32u];
            let w3 = w_tile[quad * 64u + a + 48u];
            for (var t = 0u; t < 4u; t++) {
                let c = coarse_tile[quad * 64u + b + t * 16u];
                let f = fine_tile[quad * 64u + b + t * 16u];
                coarse[t] += vec4<i32>(dot4I8Packed(w0, c), dot4I8Packed(w1, c), dot4I8Packed(w2, c), dot4I8Packed(w3, c));
                fine[t] += vec4<i32>(dot4I8Packed(w0, f), dot4I8Packed(w1, f), dot4I8Packed(w2, f), dot4I8Packed(w3, f));
            }
        }
        let s0 = w_scale[a];
        let s1 = w_scale[a + 16u];
        let s2 = w_scale[a + 32u];
        let s3 = w_scale[a + 48u];
        for (var t = 0u; t < 4u; t++) {
            let x_at = b + t * 16u;
            let size = max(max(x_part[x_at], x_part[x_at + 64u]), max(x_part[x_at + 128u], x_part[x_at + 192u]));
            let step = size * (1.0 / (127.0 * 256.0));
            // At most 32 * 128 * (127 * 256 + 127): below 2^31.
            let whole = vec4<f32>(coarse[t] * 256 + fine[t]) * step;
            sums[t] += whole * vec4<f32>(s0.x, s1.x, s2.x, s3.x);
            if (SCALES == GROUP_AND_MINIMUM) {
                let all = x_sum[x_at] + x_sum[x_at + 64u] + x_sum[x_at + 128u] + x_sum[x_at + 192u];
                sums[t] += all * step * vec4<f32>(s0.y, s1.y, s2.y, s3.y);
            }
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
