// The KV cache of one layer, in chunks with the layout of the CPU's (`KvHead`), so that transfers are plain copies.
// A layer with a sliding window has a ring: a position's place is its remainder by the capacity.
//
// Floats: keys [positions / 16, dim, 16]; values [positions, width], where `width` is `dim` rounded up to 16. 8-bit (code plus
// 128): keys [positions / 16, dim / 4, 16], four dimensions in a word; values [positions / 64, width / 16, 16, 16], four
// positions in a word; the scales of all heads and positions follow.

// Bytes per cache element: 4, 2 or 1.
override KV_BYTES: u32 = 2u;

struct Shape {
    heads: u32,
    kv_heads: u32,
    // At most 256, even.
    dim: u32,
    // Capacity, a multiple of 64: no less than the context, unless there is a window.
    positions: u32,
    // Elements per row of queries, keys and values.
    stride: u32,
    out_stride: u32,
    // 1 / sqrt(dim).
    scale: f32,
    // Positions per workgroup if several share a query; a multiple of 64.
    span: u32,
    // Positions that a token attends to, itself included; at most 2^31.
    window: u32,
    // Whether queries and keys are rotated.
    rope: u32,
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
// Partial results, [tokens, heads, spans, 2 + dim]: largest score, sum of exponentials relative to it, weighted values.
@group(0) @binding(7) var<storage, read_write> partials: array<f32>;

fn value_width() -> u32 {
    return (shape.dim + 15u) & 0xfffffff0u;
}

// The place of a position: what the indices below take.
fn place_of(position: u32) -> u32 {
    if (position < shape.positions) {
        return position;
    }
    return position % shape.positions;
}

// Index of a key element of a float cache.
fn key_index(head: u32, place: u32, d: u32) -> u32 {
    return head * shape.positions * shape.dim + ((place >> 4u) * shape.dim + d) * 16u + (place & 15u);
}

// Index of a value element of a float cache.
fn value_index(head: u32, place: u32, d: u32) -> u32 {
    return (head * shape.positions + place) * value_width() + d;
}

// Two halves in a word. Packing is undefined beyond 65,504.
fn packed(low: f32, high: f32) -> u32 {
    return pack2x16float(clamp(vec2<f32>(low, high), vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}

// Indices of words of an 8-bit cache: four dimensions of a place, four positions of a dimension.
fn key_word(head: u32, place: u32, quad: u32) -> u32 {
    let quads = (shape.dim + 3u) / 4u;
    return head * shape.positions * quads + ((place >> 4u) * quads + quad) * 16u + (place & 15u);
}

fn value_word(head: u32, place: u32, d: u32) -> u32 {
    let chunk = (head * shape.positions + (place & 0xffffffc0u)) * (value_width() / 4u);
    return chunk + ((d >> 4u) * 16u + ((place & 63u) >> 2u)) * 16u + (d & 15u);
}

// Indices of scales.
fn key_scale(head: u32, place: u32) -> u32 {
    return shape.kv_heads * shape.positions * ((shape.dim + 3u) / 4u) + head * shape.positions + place;
}

fn value_scale(head: u32, place: u32) -> u32 {
    return shape.kv_heads * shape.positions * (value_width() / 4u) + head * shape.positions + place;
}
