// Reads weight panels (FORMAT.md, "Encodings").
//
// A word of a quantized block holds four consecutive columns of one row, so that sixteen adjacent lanes read sixteen
// adjacent words. Activations are padded with zeros to a multiple of 32 columns.

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
    // Elements per input row, a multiple of 32.
    in_stride: u32,
    out_stride: u32,
    // Column of the output for row 0 of the matrix.
    out_column: u32,
    // 1: the product is added to the output.
    add: u32,
    // 1: the input is the rows that logits are computed for.
    head: u32,
    // Distance of paired rows, a multiple of 16: gate and up, or the halves of a head. 0: no pairs.
    pair_distance: u32,
    // 1: RMS norm of the input (Zhang and Sennrich 2019).
    norm: u32,
    epsilon: f32,
    unused: u32,
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

// Four levels in a word, the first lowest.
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

// Half `index` of an array of halves at word `first`.
fn half_at(first: u32, index: u32) -> f32 {
    return half(weights[first + (index >> 1u)] >> ((index & 1u) * 16u));
}

// Signed byte `index` of an array of bytes at word `first`.
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

fn levels(codes: u32) -> u32 {
    let c = bytes(codes);
    return level(c.x) | (level(c.y) << 8u) | (level(c.z) << 16u) | (level(c.w) << 24u);
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

// Words of a panel's header: one f32 scale for each row.
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

fn is_quantized() -> bool {
    return ENCODING >= Q8;
}

// The zero point of the codes of `bytes_at`.
fn zero_point() -> u32 {
    switch ENCODING {
        case Q8, Q8ROW: { return 128u; }
        case Q4: { return 8u; }
        case Q4MIN: { return 0u; }
        case Q6: { return 32u; }
        default: { return 64u; }
    }
}

// Codes of columns 4 * quad to 4 * quad + 3 of a row of the quantized block at word `at`, in a word, the first lowest.
fn bytes_at(at: u32, row: u32, quad: u32) -> u32 {
    switch ENCODING {
        case Q8, Q8ROW: { return weights[at + quad * 16u + row]; }
        case Q3NL: {
            let low = (weights[at + (quad >> 2u) * 16u + row] >> ((quad & 3u) * 2u)) & 0x03030303u;
            let high = (weights[at + 32u + row] >> quad) & 0x01010101u;
            return levels(low | (high << 2u));
        }
        default: {}
    }
    let low = (weights[at + (quad >> 1u) * 16u + row] >> ((quad & 1u) * 4u)) & 0x0f0f0f0fu;
    switch ENCODING {
        case Q4NL: { return levels(low); }
        case Q5NL: { return levels(low | (((weights[at + 64u + row] >> quad) & 0x01010101u) << 4u)); }
        case Q6: {
            let word = weights[at + 64u + (quad >> 2u) * 16u + row];
            return low | (((word >> ((quad & 3u) * 2u)) & 0x03030303u) << 4u);
        }
        default: { return low; }
    }
}

// The same as four signed bytes, without the zero point.
fn codes_at(at: u32, row: u32, quad: u32) -> u32 {
    let word = bytes_at(at, row, quad);
    if (ENCODING == Q8 || ENCODING == Q8ROW) {
        return word ^ 0x80808080u;
    }
    // No byte borrows from the one above it.
    return ((word | 0x80808080u) - zero_point() * 0x01010101u) ^ 0x80808080u;
}

// Columns 4 * quad to 4 * quad + 3 of a row of the block at word `at`, before scale and minimum; the block has `left`
// columns.
fn quad_at(at: u32, row: u32, quad: u32, left: u32) -> vec4<f32> {
    if (is_quantized()) {
        return vec4<f32>(bytes(bytes_at(at, row, quad))) - f32(zero_point());
    }
    // Float panels have no padding columns: the next panel follows.
    var out = vec4<f32>(0.0);
    for (var j = 0u; j < 4u; j++) {
        if (quad * 4u + j < left) {
            out[j] = float_at(at, row, quad * 4u + j);
        }
    }
    return out;
}
