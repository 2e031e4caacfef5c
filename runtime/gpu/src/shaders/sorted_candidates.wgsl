// The candidates with the largest logits, in sorted runs.

struct Sorted {
    // The largest sort key of the run.
    last: vec2<u32>,
    count: u32,
}

// Mask of the bytes of a sort key above byte `level`, counted from the most significant one.
fn mask_above(level: u32) -> vec2<u32> {
    let high = select(0xffffffffu, ~(0xffffffffu >> (8u * (level & 3u))), level < 4u);
    let low = select(~(0xffffffffu >> (8u * (level & 3u))), 0u, level < 4u);
    return vec2<u32>(high, low);
}

fn key_byte(at: vec2<u32>, level: u32) -> u32 {
    return (select(at.y, at.x, level < 4u) >> (24u - 8u * (level & 3u))) & 0xffu;
}

// The candidates with the smallest sort keys from `first` on, sorted: at most MAX_SORTED, and at least a quarter of that if
// there are as many. A radix search finds the last key byte by byte.
fn next_sorted(lane: u32, first: vec2<u32>, largest: f32) -> Sorted {
    var prefix = vec2<u32>(0u);
    var taken = 0u;
    var last = vec2<u32>(0xffffffffu);
    for (var level = 0u; level < 8u; level++) {
        let mask = mask_above(level);
        atomicStore(&histogram[lane], 0u);
        workgroupBarrier();
        for (var i = lane; i < settings.vocab; i += LANES) {
            let here = sort_key(i);
            if (!precedes(here, first) && all((here & mask) == prefix)) {
                atomicAdd(&histogram[key_byte(here, level)], 1u);
            }
        }
        workgroupBarrier();
        if (lane == 0u) {
            var byte = 0u;
            var count = taken;
            for (; byte < 256u; byte++) {
                let more = atomicLoad(&histogram[byte]);
                if (count + more > MAX_SORTED) {
                    break;
                }
                count += more;
            }
            words = vec2<u32>(byte, count);
        }
        let found = workgroupUniformLoad(&words);
        taken = found.y;
        if (found.x == 256u) {
            last = prefix | ~mask;
            break;
        }
        let shift = 24u - 8u * (level & 3u);
        prefix |= select(vec2<u32>(0u, found.x << shift), vec2<u32>(found.x << shift, 0u), level < 4u);
        if (taken >= MAX_SORTED / 4u) {
            last = vec2<u32>(prefix.x - select(0u, 1u, prefix.y == 0u), prefix.y - 1u);
            break;
        }
    }
    workgroupBarrier();
    if (lane == 0u) {
        atomicStore(&counter, 0u);
    }
    for (var n = lane; n < MAX_SORTED; n += LANES) {
        keys[n] = 0xffffffffu;
        key_ids[n] = 0xffffffffu;
    }
    workgroupBarrier();
    for (var i = lane; i < settings.vocab; i += LANES) {
        let here = sort_key(i);
        if (!precedes(here, first) && !precedes(last, here)) {
            let slot = atomicAdd(&counter, 1u);
            keys[slot] = here.x;
            key_ids[slot] = i;
        }
    }
    workgroupBarrier();
    // Bitonic sort (Batcher 1968).
    for (var run = 2u; run <= MAX_SORTED; run *= 2u) {
        for (var apart = run / 2u; apart > 0u; apart >>= 1u) {
            for (var n = lane; n < MAX_SORTED / 2u; n += LANES) {
                let low = n / apart * 2u * apart + n % apart;
                let a = vec2<u32>(keys[low], key_ids[low]);
                let b = vec2<u32>(keys[low + apart], key_ids[low + apart]);
                if (precedes(b, a) == ((low & run) == 0u)) {
                    keys[low] = b.x;
                    key_ids[low] = b.y;
                    keys[low + apart] = a.x;
                    key_ids[low + apart] = a.y;
                }
            }
            workgroupBarrier();
        }
    }
    var own = array<f32, 4>();
    var sum = 0.0;
    for (var n = 0u; n < 4u; n++) {
        let at = lane * 4u + n;
        if (at < taken) {
            sum += weight(bits_of(keys[at]), largest);
        }
        own[n] = sum;
    }
    inclusive_scan(lane, sum);
    for (var n = 0u; n < 4u; n++) {
        sums[lane * 4u + n] = own[n];
        if (lane > 0u) {
            sums[lane * 4u + n] += lane_sums[lane - 1u];
        }
    }
    workgroupBarrier();
    return Sorted(last, taken);
}

