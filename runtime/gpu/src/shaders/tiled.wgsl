// `tiled_sums` in f32. Follows tile.wgsl.

// Tiles of 64 rows and of 64 tokens, 32 columns deep: 16 KiB together, which every adapter has.
var<workgroup> w_tile: array<vec4<f32>, 512>;
var<workgroup> x_tile: array<vec4<f32>, 512>;

fn tiled_sums(group: vec3<u32>, lane: u32) -> array<vec4<f32>, 4> {
    let count = token_count();
    let blocks = (shape.columns + 31u) / 32u;
    // This lane loads two quads of one row and of one token.
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
        var s = vec2<f32>(0.0);
        if (row < shape.rows) {
            s = scales(panel, at, row & 15u);
        }
        for (var quad = first_quad; quad < first_quad + 2u; quad++) {
            var w = vec4<f32>(0.0);
            var x = vec4<f32>(0.0);
            if (row < shape.rows) {
                w = quad_at(at, row & 15u, quad, shape.columns - block * 32u) * s.x + s.y;
            }
            if (token < count) {
                x = input[origin + block * 8u + quad];
                if (shape.norm == 1u) {
                    squares += dot(x, x);
                    x *= norm_weight[block * 8u + quad];
                }
            }
            w_tile[quad * 64u + slot] = w;
            x_tile[quad * 64u + slot] = x;
        }
        workgroupBarrier();
        for (var quad = 0u; quad < 8u; quad++) {
            let w0 = w_tile[quad * 64u + a];
            let w1 = w_tile[quad * 64u + a + 16u];
            let w2 = w_tile[quad * 64u + a + 32u];
            let w3 = w_tile[quad * 64u + a + 48u];
            for (var t = 0u; t < 4u; t++) {
                let x = x_tile[quad * 64u + b + t * 16u];
                sums[t] += vec4<f32>(dot(w0, x), dot(w1, x), dot(w2, x), dot(w3, x));
            }
        }
        workgroupBarrier();
    }
    x_tile[lane].x = squares;
    workgroupBarrier();
    for (var t = 0u; t < 4u; t++) {
        let at = b + t * 16u;
        sums[t] *= norm_factor(x_tile[at].x + x_tile[at + 64u].x + x_tile[at + 128u].x + x_tile[at + 192u].x);
    }
    return sums;
}

