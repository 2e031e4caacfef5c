
// `tiled_sums` with cooperative matrices of 16 by 16 halves and f32 sums, for subgroups of 32 lanes. Weights and input are
// split in two halves each, of which three products count: what is lost is 2^-21 of a term. Behind tile.wgsl.

// [64 rows or tokens, 32 columns]; weights times 256, the input by 16, to stay clear of either end of half precision.
var<workgroup> w_high: array<f16, 2048>;
var<workgroup> w_low: array<f16, 2048>;
var<workgroup> x_high: array<f16, 2048>;
var<workgroup> x_low: array<f16, 2048>;
// [32 tokens, 64 rows].
var<workgroup> out_tile: array<f32, 2048>;
var<workgroup> x_squares: array<f32, 256>;

fn tiled_sums(group: vec3<u32>, lane: u32) -> array<vec4<f32>, 4> {
    let count = count_of_tokens();
    let blocks = (shape.columns + 31u) / 32u;
    let place = lane & 63u;
    let first_quad = (lane >> 6u) * 2u;
    let row = tile_row(group.x, place);
    let token = group.y * 64u + place;
    let origin = (token + first_token()) * (shape.in_stride / 4u);
    let panel = (row >> 4u) * shape.panel_words;
    // Each of eight subgroups has sixteen rows, and two times sixteen tokens.
    let subgroup = lane >> 5u;
    let rows_at = (subgroup & 3u) * 16u * 32u;
    let tokens_at = (subgroup >> 2u) * 32u * 32u;
    var first = coop_mat16x16<f32, C>();
    var second = coop_mat16x16<f32, C>();
    var squares = 0.0;
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
                x = input[origin + block * 8u + quad];
                if (shape.norm == 1u) {
                    squares += dot(x, x);
                    x *= norm_weight[block * 8u + quad];
                }
                x *= 0.0625;
            }
            for (var j = 0u; j < 4u; j++) {
                let to = place * 32u + quad * 4u + j;
                let w_half = f16(clamp(w[j], -65504.0, 65504.0));
                let x_half = f16(clamp(x[j], -65504.0, 65504.0));
                w_high[to] = w_half;
                w_low[to] = f16(clamp(w[j] - f32(w_half), -65504.0, 65504.0));
                x_high[to] = x_half;
                x_low[to] = f16(clamp(x[j] - f32(x_half), -65504.0, 65504.0));
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k += 16u) {
            // Rows by columns; the input is seen as columns by tokens.
            let w = coopLoadT<coop_mat16x16<f16, A>>(&w_high[rows_at + k], 32u);
            let w_rest = coopLoadT<coop_mat16x16<f16, A>>(&w_low[rows_at + k], 32u);
            let x = coopLoad<coop_mat16x16<f16, B>>(&x_high[tokens_at + k], 32u);
            let x_rest = coopLoad<coop_mat16x16<f16, B>>(&x_low[tokens_at + k], 32u);
            first = coopMultiplyAdd(w, x, first);
            first = coopMultiplyAdd(w, x_rest, first);
            first = coopMultiplyAdd(w_rest, x, first);
            let y = coopLoad<coop_mat16x16<f16, B>>(&x_high[tokens_at + 512u + k], 32u);
            let y_rest = coopLoad<coop_mat16x16<f16, B>>(&x_low[tokens_at + 512u + k], 32u);
            second = coopMultiplyAdd(w, y, second);
            second = coopMultiplyAdd(w, y_rest, second);
            second = coopMultiplyAdd(w_rest, y, second);
        }
        workgroupBarrier();
    }
    x_squares[lane] = squares;
    var sums = array<vec4<f32>, 4>();
    let to = (subgroup >> 2u) * 1024u + (subgroup & 3u) * 16u;
    let a = lane & 15u;
    let b = lane >> 4u;
    // Tokens 0 to 15 and 32 to 47 of the tile, then those between and behind them.
    coopStore(first, &out_tile[to], 64u);
    workgroupBarrier();
    for (var r = 0u; r < 4u; r++) {
        sums[0][r] = out_tile[b * 64u + a + r * 16u];
        sums[2][r] = out_tile[1024u + b * 64u + a + r * 16u];
    }
    workgroupBarrier();
    coopStore(second, &out_tile[to], 64u);
    workgroupBarrier();
    for (var r = 0u; r < 4u; r++) {
        sums[1][r] = out_tile[b * 64u + a + r * 16u];
        sums[3][r] = out_tile[1024u + b * 64u + a + r * 16u];
    }
    for (var t = 0u; t < 4u; t++) {
        let at = b + t * 16u;
        // Weights times 256, the input by 16.
        let factor = norm_factor(x_squares[at] + x_squares[at + 64u] + x_squares[at + 128u] + x_squares[at + 192u]);
        sums[t] *= factor * 0.0625;
    }
    return sums;
}
