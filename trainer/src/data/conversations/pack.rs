//! Best-fit-decreasing packing, with the ties of TRL's `bfd` strategy (`trl/data_utils.py`).

use std::collections::{BTreeMap, VecDeque};

/// Puts examples of these lengths into bins of `size` tokens: the longest first, each into the fullest bin that has room.
/// Returns the examples' indices by bin, in the order in which bins were opened; longer examples count as `size`, and
/// empty ones are left out.
///
/// Ties: of equal lengths the earlier example goes first; of bins with the same room, the one that got it first.
pub fn pack_best_fit(lengths: &[usize], size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).filter(|&index| lengths[index] > 0).collect();
    // A stable sort, as pyarrow's.
    order.sort_by_key(|&index| std::cmp::Reverse(lengths[index].min(size)));
    let mut bins: Vec<Vec<usize>> = Vec::new();
    // The bins that are not full, by the room that they have.
    let mut open: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    for index in order {
        let length = lengths[index].min(size);
        let (bin, room) = match open.range_mut(length..).next() {
            Some((&room, same)) => (same.pop_front().unwrap_or_default(), room),
            None => {
                bins.push(Vec::new());
                (bins.len() - 1, size)
            }
        };
        if open.get(&room).is_some_and(VecDeque::is_empty) {
            open.remove(&room);
        }
        bins[bin].push(index);
        if room > length {
            open.entry(room - length).or_default().push_back(bin);
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::pack_best_fit;

    #[test]
    fn bins_and_ties_are_those_of_trl() {
        // The example of TRL's documentation.
        assert_eq!(pack_best_fit(&[5, 2, 3, 1], 4), [vec![0], vec![2, 3], vec![1]]);
        assert_eq!(pack_best_fit(&[], 4), Vec::<Vec<usize>>::new());
        assert_eq!(pack_best_fit(&[0, 4, 0], 4), [vec![1]]);
        assert_eq!(pack_best_fit(&[3, 3, 1, 1, 1], 4), [vec![0, 2], vec![1, 3], vec![4]]);
    }
}
