
// `tiled_sums` with cooperative matrices of halves and f32 sums. Follows cooperative_8.wgsl or cooperative_16.wgsl, and
// tile.wgsl.
//
// Weights and input are split into a high and a low half each; three of the four products are computed, and the error is 2^-21
// of a term. Normal halves reach from 2^-14 to 2^16, and drivers may flush smaller ones: the input is multiplied by a power of
// two that puts the largest number of its row between 2^12 and 2^13, and weights by 256. Weights below 5e-4 may keep only
// eleven bits.

// [64 rows or tokens, 32 columns].
var<workgroup> w_high: array<f16, 2048>;
var<workgroup> w_low: array<f16, 2048>;
var<workgroup> x_high: array<f16, 2048>;
var<workgroup> x_low: array<f16, 2048>;
// [32 tokens, 64 rows]: one matrix of each pair.
var<workgroup> out_tile: array<f32, 2048>;
// For each token and a quarter of its quads: the largest absolute value, then the sum of squares.
var<workgroup> x_part: array<f32, 256>;

// A quad of the input, multiplied by the norm's weights if there is a norm.
fn normed(origin: u32, at: u32) -> vec4<f32> {
    let x = input[origin + at];
    if (shape.norm == 1u) {
        return x * norm_weight[at];
    }
    return x;
}

// The biased f32 exponent of the power of two that scales a number to between 2^12 and 2^13; its inverse is finite as well.
fn row_exponent(largest: f32) -> u32 {
    return 266u - clamp(bitcast<u32>(largest) >> 23u, 13u, 254u);
}

// The pair of matrices that has a token of the tile, and the token's index there.
fn slot_in_pair(token: u32) -> vec2<u32> {
    return vec2<u32>(token / (2u * SIDE), token % (2u * SIDE));
}

// Rounds to the eleven significant bits of a half, by integer operations: Mesa optimizes away a conversion to half and back,
// which would make the low half zero.
fn high_half(x: f32) -> f32 {
    return bitcast<f32>((bitcast<u32>(clamp(x, -65504.0, 65504.0)) + 0x1000u) & 0xffffe000u);
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
    // Each subgroup computes SIDE rows and 2 * SIDE tokens.
    let subgroup = lane / SUBGROUP;
    let strip = subgroup % (64u / SIDE);
    let pair = subgroup / (64u / SIDE);
    let rows_at = strip * SIDE * 32u;
    let tokens_at = pair * 2u * SIDE * 32u;
    var first = Sums();
    var second = Sums();
    var squares = 0.0;
    var largest = 0.0;
    if (token < count) {
        for (var block = 0u; block < blocks; block++) {
            for (var quad = first_quad; quad < first_quad + 2u; quad++) {
                let x = normed(origin, block * 8u + quad);
                largest = max(largest, max(max(abs(x.x), abs(x.y)), max(abs(x.z), abs(x.w))));
            }
        }
    }
    x_part[lane] = largest;
    workgroupBarrier();
    largest = max(max(x_part[slot], x_part[slot + 64u]), max(x_part[slot + 128u], x_part[slot + 192u]));
    let exponent = row_exponent(largest);
    let x_scale = bitcast<f32>(exponent << 23u);
    for (var block = 0u; block < blocks; block++) {
        let at = panel + HEADER_WORDS + block * BLOCK_WORDS;
        var s = vec2<f32>(0.0);
        if (row < shape.rows) {
            s = scales(panel, at, row & 15u);
        }
        for (var quad = first_quad; quad < first_quad + 2u; quad++) {
            var w = vec4<f32>(0.0);
            var x = vec4<f32>(0.0);
            if (row < shape.rows) {
                w = (quad_at(at, row & 15u, quad, shape.columns - block * 32u) * s.x + s.y) * 256.0;
            }
            if (token < count) {
                let raw = input[origin + block * 8u + quad];
                squares += dot(raw, raw);
                x = normed(origin, block * 8u + quad) * x_scale;
            }
            for (var j = 0u; j < 4u; j++) {
                let to = slot * 32u + quad * 4u + j;
                let w_half = high_half(w[j]);
                let x_half = high_half(x[j]);
                w_high[to] = f16(w_half);
                w_low[to] = f16(clamp(w[j] - w_half, -65504.0, 65504.0));
                x_high[to] = f16(x_half);
                x_low[to] = f16(clamp(x[j] - x_half, -65504.0, 65504.0));
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k += SIDE) {
            // Rows by columns; the input is loaded as columns by tokens.
            let w = coopLoadT<Left>(&w_high[rows_at + k], 32u);
            let w_rest = coopLoadT<Left>(&w_low[rows_at + k], 32u);
            let x = coopLoad<Right>(&x_high[tokens_at + k], 32u);
            let x_rest = coopLoad<Right>(&x_low[tokens_at + k], 32u);
            first = coopMultiplyAdd(w, x, first);
            first = coopMultiplyAdd(w, x_rest, first);
            first = coopMultiplyAdd(w_rest, x, first);
            let y = coopLoad<Right>(&x_high[tokens_at + SIDE * 32u + k], 32u);
            let y_rest = coopLoad<Right>(&x_low[tokens_at + SIDE * 32u + k], 32u);
            second = coopMultiplyAdd(w, y, second);
            second = coopMultiplyAdd(w, y_rest, second);
            second = coopMultiplyAdd(w_rest, y, second);
        }
        workgroupBarrier();
    }
    x_part[lane] = squares;
    workgroupBarrier();
    var factors = array<f32, 4>();
    for (var t = 0u; t < 4u; t++) {
        let at = (lane >> 4u) + t * 16u;
        factors[t] = norm_factor(x_part[at] + x_part[at + 64u] + x_part[at + 128u] + x_part[at + 192u]);
    }
    workgroupBarrier();
    // Undo the scaling of weights and input.
    x_part[lane] = bitcast<f32>((254u - exponent) << 23u) / 256.0;
    var sums = array<vec4<f32>, 4>();
    let to = pair * SIDE * 64u + strip * SIDE;
    let a = lane & 15u;
    let b = lane >> 4u;
    coopStore(first, &out_tile[to], 64u);
    workgroupBarrier();
    for (var t = 0u; t < 4u; t++) {
        let slot = slot_in_pair(b + t * 16u);
        if (slot.y < SIDE) {
            for (var r = 0u; r < 4u; r++) {
                sums[t][r] = out_tile[(slot.x * SIDE + slot.y) * 64u + a + r * 16u];
            }
        }
    }
    workgroupBarrier();
    coopStore(second, &out_tile[to], 64u);
    workgroupBarrier();
    for (var t = 0u; t < 4u; t++) {
        let slot = slot_in_pair(b + t * 16u);
        if (slot.y >= SIDE) {
            for (var r = 0u; r < 4u; r++) {
                sums[t][r] = out_tile[((slot.x - 1u) * SIDE + slot.y) * 64u + a + r * 16u];
            }
        }
    }
    for (var t = 0u; t < 4u; t++) {
        sums[t] *= factors[t] * x_part[b + t * 16u];
    }
    return sums;
}
