// Sampling: bindings, and the sort key and the weight of a logit.

struct SamplerUniforms {
    vocab: u32,
    // Slots of the ring buffer `ids`.
    id_slots: u32,
    // 1 / temperature; 0: greedy.
    scale: f32,
    // 0xffffffff: no limit.
    top_k: u32,
    // 1: no limit.
    top_p: f32,
    min_p: f32,
    // Penalties; 1, 0 and 0 have no effect.
    repetition: f32,
    frequency: f32,
    presence: f32,
    // Tokens in the penalty window; 0: no penalties.
    window: u32,
    unused_0: u32,
    unused_1: u32,
}

struct State {
    position: u32,
    tokens: u32,
    head_row: u32,
    head_rows: u32,
}

@group(0) @binding(0) var<uniform> settings: SamplerUniforms;
@group(0) @binding(1) var<storage, read_write> state: State;
// Bits of f32: float operations on NaN are not portable.
@group(0) @binding(2) var<storage, read_write> logits: array<u32>;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;
// PCG32: state and increment, low words first.
@group(0) @binding(5) var<storage, read_write> rng: array<u32, 4>;
// How often each token occurs in the penalty window, [vocab], then the sequence, [context]. Unused without penalties.
@group(0) @binding(6) var<storage, read_write> history: array<u32>;

const LANES = 256u;
// Candidates in a sorted run.
const MAX_SORTED = 1024u;
const LOWEST_BITS = 0xff800000u;

var<workgroup> keys: array<u32, 1024>;
var<workgroup> key_ids: array<u32, 1024>;
// Inclusive prefix sums of the candidates' weights.
var<workgroup> sums: array<f32, 1024>;
var<workgroup> lane_sums: array<f32, 256>;
var<workgroup> histogram: array<atomic<u32>, 256>;
var<workgroup> counter: atomic<u32>;
var<workgroup> word: u32;
var<workgroup> words: vec2<u32>;
var<workgroup> number: f32;

// The bits of a logit, without NaN and plus infinity.
fn logit_bits(i: u32) -> u32 {
    let bits = logits[i];
    let size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) {
        return LOWEST_BITS;
    }
    // Plus infinity counts as the largest number, minus zero as zero.
    return select(select(bits, 0x7f7fffffu, bits == 0x7f800000u), 0u, size == 0u);
}

// The sort key of a token, ascending from the largest logit: a number that decreases with the logit, then the id.
fn sort_key(i: u32) -> vec2<u32> {
    let bits = logit_bits(i);
    return vec2<u32>(select(~(bits ^ 0x80000000u), bits, (bits & 0x80000000u) != 0u), i);
}

fn bits_of(key: u32) -> u32 {
    return select(~key ^ 0x80000000u, key, (key & 0x80000000u) != 0u);
}

fn precedes(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x < b.x || (a.x == b.x && a.y < b.y);
}

// e^x for x <= 0, computed like in the CPU's sampler (Cephes, Moshier 1989); 0 below -87.
fn exp_negative(x: f32) -> f32 {
    if (!(x >= -87.0)) {
        return 0.0;
    }
    let whole = round(x * 1.44269504);
    let rest = x - whole * 0.693359375 - whole * -2.12194440e-4;
    var sum = 1.9875691e-4;
    sum = sum * rest + 1.3982e-3;
    sum = sum * rest + 8.333452e-3;
    sum = sum * rest + 4.166579e-2;
    sum = sum * rest + 0.16666666;
    sum = sum * rest + 0.5;
    let fraction = sum * rest * rest + rest + 1.0;
    return fraction * bitcast<f32>(u32(i32(whole) + 127) << 23u);
}

fn weight(bits: u32, largest: f32) -> f32 {
    if (bits == LOWEST_BITS) {
        return 0.0;
    }
    return exp_negative((bitcast<f32>(bits) - largest) * settings.scale);
}

