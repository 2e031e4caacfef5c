//! The batch on the device: ids, targets and their weights, documents, and the order in which the embedding's gradient
//! is summed.

use super::launcher::Region;
use crate::data::TrainingBatch;

/// Tokens of one id that one warp sums: the most that `embedding_segment_sums` takes.
const SEGMENT: usize = 64;

/// Where each part lies in the batch's memory, in words of 4 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchLayout {
    pub(super) tokens: usize,
    pub(super) segments: usize,
    pub(super) distinct: usize,
}

impl BatchLayout {
    /// The largest of so many tokens: every id occurs as rarely as it can.
    pub(super) fn largest(tokens: usize, vocabulary: usize) -> BatchLayout {
        let distinct = tokens.min(vocabulary);
        // An id of n tokens has at most 1 + (n - 1) / SEGMENT segments.
        BatchLayout { tokens, segments: distinct + (tokens - distinct) / SEGMENT, distinct }
    }

    /// Words of all parts.
    pub(super) fn words(&self) -> usize {
        self.losses() + self.tokens
    }

    fn targets(&self) -> usize {
        self.tokens
    }

    fn starts(&self) -> usize {
        2 * self.tokens
    }

    fn weights(&self) -> usize {
        3 * self.tokens
    }

    fn order(&self) -> usize {
        4 * self.tokens
    }

    fn segment_starts(&self) -> usize {
        5 * self.tokens
    }

    fn id_starts(&self) -> usize {
        self.segment_starts() + self.segments + 1
    }

    fn ids(&self) -> usize {
        self.id_starts() + self.distinct + 1
    }

    fn losses(&self) -> usize {
        self.ids() + self.distinct
    }
}

/// The parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchParts {
    /// u32, `tokens` each.
    pub(super) inputs: Region,
    pub(super) targets: Region,
    pub(super) starts: Region,
    /// f32, `tokens`.
    pub(super) weights: Region,
    /// u32: tokens sorted by their id.
    pub(super) order: Region,
    /// u32: the segments' first places in the order, and its end.
    pub(super) segment_starts: Region,
    /// u32: the ids' first segments, and their end.
    pub(super) id_starts: Region,
    /// u32: the distinct ids.
    pub(super) ids: Region,
    /// f32, `tokens`: the losses that a pass writes.
    pub(super) losses: Region,
}

impl BatchLayout {
    pub(super) fn parts(&self, memory: Region) -> BatchParts {
        let words = |from: usize, len: usize| memory.part(4 * from, 4 * len);
        let tokens = self.tokens;
        BatchParts {
            inputs: words(0, tokens),
            targets: words(self.targets(), tokens),
            starts: words(self.starts(), tokens),
            weights: words(self.weights(), tokens),
            order: words(self.order(), tokens),
            segment_starts: words(self.segment_starts(), self.segments + 1),
            id_starts: words(self.id_starts(), self.distinct + 1),
            ids: words(self.ids(), self.distinct),
            losses: words(self.losses(), tokens),
        }
    }
}

/// The words of a batch's memory up to the losses, and their layout.
pub(super) fn words(batch: &TrainingBatch) -> (BatchLayout, Vec<u32>) {
    let rows = || batch.ids.chunks_exact(batch.context + 1);
    let inputs: Vec<u32> = rows().flat_map(|row| &row[..batch.context]).copied().collect();
    let tokens = inputs.len();
    let mut order: Vec<u32> = (0..tokens as u32).collect();
    order.sort_by_key(|&token| inputs[token as usize]);
    let (mut segment_starts, mut id_starts, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = 0;
    for same in order.chunk_by(|&a, &b| inputs[a as usize] == inputs[b as usize]) {
        id_starts.push(segment_starts.len() as u32);
        ids.push(inputs[same[0] as usize]);
        segment_starts.extend((first..first + same.len()).step_by(SEGMENT).map(|start| start as u32));
        first += same.len();
    }
    let layout = BatchLayout { tokens, segments: segment_starts.len(), distinct: ids.len() };
    segment_starts.push(tokens as u32);
    id_starts.push(layout.segments as u32);

    let mut words = inputs;
    words.extend(rows().flat_map(|row| &row[1..]));
    words.extend(&batch.document_start);
    words.extend(batch.weights.iter().map(|weight| weight.to_bits()));
    words.extend(order);
    words.extend(segment_starts);
    words.extend(id_starts);
    words.extend(ids);
    debug_assert_eq!(words.len(), layout.losses());
    (layout, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_cut_into_segments_of_one_id() {
        let ids: Vec<u32> = (0..201).map(|at| if at % 3 == 0 { 5 } else { at % 2 }).collect();
        let batch = TrainingBatch::new(1, 200, ids.clone(), vec![0; 200]);
        let (layout, words) = words(&batch);
        let part = |from: usize, len: usize| &words[from..from + len];
        assert_eq!(part(layout.ids(), layout.distinct), [0, 1, 5]);
        let starts = part(layout.segment_starts(), layout.segments + 1);
        let id_starts = part(layout.id_starts(), 4);
        let order = part(layout.order(), 200);
        let mut seen: Vec<u32> = Vec::new();
        for (index, id) in [0, 1, 5].into_iter().enumerate() {
            for segment in id_starts[index]..id_starts[index + 1] {
                let [from, to] = [segment, segment + 1].map(|at| starts[at as usize] as usize);
                assert!(from < to && to - from <= SEGMENT);
                assert!(order[from..to].iter().all(|&token| ids[token as usize] == id));
                assert!(order[from..to].is_sorted());
                seen.extend(&order[from..to]);
            }
        }
        assert_eq!(id_starts[3] as usize, layout.segments);
        seen.sort_unstable();
        assert_eq!(seen, (0..200).collect::<Vec<u32>>());
        assert_eq!(part(layout.targets(), 200), &ids[1..]);
    }
}
