//! Pairs as one micro-batch: both sequences of a pair together, packed into as few rows as they need.

use super::PreferencePair;
use crate::data::TrainingBatch;
use std::ops::Range;

/// A micro-batch of pairs. Its rows are as long as its longest sequence; each other sequence lies in the first row with
/// room for it, longest first. Sequences do not see each other where the engine has its document mask on.
#[derive(Clone, Debug, PartialEq)]
pub struct PairBatch {
    /// The rows; the answers' tokens are its targets, with weight 1.
    pub batch: TrainingBatch,
    /// For each pair the targets of the chosen and the rejected answer.
    pub answers: Vec<[Range<usize>; 2]>,
}

/// One sequence of a pair.
struct Placed<'p> {
    pair: usize,
    side: usize,
    prompt: &'p [u32],
    answer: &'p [u32],
}

impl Placed<'_> {
    fn len(&self) -> usize {
        self.prompt.len() + self.answer.len()
    }
}

impl PairBatch {
    /// Packs pairs; `sequences <= 2 x pairs` and `context` is the longest sequence.
    pub fn pack(pairs: &[&PreferencePair]) -> PairBatch {
        let mut sequences: Vec<Placed> = Vec::with_capacity(2 * pairs.len());
        for (index, pair) in pairs.iter().enumerate() {
            for (side, answer) in pair.answers().into_iter().enumerate() {
                sequences.push(Placed { pair: index, side, prompt: &pair.prompt, answer });
            }
        }
        let context = sequences.iter().map(Placed::len).max().unwrap_or(0).max(1);
        sequences.sort_by_key(|sequence| std::cmp::Reverse(sequence.len()));
        let mut rows: Vec<(usize, Vec<&Placed>)> = Vec::new();
        for sequence in &sequences {
            let room = rows.iter_mut().find(|(used, _)| used + sequence.len() <= context);
            match room {
                Some((used, row)) => {
                    *used += sequence.len();
                    row.push(sequence);
                }
                None => rows.push((sequence.len(), vec![sequence])),
            }
        }

        let mut ids = Vec::with_capacity(rows.len() * (context + 1));
        let mut document_start = Vec::with_capacity(rows.len() * context);
        let mut weights = vec![0.0; rows.len() * context];
        let mut answers = vec![[0..0, 0..0]; pairs.len()];
        for (row, (_, sequences)) in rows.iter().enumerate() {
            let mut at = 0;
            for sequence in sequences {
                // The token before a target predicts it; a sequence's first token is none.
                let first = at + sequence.prompt.len().max(1) - 1;
                let end = (at + sequence.len()).max(1) - 1;
                let targets = row * context + first..row * context + end.max(first);
                weights[targets.clone()].fill(1.0);
                answers[sequence.pair][sequence.side] = targets;
                ids.extend_from_slice(sequence.prompt);
                ids.extend_from_slice(sequence.answer);
                document_start.extend(std::iter::repeat_n(at as u32, sequence.len()));
                at += sequence.len();
            }
            document_start.extend(std::iter::repeat_n(at as u32, context - at));
            ids.extend(std::iter::repeat_n(0, context + 1 - at));
        }
        let mut batch = TrainingBatch::new(rows.len(), context, ids, document_start);
        batch.weights = weights;
        PairBatch { batch, answers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(prompt: usize, chosen: usize, rejected: usize, id: u32) -> PreferencePair {
        let ids = |len, from| (0..len as u32).map(|at| from + at).collect();
        PreferencePair {
            prompt: ids(prompt, id),
            chosen: ids(chosen, id + 100),
            rejected: ids(rejected, id + 200),
        }
    }

    #[test]
    fn every_answer_is_a_target_behind_its_own_prompt() {
        let pairs = [pair(3, 4, 2, 1000), pair(2, 1, 9, 2000), pair(1, 1, 1, 3000), pair(4, 3, 2, 4000)];
        let packed = PairBatch::pack(&pairs.iter().collect::<Vec<_>>());
        let batch = &packed.batch;
        assert_eq!((batch.context, batch.sequences), (11, 4), "43 tokens in rows of 11");
        let mut targets = 0;
        for (pair, answers) in pairs.iter().zip(&packed.answers) {
            for (answer, range) in pair.answers().into_iter().zip(answers) {
                targets += range.len();
                assert_eq!(range.len(), answer.len());
                let row = range.start / batch.context;
                // A row has one id more than targets.
                let place = |target: usize| target + row;
                let found = &batch.ids[place(range.start) + 1..place(range.end) + 1];
                assert_eq!(found, answer);
                let start = batch.document_start[range.start] as usize;
                let ids = &batch.ids[row * (batch.context + 1) + start..];
                assert_eq!(&ids[..pair.prompt.len()], pair.prompt);
                assert!(batch.document_start[range.clone()].iter().all(|&at| at as usize == start));
                assert!(batch.weights[range.clone()].iter().all(|&weight| weight == 1.0));
            }
        }
        assert_eq!(batch.weights.iter().filter(|&&weight| weight != 0.0).count(), targets);
    }

    #[test]
    fn a_first_token_is_no_target() {
        let bare = PreferencePair { prompt: vec![], chosen: vec![7, 8], rejected: vec![9] };
        let packed = PairBatch::pack(&[&bare]);
        assert_eq!(packed.answers, [[0..1, 2..2]]);
        assert_eq!(packed.batch.weights, [1.0, 0.0, 0.0, 0.0]);
    }
}
