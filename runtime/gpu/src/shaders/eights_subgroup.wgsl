// What eight neighbouring lanes of 64 find out together, without memory or barriers, where a subgroup has eight lanes or
// more. Lanes are numbered subgroup by subgroup, so that eight neighbours are in the same one whatever the driver's order.

struct Lane {
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) place: u32,
}

fn number_of(lane: Lane) -> u32 {
    return lane.subgroup * lane.size + lane.place;
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

