//! fastText classifiers (Joulin et al., "Bag of Tricks for Efficient Text Classification", 2016): files of the C++
//! library, `.bin` and `.ftz`, read and applied as it does.

mod cursor;
mod dictionary;
mod features;
mod matrix;
mod preset;
mod probabilities;
mod settings;
mod sorted_map;
mod train;

pub use dictionary::LABEL_PREFIX;
pub use preset::{DCLM, LANGUAGE_ABOVE, Preset};
pub use settings::{Loss, Settings};
pub use train::{ClassifierOptions, Example, TrainedModel, train};

use crate::error::{CurateError, Result};
use cursor::{Cursor, Fault};
use dictionary::Dictionary;
use features::{Features, Subwords};
use matrix::Matrix;
use probabilities::Output;
use std::path::Path;

/// The first four bytes of a model.
const MAGIC: i32 = 793_712_314;
/// Versions that are read; the last one is written.
const VERSIONS: std::ops::RangeInclusive<i32> = 11..=12;

/// A classifier.
#[derive(Clone, Debug)]
pub struct FastText {
    file: Vec<u8>,
    settings: Settings,
    dictionary: Dictionary,
    subwords: Subwords,
    input: Matrix,
    output: Matrix,
    probabilities: Output,
    labels: Vec<String>,
}

/// A label and its probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelPrediction {
    /// The label, an index into [`FastText::labels`].
    pub label: usize,
    /// Its probability as fastText gives it: up to 1e-5 more than the exact one, so it can exceed 1.
    pub probability: f32,
}

/// Room for predictions, which is used again from text to text.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    hashes: Vec<u32>,
    hidden: Vec<f32>,
    scores: Vec<f32>,
    predictions: Vec<LabelPrediction>,
}

impl FastText {
    /// Reads a model into memory.
    ///
    /// # Errors
    /// The file cannot be read, or is not a classifier of fastText.
    pub fn open(path: &Path) -> Result<FastText> {
        let file = std::fs::read(path).map_err(CurateError::file(path, "read"))?;
        FastText::parse(file).map_err(|fault| {
            CurateError::Invalid(format!("{}: not a fastText classifier: {fault}", path.display()))
        })
    }

    /// The model in the bytes of a file.
    ///
    /// # Errors
    /// What was expected, and what was found.
    pub fn parse(file: Vec<u8>) -> std::result::Result<FastText, String> {
        let cursor = &mut Cursor::new(&file);
        let magic = cursor.i32("the mark of fastText")?;
        if magic != MAGIC {
            return Err(format!(
                "expected the mark {MAGIC} at the beginning, found {magic}; use a .bin or .ftz file"
            ));
        }
        let version = cursor.i32("the version")?;
        if !VERSIONS.contains(&version) {
            return Err(format!(
                "expected version 11 or 12, found {version}; save the model with fastText 0.9"
            ));
        }
        let settings = Settings::read(cursor, version)?;
        let dictionary = Dictionary::read(cursor)?;
        let quantized = cursor.flag("whether the input matrix is quantized")?;
        if dictionary.is_pruned() && !quantized {
            return Err("expected a quantized matrix beside a pruned dictionary, found floats".to_owned());
        }
        let has_ngrams = settings.word_ngrams > 1 || settings.longest > 0;
        let rows = dictionary.rows(if has_ngrams { settings.buckets } else { 0 });
        // Rows are 32-bit numbers.
        if rows > i32::MAX as usize {
            return Err(format!("expected fewer than 2^31 rows, found {rows}"));
        }
        let columns = settings.dimensions;
        let input = Matrix::read(cursor, (rows, columns), quantized, "the input matrix")?;
        let output_quantized = cursor.flag("whether the output matrix is quantized")?;
        let output = Matrix::read(
            cursor,
            (dictionary.labels, columns),
            quantized && output_quantized,
            "the output matrix",
        )?;
        FastText::assemble(settings, dictionary, input, output, file)
    }

    fn assemble(
        settings: Settings,
        dictionary: Dictionary,
        input: Matrix,
        output: Matrix,
        file: Vec<u8>,
    ) -> std::result::Result<FastText, Fault> {
        if output.rows != dictionary.labels {
            return Err(format!(
                "expected a row of the output matrix for each of {} labels, found {}",
                dictionary.labels, output.rows
            ));
        }
        let subwords = Subwords::new(&settings, &dictionary);
        let probabilities = Output::new(settings.loss, dictionary.label_counts());
        let labels = (0..dictionary.labels).map(|label| dictionary.label(label)).collect();
        Ok(FastText { file, settings, dictionary, subwords, input, output, probabilities, labels })
    }

    /// What the model was trained with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The labels, in the model's order, with their prefix.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The labels of a text, the most probable first; line ends count as spaces. A model with hierarchical softmax
    /// leaves out labels of less than 1e-5, and a text without any known feature has none, as in fastText.
    ///
    /// # Errors
    /// A weight of the model is not a number.
    pub fn predict<'s>(&self, text: &str, scratch: &'s mut Scratch) -> Result<&'s [LabelPrediction]> {
        let Scratch { hashes, hidden, scores, predictions } = scratch;
        hidden.clear();
        hidden.resize(self.settings.dimensions, 0.0);
        predictions.clear();
        let features =
            Features { settings: &self.settings, dictionary: &self.dictionary, subwords: &self.subwords };
        let mut count = 0usize;
        let add = |row: u32| {
            self.input.add_row(&self.file, row as usize, hidden);
            count += 1;
        };
        features.rows(text.as_bytes(), hashes, add, |_| ());
        if count == 0 {
            return Ok(predictions);
        }
        let scale = (1.0 / count as f64) as f32;
        hidden.iter_mut().for_each(|value| *value *= scale);
        let score = |row: usize| self.output.dot(&self.file, row, hidden);
        let found = |label, log_probability: f32| {
            predictions.push(LabelPrediction { label, probability: log_probability.exp() });
        };
        if !self.probabilities.log_probabilities(self.dictionary.labels, score, scores, found) {
            return Err(CurateError::Invalid(
                "a score of the fastText model is not a number: its weights are damaged; copy or train it again".into(),
            ));
        }
        predictions.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.label.cmp(&b.label)));
        Ok(predictions)
    }
}
