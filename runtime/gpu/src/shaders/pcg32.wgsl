// PCG32 (PCG-XSH-RR 64/32, O'Neill 2014) in 32-bit words.

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

// The output for a state.
fn pcg(old: vec2<u32>) -> u32 {
    let low = ((old.x >> 18u) | (old.y << 14u)) ^ old.x;
    let high = (old.y >> 18u) ^ old.y;
    let shifted = (low >> 27u) | (high << 5u);
    let rotation = old.y >> 27u;
    return (shifted >> rotation) | (shifted << ((32u - rotation) & 31u));
}

// A uniform number in [0, 1) from two outputs. For one lane only.
fn uniform_random() -> f32 {
    let first = vec2<u32>(rng[0], rng[1]);
    let increment = vec2<u32>(rng[2], rng[3]);
    let second = plus(multiply(first, MULTIPLIER), increment);
    let third = plus(multiply(second, MULTIPLIER), increment);
    rng[0] = third.x;
    rng[1] = third.y;
    let high = f32(pcg(first) >> 5u) * 7.4505806e-9;
    return min(high + f32(pcg(second) >> 6u) * 1.1102230e-16, 0.99999994);
}

