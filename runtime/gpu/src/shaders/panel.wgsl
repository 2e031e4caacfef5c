// Reads weight panels (FORMAT.md, "Encodings").
//
// A word of a quantized block holds four consecutive columns of one row, so that sixteen adjacent lanes read sixteen
// adjacent words. Activations are padded with zeros to a multiple of 32 columns.

// The encoding's layout (`BlockLayout`; `Entry::source` derives the constants).

// Element type of float panels, or 0: quantized.
override FLOAT: u32 = 0u;
const F32 = 1u;
const F16 = 2u;
const BF16 = 3u;

// Bits of a code in the planes of low and of high bits.
override LOW_BITS: u32 = 8u;
override HIGH_BITS: u32 = 0u;
// What stands for level 0: a code, or one of the levels.
override ZERO_POINT: u32 = 0u;
// Number of non-uniform levels; 0: uniform.
override LEVELS: u32 = 0u;
// The levels by code, four in a word, the first lowest.
override LEVELS_0: u32 = 0u;
override LEVELS_1: u32 = 0u;
override LEVELS_2: u32 = 0u;
override LEVELS_3: u32 = 0u;
override LEVELS_4: u32 = 0u;
override LEVELS_5: u32 = 0u;
override LEVELS_6: u32 = 0u;
override LEVELS_7: u32 = 0u;

// Scales: those of `WeightScales`, in its order.
override SCALES: u32 = 0u;
const ROW = 1u;
const GROUP = 2u;
const GROUP_AND_MINIMUM = 3u;
const TWO_LEVEL = 4u;

// Words of a block of 32 columns, of its codes, and of a panel's header.
override BLOCK_WORDS: u32 = 1u;
override CODE_WORDS: u32 = 1u;
override HEADER_WORDS: u32 = 0u;

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
    // Factor of what is stored or added.
    scale: f32,
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
    if (LEVELS <= 8u) {
        let table = array<u32, 2>(LEVELS_0, LEVELS_1);
        word = table[code >> 2u];
    } else if (LEVELS <= 16u) {
        let table = array<u32, 4>(LEVELS_0, LEVELS_1, LEVELS_2, LEVELS_3);
        word = table[code >> 2u];
    } else {
        let table = array<u32, 8>(
            LEVELS_0, LEVELS_1, LEVELS_2, LEVELS_3, LEVELS_4, LEVELS_5, LEVELS_6, LEVELS_7,
        );
        word = table[code >> 2u];
    }
    return (word >> ((code & 3u) * 8u)) & 0xffu;
}

fn levels(codes: u32) -> u32 {
    let c = bytes(codes);
    return level(c.x) | (level(c.y) << 8u) | (level(c.z) << 16u) | (level(c.w) << 24u);
}

// Scale and minimum of row `row` in the block at word `at` of the panel at word `panel`.
fn scales(panel: u32, at: u32, row: u32) -> vec2<f32> {
    let first = at + CODE_WORDS;
    switch SCALES {
        case ROW: { return vec2<f32>(bitcast<f32>(weights[panel + row]), 0.0); }
        case GROUP: { return vec2<f32>(half_at(first, row), 0.0); }
        case GROUP_AND_MINIMUM: { return vec2<f32>(half_at(first, row), half_at(first + 8u, row)); }
        case TWO_LEVEL: { return vec2<f32>(bitcast<f32>(weights[panel + row]) * byte_at(first, row), 0.0); }
        default: { return vec2<f32>(1.0, 0.0); }
    }
}

// One weight of a float panel; column `column` of the block at word `at`.
fn float_at(at: u32, row: u32, column: u32) -> f32 {
    switch FLOAT {
        case F32: { return bitcast<f32>(weights[at + column * 16u + row]); }
        case F16: { return half_at(at + column * 8u, row); }
        default: {
            let word = weights[at + column * 8u + (row >> 1u)];
            return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (row & 1u) == 1u));
        }
    }
}

// The bits of columns 4 * quad to 4 * quad + 3 of a row in a plane of `bits` bits per code at word `at`, one in a byte.
fn plane_at(at: u32, row: u32, quad: u32, bits: u32) -> u32 {
    let shift = quad * bits;
    return (weights[at + (shift >> 3u) * 16u + row] >> (shift & 7u)) & (((1u << bits) - 1u) * 0x01010101u);
}

// Codes, or non-uniform levels, of columns 4 * quad to 4 * quad + 3 of a row of the quantized block at word `at`, in a word,
// the first lowest.
fn bytes_at(at: u32, row: u32, quad: u32) -> u32 {
    if (LOW_BITS == 8u) {
        return weights[at + quad * 16u + row];
    }
    var codes = plane_at(at, row, quad, LOW_BITS);
    if (HIGH_BITS != 0u) {
        codes |= plane_at(at + LOW_BITS * 16u, row, quad, HIGH_BITS) << LOW_BITS;
    }
    if (LEVELS != 0u) {
        return levels(codes);
    }
    return codes;
}

// The same as four signed bytes, without the zero point.
fn codes_at(at: u32, row: u32, quad: u32) -> u32 {
    let word = bytes_at(at, row, quad);
    if (ZERO_POINT == 128u) {
        return word ^ 0x80808080u;
    }
    // No byte borrows from the one above it.
    return ((word | 0x80808080u) - ZERO_POINT * 0x01010101u) ^ 0x80808080u;
}

// Columns 4 * quad to 4 * quad + 3 of a row of the block at word `at`, before scale and minimum; the block has `left`
// columns.
fn quad_at(at: u32, row: u32, quad: u32, left: u32) -> vec4<f32> {
    if (FLOAT == 0u) {
        return vec4<f32>(bytes(bytes_at(at, row, quad))) - f32(ZERO_POINT);
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
