// Sampling with top-k, top-p and min-p from sorted candidates.

// Tasks of a pass over the sorted candidates.
// Sum the weights of the first top_k.
const TOTAL = 0u;
// Count the candidates that the cuts leave, and sum their weights.
const CUT = 1u;
const SAMPLE = 2u;

fn sample_sorted(lane: u32, largest: f32, chance: f32, best: u32) -> u32 {
    let most = min(settings.top_k, settings.vocab);
    var goal = 0.0;
    var task = CUT;
    if (settings.top_p < 1.0) {
        task = TOTAL;
        if (most == settings.vocab) {
            var own = 0.0;
            for (var i = lane; i < settings.vocab; i += LANES) {
                own += weight(logit_bits(i), largest);
            }
            goal = settings.top_p * inclusive_scan(lane, own);
            task = CUT;
        }
    }
    var kept = most;
    var loaded = 0xffffffffu;
    var index = 0u;
    var start = 0u;
    var preceding_sum = 0.0;
    var sorted = Sorted(vec2<u32>(0u), 0u);
    var token = best;
    loop {
        if (loaded != index) {
            var first = vec2<u32>(0u);
            if (index > 0u) {
                first = plus(sorted.last.yx, vec2<u32>(1u, 0u)).yx;
            }
            sorted = next_sorted(lane, first, largest);
            loaded = index;
        }
        let count = sorted.count;
        let is_last_run = start + count >= settings.vocab || count == 0u;
        var done = is_last_run;
        if (task == TOTAL) {
            if (start + count >= most) {
                let sum = preceding_sum + broadcast(lane, sums[most - start - 1u]);
                goal = settings.top_p * sum;
                done = true;
            }
        } else if (task == CUT) {
            // How many candidates of this run are kept, if the last kept one is among them.
            var own = 0xffffffffu;
            for (var n = lane; n < count; n += LANES) {
                if (weight(bits_of(keys[n]), largest) < settings.min_p) {
                    own = min(own, n);
                }
                let enough = settings.top_p < 1.0 && preceding_sum + sums[n] >= goal;
                if (enough || start + n + 1u >= most) {
                    own = min(own, n + 1u);
                }
            }
            let cut = min(workgroup_min(lane, own), select(0xffffffffu, count, is_last_run));
            if (cut != 0xffffffffu) {
                kept = start + cut;
                var sum = preceding_sum;
                if (cut > 0u) {
                    sum += broadcast(lane, sums[cut - 1u]);
                }
                goal = chance * sum;
                done = true;
            }
        } else {
            var own = 0xffffffffu;
            var other = 0u;
            for (var n = lane; n < count && start + n < kept; n += LANES) {
                if (weight(bits_of(keys[n]), largest) > 0.0) {
                    other = n + 1u;
                    if (preceding_sum + sums[n] > goal) {
                        own = min(own, n);
                    }
                }
            }
            let chosen = workgroup_min(lane, own);
            // If rounding leaves none: the last one with a weight.
            let last = ~workgroup_min(lane, ~other);
            if (chosen != 0xffffffffu || last > 0u) {
                let at = select(chosen, last - 1u, chosen == 0xffffffffu);
                if (lane == 0u) {
                    word = key_ids[at];
                }
                token = workgroupUniformLoad(&word);
            }
            if (chosen != 0xffffffffu || start + count >= kept || is_last_run) {
                break;
            }
        }
        if (done) {
            task += 1u;
            index = 0u;
            start = 0u;
            preceding_sum = 0.0;
        } else {
            preceding_sum += broadcast(lane, sums[count - 1u]);
            start += count;
            index += 1u;
        }
    }
    return token;
}

