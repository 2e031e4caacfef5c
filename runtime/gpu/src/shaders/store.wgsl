// Rotary embedding and the cache's writes, where the product of queries, keys and values does not do it. Behind cache.wgsl.

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

// A head of a position: rotated, or as it is.
var<workgroup> row: array<f32, 256>;
var<workgroup> most: array<f32, 64>;

// The largest size in the row.
fn largest_of_row(lane: u32) -> f32 {
    var own = 0.0;
    for (var d = lane; d < shape.dim; d += 64u) {
        own = max(own, abs(row[d]));
    }
    most[lane] = own;
    for (var width = 32u; width > 0u; width >>= 1u) {
        workgroupBarrier();
        if (lane < width) {
            most[lane] = max(most[lane], most[lane + width]);
        }
    }
    workgroupBarrier();
    return most[0];
}

fn code(d: u32, inverse: f32) -> u32 {
    return u32(i32(clamp(round(row[d] * inverse), -127.0, 127.0)) + 128);
}

// The same for a cache of bytes: a workgroup has one head of four positions, whose values share words.
// Workgroups: (heads + 2 * key-value heads, fours of positions).
@compute @workgroup_size(64)
fn store_bytes(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let half = shape.dim / 2u;
    let head = group.x;
    let is_value = head >= shape.heads + shape.kv_heads;
    let start = (state.position / 4u + group.y) * 4u;
    let end = state.position + state.tokens;
    // Dimensions lane, lane + 64, ... of the values, and which of their bytes are new.
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
                let turned = rotated(origin, i, position);
                row[i] = turned.x;
                row[half + i] = turned.y;
                if (head < shape.heads) {
                    rows[origin + i] = turned.x * shape.scale;
                    rows[origin + half + i] = turned.y * shape.scale;
                }
            }
        }
        workgroupBarrier();
        if (head < shape.heads) {
            continue;
        }
        let largest = largest_of_row(lane);
        // Below it 127 / largest is beyond f32.
        let there = largest > 3.74e-37;
        let inverse = select(0.0, 127.0 / largest, there);
        let scale = bitcast<u32>(select(0.0, largest / 127.0, there));
        if (is_value) {
            let kv = head - shape.heads - shape.kv_heads;
            new_mask |= 0xffu << (8u * p);
            for (var j = 0u; j < 4u; j++) {
                new_bytes[j] |= code(j * 64u + lane, inverse) << (8u * p);
            }
            if (lane == 0u) {
                values[value_scale(kv, position)] = scale;
            }
        } else {
            let kv = head - shape.heads;
            for (var quad = lane; quad < (shape.dim + 3u) / 4u; quad += 64u) {
                let d = quad * 4u;
                let low = code(d, inverse) | (code(d + 1u, inverse) << 8u);
                let high = code(d + 2u, inverse) | (code(d + 3u, inverse) << 8u);
                keys[key_word(kv, position, quad)] = low | (high << 16u);
            }
            if (lane == 0u) {
                keys[key_scale(kv, position)] = scale;
            }
        }
    }
    if (is_value) {
        let kv = head - shape.heads - shape.kv_heads;
        for (var j = 0u; j < 4u; j++) {
            let d = j * 64u + lane;
            if (d < value_width()) {
                let at = value_word(kv, start, d);
                values[at] = (values[at] & ~new_mask) | new_bytes[j];
            }
        }
    }
}
