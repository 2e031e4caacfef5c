// Greedy sampling: the largest logit's token, the lowest id among equals. Workgroups: (1).
//
// The token goes where the next pass reads its input, and into the ring that the host reads; the position moves on, so
// that several tokens run without the host.

struct Shape {
    vocab: u32,
    // Places in the ring.
    ring: u32,
    unused_0: u32,
    unused_1: u32,
}

struct State {
    position: u32,
    tokens: u32,
    head_row: u32,
    head_rows: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read_write> state: State;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;

var<workgroup> best: array<f32, 256>;
var<workgroup> best_id: array<u32, 256>;

@compute @workgroup_size(256)
fn argmax(@builtin(local_invocation_index) lane: u32) {
    var largest = -3.4028234e38;
    var id = 0u;
    for (var i = lane; i < shape.vocab; i += 256u) {
        if (logits[i] > largest) {
            largest = logits[i];
            id = i;
        }
    }
    best[lane] = largest;
    best_id[lane] = id;
    workgroupBarrier();
    for (var width = 128u; width > 0u; width >>= 1u) {
        if (lane < width) {
            let other = best[lane + width];
            let other_id = best_id[lane + width];
            if (other > best[lane] || (other == best[lane] && other_id < best_id[lane])) {
                best[lane] = other;
                best_id[lane] = other_id;
            }
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        tokens[0] = best_id[0];
        ids[state.position % shape.ring] = best_id[0];
        state.position += 1u;
    }
}
