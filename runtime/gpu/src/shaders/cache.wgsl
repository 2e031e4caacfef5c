// The cache of one layer: one part of the modules that write and read it.
//
// It lies as the CPU's does (KvHead), so that it can change sides by a plain copy. Floats: keys in blocks of 16 positions,
// one dimension of all 16 side by side; values row by row, rows padded to 16 dimensions. Bytes (code plus 128): keys in
// blocks of 16 positions, four dimensions in a word, [dim / 4, 16]; values in chunks of 64 positions, four positions in a
// word, [width / 16, 16 steps, 16 dimensions]; behind the numbers of all heads, one scale for each head and position.

// Bytes of a number in the cache: 4, 2 or 1.
override KV_BYTES: u32 = 2u;

struct Shape {
    heads: u32,
    kv_heads: u32,
    // At most 256, even.
    dim: u32,
    // Positions of a key-value head's region, a multiple of 64.
    positions: u32,
    // Numbers of a row of queries, keys and values, one behind the other.
    stride: u32,
    out_stride: u32,
    // 1 / sqrt(dim).
    scale: f32,
    // Positions that one workgroup looks at where several share a query; a multiple of 64.
    span: u32,
}

struct State {
    position: u32,
    tokens: u32,
    head_row: u32,
    head_rows: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<uniform> state: State;
// Cosine and sine for each position and pair of dimensions, [context, dim / 2].
@group(0) @binding(2) var<storage, read> angles: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> rows: array<f32>;
@group(0) @binding(4) var<storage, read_write> keys: array<u32>;
@group(0) @binding(5) var<storage, read_write> values: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
// Of each token, head and span: the largest score, the sum of the exponentials relative to it, the weighted values.
@group(0) @binding(7) var<storage, read_write> parts: array<f32>;

fn value_width() -> u32 {
    return (shape.dim + 15u) & 0xfffffff0u;
}

// Number `index` of the keys of a head at a position.
fn key_number(head: u32, position: u32, d: u32) -> u32 {
    return head * shape.positions * shape.dim + ((position >> 4u) * shape.dim + d) * 16u + (position & 15u);
}

fn value_number(head: u32, position: u32, d: u32) -> u32 {
    return (head * shape.positions + position) * value_width() + d;
}

// Half numbers end at 65,504; beyond it packing is undefined.
fn packed(low: f32, high: f32) -> u32 {
    return pack2x16float(clamp(vec2<f32>(low, high), vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}

// Words of bytes: four dimensions of a position, four positions of a dimension.
fn key_word(head: u32, position: u32, quad: u32) -> u32 {
    let quads = (shape.dim + 3u) / 4u;
    return head * shape.positions * quads + ((position >> 4u) * quads + quad) * 16u + (position & 15u);
}

fn value_word(head: u32, position: u32, d: u32) -> u32 {
    let chunk = (head * shape.positions + (position & 0xffffffc0u)) * (value_width() / 4u);
    return chunk + ((d >> 4u) * 16u + ((position & 63u) >> 2u)) * 16u + (d & 15u);
}

// The words of the scales.
fn key_scale(head: u32, position: u32) -> u32 {
    return shape.kv_heads * shape.positions * ((shape.dim + 3u) / 4u) + head * shape.positions + position;
}

fn value_scale(head: u32, position: u32) -> u32 {
    return shape.kv_heads * shape.positions * (value_width() / 4u) + head * shape.positions + position;
}
