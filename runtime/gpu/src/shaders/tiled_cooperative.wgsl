
// `tiled_sums` with cooperative matrices of halves and f32 sums; their side and the lanes of a subgroup come from the front
// of the module. Weights and input are split in two halves each, of which three products count: what is lost is 2^-21 of a
// term. Halves reach from 2^-14 to 2^16, and a driver may take what is smaller for zero: the input is multiplied by a power of
// two that puts its row's largest number between 2^12 and 2^13, weights by 256, so that those under 5e-4 may keep eleven bits
// alone. Behind tile.wgsl.

// [64 rows or tokens, 32 columns].
var<workgroup> w_high: array<f16, 2048>;
var<workgroup> w_low: array<f16, 2048>;
var<workgroup> x_high: array<f16, 2048>;
var<workgroup> x_low: array<f16, 2048>;
// [32 tokens, 64 rows]: half of each pair of matrices.
var<workgroup> out_tile: array<f32, 2048>;
// Of each token and a quarter of its quads: the largest size, then the sum of squares.
var<workgroup> x_part: array<f32, 256>;

// A quad of the input, multiplied by the norm's weights where there is one.
fn normed(origin: u32, at: u32) -> vec4<f32> {
    let x = input[origin + at];
    if (shape.norm == 1u) {
        return x * norm_weight[at];
    }
    return x;
}

// The exponent, as f32 has it, of the power of two that puts a number between 2^12 and 2^13; its inverse is a number as well.
fn row_exponent(largest: f32) -> u32 {
    return 266u - clamp(bitcast<u32>(largest) >> 23u, 13u, 254u);
}

// In which pair of matrices a token of the tile is, and its place there.
fn place_in_pair(token: u32) -> vec2<u32> {
    return vec2<u32>(token / (2u * SIDE), token % (2u * SIDE));
}

// The nearest number with the eleven bits of a half, in bits: drivers (Mesa's) take what goes to half precision and back as
// it was, and what is left of it would be zero.
fn high_half(x: f32) -> f32 {
    return bitcast<f32>((bitcast<u32>(clamp(x, -65504.0, 65504.0)) + 0x1000u) & 0xffffe000u);
}

fn tiled_sums(group: vec3<u32>, lane: u32) -> array<vec4<f32>, 4> {
    let count = count_of_tokens();
    let blocks = (shape.columns + 31u) / 32u;
    let place = lane & 63u;
    let first_quad = (lane >> 6u) * 2u;
    let row = tile_row(group.x, place);
    let token = group.y * 64u + place;
    let origin = (token + first_token()) * (shape.in_stride / 4u);
    let panel = (row >> 4u) * shape.panel_words;
    // Each subgroup has SIDE rows, and two times SIDE tokens.
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
    largest = max(max(x_part[place], x_part[place + 64u]), max(x_part[place + 128u], x_part[place + 192u]));
    let exponent = row_exponent(largest);
    let x_scale = bitcast<f32>(exponent << 23u);
    for (var block = 0u; block < blocks; block++) {
        let at = panel + header_words() + block * block_words();
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
                let to = place * 32u + quad * 4u + j;
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
            // Rows by columns; the input is seen as columns by tokens.
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
    // Weights were multiplied by 256, the input by a power of two.
    x_part[lane] = bitcast<f32>((254u - exponent) << 23u) / 256.0;
    var sums = array<vec4<f32>, 4>();
    let to = pair * SIDE * 64u + strip * SIDE;
    let a = lane & 15u;
    let b = lane >> 4u;
    coopStore(first, &out_tile[to], 64u);
    workgroupBarrier();
    for (var t = 0u; t < 4u; t++) {
        let place = place_in_pair(b + t * 16u);
        if (place.y < SIDE) {
            for (var r = 0u; r < 4u; r++) {
                sums[t][r] = out_tile[(place.x * SIDE + place.y) * 64u + a + r * 16u];
            }
        }
    }
    workgroupBarrier();
    coopStore(second, &out_tile[to], 64u);
    workgroupBarrier();
    for (var t = 0u; t < 4u; t++) {
        let place = place_in_pair(b + t * 16u);
        if (place.y >= SIDE) {
            for (var r = 0u; r < 4u; r++) {
                sums[t][r] = out_tile[((place.x - 1u) * SIDE + place.y) * 64u + a + r * 16u];
            }
        }
    }
    for (var t = 0u; t < 4u; t++) {
        sums[t] *= factors[t] * x_part[b + t * 16u];
    }
    return sums;
}
