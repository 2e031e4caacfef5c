// Causal attention with grouped queries. Follows cache.wgsl and one of reduce_subgroup.wgsl (subgroups of at least eight
// lanes) and reduce_workgroup.wgsl.

fn key_at(head: u32, place: u32, d: u32) -> f32 {
    let index = key_index(head, place, d);
    if (KV_BYTES == 2u) {
        return unpack2x16float(keys[index / 2u])[index & 1u];
    }
    return bitcast<f32>(keys[index]);
}

fn value_at(head: u32, place: u32, d: u32) -> f32 {
    let index = value_index(head, place, d);
    if (KV_BYTES == 2u) {
        return unpack2x16float(values[index / 2u])[index & 1u];
    }
    return bitcast<f32>(values[index]);
}

fn codes_of(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu)) - 128.0;
}

const LOWEST = -3.0e38;

// Eight queries of one key-value head, in the order of tokens and, within a token, of the heads of the group.
var<workgroup> queries: array<vec4<f32>, 512>;
// Scores, then probabilities: [64 positions, 8 queries].
var<workgroup> scores: array<f32, 512>;
var<workgroup> largest: array<f32, 8>;
var<workgroup> sum: array<f32, 8>;
var<workgroup> rescale: array<f32, 8>;

// Online softmax (Milakov and Gimelshein 2018) over runs of 64 positions.
// Workgroups: (queries / 8, key-value heads, spans). Several spans write partial results for `merge`.
@compute @workgroup_size(64)
fn attend(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    lanes: Lane,
) {
    let lane = lane_index(lanes);
    let group_size = shape.heads / shape.kv_heads;
    let query_count = state.tokens * group_size;
    let first = group.x * 8u;
    let kv = group.y;
    // Padded with zeros to a multiple of four dimensions, like 8-bit keys.
    for (var n = lane; n < ((shape.dim + 3u) & 0xfffffffcu) * 8u; n += 64u) {
        let d = n / 8u;
        let query = first + (n & 7u);
        var x = 0.0;
        if (query < query_count && d < shape.dim) {
            x = rows[query / group_size * shape.stride + (kv * group_size + query % group_size) * shape.dim + d];
        }
        queries[d * 2u + ((n & 7u) >> 2u)][n & 3u] = x;
    }
    if (lane < 8u) {
        largest[lane] = LOWEST;
        sum[lane] = 0.0;
    }
    workgroupBarrier();
    // The positions of the span that any of these queries attends to.
    var end = state.position + min(first + 7u, query_count - 1u) / group_size + 1u;
    var begin = 0u;
    let earliest = state.position + first / group_size;
    if (earliest >= shape.window) {
        begin = earliest - shape.window + 1u;
    }
    if (groups.z > 1u) {
        end = min(end, (group.z + 1u) * shape.span);
        begin = max(begin, group.z * shape.span);
    }
    // The largest score so far of the query that this lane works on.
    var largest_so_far = LOWEST;
    var low = array<vec4<f32>, 4>();
    var high = array<vec4<f32>, 4>();
    for (var start = begin & 0xffffffc0u; start < end; start += 64u) {
        let position = start + lane;
        // The capacity is a multiple of 64: the run's positions are side by side.
        let start_place = place_of(start);
        let place = start_place + lane;
        let is_cached = position >= begin && position < end;
        var a = vec4<f32>(0.0);
        var b = vec4<f32>(0.0);
        if (is_cached && KV_BYTES == 1u) {
            for (var quad = 0u; quad < (shape.dim + 3u) / 4u; quad++) {
                let codes = codes_of(keys[key_word(kv, place, quad)]);
                for (var j = 0u; j < 4u; j++) {
                    a += codes[j] * queries[(quad * 4u + j) * 2u];
                    b += codes[j] * queries[(quad * 4u + j) * 2u + 1u];
                }
            }
            let scale = bitcast<f32>(keys[key_scale(kv, place)]);
            a *= scale;
            b *= scale;
        } else if (is_cached) {
            for (var d = 0u; d < shape.dim; d++) {
                let key = key_at(kv, place, d);
                a += key * queries[d * 2u];
                b += key * queries[d * 2u + 1u];
            }
        }
        for (var q = 0u; q < 8u; q++) {
            // Positions after the query wrap to more than any window.
            let behind = state.position + (first + q) / group_size - position;
            let visible = behind < shape.window && first + q < query_count;
            let score = select(b[q & 3u], a[q & 3u], q < 4u);
            scores[lane * 8u + q] = select(LOWEST, score, visible);
        }
        workgroupBarrier();
        // Eight lanes work on each query.
        let q = lane >> 3u;
        let eighth = lane & 7u;
        var new_largest = LOWEST;
        for (var n = 0u; n < 8u; n++) {
            new_largest = max(new_largest, scores[(eighth * 8u + n) * 8u + q]);
        }
        new_largest = max(largest_so_far, largest_of_eight(lane, new_largest));
        var exponentials = 0.0;
        for (var n = 0u; n < 8u; n++) {
            let at = (eighth * 8u + n) * 8u + q;
            let p = select(0.0, exp(scores[at] - new_largest), scores[at] > LOWEST);
            exponentials += p;
            if (KV_BYTES == 1u && p > 0.0) {
                // The factor of the codes.
                scores[at] = p * bitcast<f32>(values[value_scale(kv, start_place + eighth * 8u + n)]);
            } else {
                scores[at] = p;
            }
        }
        let total = sum_of_eight(lane, exponentials);
        if (eighth == 0u) {
            let factor = exp(largest_so_far - new_largest);
            rescale[q] = factor;
            sum[q] = sum[q] * factor + total;
            largest[q] = new_largest;
        }
        largest_so_far = new_largest;
        workgroupBarrier();
        let rescale_low = vec4<f32>(rescale[0], rescale[1], rescale[2], rescale[3]);
        let rescale_high = vec4<f32>(rescale[4], rescale[5], rescale[6], rescale[7]);
        let skipped = max(begin, start) - start;
        let count = min(64u, end - start);
        for (var j = 0u; j < 4u; j++) {
            let d = j * 64u + lane;
            if (d >= shape.dim) {
                break;
            }
            low[j] *= rescale_low;
            high[j] *= rescale_high;
            if (KV_BYTES == 1u) {
                // Scores before the first and after the last position are zeros.
                for (var n = skipped & 0xfffffffcu; n < count; n += 4u) {
                    let codes = codes_of(values[value_word(kv, start_place + n, d)]);
                    for (var i = 0u; i < 4u; i++) {
                        let at = (n + i) * 8u;
                        low[j] += codes[i] * vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
                        high[j] += codes[i] * vec4<f32>(scores[at + 4u], scores[at + 5u], scores[at + 6u], scores[at + 7u]);
                    }
                }
                continue;
            }
            for (var n = skipped; n < count; n++) {
                let value = value_at(kv, start_place + n, d);
                let at = n * 8u;
                low[j] += value * vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
                high[j] += value * vec4<f32>(scores[at + 4u], scores[at + 5u], scores[at + 6u], scores[at + 7u]);
            }
        }
        workgroupBarrier();
    }
    for (var q = 0u; q < 8u; q++) {
        let query = first + q;
        if (query >= query_count) {
            break;
        }
        let head = kv * group_size + query % group_size;
        let offset = ((query / group_size * shape.heads + head) * groups.z + group.z) * (shape.dim + 2u);
        if (groups.z > 1u && lane == 0u) {
            partials[offset] = largest[q];
            partials[offset + 1u] = sum[q];
        }
        for (var j = 0u; j < 4u; j++) {
            let d = j * 64u + lane;
            if (d < shape.dim) {
                let value = select(high[j][q & 3u], low[j][q & 3u], q < 4u);
                if (groups.z > 1u) {
                    partials[offset + 2u + d] = value;
                } else {
                    out[query / group_size * shape.out_stride + head * shape.dim + d] = value / sum[q];
                }
            }
        }
    }
}

// The output of one head from its partial results. Workgroups: (heads, tokens).
@compute @workgroup_size(64)
fn merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let spans = (state.position + state.tokens + shape.span - 1u) / shape.span;
    let width = shape.dim + 2u;
    let first = (group.y * shape.heads + group.x) * spans * width;
    var new_largest = LOWEST;
    for (var span = 0u; span < spans; span++) {
        new_largest = max(new_largest, partials[first + span * width]);
    }
    var total = 0.0;
    var values = vec4<f32>(0.0);
    for (var span = 0u; span < spans; span++) {
        let offset = first + span * width;
        // A span that the token does not attend to has a sum of zero.
        let factor = exp(partials[offset] - new_largest);
        total += partials[offset + 1u] * factor;
        for (var j = 0u; j < 4u; j++) {
            let d = j * 64u + lane;
            if (d < shape.dim) {
                values[j] += partials[offset + 2u + d] * factor;
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
