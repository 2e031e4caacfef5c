// What becomes of a product's sums: one part of the modules that compute products.

// Bytes of a number in the cache: 4 or 2. Only the products of queries, keys and values look at it.
override KV_BYTES: u32 = 2u;

struct Heads {
    heads: u32,
    kv_heads: u32,
    dim: u32,
    // Positions of a key-value head's region.
    positions: u32,
    stride: u32,
    out_stride: u32,
    // 1 / sqrt(dim).
    scale: f32,
    span: u32,
}

// Of the norm; anything where there is none.
@group(0) @binding(5) var<storage, read> norm_weight: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> heads: Heads;
// Cosine and sine for each position and pair of dimensions, [context, dim / 2].
@group(0) @binding(7) var<storage, read> angles: array<vec2<f32>>;
// Atomic, because two tokens or two dimensions share a word of halves.
@group(0) @binding(8) var<storage, read_write> keys: array<atomic<u32>>;
@group(0) @binding(9) var<storage, read_write> values: array<atomic<u32>>;

// First row of pair `j`; the second one is `shape.pair` further on.
fn paired_row(j: u32) -> u32 {
    return j / shape.pair * 2u * shape.pair + j % shape.pair;
}

// First token of the input that counts.
fn first_token() -> u32 {
    return select(0u, state.head_row, shape.head == 1u);
}

fn count_of_tokens() -> u32 {
    return select(state.tokens, state.head_rows, shape.head == 1u);
}

fn norm_factor(squares: f32) -> f32 {
    return select(1.0, 1.0 / sqrt(squares / f32(shape.columns) + shape.epsilon), shape.norm == 1u);
}

fn put(token: u32, row: u32, sum: f32) {
    let at = token * shape.out_stride + shape.out_column + row;
    if (shape.add == 1u) {
        output[at] += sum;
    } else {
        output[at] = sum;
    }
}

// SwiGLU (Shazeer 2020): gate / (1 + e^-gate) * up.
fn put_swiglu(token: u32, j: u32, gate: f32, up: f32) {
    // e^88 is near the largest f32: beyond it some drivers give not-a-number for 1 / (1 + inf).
    output[token * shape.out_stride + shape.out_column + j] = gate / (1.0 + exp(min(-gate, 88.0))) * up;
}

// Half numbers end at 65,504; beyond it packing is undefined.
fn half_bits(x: f32) -> u32 {
    return pack2x16float(vec2<f32>(clamp(x, -65504.0, 65504.0), 0.0)) & 0xffffu;
}

fn put_key(number: u32, x: f32) {
    if (KV_BYTES == 2u) {
        let shift = (number & 1u) * 16u;
        atomicAnd(&keys[number / 2u], 0xffff0000u >> shift);
        atomicOr(&keys[number / 2u], half_bits(x) << shift);
    } else {
        atomicStore(&keys[number], bitcast<u32>(x));
    }
}

fn put_value(number: u32, x: f32) {
    if (KV_BYTES == 2u) {
        let shift = (number & 1u) * 16u;
        atomicAnd(&values[number / 2u], 0xffff0000u >> shift);
        atomicOr(&values[number / 2u], half_bits(x) << shift);
    } else {
        atomicStore(&values[number], bitcast<u32>(x));
    }
}

// Dimensions i and dim / 2 + i of a head of queries, keys or values: rotated, and stored where they belong.
fn put_qkv(token: u32, j: u32, low: f32, high: f32) {
    let head = j / shape.pair;
    let i = j % shape.pair;
    let position = state.position + token;
    if (head < heads.heads + heads.kv_heads) {
        let angle = angles[position * shape.pair + i];
        let x = low * angle.x - high * angle.y;
        let y = high * angle.x + low * angle.y;
        if (head < heads.heads) {
            let at = token * shape.out_stride + head * heads.dim + i;
            output[at] = x * heads.scale;
            output[at + shape.pair] = y * heads.scale;
        } else {
            let region = (head - heads.heads) * heads.positions * heads.dim;
            let block = region + (position >> 4u) * heads.dim * 16u + (position & 15u);
            put_key(block + i * 16u, x);
            put_key(block + (i + shape.pair) * 16u, y);
        }
        return;
    }
    let row = (head - heads.heads - heads.kv_heads) * heads.positions + position;
    let at = row * ((heads.dim + 15u) & 0xfffffff0u) + i;
    put_value(at, low);
    put_value(at + shape.pair, high);
}
