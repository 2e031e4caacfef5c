//! Rows of examples as batches: a row is one example, or several that share it.

use super::encoder::TokenizedExample;
use super::pack::pack_best_fit;
use crate::data::TrainingBatch;

/// How examples share the rows of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOptions {
    /// Most tokens of a row; the start of a longer example is kept.
    pub length: usize,
    /// Put several examples into a row.
    pub packing: bool,
}

/// The rows of examples, as indices of the examples in each. Examples without a target within `options.length` are left
/// out.
pub fn rows(examples: &[TokenizedExample], options: RowOptions) -> Vec<Vec<usize>> {
    let has_target = |example: &TokenizedExample| {
        example.targets.iter().any(|range| range.start.max(1) < range.end.min(options.length))
    };
    let length = |example: &TokenizedExample| if has_target(example) { example.ids.len() } else { 0 };
    let lengths: Vec<usize> = examples.iter().map(length).collect();
    if options.packing {
        return pack_best_fit(&lengths, options.length);
    }
    (0..examples.len()).filter(|&index| lengths[index] > 0).map(|index| vec![index]).collect()
}

/// Targets of the examples in rows of at most `length` tokens.
pub fn row_targets(examples: &[TokenizedExample], rows: &[Vec<usize>], length: usize) -> usize {
    let targets = |example: &TokenizedExample| {
        let one =
            example.targets.iter().map(|range| range.end.min(length).saturating_sub(range.start.max(1)));
        one.sum::<usize>()
    };
    rows.iter().flatten().map(|&index| targets(&examples[index])).sum()
}

/// Fills a batch with rows, as long as the longest of them, whose targets all have `weight`.
///
/// Each example is a document of its own, whose first token is no target; padding is one more, without targets.
pub fn fill_batch(
    batch: &mut TrainingBatch,
    examples: &[TokenizedExample],
    rows: &[Vec<usize>],
    length: usize,
    weight: f32,
) {
    let kept = |index: &usize| examples[*index].ids.len().min(length);
    let longest = rows.iter().map(|row| row.iter().map(kept).sum::<usize>()).max().unwrap_or(0);
    let context = longest.saturating_sub(1).max(1);
    batch.resize(rows.len(), context);
    batch.weigh(0.0);
    let ids = batch.ids.chunks_exact_mut(context + 1);
    let starts = batch.document_start.chunks_exact_mut(context);
    let weights = batch.weights.chunks_exact_mut(context);
    for (((row, ids), starts), weights) in rows.iter().zip(ids).zip(starts).zip(weights) {
        let mut start = 0;
        for index in row {
            let (example, end) = (&examples[*index], start + kept(index));
            ids[start..end].copy_from_slice(&example.ids[..end - start]);
            starts[start.min(context)..end.min(context)].fill(start as u32);
            for range in &example.targets {
                let (first, last) = (range.start.max(1), range.end.min(end - start));
                if first < last {
                    // The weight of a target is at the position that predicts it.
                    weights[start + first - 1..start + last - 1].fill(weight);
                }
            }
            start = end;
        }
        ids[start..].fill(0);
        let padding = start.min(context);
        starts[padding..].fill(padding as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(ids: &[u32], targets: std::ops::Range<usize>) -> TokenizedExample {
        TokenizedExample { ids: ids.to_vec(), targets: std::iter::once(targets).collect() }
    }

    #[test]
    fn packed_examples_are_documents_whose_first_token_is_no_target() {
        let mut all = [example(&[5, 6, 7], 1..3), example(&[8, 9], 0..1), example(&[3, 4], 0..1)];
        all[1].target_all();
        all[2].target_all();
        let options = RowOptions { length: 5, packing: true };
        let rows = rows(&all, options);
        assert_eq!(rows, [vec![0, 1], vec![2]]);
        assert_eq!(row_targets(&all, &rows, 5), 4);
        let mut batch = TrainingBatch::default();
        fill_batch(&mut batch, &all, &rows, 5, 0.25);
        assert_eq!((batch.sequences, batch.context), (2, 4));
        assert_eq!(batch.ids, [5, 6, 7, 8, 9, 3, 4, 0, 0, 0]);
        assert_eq!(batch.document_start, [0, 0, 0, 3, 0, 0, 2, 2]);
        assert_eq!(batch.weights, [0.25, 0.25, 0.0, 0.25, 0.25, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn an_example_without_a_target_in_its_row_is_left_out() {
        let all = [example(&[1, 2, 3, 4], 3..4), example(&[1, 2], 0..1), example(&[1, 2], 1..2)];
        for packing in [false, true] {
            assert_eq!(rows(&all, RowOptions { length: 3, packing }), [vec![2]], "{packing}");
            assert_eq!(rows(&all, RowOptions { length: 4, packing }), [vec![0], vec![2]], "{packing}");
        }
        let mut batch = TrainingBatch::default();
        fill_batch(&mut batch, &all, &[vec![0]], 3, 1.0);
        assert_eq!((batch.ids, batch.weights), (vec![1, 2, 3], vec![0.0, 0.0]));
    }
}
