// The next token: greedy, or drawn with temperature, top-k, top-p and min-p from PCG32. Workgroups: (1).
//
// The token goes where the next pass reads its input, and into the ring that the host reads, there with its highest bit
// set where not all logits were finite; the position moves on, so that several tokens run without the host. The order of
// operations is the CPU sampler's: logits that are no numbers count as minus infinity; penalties; the largest is taken from
// all, and what is left is multiplied by 1 / temperature; top-k, then top-p, then min-p cut the order of logits (equal ones
// by id); the draw walks that order, or that of ids where neither top-k nor top-p cuts. Sums are f32 here and f64 there: a
// draw within their rounding of a boundary may differ.

struct SamplerUniforms {
    vocab: u32,
    // Places in the ring.
    ring: u32,
    // 1 / temperature; 0: greedy.
    scale: f32,
    // 0xffffffff where there is none.
    top_k: u32,
    // 1 where there is none.
    top_p: f32,
    min_p: f32,
    // Of penalties: 1 where there is none, 0 for the other two.
    repetition: f32,
    frequency: f32,
    presence: f32,
    // Tokens at the end of the sequence that they look at; 0: there are no penalties.
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
// Bits of floats, so that no operation meets what is not a number.
@group(0) @binding(2) var<storage, read_write> logits: array<u32>;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;
// PCG32: state and increment, low words first.
@group(0) @binding(5) var<storage, read_write> rng: array<u32, 4>;
// How often each token is in the window, [vocab], then the sequence, [context]; kept where there are penalties.
@group(0) @binding(6) var<storage, read_write> seen: array<u32>;

const LANES = 256u;
// Candidates that are sorted at a time.
const MOST = 1024u;
const LOWEST_BITS = 0xff800000u;

var<workgroup> keys: array<u32, 1024>;
var<workgroup> names: array<u32, 1024>;
// Sums of the weights up to and with each candidate.
var<workgroup> sums: array<f32, 1024>;
var<workgroup> lane_sums: array<f32, 256>;
var<workgroup> histogram: array<atomic<u32>, 256>;
var<workgroup> counter: atomic<u32>;
var<workgroup> word: u32;
var<workgroup> words: vec2<u32>;
var<workgroup> number: f32;

// The bits of a logit that counts.
fn logit_bits(i: u32) -> u32 {
    let bits = logits[i];
    let size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) {
        return LOWEST_BITS;
    }
    // Infinity counts as the largest number; minus zero as zero.
    return select(select(bits, 0x7f7fffffu, bits == 0x7f800000u), 0u, size == 0u);
}

// What orders tokens, the best first: a number that falls with the logit, then the id.
fn place(i: u32) -> vec2<u32> {
    let bits = logit_bits(i);
    return vec2<u32>(select(~(bits ^ 0x80000000u), bits, (bits & 0x80000000u) != 0u), i);
}

fn bits_of(key: u32) -> u32 {
    return select(~key ^ 0x80000000u, key, (key & 0x80000000u) != 0u);
}

fn before(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x < b.x || (a.x == b.x && a.y < b.y);
}

// e^x for x <= 0 as the CPU's sampler computes it (Cephes, Moshier 1989); 0 below -87.
fn power(x: f32) -> f32 {
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
    return power((bitcast<f32>(bits) - largest) * settings.scale);
}

// Products and sums of 64-bit numbers, low words first.
fn multiply(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = (a.x & 0xffffu) * (b.x & 0xffffu);
    let left = (a.x >> 16u) * (b.x & 0xffffu);
    let right = (a.x & 0xffffu) * (b.x >> 16u);
    let middle = (low >> 16u) + (left & 0xffffu) + (right & 0xffffu);
    let high = (a.x >> 16u) * (b.x >> 16u) + (left >> 16u) + (right >> 16u) + (middle >> 16u);
    return vec2<u32>(a.x * b.x, high + a.x * b.y + a.y * b.x);
}

fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

const MULTIPLIER = vec2<u32>(0x4c957f2du, 0x5851f42du);

// The output of a state of PCG-XSH-RR 64/32 (O'Neill 2014).
fn pcg(old: vec2<u32>) -> u32 {
    let low = ((old.x >> 18u) | (old.y << 14u)) ^ old.x;
    let high = (old.y >> 18u) ^ old.y;
    let shifted = (low >> 27u) | (high << 5u);
    let turn = old.y >> 27u;
    return (shifted >> turn) | (shifted << ((32u - turn) & 31u));
}

// A uniform number in [0, 1), for one lane: the generator moves on by two.
fn unit() -> f32 {
    let first = vec2<u32>(rng[0], rng[1]);
    let increment = vec2<u32>(rng[2], rng[3]);
    let second = plus(multiply(first, MULTIPLIER), increment);
    let third = plus(multiply(second, MULTIPLIER), increment);
    rng[0] = third.x;
    rng[1] = third.y;
    let high = f32(pcg(first) >> 5u) * 7.4505806e-9;
    return min(high + f32(pcg(second) >> 6u) * 1.1102230e-16, 0.99999994);
}

// One number for all lanes: lane 0's.
fn shared_number(lane: u32, x: f32) -> f32 {
    if (lane == 0u) {
        number = x;
    }
    return workgroupUniformLoad(&number);
}

// The sum of all lanes' numbers; `lane_sums` has the sums up to and with each lane.
fn scan(lane: u32, x: f32) -> f32 {
    workgroupBarrier();
    lane_sums[lane] = x;
    for (var width = 1u; width < LANES; width *= 2u) {
        workgroupBarrier();
        var add = 0.0;
        if (lane >= width) {
            add = lane_sums[lane - width];
        }
        workgroupBarrier();
        lane_sums[lane] += add;
    }
    return workgroupUniformLoad(&lane_sums[LANES - 1u]);
}

// The smallest number that a lane gave.
fn smallest(lane: u32, x: u32) -> u32 {
    workgroupBarrier();
    if (lane == 0u) {
        atomicStore(&counter, 0xffffffffu);
    }
    workgroupBarrier();
    atomicMin(&counter, x);
    workgroupBarrier();
    if (lane == 0u) {
        word = atomicLoad(&counter);
    }
    return workgroupUniformLoad(&word);
}

// The flag of logits of which one is not finite, or 0.
fn odd_logits(lane: u32) -> u32 {
    var found = 1u;
    for (var i = lane; i < settings.vocab; i += LANES) {
        if ((logits[i] & 0x7f800000u) == 0x7f800000u) {
            found = 0u;
        }
    }
    return select(0u, 0x80000000u, smallest(lane, found) == 0u);
}

// Repetition penalty (CTRL, Keskar et al. 2019, section 4.1; logits below zero are multiplied), frequency and presence
// penalties, in place. All lanes have to have read the logits that they want as they were.
fn penalize(lane: u32) {
    for (var i = lane; i < settings.vocab; i += LANES) {
        let bits = logit_bits(i);
        if (seen[i] > 0u && bits != LOWEST_BITS) {
            let x = bitcast<f32>(bits);
            let repeated = select(x * settings.repetition, x / settings.repetition, x > 0.0);
            let penalized = repeated - (f32(seen[i]) * settings.frequency + settings.presence);
            logits[i] = bitcast<u32>(clamp(penalized, -3.4e38, 3.4e38));
        }
    }
    storageBarrier();
}

// The token at the end of the sequence enters the window, and the oldest one leaves it.
fn remember(token: u32) {
    let place = state.position + state.tokens;
    if (settings.vocab + place >= arrayLength(&seen)) {
        return;
    }
    seen[settings.vocab + place] = token;
    seen[token] += 1u;
    if (place >= settings.window) {
        seen[seen[settings.vocab + place - settings.window]] -= 1u;
    }
}

// The best place of all.
fn best_place(lane: u32) -> vec2<u32> {
    var best = vec2<u32>(0xffffffffu);
    for (var i = lane; i < settings.vocab; i += LANES) {
        let here = place(i);
        if (before(here, best)) {
            best = here;
        }
    }
    keys[lane] = best.x;
    names[lane] = best.y;
    for (var width = LANES / 2u; width > 0u; width >>= 1u) {
        workgroupBarrier();
        if (lane < width) {
            let other = vec2<u32>(keys[lane + width], names[lane + width]);
            if (before(other, vec2<u32>(keys[lane], names[lane]))) {
                keys[lane] = other.x;
                names[lane] = other.y;
            }
        }
    }
    workgroupBarrier();
    if (lane == 0u) {
        words = vec2<u32>(keys[0], names[0]);
    }
    return workgroupUniformLoad(&words);
}

// Draws in the order of ids: each lane has consecutive ones.
fn draw_from_all(lane: u32, largest: f32, chance: f32, best: u32) -> u32 {
    let share = (settings.vocab + LANES - 1u) / LANES;
    let start = lane * share;
    let end = min(start + share, settings.vocab);
    var own = 0.0;
    for (var i = start; i < end; i++) {
        let w = weight(logit_bits(i), largest);
        own += select(0.0, w, w >= settings.min_p);
    }
    let total = scan(lane, own);
    let goal = chance * total;
    let above = lane_sums[lane] > goal && own > 0.0;
    // Where rounding leaves nothing, the last lane that has something.
    let chosen = smallest(lane, select(0xffffffffu, lane, above));
    let last = ~smallest(lane, select(0xffffffffu, ~lane, own > 0.0));
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

struct Sorted {
    // The last place of them.
    last: vec2<u32>,
    count: u32,
}

// Bits of a place above byte `level` from the top.
fn mask_above(level: u32) -> vec2<u32> {
    let high = select(0xffffffffu, ~(0xffffffffu >> (8u * (level & 3u))), level < 4u);
    let low = select(~(0xffffffffu >> (8u * (level & 3u))), 0u, level < 4u);
    return vec2<u32>(high, low);
}

fn byte_of(at: vec2<u32>, level: u32) -> u32 {
    return (select(at.y, at.x, level < 4u) >> (24u - 8u * (level & 3u))) & 0xffu;
}

// The next best candidates from place `first` on, sorted: at most MOST, and at least a quarter of it where there are as
// many. The boundary is searched for byte by byte.
fn next_sorted(lane: u32, first: vec2<u32>, largest: f32) -> Sorted {
    var prefix = vec2<u32>(0u);
    var taken = 0u;
    var last = vec2<u32>(0xffffffffu);
    for (var level = 0u; level < 8u; level++) {
        let mask = mask_above(level);
        atomicStore(&histogram[lane], 0u);
        workgroupBarrier();
        for (var i = lane; i < settings.vocab; i += LANES) {
            let here = place(i);
            if (!before(here, first) && all((here & mask) == prefix)) {
                atomicAdd(&histogram[byte_of(here, level)], 1u);
            }
        }
        workgroupBarrier();
        if (lane == 0u) {
            var byte = 0u;
            var count = taken;
            for (; byte < 256u; byte++) {
                let more = atomicLoad(&histogram[byte]);
                if (count + more > MOST) {
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
        if (taken >= MOST / 4u) {
            last = vec2<u32>(prefix.x - select(0u, 1u, prefix.y == 0u), prefix.y - 1u);
            break;
        }
    }
    workgroupBarrier();
    if (lane == 0u) {
        atomicStore(&counter, 0u);
    }
    for (var n = lane; n < MOST; n += LANES) {
        keys[n] = 0xffffffffu;
        names[n] = 0xffffffffu;
    }
    workgroupBarrier();
    for (var i = lane; i < settings.vocab; i += LANES) {
        let here = place(i);
        if (!before(here, first) && !before(last, here)) {
            let slot = atomicAdd(&counter, 1u);
            keys[slot] = here.x;
            names[slot] = i;
        }
    }
    workgroupBarrier();
    // Bitonic sort (Batcher 1968).
    for (var run = 2u; run <= MOST; run *= 2u) {
        for (var apart = run / 2u; apart > 0u; apart >>= 1u) {
            for (var n = lane; n < MOST / 2u; n += LANES) {
                let low = n / apart * 2u * apart + n % apart;
                let a = vec2<u32>(keys[low], names[low]);
                let b = vec2<u32>(keys[low + apart], names[low + apart]);
                if (before(b, a) == ((low & run) == 0u)) {
                    keys[low] = b.x;
                    names[low] = b.y;
                    keys[low + apart] = a.x;
                    names[low + apart] = a.y;
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
    scan(lane, sum);
    for (var n = 0u; n < 4u; n++) {
        sums[lane * 4u + n] = own[n];
        if (lane > 0u) {
            sums[lane * 4u + n] += lane_sums[lane - 1u];
        }
    }
    workgroupBarrier();
    return Sorted(last, taken);
}

// What a walk over the sorted candidates looks for.
// The sum of the weights of the first top-k.
const TOTAL = 0u;
// How many are kept, and the sum of their weights.
const CUT = 1u;
const DRAW = 2u;

fn draw_from_best(lane: u32, largest: f32, chance: f32, best: u32) -> u32 {
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
            goal = settings.top_p * scan(lane, own);
            task = CUT;
        }
    }
    var kept = most;
    var loaded = 0xffffffffu;
    var index = 0u;
    var start = 0u;
    var before_sum = 0.0;
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
        let all_of_them = start + count >= settings.vocab || count == 0u;
        var done = all_of_them;
        if (task == TOTAL) {
            if (start + count >= most) {
                let sum = before_sum + shared_number(lane, sums[most - start - 1u]);
                goal = settings.top_p * sum;
                done = true;
            }
        } else if (task == CUT) {
            // How many of these candidates are kept, where one of them is the last.
            var own = 0xffffffffu;
            for (var n = lane; n < count; n += LANES) {
                if (weight(bits_of(keys[n]), largest) < settings.min_p) {
                    own = min(own, n);
                }
                let enough = settings.top_p < 1.0 && before_sum + sums[n] >= goal;
                if (enough || start + n + 1u >= most) {
                    own = min(own, n + 1u);
                }
            }
            let cut = min(smallest(lane, own), select(0xffffffffu, count, all_of_them));
            if (cut != 0xffffffffu) {
                kept = start + cut;
                var sum = before_sum;
                if (cut > 0u) {
                    sum += shared_number(lane, sums[cut - 1u]);
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
                    if (before_sum + sums[n] > goal) {
                        own = min(own, n);
                    }
                }
            }
            let chosen = smallest(lane, own);
            // Where rounding leaves nothing, the last one that has a weight.
            let last = ~smallest(lane, ~other);
            if (chosen != 0xffffffffu || last > 0u) {
                let at = select(chosen, last - 1u, chosen == 0xffffffffu);
                if (lane == 0u) {
                    word = names[at];
                }
                token = workgroupUniformLoad(&word);
            }
            if (chosen != 0xffffffffu || start + count >= kept || all_of_them) {
                break;
            }
        }
        if (done) {
            task += 1u;
            index = 0u;
            start = 0u;
            before_sum = 0.0;
        } else {
            before_sum += shared_number(lane, sums[count - 1u]);
            start += count;
            index += 1u;
        }
    }
    return token;
}

@compute @workgroup_size(256)
fn sample(@builtin(local_invocation_index) lane: u32) {
    let odd = odd_logits(lane);
    if (settings.window > 0u) {
        penalize(lane);
    }
    let best = best_place(lane);
    var token = best.y;
    let bits = bits_of(best.x);
    if (bits == LOWEST_BITS) {
        token = 0u;
    } else if (settings.scale > 0.0) {
        if (lane == 0u) {
            number = unit();
        }
        let chance = workgroupUniformLoad(&number);
        let largest = bitcast<f32>(bits);
        if (settings.top_k == 0xffffffffu && settings.top_p >= 1.0) {
            token = draw_from_all(lane, largest, chance, best.y);
        } else {
            token = draw_from_best(lane, largest, chance, best.y);
        }
    }
    if (lane == 0u) {
        if (settings.window > 0u) {
            remember(token);
        }
        tokens[0] = token;
        ids[(state.position + state.tokens - 1u) % settings.ring] = token | odd;
        state.position += state.tokens;
        state.tokens = 1u;
        state.head_row = 0u;
        state.head_rows = 1u;
    }
}
