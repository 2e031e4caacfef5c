//! Trains a classifier: softmax, one thread, the same file for the same examples and options.

use super::dictionary::{Dictionary, END, LABEL_PREFIX, Token, hash};
use super::features::{Features, Subwords, tokens};
use super::probabilities::softmax;
use super::settings::{Loss, MOST_NGRAM, Settings};
use super::{MAGIC, VERSIONS};
use crate::error::{CurateError, Result};
use std::collections::HashMap;
use std::io::Write;

/// Tokens between two updates of the learning rate, as in fastText.
const UPDATE_EVERY: u64 = 100;

/// A text with its labels. Labels can stand in the text as well, as `__label__NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Its labels, without `__label__`.
    pub labels: Vec<String>,
    /// Its text.
    pub text: String,
}

/// How a classifier is trained; the defaults are fastText's.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifierOptions {
    /// Values of a hidden vector.
    pub dimensions: usize,
    /// Passes over the examples.
    pub epochs: usize,
    /// The learning rate at the beginning; it falls linearly to 0.
    pub learning_rate: f32,
    /// Words of the longest word n-gram.
    pub word_ngrams: usize,
    /// Characters of the shortest character n-gram.
    pub shortest: usize,
    /// Characters of the longest character n-gram; 0 for none.
    pub longest: usize,
    /// Rows that the hashes of n-grams share.
    pub buckets: usize,
    /// Fewest occurrences of a word.
    pub fewest: usize,
    /// Seed of the rows that words begin with.
    pub seed: u32,
}

impl Default for ClassifierOptions {
    fn default() -> ClassifierOptions {
        ClassifierOptions {
            dimensions: 100,
            epochs: 5,
            learning_rate: 0.1,
            word_ngrams: 1,
            shortest: 0,
            longest: 0,
            buckets: 2_000_000,
            fewest: 1,
            seed: 0,
        }
    }
}

/// A classifier with its matrices as floats.
#[derive(Clone, Debug)]
pub struct TrainedModel {
    settings: Settings,
    dictionary: Dictionary,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl ClassifierOptions {
    fn settings(&self) -> Result<Settings> {
        let between =
            |name: &str, value: usize, least: usize, most: usize| match (least..=most).contains(&value) {
                true => Ok(value),
                false => Err(CurateError::Usage(format!(
                    "expected {name} between {least} and {most}, found {value}"
                ))),
            };
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            let found = self.learning_rate;
            return Err(CurateError::Usage(format!("expected a learning rate above 0, found {found}")));
        }
        let longest = between("a longest character n-gram", self.longest, 0, MOST_NGRAM)?;
        let word_ngrams = between("a longest word n-gram", self.word_ngrams, 1, MOST_NGRAM)?;
        // Without n-grams nothing is hashed.
        let buckets = if word_ngrams > 1 || longest > 0 { self.buckets } else { 0 };
        Ok(Settings {
            dimensions: between("dimensions", self.dimensions, 1, 4096)?,
            word_ngrams,
            buckets: between(
                "buckets",
                buckets,
                usize::from(buckets != 0 || longest + word_ngrams > 1),
                1 << 30,
            )?,
            shortest: between("a shortest character n-gram", self.shortest, 0, longest)?,
            longest,
            loss: Loss::Softmax,
            epochs: between("epochs", self.epochs, 1, 1_000_000)?,
            fewest: self.fewest,
        })
    }
}

/// Trains a classifier on `examples`; `progress` receives the share that is done and the mean loss since it was last
/// called (nats), once for each pass.
///
/// # Errors
/// Options outside their range, no labels, no words, or weights that are no longer numbers.
pub fn train(
    examples: &[Example],
    options: &ClassifierOptions,
    mut progress: impl FnMut(f32, f64),
) -> Result<TrainedModel> {
    let settings = options.settings()?;
    let dictionary = count(examples, settings.fewest)?;
    let width = settings.dimensions;
    let rows = dictionary.rows(settings.buckets);
    let bytes = rows.checked_mul(width * 4).filter(|_| rows <= i32::MAX as usize);
    if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(CurateError::Usage(format!(
            "expected an input matrix that fits into memory, found {rows} rows of {width}; lower --buckets or --dim"
        )));
    }
    // Rows of n-grams begin at zero, so that n-grams no example has add nothing to a text.
    let mut input = vec![0f32; rows * width];
    let mut random = MinStandard::new(options.seed);
    let bound = 1.0 / width as f64;
    for value in &mut input[..dictionary.words * width] {
        *value = ((random.unit() * 2.0 - 1.0) * bound) as f32;
    }
    let output = vec![0f32; dictionary.labels * width];
    let subwords = Subwords::new(&settings, &dictionary);
    let mut model = TrainedModel { settings, dictionary, input, output };
    let mut step = Step::new(width, model.dictionary.labels);
    let all = model.dictionary.tokens.max(1) as u64 * options.epochs as u64;
    let (mut seen, mut since) = (0u64, 0u64);
    let mut order = (0..examples.len()).cycle();
    while let Some(index) = order.next().filter(|_| seen < all) {
        let done = seen as f32 / all as f32;
        since += step.collect(&model, &subwords, &examples[index]) as u64;
        if let Some(&target) = random.choose(&step.labels) {
            step.update(&mut model, target as usize, options.learning_rate * (1.0 - done))?;
        }
        if since > UPDATE_EVERY {
            seen += std::mem::take(&mut since);
        }
        if index + 1 == examples.len() {
            // What is left of a pass would be carried into the next one, and a set of few tokens would never end.
            seen += std::mem::take(&mut since);
            progress((seen as f32 / all as f32).min(1.0), step.take_loss());
        }
    }
    Ok(model)
}

/// The dictionary of the examples: words by falling count, at least `fewest` of each, then all labels.
fn count(examples: &[Example], fewest: usize) -> Result<Dictionary> {
    let mut counts: HashMap<Vec<u8>, (usize, i64)> = HashMap::new();
    let mut total = 0;
    let mut add = |token: &[u8]| {
        total += 1;
        match counts.get_mut(token) {
            Some(entry) => entry.1 += 1,
            None => {
                let first = counts.len();
                counts.insert(token.to_vec(), (first, 1));
            }
        }
    };
    for example in examples {
        for label in &example.labels {
            if label.is_empty() || tokens(label.as_bytes()).next() != Some(label.as_bytes()) {
                return Err(CurateError::Invalid(format!(
                    "expected a label without white space, found {label:?}; join its words with -"
                )));
            }
            add(format!("{LABEL_PREFIX}{label}").as_bytes());
        }
        // A text that has the end within it ends there.
        let ended = std::iter::once(END);
        for token in tokens(example.text.as_bytes()).chain(ended) {
            add(token);
            if token == END {
                break;
            }
        }
    }
    let mut entries: Vec<_> = counts.into_iter().collect();
    entries.sort_unstable_by_key(|(_, (first, count))| (std::cmp::Reverse(*count), *first));
    let (labels, words): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(entry, _)| entry.starts_with(LABEL_PREFIX.as_bytes()));
    let keep = |entries: Vec<(Vec<u8>, (usize, i64))>, fewest: i64| -> Vec<(Vec<u8>, i64)> {
        let enough = entries.into_iter().filter(|(_, (_, count))| *count >= fewest);
        enough.map(|(entry, (_, count))| (entry, count)).collect()
    };
    let words = keep(words, i64::try_from(fewest).unwrap_or(i64::MAX));
    let labels = keep(labels, 0);
    if labels.len() < 2 || words.is_empty() {
        return Err(CurateError::Invalid(format!(
            "expected examples with words and at least two labels, found {} words and {} labels; give the field with \
             --label-field, or begin each line with {LABEL_PREFIX}NAME",
            words.len(),
            labels.len()
        )));
    }
    Ok(Dictionary::new(words, labels, total))
}

/// One example's work.
struct Step {
    hashes: Vec<u32>,
    rows: Vec<u32>,
    labels: Vec<u32>,
    hidden: Vec<f32>,
    gradient: Vec<f32>,
    probabilities: Vec<f32>,
    loss: f64,
    updates: u64,
}

impl Step {
    fn new(width: usize, labels: usize) -> Step {
        Step {
            hashes: Vec::new(),
            rows: Vec::new(),
            labels: Vec::new(),
            hidden: vec![0.0; width],
            gradient: vec![0.0; width],
            probabilities: vec![0.0; labels],
            loss: 0.0,
            updates: 0,
        }
    }

    /// Finds the rows and labels of an example, and returns its number of tokens.
    fn collect(&mut self, model: &TrainedModel, subwords: &Subwords, example: &Example) -> usize {
        let Step { hashes, rows, labels, .. } = self;
        rows.clear();
        labels.clear();
        for label in &example.labels {
            let label = format!("{LABEL_PREFIX}{label}");
            if let Token::Label(Some(label)) =
                model.dictionary.token(label.as_bytes(), hash(label.as_bytes()))
            {
                labels.push(label);
            }
        }
        let features = Features { settings: &model.settings, dictionary: &model.dictionary, subwords };
        let add = |row| rows.push(row);
        let count = features.rows(example.text.as_bytes(), hashes, add, |label| labels.push(label));
        count + example.labels.len()
    }

    /// One step of gradient descent towards `target`.
    fn update(&mut self, model: &mut TrainedModel, target: usize, rate: f32) -> Result<()> {
        let width = self.hidden.len();
        if self.rows.is_empty() {
            return Ok(());
        }
        self.hidden.fill(0.0);
        for &row in &self.rows {
            let row = &model.input[row as usize * width..][..width];
            self.hidden.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let scale = 1.0 / self.rows.len() as f32;
        self.hidden.iter_mut().for_each(|value| *value *= scale);
        let output = model.output.chunks_exact(width);
        for (probability, row) in self.probabilities.iter_mut().zip(output) {
            *probability = row.iter().zip(&self.hidden).map(|(w, x)| w * x).sum();
        }
        softmax(&mut self.probabilities);
        if self.probabilities.iter().any(|probability| probability.is_nan()) {
            return Err(CurateError::Invalid(format!(
                "expected scores that are numbers, found others after {} examples; lower --lr",
                self.updates
            )));
        }
        self.loss -= f64::from(self.probabilities[target].max(f32::MIN_POSITIVE).ln());
        self.updates += 1;
        self.gradient.fill(0.0);
        for (label, row) in model.output.chunks_exact_mut(width).enumerate() {
            let alpha = rate * (f32::from(u8::from(label == target)) - self.probabilities[label]);
            for ((gradient, weight), hidden) in self.gradient.iter_mut().zip(row).zip(&self.hidden) {
                *gradient += alpha * *weight;
                *weight += alpha * hidden;
            }
        }
        self.gradient.iter_mut().for_each(|value| *value *= scale);
        for &row in &self.rows {
            let row = &mut model.input[row as usize * width..][..width];
            row.iter_mut().zip(&self.gradient).for_each(|(value, gradient)| *value += gradient);
        }
        Ok(())
    }

    /// The mean loss since it was last taken.
    fn take_loss(&mut self) -> f64 {
        let updates = std::mem::take(&mut self.updates).max(1);
        std::mem::take(&mut self.loss) / updates as f64
    }
}

/// The generator of fastText: Park and Miller's with the factor 48271.
struct MinStandard(u64);

impl MinStandard {
    const MODULUS: u64 = (1 << 31) - 1;

    fn new(seed: u32) -> MinStandard {
        MinStandard(match u64::from(seed) % Self::MODULUS {
            0 => 1,
            seed => seed,
        })
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0 * 48271 % Self::MODULUS;
        self.0
    }

    /// From 0 to 1, without 1.
    fn unit(&mut self) -> f64 {
        (self.next() - 1) as f64 / (Self::MODULUS - 1) as f64
    }

    /// One of several; the only one costs no number.
    fn choose<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        match choices {
            [] | [_] => choices.first(),
            _ => choices.get(self.next() as usize % choices.len()),
        }
    }
}

impl TrainedModel {
    /// Words in the dictionary, and labels.
    pub fn counts(&self) -> (usize, usize) {
        (self.dictionary.words, self.dictionary.labels)
    }

    /// Writes the model as a `.bin` file, which the C++ library reads too.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut head = Vec::new();
        head.extend(MAGIC.to_le_bytes());
        head.extend(VERSIONS.end().to_le_bytes());
        self.settings.write(&mut head);
        self.dictionary.write(&mut head);
        out.write_all(&head)?;
        for values in [&self.input, &self.output] {
            let rows = values.len() / self.settings.dimensions;
            // 0: not quantized.
            out.write_all(&[0])?;
            out.write_all(&(rows as u64).to_le_bytes())?;
            out.write_all(&(self.settings.dimensions as u64).to_le_bytes())?;
            for chunk in values.chunks(1 << 14) {
                let bytes: Vec<u8> = chunk.iter().flat_map(|value| value.to_le_bytes()).collect();
                out.write_all(&bytes)?;
            }
        }
        Ok(())
    }
}
