//! From scores to probabilities, with fastText's tables and its rounding.

use super::settings::Loss;

/// Steps of the table of the logistic function.
const SIGMOID_STEPS: usize = 512;
/// The table reaches from -8 to 8.
const SIGMOID_END: f32 = 8.0;
/// The count of a node without one.
const NO_COUNT: i64 = 1_000_000_000_000_000;

/// fastText's logarithm, which avoids that of 0.
pub(super) fn logarithm(x: f32) -> f32 {
    (f64::from(x) + 1e-5).ln() as f32
}

/// What a model's loss needs.
#[derive(Clone, Debug)]
pub(super) enum Output {
    Softmax,
    Logistic(Vec<f32>),
    Tree(LabelTree),
}

/// The Huffman tree of labels: the children of every inner node, the last of which is the root.
#[derive(Clone, Debug)]
pub(super) struct LabelTree {
    labels: usize,
    children: Vec<[u32; 2]>,
}

impl Output {
    pub(super) fn new(loss: Loss, label_counts: &[i64]) -> Output {
        match loss {
            Loss::Softmax => Output::Softmax,
            Loss::HierarchicalSoftmax => Output::Tree(LabelTree::new(label_counts)),
            Loss::NegativeSampling | Loss::OneVersusAll => Output::Logistic(sigmoid_table()),
        }
    }

    /// Calls `found` with labels and the logarithms of their probabilities; `score` gives the dot product of a row of
    /// the output matrix. The tree leaves out labels of less than 1e-5. False where a score is not a number.
    pub(super) fn log_probabilities(
        &self,
        labels: usize,
        score: impl Fn(usize) -> f32,
        scores: &mut Vec<f32>,
        mut found: impl FnMut(usize, f32),
    ) -> bool {
        if let Output::Tree(tree) = self {
            return tree.log_probabilities(score, found);
        }
        scores.clear();
        scores.extend((0..labels).map(score));
        if scores.iter().any(|score| score.is_nan()) {
            return false;
        }
        match self {
            Output::Logistic(table) => scores.iter_mut().for_each(|score| *score = sigmoid(table, *score)),
            _ => softmax(scores),
        }
        scores.iter().enumerate().for_each(|(label, &p)| found(label, logarithm(p)));
        // An infinite score makes a softmax of NaN.
        !scores.iter().any(|score| score.is_nan())
    }
}

/// Turns scores into a distribution.
pub(super) fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

fn sigmoid_table() -> Vec<f32> {
    let at = |step: usize| step as f32 * 2.0 * SIGMOID_END / SIGMOID_STEPS as f32 - SIGMOID_END;
    (0..=SIGMOID_STEPS).map(|step| (1.0 / (1.0 + f64::from((-at(step)).exp()))) as f32).collect()
}

fn sigmoid(table: &[f32], x: f32) -> f32 {
    if x < -SIGMOID_END {
        0.0
    } else if x > SIGMOID_END {
        1.0
    } else {
        table[((x + SIGMOID_END) * SIGMOID_STEPS as f32 / SIGMOID_END / 2.0) as usize]
    }
}

impl LabelTree {
    /// Builds the tree as fastText does; counts lie between 0 and 10^15, and are expected from the most frequent on.
    fn new(counts: &[i64]) -> LabelTree {
        let labels = counts.len();
        let mut totals = counts.to_vec();
        totals.resize((2 * labels).saturating_sub(1), NO_COUNT);
        let mut children = Vec::with_capacity(labels.saturating_sub(1));
        // Leaves are taken from the last one, inner nodes from the first one.
        let (mut leaves, mut node) = (labels, labels);
        for inner in labels..totals.len() {
            let mut next = || {
                if leaves > 0 && totals[leaves - 1] < totals[node] {
                    leaves -= 1;
                    leaves
                } else {
                    node += 1;
                    node - 1
                }
            };
            let pair = [next(), next()];
            totals[inner] = totals[pair[0]].saturating_add(totals[pair[1]]);
            children.push(pair.map(|child| child as u32));
        }
        LabelTree { labels, children }
    }

    fn log_probabilities(&self, score: impl Fn(usize) -> f32, mut found: impl FnMut(usize, f32)) -> bool {
        let least = logarithm(0.0);
        let mut open = vec![(self.labels + self.children.len() - 1, 0f32)];
        while let Some((node, log_probability)) = open.pop() {
            if log_probability < least {
                continue;
            }
            if node < self.labels {
                found(node, log_probability);
                continue;
            }
            let inner = node - self.labels;
            let score = score(inner);
            if score.is_nan() {
                return false;
            }
            let right = (1.0 / (1.0 + f64::from((-score).exp()))) as f32;
            let left = (1.0 - f64::from(right)) as f32;
            let [a, b] = self.children[inner].map(|child| child as usize);
            open.push((a, log_probability + logarithm(left)));
            open.push((b, log_probability + logarithm(right)));
        }
        true
    }
}
