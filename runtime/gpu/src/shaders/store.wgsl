// RoPE and cache writes, if the epilogue of the query, key and value product does not do them. Follows cache.wgsl.

// Pair `i` of the head at `origin`, rotated.
fn rotated(origin: u32, i: u32, position: u32) -> vec2<f32> {
    let half = shape.dim / 2u;
    let low = rows[origin + i];
    let high = rows[origin + half + i];
    if (shape.rope == 0u) {
        return vec2<f32>(low, high);
    }
    let angle = angles[position * half + i];
    return vec2<f32>(low * angle.x - high * angle.y, high * angle.x + low * angle.y);
}

// Stores a key element of two consecutive positions, of those that the batch has.
fn put_keys(index: u32, pair: vec2<f32>, present: vec2<bool>) {
    if (KV_BYTES == 2u) {
        let word = packed(pair.x, pair.y);
        let mask = select(0u, 0xffffu, present.x) | select(0u, 0xffff0000u, present.y);
        keys[index / 2u] = (word & mask) | (keys[index / 2u] & ~mask);
    } else {
        if (present.x) {
            keys[index] = bitcast<u32>(pair.x);
        }
        if (present.y) {
            keys[index + 1u] = bitcast<u32>(pair.y);
        }
    }
}

// Rotates queries in place; stores rotated keys, and values. A lane computes one pair of dimensions of two positions, which
// share a word of 16-bit keys. Workgroups: (pairs of dimensions of all heads / 64, pairs of positions).
@compute @workgroup_size(64)
fn store(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let half = shape.dim / 2u;
    let item = group.x * 64u + lane;
    let head = item / half;
    let i = item % half;
    let even = (state.position / 2u + group.y) * 2u;
    let end = state.position + state.tokens;
    // The capacity is even: the next position is in the next place.
    let place = place_of(even);
    let present = vec2<bool>(
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
            if (present[p]) {
                let origin = (even + p - state.position) * shape.stride + head * shape.dim;
                let rotated_pair = rotated(origin, i, even + p);
                if (head < shape.heads) {
                    rows[origin + i] = rotated_pair.x * shape.scale;
                    rows[origin + half + i] = rotated_pair.y * shape.scale;
                }
                low[p] = rotated_pair.x;
                high[p] = rotated_pair.y;
            }
        }
        if (head >= shape.heads) {
            put_keys(key_index(head - shape.heads, place, i), low, present);
            put_keys(key_index(head - shape.heads, place, half + i), high, present);
        }
        return;
    }
    let kv = head - shape.heads - shape.kv_heads;
    for (var p = 0u; p < 2u; p++) {
        if (present[p]) {
            let origin = (even + p - state.position) * shape.stride + head * shape.dim + 2u * i;
            let index = value_index(kv, place + p, 2u * i);
            if (KV_BYTES == 2u) {
                values[index / 2u] = packed(rows[origin], rows[origin + 1u]);
            } else {
                values[index] = bitcast<u32>(rows[origin]);
                values[index + 1u] = bitcast<u32>(rows[origin + 1u]);
            }
        }
    }
}

// One head of one position; queries and keys are rotated.
var<workgroup> row: array<f32, 256>;
var<workgroup> lane_max: array<f32, 64>;

// The largest absolute value of `row`.
fn largest_of_row(lane: u32) -> f32 {
    var own = 0.0;
    for (var d = lane; d < shape.dim; d += 64u) {
        own = max(own, abs(row[d]));
    }
    lane_max[lane] = own;
    for (var width = 32u; width > 0u; width >>= 1u) {
        workgroupBarrier();
        if (lane < width) {
            lane_max[lane] = max(lane_max[lane], lane_max[lane + width]);
        }
    }
    workgroupBarrier();
    return lane_max[0];
}

fn code(d: u32, inverse: f32) -> u32 {
    return u32(i32(clamp(round(row[d] * inverse), -127.0, 127.0)) + 128);
}

// The same for an 8-bit cache. A workgroup computes one head of four positions, whose values share words.
// Workgroups: (heads + 2 * key-value heads, fours of positions).
@compute @workgroup_size(64)
fn store_bytes(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let half = shape.dim / 2u;
    let head = group.x;
    let is_value = head >= shape.heads + shape.kv_heads;
    let start = (state.position / 4u + group.y) * 4u;
    let end = state.position + state.tokens;
    // The capacity is a multiple of four.
    let start_place = place_of(start);
    // Values of dimensions lane, lane + 64, ..., and the mask of the bytes to replace.
    var new_bytes = vec4<u32>(0u);
    var new_mask = 0u;
    for (var p = 0u; p < 4u; p++) {
        let position = start + p;
        if (position < state.position || position >= end) {
            continue;
        }
        let origin = (position - state.position) * shape.stride + head * shape.dim;
        workgroupBarrier();
        for (var d = lane; d < 256u; d += 64u) {
            row[d] = 0.0;
        }
        workgroupBarrier();
        for (var i = lane; i < half; i += 64u) {
            if (is_value) {
                row[i] = rows[origin + i];
                row[half + i] = rows[origin + half + i];
            } else {
                let rotated_pair = rotated(origin, i, position);
                row[i] = rotated_pair.x;
                row[half + i] = rotated_pair.y;
                if (head < shape.heads) {
                    rows[origin + i] = rotated_pair.x * shape.scale;
                    rows[origin + half + i] = rotated_pair.y * shape.scale;
                }
            }
        }
        workgroupBarrier();
        if (head < shape.heads) {
            continue;
        }
        let largest = largest_of_row(lane);
        // For smaller values 127 / largest overflows.
        let present = largest > 3.74e-37;
        let inverse = select(0.0, 127.0 / largest, present);
        let scale = bitcast<u32>(select(0.0, largest / 127.0, present));
        if (is_value) {
            let kv = head - shape.heads - shape.kv_heads;
            new_mask |= 0xffu << (8u * p);
            for (var j = 0u; j < 4u; j++) {
                new_bytes[j] |= code(j * 64u + lane, inverse) << (8u * p);
            }
            if (lane == 0u) {
                values[value_scale(kv, start_place + p)] = scale;
            }
        } else {
            let kv = head - shape.heads;
            for (var quad = lane; quad < (shape.dim + 3u) / 4u; quad += 64u) {
                let d = quad * 4u;
                let low = code(d, inverse) | (code(d + 1u, inverse) << 8u);
                let high = code(d + 2u, inverse) | (code(d + 3u, inverse) << 8u);
                keys[key_word(kv, start_place + p, quad)] = low | (high << 16u);
            }
            if (lane == 0u) {
                keys[key_scale(kv, start_place + p)] = scale;
            }
        }
    }
    if (is_value) {
        let kv = head - shape.heads - shape.kv_heads;
        for (var j = 0u; j < 4u; j++) {
            let d = j * 64u + lane;
            if (d < value_width()) {
                let at = value_word(kv, start_place, d);
                values[at] = (values[at] & ~new_mask) | new_bytes[j];
            }
        }
    }
}
