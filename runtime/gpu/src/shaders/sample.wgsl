// Samples the next token: greedy, or with temperature, top-k, top-p and min-p. Workgroups: (1).
//
// Writes the token to the input of the next pass and to the ring buffer that the host reads, there with its highest bit set
// if not all logits are finite, and advances the position, so that several tokens run without the host.
//
// The order of operations is that of the CPU's sampler: NaN becomes minus infinity; penalties; subtract the maximum and
// multiply by 1 / temperature; top-k, top-p and min-p on tokens in descending order of logits (ties by id); sample in that
// order, or in the order of ids without top-k and top-p. Sums are f32 instead of the CPU's f64, so a sample within rounding of
// a boundary can differ.

// 0x80000000 if a logit is not finite, else 0.
fn non_finite_flag(lane: u32) -> u32 {
    var found = 1u;
    for (var i = lane; i < settings.vocab; i += LANES) {
        if ((logits[i] & 0x7f800000u) == 0x7f800000u) {
            found = 0u;
        }
    }
    return select(0u, 0x80000000u, workgroup_min(lane, found) == 0u);
}

// The smallest sort key.
fn best_key(lane: u32) -> vec2<u32> {
    var best = vec2<u32>(0xffffffffu);
    for (var i = lane; i < settings.vocab; i += LANES) {
        let here = sort_key(i);
        if (precedes(here, best)) {
            best = here;
        }
    }
    keys[lane] = best.x;
    key_ids[lane] = best.y;
    for (var width = LANES / 2u; width > 0u; width >>= 1u) {
        workgroupBarrier();
        if (lane < width) {
            let other = vec2<u32>(keys[lane + width], key_ids[lane + width]);
            if (precedes(other, vec2<u32>(keys[lane], key_ids[lane]))) {
                keys[lane] = other.x;
                key_ids[lane] = other.y;
            }
        }
    }
    workgroupBarrier();
    if (lane == 0u) {
        words = vec2<u32>(keys[0], key_ids[0]);
    }
    return workgroupUniformLoad(&words);
}

// Samples in the order of ids; each lane has a range of ids.
fn sample_unsorted(lane: u32, largest: f32, chance: f32, best: u32) -> u32 {
    let share = (settings.vocab + LANES - 1u) / LANES;
    let start = lane * share;
    let end = min(start + share, settings.vocab);
    var own = 0.0;
    for (var i = start; i < end; i++) {
        let w = weight(logit_bits(i), largest);
        own += select(0.0, w, w >= settings.min_p);
    }
    let total = inclusive_scan(lane, own);
    let goal = chance * total;
    let above = lane_sums[lane] > goal && own > 0.0;
    // If rounding leaves none: the last lane with a weight.
    let chosen = workgroup_min(lane, select(0xffffffffu, lane, above));
    let last = ~workgroup_min(lane, select(0xffffffffu, ~lane, own > 0.0));
    if (lane == select(chosen, last, chosen == 0xffffffffu)) {
        var sum = 0.0;
        if (lane > 0u) {
            sum = lane_sums[lane - 1u];
        }
        var token = best;
        for (var i = start; i < end; i++) {
            let w = weight(logit_bits(i), largest);
            if (w > 0.0 && w >= settings.min_p) {
                sum += w;
                token = i;
                if (sum > goal) {
                    break;
                }
            }
        }
        word = token;
    }
    return workgroupUniformLoad(&word);
}

@compute @workgroup_size(256)
fn sample(@builtin(local_invocation_index) lane: u32) {
    let flag = non_finite_flag(lane);
    if (settings.window > 0u) {
        penalize(lane);
    }
    let best = best_key(lane);
    var token = best.y;
    let bits = bits_of(best.x);
    if (bits == LOWEST_BITS) {
        token = 0u;
    } else if (settings.scale > 0.0) {
        if (lane == 0u) {
            number = uniform_random();
        }
        let chance = workgroupUniformLoad(&number);
        let largest = bitcast<f32>(bits);
        if (settings.top_k == 0xffffffffu && settings.top_p >= 1.0) {
            token = sample_unsorted(lane, largest, chance, best.y);
        } else {
            token = sample_sorted(lane, largest, chance, best.y);
        }
    }
    if (lane == 0u) {
        if (settings.window > 0u) {
            update_window(token);
        }
        tokens[0] = token;
        ids[(state.position + state.tokens - 1u) % settings.id_slots] = token | flag;
        state.position += state.tokens;
        state.tokens = 1u;
        state.head_row = 0u;
        state.head_rows = 1u;
    }
}

