// Reductions over aligned groups of eight lanes by shuffles, for subgroups of at least eight lanes. Lanes are numbered
// subgroup by subgroup, so that each group lies in one subgroup, whatever the driver's order.

struct Lane {
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) invocation: u32,
}

fn lane_index(lane: Lane) -> u32 {
    return lane.subgroup * lane.size + lane.invocation;
}

fn largest_of_eight(lane: u32, x: f32) -> f32 {
    let pairs = max(x, subgroupShuffleXor(x, 1u));
    let fours = max(pairs, subgroupShuffleXor(pairs, 2u));
    return max(fours, subgroupShuffleXor(fours, 4u));
}

fn sum_of_eight(lane: u32, x: f32) -> f32 {
    let pairs = x + subgroupShuffleXor(x, 1u);
    let fours = pairs + subgroupShuffleXor(pairs, 2u);
    return fours + subgroupShuffleXor(fours, 4u);
}

