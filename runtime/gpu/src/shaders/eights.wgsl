// What eight neighbouring lanes of 64 find out together, through the workgroup's memory: every adapter can.

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

fn number_of(lane: Lane) -> u32 {
    return lane.index;
}

var<workgroup> shares: array<f32, 64>;

fn largest_of_eight(lane: u32, x: f32) -> f32 {
    shares[lane] = x;
    workgroupBarrier();
    var most = x;
    for (var n = 0u; n < 8u; n++) {
        most = max(most, shares[(lane & 0xfffffff8u) + n]);
    }
    workgroupBarrier();
    return most;
}

fn sum_of_eight(lane: u32, x: f32) -> f32 {
    shares[lane] = x;
    workgroupBarrier();
    var sum = 0.0;
    for (var n = 0u; n < 8u; n++) {
        sum += shares[(lane & 0xfffffff8u) + n];
    }
    return sum;
}

