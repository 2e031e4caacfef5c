// Repetition penalty (CTRL, Keskar et al. 2019, section 4.1; negative logits are multiplied), frequency and presence
// penalties, in place. No lane may still need the original logits.
fn penalize(lane: u32) {
    for (var i = lane; i < settings.vocab; i += LANES) {
        let bits = logit_bits(i);
        if (history[i] > 0u && bits != LOWEST_BITS) {
            let x = bitcast<f32>(bits);
            let repeated = select(x * settings.repetition, x / settings.repetition, x > 0.0);
            let penalized = repeated - (f32(history[i]) * settings.frequency + settings.presence);
            logits[i] = bitcast<u32>(clamp(penalized, -3.4e38, 3.4e38));
        }
    }
    storageBarrier();
}

// Appends the sampled token to the penalty window and removes the oldest one.
fn update_window(token: u32) {
    let index = state.position + state.tokens;
    if (settings.vocab + index >= arrayLength(&history)) {
        return;
    }
    history[settings.vocab + index] = token;
    history[token] += 1u;
    if (index >= settings.window) {
        history[history[settings.vocab + index - settings.window]] -= 1u;
    }
}

