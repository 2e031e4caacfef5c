// The epilogues of matrix products: store, add, SwiGLU, or RoPE and cache writes. Follows panel.wgsl.

// Bytes per cache element: 4 or 2. Used by `put_qkv` only.
override KV_BYTES: u32 = 2u;

struct Heads {
    heads: u32,
    kv_heads: u32,
    dim: u32,
    // Capacity of the cache; a position's place is its remainder.
    positions: u32,
    stride: u32,
    out_stride: u32,
    // 1 / sqrt(dim).
    scale: f32,
    span: u32,
    window: u32,
    // Whether queries and keys are rotated.
    rope: u32,
}

// The norm's weights; unused without a norm.
@group(0) @binding(5) var<storage, read> norm_weight: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> heads: Heads;
// Cosine and sine for each position and pair of dimensions, [context, dim / 2].
@group(0) @binding(7) var<storage, read> angles: array<vec2<f32>>;
// Atomic: two tokens or two dimensions share a word of halves.
@group(0) @binding(8) var<storage, read_write> keys: array<atomic<u32>>;
@group(0) @binding(9) var<storage, read_write> values: array<atomic<u32>>;

// First row of pair `j`; the second one is `shape.pair_distance` rows later.
fn paired_row(j: u32) -> u32 {
    return j / shape.pair_distance * 2u * shape.pair_distance + j % shape.pair_distance;
}

// First input row of the product.
fn first_token() -> u32 {
    return select(0u, state.head_row, shape.head == 1u);
}

fn token_count() -> u32 {
    return select(state.tokens, state.head_rows, shape.head == 1u);
}

fn norm_factor(squares: f32) -> f32 {
    return select(1.0, 1.0 / sqrt(squares / f32(shape.columns) + shape.epsilon), shape.norm == 1u);
}

fn put(token: u32, row: u32, sum: f32) {
    let at = token * shape.out_stride + shape.out_column + row;
    if (shape.add == 1u) {
        output[at] += shape.scale * sum;
    } else {
        output[at] = shape.scale * sum;
    }
}

// SwiGLU (Shazeer 2020): gate / (1 + e^-gate) * up.
fn put_swiglu(token: u32, j: u32, gate: f32, up: f32) {
    // Clamped near the largest f32: some drivers compute NaN for 1 / (1 + inf).
    output[token * shape.out_stride + shape.out_column + j] = gate / (1.0 + exp(min(-gate, 88.0))) * up;
}

// Packing is undefined beyond 65,504.
fn half_bits(x: f32) -> u32 {
    return pack2x16float(vec2<f32>(clamp(x, -65504.0, 65504.0), 0.0)) & 0xffffu;
}

fn put_key(index: u32, x: f32) {
    if (KV_BYTES == 2u) {
        let shift = (index & 1u) * 16u;
        atomicAnd(&keys[index / 2u], 0xffff0000u >> shift);
        atomicOr(&keys[index / 2u], half_bits(x) << shift);
    } else {
        atomicStore(&keys[index], bitcast<u32>(x));
    }
}

fn put_value(index: u32, x: f32) {
    if (KV_BYTES == 2u) {
        let shift = (index & 1u) * 16u;
        atomicAnd(&values[index / 2u], 0xffff0000u >> shift);
        atomicOr(&values[index / 2u], half_bits(x) << shift);
    } else {
        atomicStore(&values[index], bitcast<u32>(x));
    }
}

// Stores dimensions i and dim / 2 + i of a query, key or value head; applies RoPE to queries and keys.
fn put_qkv(token: u32, j: u32, low: f32, high: f32) {
    let head = j / shape.pair_distance;
    let i = j % shape.pair_distance;
    let position = state.position + token;
    var place = position;
    if (place >= heads.positions) {
        place %= heads.positions;
    }
    if (head < heads.heads + heads.kv_heads) {
        var angle = vec2<f32>(1.0, 0.0);
        if (heads.rope == 1u) {
            angle = angles[position * shape.pair_distance + i];
        }
        let x = low * angle.x - high * angle.y;
        let y = high * angle.x + low * angle.y;
        if (head < heads.heads) {
            let at = token * shape.out_stride + head * heads.dim + i;
            output[at] = x * heads.scale;
            output[at + shape.pair_distance] = y * heads.scale;
        } else {
            let head_start = (head - heads.heads) * heads.positions * heads.dim;
            let block = head_start + (place >> 4u) * heads.dim * 16u + (place & 15u);
            put_key(block + i * 16u, x);
            put_key(block + (i + shape.pair_distance) * 16u, y);
        }
        return;
    }
    let row = (head - heads.heads - heads.kv_heads) * heads.positions + place;
    let at = row * ((heads.dim + 15u) & 0xfffffff0u) + i;
    put_value(at, low);
    put_value(at + shape.pair_distance, high);
}
