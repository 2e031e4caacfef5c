
// Products of many tokens, in tiles of 64 rows and 64 tokens. Follows panel.wgsl and epilogue.wgsl. Each kernel variant has
// its own `tiled_sums`, which computes sixteen sums per lane: `sums[t][r]` is that of row a + 16 r and token b + 16 t, where a
// is the low four bits of the lane and b the others.
// Workgroups: (rows / 64, tokens / 64).

// The row of the matrix at a slot of a tile; shape.rows or more if there is none. With pairs, a tile has 32 first rows, then
// their second rows.
fn tile_row(tile: u32, slot: u32) -> u32 {
    if (shape.pair_distance == 0u) {
        return tile * 64u + slot;
    }
    let j = tile * 32u + (slot & 31u);
    return select(shape.rows, paired_row(j) + (slot >> 5u) * shape.pair_distance, j < shape.rows / 2u);
}

@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sums = tiled_sums(group, lane);
    let first = group.y * 64u + (lane >> 4u);
    for (var t = 0u; t < 4u; t++) {
        let token = first + t * 16u;
        if (token >= token_count()) {
            break;
        }
        for (var r = 0u; r < 4u; r++) {
            let row = group.x * 64u + (lane & 15u) + r * 16u;
            let j = group.x * 32u + (lane & 15u) + r * 16u;
            if (shape.pair_distance == 0u) {
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
        if (token >= token_count()) {
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
