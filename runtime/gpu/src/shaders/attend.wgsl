// Causal attention with grouped queries. Behind cache.wgsl and eights.wgsl, or eights_subgroup.wgsl where the adapter has
// subgroups of eight lanes or more.

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

fn codes_of(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu)) - 128.0;
}

const LOWEST = -3.0e38;

// Eight queries that share a key-value head, in the order of tokens and, within a token, of the heads of the group.
var<workgroup> queries: array<vec4<f32>, 512>;
// Scores, then probabilities: [64 positions, 8 queries].
var<workgroup> scores: array<f32, 512>;
var<workgroup> largest: array<f32, 8>;
var<workgroup> sum: array<f32, 8>;
var<workgroup> shrink: array<f32, 8>;

// Online softmax (Milakov and Gimelshein 2018) over runs of 64 positions.
// Workgroups: (queries / 8, key-value heads, spans); with more than one span the answers are parts, for `merge`.
@compute @workgroup_size(64)
fn attend(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    lanes: Lane,
) {
    let lane = number_of(lanes);
    let share = shape.heads / shape.kv_heads;
    let all = state.tokens * share;
    let first = group.x * 8u;
    let kv = group.y;
    // Whole fours of dimensions, as bytes have them.
    for (var n = lane; n < ((shape.dim + 3u) & 0xfffffffcu) * 8u; n += 64u) {
        let d = n / 8u;
        let query = first + (n & 7u);
        var x = 0.0;
        if (query < all && d < shape.dim) {
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
    // Of the query whose eighth of the scores this lane has, in all runs so far.
    var largest_so_far = LOWEST;
    var below = array<vec4<f32>, 4>();
    var above = array<vec4<f32>, 4>();
    for (var start = begin; start < end; start += 64u) {
        let position = start + lane;
        var a = vec4<f32>(0.0);
        var b = vec4<f32>(0.0);
        if (position < end && KV_BYTES == 1u) {
            for (var quad = 0u; quad < (shape.dim + 3u) / 4u; quad++) {
                let codes = codes_of(keys[key_word(kv, position, quad)]);
                for (var j = 0u; j < 4u; j++) {
                    a += codes[j] * queries[(quad * 4u + j) * 2u];
                    b += codes[j] * queries[(quad * 4u + j) * 2u + 1u];
                }
            }
            let scale = bitcast<f32>(keys[key_scale(kv, position)]);
            a *= scale;
            b *= scale;
        } else if (position < end) {
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
        most = max(largest_so_far, largest_of_eight(lane, most));
        var exponentials = 0.0;
        for (var n = 0u; n < 8u; n++) {
            let at = (eighth * 8u + n) * 8u + q;
            let p = select(0.0, exp(scores[at] - most), scores[at] > LOWEST);
            exponentials += p;
            if (KV_BYTES == 1u && p > 0.0) {
                // What the codes are multiplied with.
                scores[at] = p * bitcast<f32>(values[value_scale(kv, start + eighth * 8u + n)]);
            } else {
                scores[at] = p;
            }
        }
        let total = sum_of_eight(lane, exponentials);
        if (eighth == 0u) {
            let smaller = exp(largest_so_far - most);
            shrink[q] = smaller;
            sum[q] = sum[q] * smaller + total;
            largest[q] = most;
        }
        largest_so_far = most;
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
            if (KV_BYTES == 1u) {
                // Behind the last position scores are zeros.
                for (var n = 0u; n < count; n += 4u) {
                    let codes = codes_of(values[value_word(kv, start + n, d)]);
                    for (var i = 0u; i < 4u; i++) {
                        let at = (n + i) * 8u;
                        below[j] += codes[i] * vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
                        above[j] += codes[i] * vec4<f32>(scores[at + 4u], scores[at + 5u], scores[at + 6u], scores[at + 7u]);
                    }
                }
                continue;
            }
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
