// Reductions and scans over the 256 lanes of the workgroup.

// Lane 0's number.
fn broadcast(lane: u32, x: f32) -> f32 {
    if (lane == 0u) {
        number = x;
    }
    return workgroupUniformLoad(&number);
}

// The sum over all lanes; `lane_sums` receives the inclusive prefix sums.
fn inclusive_scan(lane: u32, x: f32) -> f32 {
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

// The minimum over all lanes.
fn workgroup_min(lane: u32, x: u32) -> u32 {
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

