// Rotary embedding, the cache's writes, and causal attention with grouped queries.
//
// The cache lies as the CPU's does (KvHead): keys in blocks of 16 positions, one dimension of all 16 side by side; values
// row by row, rows padded to 16 dimensions. So the cache can change sides by a plain copy.

// Bytes of a number in the cache: 4 or 2.
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

// Rotates pair `i` of the head that begins at `origin`.
fn rotated(origin: u32, i: u32, position: u32) -> vec2<f32> {
    let half = shape.dim / 2u;
    let angle = angles[position * half + i];
    let low = rows[origin + i];
    let high = rows[origin + half + i];
    return vec2<f32>(low * angle.x - high * angle.y, high * angle.x + low * angle.y);
}

// A pair of positions, of which the batch has both or one, in one word or two of the keys.
fn put_keys(number: u32, pair: vec2<f32>, there: vec2<bool>) {
    if (KV_BYTES == 2u) {
        let word = packed(pair.x, pair.y);
        let mask = select(0u, 0xffffu, there.x) | select(0u, 0xffff0000u, there.y);
        keys[number / 2u] = (word & mask) | (keys[number / 2u] & ~mask);
    } else {
        if (there.x) {
            keys[number] = bitcast<u32>(pair.x);
        }
        if (there.y) {
            keys[number + 1u] = bitcast<u32>(pair.y);
        }
    }
}

// Rotates queries in place and stores keys and values. A lane has one pair of dimensions of a pair of positions: two
// positions share a word of the keys. Workgroups: (pairs of dimensions of all heads / 64, pairs of positions).
@compute @workgroup_size(64)
fn store(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let half = shape.dim / 2u;
    let item = group.x * 64u + lane;
    let head = item / half;
    let i = item % half;
    let even = (state.position / 2u + group.y) * 2u;
    let end = state.position + state.tokens;
    let there = vec2<bool>(
        (even >= state.position) && (even < end),
        (even + 1u >= state.position) && (even + 1u < end),
    );
    if (head >= shape.heads + 2u * shape.kv_heads) {
        return;
    }
    if (head < shape.heads + shape.kv_heads) {
        var low = vec2<f32>(0.0);
        var high = vec2<f32>(0.0);
        for (var p = 0u; p < 2u; p++) {
            if (there[p]) {
                let origin = (even + p - state.position) * shape.stride + head * shape.dim;
                let turned = rotated(origin, i, even + p);
                if (head < shape.heads) {
                    rows[origin + i] = turned.x * shape.scale;
                    rows[origin + half + i] = turned.y * shape.scale;
                }
                low[p] = turned.x;
                high[p] = turned.y;
            }
        }
        if (head >= shape.heads) {
            put_keys(key_number(head - shape.heads, even, i), low, there);
            put_keys(key_number(head - shape.heads, even, half + i), high, there);
        }
        return;
    }
    let kv = head - shape.heads - shape.kv_heads;
    for (var p = 0u; p < 2u; p++) {
        if (there[p]) {
            let origin = (even + p - state.position) * shape.stride + head * shape.dim + 2u * i;
            let number = value_number(kv, even + p, 2u * i);
            if (KV_BYTES == 2u) {
                values[number / 2u] = packed(rows[origin], rows[origin + 1u]);
            } else {
                values[number] = bitcast<u32>(rows[origin]);
                values[number + 1u] = bitcast<u32>(rows[origin + 1u]);
            }
        }
    }
}

fn key_at(head: u32, position: u32, d: u32) -> f32 {
    let number = key_number(head, position, d);
    if (KV_BYTES == 2u) {
        return unpack2x16float(keys[number / 2u])[number & 1u];
    }
    return bitcast<f32>(keys[number]);
}

fn value_at(head: u32, position: u32, d: u32) -> f32 {
    let number = value_number(head, position, d);
    if (KV_BYTES == 2u) {
        return unpack2x16float(values[number / 2u])[number & 1u];
    }
    return bitcast<f32>(values[number]);
}

const LOWEST = -3.0e38;

// Eight queries that share a key-value head, in the order of tokens and, within a token, of the heads of the group.
var<workgroup> queries: array<vec4<f32>, 512>;
// Scores, then probabilities: [64 positions, 8 queries].
var<workgroup> scores: array<f32, 512>;
var<workgroup> shares: array<f32, 64>;
var<workgroup> largest: array<f32, 8>;
var<workgroup> sum: array<f32, 8>;
var<workgroup> shrink: array<f32, 8>;

// Online softmax (Milakov and Gimelshein 2018) over runs of 64 positions.
// Workgroups: (queries / 8, key-value heads, spans); with more than one span the answers are parts, for `merge`.
@compute @workgroup_size(64)
fn attend(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let share = shape.heads / shape.kv_heads;
    let all = state.tokens * share;
    let first = group.x * 8u;
    let kv = group.y;
    for (var n = lane; n < shape.dim * 8u; n += 64u) {
        let d = n / 8u;
        let query = first + (n & 7u);
        var x = 0.0;
        if (query < all) {
            x = rows[query / share * shape.stride + (kv * share + query % share) * shape.dim + d];
        }
        queries[d * 2u + ((n & 7u) >> 2u)][n & 3u] = x;
    }
    if (lane < 8u) {
        largest[lane] = LOWEST;
        sum[lane] = 0.0;
    }
    workgroupBarrier();
    // Positions that any of these queries sees, within the span.
    var end = state.position + min(first + 7u, all - 1u) / share + 1u;
    var begin = 0u;
    if (groups.z > 1u) {
        begin = group.z * shape.span;
        end = min(end, begin + shape.span);
    }
    var below = array<vec4<f32>, 4>();
    var above = array<vec4<f32>, 4>();
    for (var start = begin; start < end; start += 64u) {
        let position = start + lane;
        var a = vec4<f32>(0.0);
        var b = vec4<f32>(0.0);
        if (position < end) {
            for (var d = 0u; d < shape.dim; d++) {
                let key = key_at(kv, position, d);
                a += key * queries[d * 2u];
                b += key * queries[d * 2u + 1u];
            }
        }
        for (var q = 0u; q < 8u; q++) {
            let visible = position <= state.position + (first + q) / share && first + q < all;
            let score = select(b[q & 3u], a[q & 3u], q < 4u);
            scores[lane * 8u + q] = select(LOWEST, score, visible);
        }
        workgroupBarrier();
        // Eight lanes for each query.
        let q = lane >> 3u;
        let eighth = lane & 7u;
        var most = LOWEST;
        for (var n = 0u; n < 8u; n++) {
            most = max(most, scores[(eighth * 8u + n) * 8u + q]);
        }
        shares[lane] = most;
        workgroupBarrier();
        most = largest[q];
        for (var n = 0u; n < 8u; n++) {
            most = max(most, shares[q * 8u + n]);
        }
        var exponentials = 0.0;
        for (var n = 0u; n < 8u; n++) {
            let at = (eighth * 8u + n) * 8u + q;
            let p = select(0.0, exp(scores[at] - most), scores[at] > LOWEST);
            scores[at] = p;
            exponentials += p;
        }
        workgroupBarrier();
        shares[lane] = exponentials;
        workgroupBarrier();
        if (eighth == 0u) {
            let smaller = exp(largest[q] - most);
            var total = sum[q] * smaller;
            for (var n = 0u; n < 8u; n++) {
                total += shares[q * 8u + n];
            }
            shrink[q] = smaller;
            sum[q] = total;
            largest[q] = most;
        }
        workgroupBarrier();
        let shrink_below = vec4<f32>(shrink[0], shrink[1], shrink[2], shrink[3]);
        let shrink_above = vec4<f32>(shrink[4], shrink[5], shrink[6], shrink[7]);
        let count = min(64u, end - start);
        for (var j = 0u; j < 4u; j++) {
            let d = j * 64u + lane;
            if (d >= shape.dim) {
                break;
            }
            below[j] *= shrink_below;
            above[j] *= shrink_above;
            for (var n = 0u; n < count; n++) {
                let value = value_at(kv, start + n, d);
                let at = n * 8u;
                below[j] += value * vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
                above[j] += value * vec4<f32>(scores[at + 4u], scores[at + 5u], scores[at + 6u], scores[at + 7u]);
            }
        }
        workgroupBarrier();
    }
    for (var q = 0u; q < 8u; q++) {
        let query = first + q;
        if (query >= all) {
            break;
        }
        let head = kv * share + query % share;
        let part = ((query / share * shape.heads + head) * groups.z + group.z) * (shape.dim + 2u);
        if (groups.z > 1u && lane == 0u) {
            parts[part] = largest[q];
            parts[part + 1u] = sum[q];
        }
        for (var j = 0u; j < 4u; j++) {
            let d = j * 64u + lane;
            if (d < shape.dim) {
                let value = select(above[j][q & 3u], below[j][q & 3u], q < 4u);
                if (groups.z > 1u) {
                    parts[part + 2u + d] = value;
                } else {
                    out[query / share * shape.out_stride + head * shape.dim + d] = value / sum[q];
                }
            }
        }
    }
}

// One head's answer from its parts. Workgroups: (heads, tokens).
@compute @workgroup_size(64)
fn merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let spans = (state.position + state.tokens + shape.span - 1u) / shape.span;
    let width = shape.dim + 2u;
    let first = (group.y * shape.heads + group.x) * spans * width;
    var most = LOWEST;
    for (var span = 0u; span < spans; span++) {
        most = max(most, parts[first + span * width]);
    }
    var total = 0.0;
    var values = vec4<f32>(0.0);
    for (var span = 0u; span < spans; span++) {
        let part = first + span * width;
        // A span of which the token sees nothing has a sum of zero.
        let factor = exp(parts[part] - most);
        total += parts[part + 1u] * factor;
        for (var j = 0u; j < 4u; j++) {
            let d = j * 64u + lane;
            if (d < shape.dim) {
                values[j] += parts[part + 2u + d] * factor;
            }
        }
    }
    for (var j = 0u; j < 4u; j++) {
        let d = j * 64u + lane;
        if (d < shape.dim) {
            out[group.y * shape.out_stride + group.x * shape.dim + d] = values[j] / total;
        }
    }
}
