
// Products for many tokens, in tiles of 64 rows and 64 tokens. Behind panel.wgsl and finish.wgsl; `tiled_sums` is in the
// file behind this one, of which there are several: it gives a lane sixteen sums, of which `sums[t][r]` is that of row
// a + 16 r and token b + 16 t, a being the lane's low four bits and b the others.
// Workgroups: (rows / 64, tokens / 64).

// The row of the matrix at a place of a tile, beyond the last one where there is none. Of pairs, a tile has 32 first rows,
// and behind them their second ones.
fn tile_row(tile: u32, place: u32) -> u32 {
    if (shape.pair == 0u) {
        return tile * 64u + place;
    }
    let j = tile * 32u + (place & 31u);
    return select(shape.rows, paired_row(j) + (place >> 5u) * shape.pair, j < shape.rows / 2u);
}

@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sums = tiled_sums(group, lane);
    let first = group.y * 64u + (lane >> 4u);
    for (var t = 0u; t < 4u; t++) {
        let token = first + t * 16u;
        if (token >= count_of_tokens()) {
            break;
        }
        for (var r = 0u; r < 4u; r++) {
            let row = group.x * 64u + (lane & 15u) + r * 16u;
            let j = group.x * 32u + (lane & 15u) + r * 16u;
            if (shape.pair == 0u) {
                if (row < shape.rows) {
                    put(token, row, sums[t][r]);
                }
            } else if (r < 2u && j < shape.rows / 2u) {
                put_swiglu(token, j, sums[t][r], sums[t][r + 2u]);
            }
        }
    }
}

@compute @workgroup_size(256)
fn tiled_qkv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sums = tiled_sums(group, lane);
    let first = group.y * 64u + (lane >> 4u);
    for (var t = 0u; t < 4u; t++) {
        let token = first + t * 16u;
        if (token >= count_of_tokens()) {
            break;
        }
        for (var r = 0u; r < 2u; r++) {
            let j = group.x * 32u + (lane & 15u) + r * 16u;
            if (j < shape.rows / 2u) {
                put_qkv(token, j, sums[t][r], sums[t][r + 2u]);
            }
        }
    }
}
