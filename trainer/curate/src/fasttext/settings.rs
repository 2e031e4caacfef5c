//! What a model was trained with, as its file keeps it (fastText's `Args`).

use super::cursor::{Cursor, Fault};

/// The most values of a hidden vector that are read.
const MOST_DIMENSIONS: usize = 1 << 16;
/// The longest n-grams, of words or characters, that are read: more would make a text cost its square.
pub(super) const MOST_NGRAM: usize = 100;
/// fastText's code of a supervised model.
const SUPERVISED: i32 = 3;

/// How scores become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A binary tree of labels, each inner node a logistic regression.
    HierarchicalSoftmax,
    /// Logistic regressions, trained against sampled labels.
    NegativeSampling,
    /// One distribution over all labels.
    Softmax,
    /// Logistic regressions, each trained against all other labels.
    OneVersusAll,
}

/// Sizes that say how a text becomes rows of the input matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Values of a hidden vector.
    pub dimensions: usize,
    /// Words of the longest word n-gram; 1 for words alone.
    pub word_ngrams: usize,
    /// Rows that the hashes of n-grams share.
    pub buckets: usize,
    /// Characters of the shortest character n-gram.
    pub shortest: usize,
    /// Characters of the longest character n-gram; 0 for none.
    pub longest: usize,
    /// How scores become probabilities.
    pub loss: Loss,
    /// Passes over the training set.
    pub epochs: usize,
    /// Fewest occurrences of a word in the training set.
    pub fewest: usize,
}

impl Settings {
    /// Reads the settings of a file of `version`, 11 or 12.
    pub(super) fn read(cursor: &mut Cursor<'_>, version: i32) -> Result<Settings, Fault> {
        let dimensions = cursor.count(MOST_DIMENSIONS, "the dimensions of a vector")?;
        if dimensions == 0 {
            return Err("expected at least one dimension, found 0".to_owned());
        }
        cursor.i32("the context window")?;
        let epochs = cursor.i32("the number of epochs")?.max(0) as usize;
        let fewest = cursor.i32("the fewest occurrences of a word")?.max(0) as usize;
        cursor.i32("the number of negative samples")?;
        let word_ngrams = cursor.count(MOST_NGRAM, "the longest word n-gram")?;
        let loss = match cursor.i32("the loss")? {
            1 => Loss::HierarchicalSoftmax,
            2 => Loss::NegativeSampling,
            3 => Loss::Softmax,
            4 => Loss::OneVersusAll,
            other => return Err(format!("expected a loss from 1 to 4, found {other}")),
        };
        let kind = cursor.i32("the kind of model")?;
        if kind != SUPERVISED {
            return Err(format!(
                "expected a classifier (kind {SUPERVISED}), found kind {kind}: word vectors have no labels; train a \
                 supervised model"
            ));
        }
        let buckets = cursor.count(i32::MAX as usize, "the number of buckets")?;
        let shortest = cursor.count(i32::MAX as usize, "the shortest character n-gram")?;
        let longest = cursor.count(MOST_NGRAM, "the longest character n-gram")?;
        cursor.i32("the update rate")?;
        cursor.f64("the sampling threshold")?;
        // Supervised models of version 11 have no character n-grams, whatever their settings say.
        let longest = if version == 11 { 0 } else { longest };
        if buckets == 0 && (word_ngrams > 1 || longest > 0) {
            return Err("expected buckets for the n-grams, found 0".to_owned());
        }
        Ok(Settings { dimensions, word_ngrams, buckets, shortest, longest, loss, epochs, fewest })
    }

    /// The settings as a file of version 12 keeps them. Values that only training of word vectors uses are fastText's
    /// defaults.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let loss = match self.loss {
            Loss::HierarchicalSoftmax => 1,
            Loss::NegativeSampling => 2,
            Loss::Softmax => 3,
            Loss::OneVersusAll => 4,
        };
        let size = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
        let (window, negatives, update_rate) = (5, 5, 100);
        let fields = [
            size(self.dimensions),
            window,
            size(self.epochs),
            size(self.fewest),
            negatives,
            size(self.word_ngrams),
            loss,
            SUPERVISED,
            size(self.buckets),
            size(self.shortest),
            size(self.longest),
            update_rate,
        ];
        fields.iter().for_each(|field| out.extend(field.to_le_bytes()));
        out.extend(1e-4f64.to_le_bytes());
    }
}
