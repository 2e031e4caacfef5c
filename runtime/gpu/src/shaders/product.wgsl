// Products of weight panels (FORMAT.md, "Encodings") with activations, and single rows of a matrix.
//
// A word of a quantized block holds four consecutive columns of one row, so that sixteen neighbouring lanes read
// sixteen neighbouring words. Activations are padded with zeros to whole groups of 32 columns.

// The number of the encoding in a file.
override ENCODING: u32 = 2u;

const F32 = 2u;
const F16 = 3u;
const BF16 = 4u;
const Q8 = 5u;
const Q8ROW = 6u;
const Q4 = 7u;
const Q4MIN = 8u;
const Q3NL = 9u;
const Q4NL = 10u;
const Q5NL = 11u;
const Q6 = 12u;

struct Shape {
    rows: u32,
    columns: u32,
    // Words of a panel of 16 rows.
    panel_words: u32,
    // Numbers from one row of the input to the next, a multiple of 32.
    in_stride: u32,
    out_stride: u32,
    // Where row 0 of the matrix goes in a row of the output.
    out_column: u32,
    // 1: the product is added to what is there.
    add: u32,
    // 1: of the head, whose tokens are the rows of logits asked for.
    head: u32,
}

struct State {
    position: u32,
    tokens: u32,
    head_row: u32,
    head_rows: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<uniform> state: State;
@group(0) @binding(2) var<storage, read> weights: array<u32>;
@group(0) @binding(3) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;
@group(0) @binding(5) var<storage, read> tokens: array<u32>;

// Four levels to a word, the first one lowest.
const LEVELS_3 = array<u32, 2>(0x3c2f200bu, 0x7f665649u);
const LEVELS_4 = array<u32, 4>(0x251d1408u, 0x3d37322cu, 0x544e4842u, 0x7f6e645bu);
const LEVELS_5 = array<u32, 8>(
    0x17120d06u, 0x27231f1bu, 0x34312d2au, 0x3e3c3936u,
    0x49464341u, 0x56524f4cu, 0x65615d59u, 0x7f756f6au,
);

// A half-precision number from its low 16 bits. By hand: unpack2x16float may flush subnormal numbers, which scales can be.
fn half(bits: u32) -> f32 {
    let mantissa = bits & 0x3ffu;
    let exponent = (bits >> 10u) & 31u;
    let small = f32(mantissa) * 5.9604644775390625e-8;
    let normal = bitcast<f32>(((exponent + 112u) << 23u) | (mantissa << 13u));
    let size = select(normal, small, exponent == 0u);
    return select(size, -size, (bits & 0x8000u) != 0u);
}

// Half number `index` of those that begin at word `first`.
fn half_at(first: u32, index: u32) -> f32 {
    return half(weights[first + (index >> 1u)] >> ((index & 1u) * 16u));
}

// Signed byte `index` of those that begin at word `first`.
fn byte_at(first: u32, index: u32) -> f32 {
    let word = bitcast<i32>(weights[first + (index >> 2u)] << (24u - (index & 3u) * 8u));
    return f32(word >> 24u);
}

fn bytes(word: u32) -> vec4<u32> {
    return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
}

fn level(code: u32) -> u32 {
    var word = 0u;
    switch ENCODING {
        case Q3NL: { word = LEVELS_3[code >> 2u]; }
        case Q4NL: { word = LEVELS_4[code >> 2u]; }
        default: { word = LEVELS_5[code >> 2u]; }
    }
    return (word >> ((code & 3u) * 8u)) & 0xffu;
}

fn levels(codes: u32) -> vec4<f32> {
    let c = bytes(codes);
    return vec4<f32>(vec4<u32>(level(c.x), level(c.y), level(c.z), level(c.w))) - 64.0;
}

// Words of a block of 32 columns.
fn block_words() -> u32 {
    switch ENCODING {
        case F32: { return 512u; }
        case F16, BF16: { return 256u; }
        case Q8: { return 136u; }
        case Q8ROW: { return 128u; }
        case Q4: { return 72u; }
        case Q4MIN: { return 80u; }
        case Q3NL: { return 52u; }
        case Q4NL: { return 68u; }
        case Q5NL: { return 84u; }
        default: { return 100u; }
    }
}

// Words in front of a panel's blocks: one f32 scale for each row.
fn header_words() -> u32 {
    return select(0u, 16u, ENCODING == Q8ROW || ENCODING >= Q3NL);
}

// Scale and minimum of row `row` in the block at word `at` of the panel at word `panel`.
fn scales(panel: u32, at: u32, row: u32) -> vec2<f32> {
    switch ENCODING {
        case Q8: { return vec2<f32>(half_at(at + 128u, row), 0.0); }
        case Q8ROW: { return vec2<f32>(bitcast<f32>(weights[panel + row]), 0.0); }
        case Q4: { return vec2<f32>(half_at(at + 64u, row), 0.0); }
        case Q4MIN: { return vec2<f32>(half_at(at + 64u, row), half_at(at + 72u, row)); }
        case Q3NL: { return vec2<f32>(bitcast<f32>(weights[panel + row]) * byte_at(at + 48u, row), 0.0); }
        case Q4NL: { return vec2<f32>(bitcast<f32>(weights[panel + row]) * byte_at(at + 64u, row), 0.0); }
        case Q5NL: { return vec2<f32>(bitcast<f32>(weights[panel + row]) * byte_at(at + 80u, row), 0.0); }
        case Q6: { return vec2<f32>(bitcast<f32>(weights[panel + row]) * byte_at(at + 96u, row), 0.0); }
        default: { return vec2<f32>(1.0, 0.0); }
    }
}

// One weight of a float panel; column `column` of the block at word `at`.
fn float_at(at: u32, row: u32, column: u32) -> f32 {
    switch ENCODING {
        case F32: { return bitcast<f32>(weights[at + column * 16u + row]); }
        case F16: { return half_at(at + column * 8u, row); }
        default: {
            let word = weights[at + column * 8u + (row >> 1u)];
            return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (row & 1u) == 1u));
        }
    }
}

// Columns 4 * quad to 4 * quad + 3 of a row of the block at word `at`, before scale and minimum; `left` columns of the
// block exist.
fn quad_at(at: u32, row: u32, quad: u32, left: u32) -> vec4<f32> {
    switch ENCODING {
        case Q8, Q8ROW: { return vec4<f32>(bytes(weights[at + quad * 16u + row])) - 128.0; }
        case Q3NL: {
            let low = (weights[at + (quad >> 2u) * 16u + row] >> ((quad & 3u) * 2u)) & 0x03030303u;
            let high = (weights[at + 32u + row] >> quad) & 0x01010101u;
            return levels(low | (high << 2u));
        }
        case Q4, Q4MIN, Q4NL, Q5NL, Q6: {
            let low = (weights[at + (quad >> 1u) * 16u + row] >> ((quad & 1u) * 4u)) & 0x0f0f0f0fu;
            switch ENCODING {
                case Q4: { return vec4<f32>(bytes(low)) - 8.0; }
                case Q4MIN: { return vec4<f32>(bytes(low)); }
                case Q4NL: { return levels(low); }
                case Q5NL: {
                    let high = (weights[at + 64u + row] >> quad) & 0x01010101u;
                    return levels(low | (high << 4u));
                }
                default: {
                    let word = weights[at + 64u + (quad >> 2u) * 16u + row];
                    let high = (word >> ((quad & 3u) * 2u)) & 0x03030303u;
                    return vec4<f32>(bytes(low | (high << 4u))) - 32.0;
                }
            }
        }
        default: {
            // Float panels have no padding columns: what lies behind is the next panel.
            var out = vec4<f32>(0.0);
            for (var j = 0u; j < 4u; j++) {
                if (quad * 4u + j < left) {
                    out[j] = float_at(at, row, quad * 4u + j);
                }
            }
            return out;
        }
    }
}

fn put(token: u32, row: u32, sum: f32) {
    let at = token * shape.out_stride + shape.out_column + row;
    if (shape.add == 1u) {
        output[at] += sum;
    } else {
        output[at] = sum;
    }
}

var<workgroup> partial: array<f32, 128>;

// One panel for one token: sixteen rows by eight shares of the blocks. Workgroups: (panels, tokens).
@compute @workgroup_size(128)
fn vector(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = lane & 15u;
    let panel = group.x * shape.panel_words;
    let origin = group.y * (shape.in_stride / 4u);
    let blocks = (shape.columns + 31u) / 32u;
    var sum = 0.0;
    for (var b = lane >> 4u; b < blocks; b += 8u) {
        let at = panel + header_words() + b * block_words();
        var dots = 0.0;
        var inputs = 0.0;
        for (var quad = 0u; quad < 8u; quad++) {
            let x = input[origin + b * 8u + quad];
            dots += dot(quad_at(at, row, quad, shape.columns - b * 32u), x);
            inputs += x.x + x.y + x.z + x.w;
        }
        let s = scales(panel, at, row);
        sum += s.x * dots + s.y * inputs;
    }
    partial[lane] = sum;
    workgroupBarrier();
    if (lane < 16u && group.x * 16u + lane < shape.rows) {
        var total = 0.0;
        for (var i = 0u; i < 8u; i++) {
            total += partial[i * 16u + lane];
        }
        put(group.y, group.x * 16u + lane, total);
    }
}

// Tiles of 64 rows and of 64 tokens, 32 columns deep: 16 KiB together, what every adapter has.
var<workgroup> w_tile: array<vec4<f32>, 512>;
var<workgroup> x_tile: array<vec4<f32>, 512>;

// 64 rows for 64 tokens, sixteen products to a lane. Workgroups: (rows / 64, tokens / 64).
@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let count = select(state.tokens, state.head_rows, shape.head == 1u);
    let blocks = (shape.columns + 31u) / 32u;
    // What this lane fetches: two quads of one row and of one token.
    let place = lane & 63u;
    let first_quad = (lane >> 6u) * 2u;
    let row = group.x * 64u + place;
    let token = group.y * 64u + place;
    let panel = (row >> 4u) * shape.panel_words;
    // What it computes: rows a, a + 16, ... for tokens b, b + 16, ...
    let a = lane & 15u;
    let b = lane >> 4u;
    var sums = array<vec4<f32>, 4>();
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
                w = quad_at(at, row & 15u, quad, shape.columns - block * 32u) * s.x + s.y;
            }
            if (token < count) {
                x = input[token * (shape.in_stride / 4u) + block * 8u + quad];
            }
            w_tile[quad * 64u + place] = w;
            x_tile[quad * 64u + place] = x;
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
    for (var t = 0u; t < 4u; t++) {
        for (var r = 0u; r < 4u; r++) {
            let out_row = group.x * 64u + a + r * 16u;
            let out_token = group.y * 64u + b + t * 16u;
            if (out_row < shape.rows && out_token < count) {
                put(out_token, out_row, sums[t][r]);
            }
        }
    }
}

// Rows of an embedding, where the token's is in this part of it, which begins with row `out_column`.
// Workgroups: (columns / 256, tokens).
@compute @workgroup_size(64)
fn embed(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = tokens[group.y];
    let column = (group.x * 64u + lane) * 4u;
    if (id < shape.out_column || id - shape.out_column >= shape.rows || column >= shape.columns) {
        return;
    }
    let row = id - shape.out_column;
    let panel = (row >> 4u) * shape.panel_words;
    let block = column / 32u;
    let at = panel + header_words() + block * block_words();
    let s = scales(panel, at, row & 15u);
    let w = quad_at(at, row & 15u, (column & 31u) / 4u, shape.columns - block * 32u) * s.x + s.y;
    for (var j = 0u; j < min(4u, shape.columns - column); j++) {
        output[group.y * shape.out_stride + column + j] = w[j];
    }
}
