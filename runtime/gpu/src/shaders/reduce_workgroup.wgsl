// Reductions over aligned groups of eight lanes, through workgroup memory.

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

fn lane_index(lane: Lane) -> u32 {
    return lane.index;
}

var<workgroup> lane_values: array<f32, 64>;

fn largest_of_eight(lane: u32, x: f32) -> f32 {
    lane_values[lane] = x;
    workgroupBarrier();
    var largest = x;
    for (var n = 0u; n < 8u; n++) {
        largest = max(largest, lane_values[(lane & 0xfffffff8u) + n]);
    }
    workgroupBarrier();
    return largest;
}

fn sum_of_eight(lane: u32, x: f32) -> f32 {
    lane_values[lane] = x;
    workgroupBarrier();
    var sum = 0.0;
    for (var n = 0u; n < 8u; n++) {
        sum += lane_values[(lane & 0xfffffff8u) + n];
    }
    return sum;
}

